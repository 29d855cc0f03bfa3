"""One peer of the classifier bench as a process of its own, with the protocol of crates/classify/examples/timed.rs.

Reads `MODE WARM FILE` a line (FILE: a text a line, as JSON strings), answers with the microseconds of each text, from
text to output. Nothing is imported or loaded before the first MODE other than `idle`. Called by classify.py:

    classify_peer.py ort-f32|ort-int8|torch-f32|deberta|modernbert FOLDER       (FOLDER: what minilm.py wrote)

The last two are shapes only: their weights are random, and so are the ids they get, as many as MiniLM's tokeniser makes
of the text. Their tokenising is not counted, which is to their favour.
"""

import json
import sys
import time

# As Waypost's encoder; published for 256.
MAX_TOKENS = 96


def tokeniser(folder):
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(f"{folder}/tokenizer.json")
    # The file switches both on, for 128 tokens: every text would cost as much as the longest.
    found.no_padding()
    found.no_truncation()

    def ids(text):
        all_ids = found.encode(text).ids
        return all_ids if len(all_ids) <= MAX_TOKENS else all_ids[: MAX_TOKENS - 1] + all_ids[-1:]

    return ids


def ort(folder, name):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = f"{folder}/minilm-{name}.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ids = tokeniser(folder)
    return lambda text: session.run(None, {"ids": np.array([ids(text)], dtype=np.int64)}), None


def torch_minilm(folder):
    import torch
    from minilm import load

    torch.set_num_threads(1)
    model, ids = load(folder), tokeniser(folder)

    def run(text):
        with torch.inference_mode():
            return model(torch.tensor([ids(text)])).numpy()

    return run, parameters(model)


def shape(folder, name):
    """A transformer of the published shape with random weights."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if name == "deberta":
        # microsoft/deberta-v3-base, below NVIDIA's classifiers of prompts.
        config = transformers.DebertaV2Config(
            vocab_size=128100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
            relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True,
            pos_att_type="p2c|c2p", position_biased_input=False, type_vocab_size=0, layer_norm_eps=1e-7)
        model = transformers.DebertaV2Model(config)
    else:
        # answerdotai/ModernBERT-base, below vLLM's; the library's defaults are its shape.
        model = transformers.ModernBertModel(transformers.ModernBertConfig(attn_implementation="sdpa"))
    model.eval()
    ids = tokeniser(folder)
    size = model.config.vocab_size
    known = {}

    def run(text):
        with torch.inference_mode():
            return model(input_ids=known[text], attention_mask=torch.ones_like(known[text])).last_hidden_state.numpy()

    def prepare(text):
        known[text] = torch.randint(1000, size - 1000, (1, len(ids(text))))

    return run, parameters(model), prepare


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def load(kind, folder):
    if kind.startswith("ort-"):
        return *ort(folder, kind.removeprefix("ort-")), None
    if kind == "torch-f32":
        return *torch_minilm(folder), None
    return shape(folder, kind)


def main(kind, folder):
    loaded = None
    for command in sys.stdin:
        mode, warm, path = command.rstrip("\n").split(" ", 2)
        if mode == "idle":
            print("{}", flush=True)
            continue
        loaded = loaded or load(kind, folder)
        run, size, prepare = loaded
        with open(path, encoding="utf-8") as file:
            texts = [json.loads(line) for line in file]
        for text in texts if prepare else ():
            prepare(text)
        for text in texts[: int(warm)]:
            run(text)
        micros = []
        for text in texts:
            begun = time.perf_counter_ns()
            run(text)
            micros.append((time.perf_counter_ns() - begun) / 1e3)
        print(json.dumps({"micros": micros, "escalated": len(texts), "parameters": size}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
