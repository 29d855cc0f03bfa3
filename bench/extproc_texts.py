"""The bodies that the bench of the Envoy door sends: one file a case, one body a line.

Prompts are those that ship in the repo; none was taught to the built-in classifiers. What makes a body long is the text of the
docs, its sentences in random order, so that no two prompts begin alike. Called by extproc.py.
"""

import glob
import json
import os
import random
import re

import classify_texts

SEED = 2026
SMALL_BYTES, LARGE_BYTES, CROWD_BYTES, LONG_TOKENS = 1 << 10, 220_000, 150_000, 100_000
LONG_PROMPTS = 8
# Becomes another number each time it is sent, so that the picker has never seen a prompt that begins with it.
MARK = "########"
# What the last answer and the next question of a conversation add.
TURN_BYTES = 1500


def sentences(repo):
    text = ""
    for path in sorted(glob.glob(f"{repo}/docs/*.md")):
        with open(path, encoding="utf-8") as file:
            text += re.sub(r"<!-- begin.*?<!-- end.*?-->|<!-- \w+:begin.*?:end.*?-->", "", file.read(), flags=re.S)
    return [line for line in re.split(r"(?<=[.:;])\s+", text) if 20 < len(line) < 400]


def filler(chance, lines, size):
    """About `size` bytes of them, in an order of its own."""
    made, length = [], 0
    while length < size:
        line = chance.choice(lines)
        made.append(line)
        length += len(line.encode()) + 1
    return " ".join(made)


def chat(model, *messages):
    roles = ["system", "user"] if len(messages) == 2 else ["user", "assistant", "user"][-len(messages):]
    return {"model": model, "messages": [{"role": r, "content": c} for r, c in zip(roles, messages, strict=True)]}


def write(path, bodies):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies)
    return path


def sized(model, chance, lines, prompt, size):
    """A system message that makes the body as long as it is to be, and the prompt."""
    have = len(json.dumps(chat(model, "", prompt), ensure_ascii=False).encode())
    text = filler(chance, lines, max(0, size - have)).encode()[:max(0, size - have)]
    return chat(model, text.decode(errors="ignore"), prompt)


def make(repo, folder, tokens):
    """Writes all files; `tokens` counts the tokens of a text. Their paths by case."""
    os.makedirs(folder, exist_ok=True)
    chance, lines, prompts = random.Random(SEED), sentences(repo), classify_texts.prompts(repo)
    per_byte = tokens(sample := filler(chance, lines, 200_000)) / len(sample.encode())
    long = [filler(chance, lines, int(LONG_TOKENS / per_byte)) for _ in range(LONG_PROMPTS)]
    turns = [(long[0], MARK + filler(chance, lines, TURN_BYTES), filler(chance, lines, 200)) for _ in range(LONG_PROMPTS)]
    return {
        "small": write(f"{folder}/small.jsonl", [sized("auto", chance, lines, p, SMALL_BYTES) for p in prompts]),
        "large": write(f"{folder}/large.jsonl", [sized("auto", chance, lines, p, LARGE_BYTES) for p in prompts[:64]]),
        "crowd": write(f"{folder}/crowd.jsonl", [sized("auto", chance, lines, p, CROWD_BYTES) for p in prompts[:64]]),
        "long": write(f"{folder}/long.jsonl", [chat("long", MARK + text) for text in long]),
        "turn": write(f"{folder}/turn.jsonl", [chat("long", *turn) for turn in turns]),
    }
