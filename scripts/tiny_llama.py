"""A Llama of a few thousand random weights with a byte tokenizer and a chat template, as a folder.

It says nothing sensible, ever. `scripts/real-intent-server.sh` serves it: what is tested is how a real server speaks.
A folder that has a config already, from `scripts/tiny_tokenizer.py`, gets weights to it, and a LoRA adapter in `adapter`.
Needs torch and transformers.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}<s>assistant: "

LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}


def main(folder):
    torch.manual_seed(2026)
    if (pathlib.Path(folder) / "config.json").exists():
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder))
        save_file(model.state_dict(), pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})
        return adapter(model, pathlib.Path(folder) / "adapter")
    letters = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE)
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16384, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).save_pretrained(folder)


def adapter(model, folder):
    """A LoRA adapter of random weights for the model's attention."""
    folder.mkdir(exist_ok=True)
    tensors = {}
    for name, module in model.named_modules():
        if name.endswith(tuple(LORA["target_modules"])):
            tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(LORA["r"], module.in_features)
            tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(module.out_features, LORA["r"])
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
