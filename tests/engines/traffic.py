"""Conversations that share prefixes, sent to an OpenAI server: `traffic.py URL COUNT [KEY=JSON …]`, extra keys into every body."""

import json
import random
import sys
import urllib.request

TIMEOUT_S = 120


def words(rng, count):
    """A text of so many words."""
    return " ".join(rng.choice(["route", "model", "block", "cache", "prefix", "token", "port"]) for _ in range(count))


def conversations(count, seed=2026):
    """`count` chats of one to three turns; each opens with one of four system prompts."""
    rng = random.Random(seed)
    systems = [words(rng, 60) for _ in range(4)]
    known = []
    for _ in range(count):
        if known and rng.random() < 0.5:
            chat = [*rng.choice(known), {"role": "assistant", "content": words(rng, 8)}, {"role": "user", "content": words(rng, 12)}]
        else:
            chat = [{"role": "system", "content": rng.choice(systems)}, {"role": "user", "content": words(rng, 20)}]
        known.append(chat)
        yield chat


def post(url, path, body):
    """The parsed answer; an HTTP error raises."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def main(url, count, *extra):
    more = {key: json.loads(value) for key, value in (one.split("=", 1) for one in extra)}
    for chat in conversations(int(count)):
        post(url, "/v1/chat/completions", {"model": "tiny", "messages": chat, "max_tokens": 20, **more})


if __name__ == "__main__":
    main(*sys.argv[1:])
