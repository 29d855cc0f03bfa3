"""Do repeats of a conversation go to the vLLM replica that holds its prefix? vLLM's own prefix-cache counters say.

    affinity.py --replica NAME=http://127.0.0.1:18101,tcp://127.0.0.1:15557 --replica … [--front waypost|pinned|rotating]

Prints a table of every request and ends with 1 when a later turn was not served where the turn before it was, or found less of
it cached than vLLM keeps. `pinned` and `rotating` choose the replica here, without a gateway: the first must pass and
the second must fail, which shows that the check can do both. Called by scripts/test-engines.sh.
"""

import argparse
import random
import re
import sys
import time
import urllib.request
import zlib

from traffic import post

CONVERSATIONS, TURNS, BLOCK = 8, 4, 32
ANSWER_TOKENS = 8
EVENTS_S = 1.0
WORDS = ["route", "model", "block", "cache", "prefix", "token", "port"]
COUNTERS = ["prefix_cache_queries_total", "prefix_cache_hits_total"]


class Pinned:
    """The replica is chosen by the first user turn."""

    def __init__(self, replicas):
        self._urls = [url for url, _ in replicas.values()]

    def chat(self, body):
        first = body["messages"][1]["content"]
        return post(self._urls[zlib.crc32(first.encode()) % len(self._urls)], "/v1/chat/completions", body)

    def stop(self):
        pass


class Rotating(Pinned):
    """The next replica, whatever the conversation."""

    def chat(self, body):
        self._urls.append(self._urls.pop(0))
        return post(self._urls[0], "/v1/chat/completions", body)


class Waypost:
    """Waypost before the replicas. TO BE FILLED by whoever has the configuration of pools."""

    def __init__(self, replicas):
        raise NotImplementedError("the configuration of a pool with kv_events")

    def chat(self, body):
        """The parsed answer of the gateway."""
        raise NotImplementedError

    def stop(self):
        """Ends the gateway."""
        raise NotImplementedError


def counters(url):
    """The prefix-cache counters, in tokens: looked up, found."""
    with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return [sum(float(v) for v in re.findall(rf"^vllm:{name}{{.*}} (\S+)$", page, re.M)) for name in COUNTERS]


def text(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def play(front, replicas):
    """Every conversation turn by turn, those of all conversations interleaved; returns a row per request."""
    rng = random.Random(time.time_ns())
    chats = [[{"role": "system", "content": text(rng, 60)}] for _ in range(CONVERSATIONS)]
    rows, before = [], {name: counters(url) for name, (url, _) in replicas.items()}
    for turn in range(1, TURNS + 1):
        for number in rng.sample(range(CONVERSATIONS), CONVERSATIONS):
            chats[number].append({"role": "user", "content": text(rng, 40)})
            # No eos, whatever the random weights say: the conversation grows evenly.
            body = {"model": "tiny", "messages": chats[number], "max_tokens": ANSWER_TOKENS, "ignore_eos": True}
            answer = front.chat(body)
            chats[number].append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
            after = {name: counters(url) for name, (url, _) in replicas.items()}
            served = {name: [b - a for a, b in zip(before[name], after[name], strict=True)] for name in replicas}
            name = max(served, key=lambda one: served[one][0])
            rows.append((number, turn, name, answer["usage"]["prompt_tokens"], int(served[name][1])))
            before = after
        time.sleep(EVENTS_S)
    return rows


def judge(rows):
    """Prints the table; returns how many later turns went astray."""
    last, astray = {}, 0
    print("conversation  turn  replica  prompt tokens  of them cached  expected")
    for number, turn, name, prompt, cached in rows:
        before = last.get(number)
        # What the turn before had as prompt is cached in whole blocks.
        expected = before[1] // BLOCK * BLOCK if before else 0
        wrong = before is not None and (name != before[0] or cached < expected)
        astray += wrong
        print(f"{number:12}  {turn:4}  {name:>7}  {prompt:13}  {cached:14}  {expected:8}{'  astray' if wrong else ''}")
        last[number] = (name, prompt)
    used = {row[2] for row in rows}
    print(f"{astray} of {sum(row[1] > 1 for row in rows)} later turns went astray; replicas used: {', '.join(sorted(used))}")
    return astray + (len(used) < 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replica", action="append", required=True)
    parser.add_argument("--front", choices=["waypost", "pinned", "rotating"], default="waypost")
    args = parser.parse_args()
    replicas = {name: tuple(rest.split(",")) for name, rest in (one.split("=", 1) for one in args.replica)}
    front = {"waypost": Waypost, "pinned": Pinned, "rotating": Rotating}[args.front](replicas)
    try:
        return judge(play(front, replicas))
    finally:
        front.stop()


if __name__ == "__main__":
    sys.exit(main() > 0)
