"""The outcome files of ../shared/datasets as the rows that `waypost train --outcomes` reads.

Rows of a split other than `train`, in the files or in held-out files beside them, are what is measured on. Where there
are none, a fifth of the train rows is, chosen by a hash of the prompt. Only reads; called by quality.py.
"""

import glob
import gzip
import hashlib
import json
import os

# Every fifth prompt is held out.
HELD_ONE_IN = 5
HASHED, GIVEN = "a fifth of the train rows, by hash", "the held-out rows"
PAIR = ("weak", "strong")

# Contestants of the two pools, by the names of outcomes_mmlu_pro.
SEVEN = (
    "Meta-Llama-3_1-8B-Instruct", "mathstral-7B", "Mixtral-8x7B-Instruct-v0.1", "Phi-3-mini-4k-instruct", "Yi-34B",
    "c4ai-command-r-v01", "Mistral-7B-Instruct-v0.2",
)
NINE = (
    "gemini-1.5-pro-002", "gemini-1.5-flash-002", "Meta-Llama-3_1-70B-Instruct", "Meta-Llama-3_1-8B-Instruct",
    "mathstral-7B", "Mixtral-8x7B-Instruct-v0.1", "Phi-3-mini-4k-instruct", "Yi-34B", "jamba-1.5-large",
)
# USD a million tokens of prompt and completion: list prices of the models' makers or usual hosts, roughly, late 2024.
PRICES = {
    "gemini-1.5-pro-002": (1.25, 5), "gemini-1.5-flash-002": (0.075, 0.3), "Meta-Llama-3_1-70B-Instruct": (0.88, 0.88),
    "Meta-Llama-3_1-8B-Instruct": (0.18, 0.18), "mathstral-7B": (0.2, 0.2), "Mixtral-8x7B-Instruct-v0.1": (0.6, 0.6),
    "Phi-3-mini-4k-instruct": (0.1, 0.1), "Yi-34B": (0.8, 0.8), "jamba-1.5-large": (2, 8),
}
# In transfer, models as good as the weak one stand for it: their mean tells more of how hard a question is than one
# model's luck. Of the strong one only the mean is told: where it fails does not carry over to other models and questions.
WEAK_BETWEEN = (0.35, 0.45)
STRONG_FROM = 0.6
# Questions that MMLU-Pro took over from MMLU.
OF_MMLU = "ori_mmlu"


def rows(folder, name):
    """All rows of a data set, held-out files included."""
    for path in sorted(glob.glob(f"{folder}/{name}*.jsonl") + glob.glob(f"{folder}/{name}*.jsonl.gz")):
        opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
        with opened as file:
            yield from map(json.loads, file)


def split(found, held_out=(), fifth=0):
    """(train, held out, how); `held_out` are rows from elsewhere, whatever their split says; `fifth` is which, by hash."""
    found = [*found, *(row | {"split": "held out"} for row in held_out)]
    given = [row for row in found if row.get("split", "train") != "train"]
    train = [row for row in found if row.get("split", "train") == "train"]
    if given:
        return train, given, GIVEN
    hashed = lambda row: int(hashlib.sha256(row["text"].encode()).hexdigest()[:8], 16) % HELD_ONE_IN == fifth
    return [row for row in train if not hashed(row)], [row for row in train if hashed(row)], HASHED


def models(folder):
    """The models of outcomes_mmlu_pro, in the order of `correct`."""
    with open(f"{folder}/outcomes_mmlu_pro.models.json", encoding="utf-8") as file:
        return json.load(file)["models_in_order"]


def of_pair(found):
    for row in found:
        for model in PAIR:
            yield {"prompt": row["text"], "model": model, "correct": row[model]}


def of_pool(found, order, chosen):
    for row in found:
        for model in chosen:
            yield {"prompt": row["text"], "model": model, "correct": int(row["correct"][order.index(model)])}


def stand_ins(train, order):
    """{weak or strong: the models that stand for it}, by their accuracy on the rows taught."""
    accuracy = {
        model: sum(int(row["correct"][at]) for row in train) / len(train) for at, model in enumerate(order)
    }
    low, high = WEAK_BETWEEN
    return {
        "weak": [model for model in order if low <= accuracy[model] <= high],
        "strong": [model for model in order if accuracy[model] >= STRONG_FROM],
    }


def of_stand_ins(found, order, groups):
    """Rows named weak, of several models, and strong, always their mean; the source says where a question comes from."""
    right = lambda row, name: [int(row["correct"][order.index(model)]) for model in groups[name]]
    mean = lambda of: sum(of) / len(of)
    strong = mean([mean(right(row, "strong")) for row in found])
    for row in found:
        for name, scores in (("weak", right(row, "weak")), ("strong", [strong])):
            for score in scores:
                yield {"prompt": row["text"], "model": name, "correct": score, "source": row["src"]}


def write(path, found):
    """Writes rows as JSON Lines; returns the path."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in found)
    return path
