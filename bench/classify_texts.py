"""The prompts of the classifier bench: those that ship in the repo, and texts of a given number of tokens made of them.

Pure but for reading the repo's files; `tokens`, where it is asked for, counts the tokens of a text. Nothing here was
taught to the built-in classifiers. Called by classify.py and classify_memory.py.
"""

import glob
import json
import random

SEED = 2026
# Prompts this long count as "about 64 tokens".
NEAR_64 = range(48, 81)


def prompts(repo):
    """Distinct prompts: the development prompts for task and domain, and the mail to a bank of docs/train-your-own.md."""
    found = []
    for path in sorted(glob.glob(f"{repo}/training/dev/*.txt")):
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\n") for line in file]
        # Lines are `domain XN text`, headings in brackets, comments.
        found += [line.split(" ", 2)[2].replace("\\n", "\n") for line in lines if line and line[0] not in "[#"]
    for path in sorted(glob.glob(f"{repo}/examples/bank-intents*.jsonl")):
        with open(path, encoding="utf-8") as file:
            found += [json.loads(line)["text"] for line in file]
    found = list(dict.fromkeys(found))
    random.Random(SEED).shuffle(found)
    return found


def near_64(found, tokens):
    """The prompts of about 64 tokens, as they are."""
    return [text for text in found if tokens(text) in NEAR_64]


def of_length(found, length, count, tokens):
    """`count` distinct texts of exactly `length` tokens, special tokens included: prompts one after the other, cut."""
    made, at = [], 0
    while len(made) < count:
        words, total = [], 0
        # Every text starts with another prompt; a seam of two prompts may join to fewer tokens, never to more.
        start = at
        while total < length + 8:
            words += found[at % len(found)].split()
            total += tokens(found[at % len(found)]) - 2
            at += 1
        at = start + 1
        if text := cut(words, length, tokens):
            made.append(text)
        if start > 20 * max(count, len(found)):
            raise ValueError(f"cannot make {count} texts of {length} tokens")
    return made


def cut(words, length, tokens):
    """The longest start of `words` with exactly `length` tokens, or None: some word may cost several."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if tokens(" ".join(words[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    text = " ".join(words[:low])
    return text if tokens(text) == length else None
