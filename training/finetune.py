"""Fine-tunes MiniLM on all labels of the built-in classifiers at once, on a GPU where there is one.

Rows carry labels for some of the classifiers; each contributes to the loss of those it has. With --teachers, models of which
every layer is tuned come first; what they hold likely on average is learnt beside the labels, and instead of those that a row
lacks. Token embeddings stay as they are in the shipped file, int8. The heads learnt here are thrown away:
`waypost-training train` fits its own on the int8 encoder.
Usage: finetune.py START.safetensors TOKENIZER.json CORPUS.jsonl.gz OUT.safetensors [--without PREFIX,…] [--dev DEV.jsonl.gz] …
"""

import argparse
import gzip
import json
import math
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, log_softmax, scaled_dot_product_attention

SEED = 2026
HEADS, HIDDEN, LAYERS, MAX_TOKENS = 12, 384, 6, 96
CLS, SEP, MASK = 101, 102, 103
TASKS = {"task": 12, "complexity": 7, "domain": 14, "safety": 3}
BATCH_TOKENS = 8192
SHOWN_EVERY = 500
SMOOTHING, DIFFICULTY_SHARE, WARM_UP = 0.05, 0.5, 0.06
# How much the teachers' word counts against a label, and what a row counts that has only their word.
TEACHER_SHARE, UNLABELLED_WEIGHT = 0.5, 0.5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Layer(nn.Module):
    """One transformer layer; parameters under the published names."""

    PARTS = {
        "attention.self.query": (HIDDEN, HIDDEN),
        "attention.self.key": (HIDDEN, HIDDEN),
        "attention.self.value": (HIDDEN, HIDDEN),
        "attention.output.dense": (HIDDEN, HIDDEN),
        "intermediate.dense": (HIDDEN, 4 * HIDDEN),
        "output.dense": (4 * HIDDEN, HIDDEN),
    }

    def __init__(self, dropout):
        super().__init__()
        self.parts = nn.ModuleDict({name.replace(".", "/"): nn.Linear(*shape) for name, shape in self.PARTS.items()})
        self.parts["attention/output/LayerNorm"] = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.parts["output/LayerNorm"] = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state, mask):
        part = lambda name: self.parts[name.replace(".", "/")]
        rows, length, _ = state.shape
        split = lambda y: y.view(rows, length, HEADS, HIDDEN // HEADS).transpose(1, 2)
        query, key, value = (split(part(f"attention.self.{name}")(state)) for name in ("query", "key", "value"))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(rows, length, HIDDEN)
        state = part("attention.output.LayerNorm")(state + self.dropout(part("attention.output.dense")(mixed)))
        return part("output.LayerNorm")(state + self.dropout(part("output.dense")(gelu(part("intermediate.dense")(state)))))


class Model(nn.Module):
    """Embeddings as shipped, the layers, one linear head per classifier."""

    def __init__(self, start, frozen, dropout):
        super().__init__()
        self.register_buffer("words", start["tokens"].float() * start["token_scales"][:, None])
        self.register_buffer("places", start["positions"])
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.norm.load_state_dict({"weight": start["norm.gain"], "bias": start["norm.bias"]})
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        for at, layer in enumerate(self.layers):
            layer.parts.load_state_dict({name: start[published(at, name)].float() for name in layer.parts.state_dict()})
        for module in (self.norm, *self.layers[:frozen]):
            module.requires_grad_(False)
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, size) for name, size in TASKS.items()})
        self.difficulty = nn.Linear(HIDDEN, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, ids, lengths):
        mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
        state = self.norm(self.words[ids] + self.places[: ids.shape[1]])
        for layer in self.layers:
            state = layer(state, mask[:, None, None, :])
        pooled = self.dropout((state.float() * mask[..., None]).sum(1) / lengths[:, None])
        return {name: head(pooled) for name, head in self.heads.items()}, self.difficulty(pooled)[:, 0]

    def tuned_tensors(self, frozen):
        return {
            published(at, name): t.detach().cpu().half()
            for at, layer in enumerate(self.layers)
            if at >= frozen
            for name, t in layer.parts.state_dict().items()
        }


def published(at, name):
    """The published name of a parameter of layer `at`."""
    return f"encoder.layer.{at}.{name.replace('/', '.')}"


class Rows:
    """Texts as padded token ids with their labels, all on the device."""

    def __init__(self, tokenizer, records):
        self.groups = [r["row"]["group"] for r in records]
        self.familiar = [r["row"]["familiar"] for r in records]
        ids = [tokens(encoded.ids) for encoded in tokenizer.encode_batch_fast([r["row"]["text"] for r in records], add_special_tokens=False)]
        self.lengths = np.array([len(row) for row in ids])
        table = np.zeros((len(ids), MAX_TOKENS), np.int32)
        for at, row in enumerate(ids):
            table[at, : len(row)] = row
        known = lambda value, default: default if value is None else value
        self.ids = torch.tensor(table, device=DEVICE)
        self.sizes = torch.tensor(self.lengths, device=DEVICE)
        self.labels = torch.tensor([[known(r["row"][name], -100) for name in TASKS] for r in records], device=DEVICE)
        self.weights = torch.tensor([r["weights"] for r in records], device=DEVICE)
        self.difficulty = torch.tensor([known(r["row"]["difficulty"], -1.0) for r in records], device=DEVICE)

    def batches(self, chosen, random):
        """Rows of like length together, about BATCH_TOKENS tokens each."""
        lengths = self.lengths[chosen]
        order = chosen[np.lexsort((random.random(len(chosen)), lengths // 8))]
        out, start = [], 0
        while start < len(order):
            end = start + max(1, BATCH_TOKENS // int(self.lengths[order[start]] + 8))
            out.append(order[start:end])
            start = end
        random.shuffle(out)
        return out

    def take(self, at):
        width = int(self.lengths[at].max())
        index = torch.as_tensor(at, device=DEVICE)
        return index, self.ids[index, :width].long(), self.sizes[index]


def tokens(ids):
    """Ids as crates/classify/src/encoder/session.rs makes them: both ends of what does not fit."""
    head = (MAX_TOKENS - 3 + 1) // 2
    if len(ids) > MAX_TOKENS - 2:
        ids = ids[:head] + [SEP] + ids[len(ids) - (MAX_TOKENS - 3 - head) :]
    return [CLS] + ids + [SEP]


def hidden(ids, share, random):
    """Ids with some words masked, so that no single one is relied on."""
    masked = torch.rand(ids.shape, device=ids.device, generator=random) < share
    return torch.where(masked & (ids > MASK), MASK, ids)


def targets(rows, taught=None):
    """For each classifier what is wanted of every row, [rows, labels], and what it counts, [rows]."""
    out = []
    for column, (name, size) in enumerate(TASKS.items()):
        labels, weights = rows.labels[:, column], rows.weights[:, column]
        known = labels >= 0
        wanted = torch.nn.functional.one_hot(labels.clamp(min=0), size) * (1 - SMOOTHING) + SMOOTHING / size
        if taught:
            mixed = (1 - TEACHER_SHARE) * wanted + TEACHER_SHARE * taught[name]
            wanted = torch.where(known[:, None], mixed, taught[name])
            weights = torch.where(known, weights, UNLABELLED_WEIGHT)
        out.append((name, wanted, weights * (known | bool(taught))))
    return out


def loss_of(rows, index, logits, difficulty, wanted):
    total = 0.0
    for name, target, weights in wanted:
        each = -(target[index] * log_softmax(logits[name], 1)).sum(1)
        total = total + (each * weights[index]).sum() / len(index)
    known = rows.difficulty[index]
    each = binary_cross_entropy_with_logits(difficulty, known.clamp(min=0.0), reduction="none")
    return total + DIFFICULTY_SHARE * (each * (known >= 0)).sum() / len(index)


@torch.no_grad()
def opinion(models, rows, chosen):
    """The models' mean probabilities for the chosen rows, by classifier; zeros for the others."""
    out = {name: torch.zeros(len(rows.lengths), size, device=DEVICE) for name, size in TASKS.items()}
    for model in models:
        model.eval()
        for at in rows.batches(chosen, np.random.default_rng(0)):
            index, ids, lengths = rows.take(at)
            with torch.autocast(DEVICE, torch.bfloat16):
                logits, _ = model(ids, lengths)
            for name in TASKS:
                out[name][index] += logits[name].float().softmax(1) / len(models)
    return out


@torch.no_grad()
def judge(model, rows, chosen):
    """Accuracy by group and classifier."""
    model.eval()
    hits = {}
    for at in rows.batches(chosen, np.random.default_rng(0)):
        index, ids, lengths = rows.take(at)
        with torch.autocast(DEVICE, torch.bfloat16):
            logits, _ = model(ids, lengths)
        for column, name in enumerate(TASKS):
            labels = rows.labels[index, column]
            right = (logits[name].argmax(1) == labels).cpu().tolist()
            for row, known, ok in zip(at, (labels >= 0).cpu().tolist(), right):
                if known:
                    hits.setdefault((shown(rows, row), name), []).append(ok)
    return "  ".join(f"{group}/{name} {np.mean(h):.3f}" for (group, name), h in sorted(hits.items()) if len(h) >= 20)


def shown(rows, at):
    group = rows.groups[at]
    if group.startswith(("dev", "own:")):
        return group
    family = group.split(":")[0]
    return ("familiar " if rows.familiar[at] else "") + family


def fit(start, rows, taught, options, seed, frozen, epochs, wanted):
    torch.manual_seed(seed)
    random, masks = np.random.default_rng(seed), torch.Generator(DEVICE).manual_seed(seed)
    model = Model(start, frozen, options.dropout).to(DEVICE).train()
    fresh = [*model.heads.parameters(), *model.difficulty.parameters()]
    depth = lambda at: options.rate * options.decay ** (LAYERS - 1 - at)
    parts = [{"params": layer.parameters(), "lr": depth(at)} for at, layer in enumerate(model.layers) if at >= frozen]
    parts.append({"params": fresh, "lr": 4 * options.rate})
    optimiser = torch.optim.AdamW(parts, weight_decay=options.weight_decay, fused=DEVICE == "cuda")
    steps = int(len(rows.batches(taught, random)) * epochs)
    factor = lambda step: min((step + 1) / (WARM_UP * steps), 0.5 * (1 + math.cos(math.pi * step / steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    todo, started, running = [], time.time(), 0.0
    for step in range(steps):
        todo = todo or rows.batches(taught, random)
        index, ids, lengths = rows.take(todo.pop())
        with torch.autocast(DEVICE, torch.bfloat16):
            logits, difficulty = model(hidden(ids, options.masked, masks), lengths)
        loss = loss_of(rows, index, logits, difficulty, wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += loss.detach()
        if (step + 1) % SHOWN_EVERY == 0:
            print(f"{options.name} seed {seed} step {step + 1}/{steps} loss {float(running) / SHOWN_EVERY:.3f} {time.time() - started:.0f} s", flush=True)
            running = 0.0
    return model


def main():
    parser = argparse.ArgumentParser()
    for name in ("start", "tokenizer", "corpus", "out"):
        parser.add_argument(name)
    parser.add_argument("--without", default="", help="prefixes of groups that are left out and judged")
    parser.add_argument("--dev", help="rows that are only judged")
    parser.add_argument("--name", default="run")
    parser.add_argument("--teachers", type=int, default=0)
    parser.add_argument("--teacher-epochs", type=float, default=9)
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--frozen", type=int, default=2, help="lower layers that stay as published")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--decay", type=float, default=0.9, help="factor on the rate, layer by layer downwards")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--masked", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    options = parser.parse_args()

    tokenizer = Tokenizer.from_file(options.tokenizer)
    tokenizer.no_truncation()  # the file switches both on, for 128 tokens
    tokenizer.no_padding()
    read = lambda path: [json.loads(line) for line in gzip.open(path, "rt")]
    records = read(options.corpus)
    taught_until = len(records)
    records += read(options.dev) if options.dev else []
    left_out = tuple(filter(None, options.without.split(",")))
    rows = Rows(tokenizer, records)
    out = np.array([at >= taught_until or bool(left_out) and (rows.familiar[at] or rows.groups[at].startswith(left_out)) for at in range(len(records))])
    taught, held = np.flatnonzero(~out), np.flatnonzero(out)
    print(f"{options.name}: {len(taught)} rows, {int(rows.lengths[taught].sum())} tokens, {len(held)} held, on {DEVICE}", flush=True)
    start = load_file(options.start)
    teachers = []
    for seed in range(SEED + 1, SEED + 1 + options.teachers):
        teachers.append(fit(start, rows, taught, options, seed, 0, options.teacher_epochs, targets(rows)))
        print(f"{options.name} teacher {seed}   {judge(teachers[-1], rows, held)}", flush=True)
    wanted = targets(rows, opinion(teachers, rows, taught) if teachers else None)
    model = fit(start, rows, taught, options, SEED, options.frozen, options.epochs, wanted)
    print(f"{options.name}   {judge(model, rows, held)}", flush=True)
    save_file(model.tuned_tensors(options.frozen), options.out)


if __name__ == "__main__":
    main()
