"""A model folder without weights: a BPE tokenizer trained on this repository's docs, a chat template with tools, a Llama config.

Enough for whatever only turns text into tokens: Dynamo's frontend and mocker, `vllm` and Waypost. `scripts/tiny_llama.py`
adds random weights. Needs the tokenizers package only.
"""

import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 2048
CONTEXT = 16384
SPECIAL = ["<s>", "</s>", "<|turn|>", "<|text|>", "<|end|>", "<|tools|>", "<|call|>"]
# Numbers by up to three digits, words and marks with the blank before them, white space: cuts like those of current models.
WORDS = r"\p{N}{1,3}| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
TEMPLATE = """{{- bos_token -}}
{%- if tools -%}<|tools|>{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|end|>{%- endif -%}
{%- for message in messages -%}
<|turn|>{{ message['role'] }}<|text|>{{ message['content'] if message['content'] else '' }}
{%- for call in message['tool_calls'] or [] -%}<|call|>{{ call['function'] | tojson }}{%- endfor -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|turn|>assistant<|text|>{%- endif -%}"""


def trained(texts):
    """A byte-level BPE tokenizer that puts `<s>` before a plain prompt, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def main(folder):
    root = pathlib.Path(__file__).resolve().parents[1]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = trained(page.read_text() for page in sorted((root / "docs").glob("*.md")))
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "model_max_length": CONTEXT, "chat_template": TEMPLATE,
    })  # fmt: skip
    write(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
    })  # fmt: skip


def write(path, what):
    path.write_text(json.dumps(what, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
