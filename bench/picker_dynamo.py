"""Dynamo's own prefix index in process: how long a look-up takes and what a block costs in memory. One JSON row.

Run by the Python of a folder made by scripts/dynamo-venv.sh: `DIR/bin/python bench/picker_dynamo.py`. The wheel offers Python its
`RadixTree` only, which a thread of its own serves; the hop to it and the list's conversion are in the figures, and
`empty_p50_us` says how much they are: the same look-up in an empty tree.
"""

import argparse
import json
import random
import statistics
import time

from dynamo._core import RadixTree, compute_block_hash_for_seq

BLOCK_TOKENS = 16
WARM_UP = 200


def rss_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def stored(number, hashes):
    """A store of a whole sequence. The tree treats the engine's hashes as opaque; here they are made from the content."""
    blocks, chain = [], 0
    for local in hashes:
        chain = hash((chain, local)) & (1 << 64) - 1
        blocks.append({"block_hash": chain, "tokens_hash": local, "mm_extra_info": None})
    data = {"stored": {"parent_hash": None, "start_position": None, "blocks": blocks}}
    return json.dumps({"event_id": number, "data": data, "dp_rank": 0}).encode()


def timed(tree, prompts, count):
    """Microseconds of each of `count` look-ups, after a warm-up."""
    took = []
    for at in range(WARM_UP + count):
        prompt = prompts[at % len(prompts)]
        begin = time.perf_counter_ns()
        tree.find_matches(prompt)
        took.append((time.perf_counter_ns() - begin) / 1000)
    return took[WARM_UP:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=209, help="of a prompt")
    parser.add_argument("--shared", type=int, default=64, help="of them, shared with 15 other prompts")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--holders", type=int, default=64, help="workers that hold a sequence")
    parser.add_argument("--sequences", type=int, default=400)
    parser.add_argument("--lookups", type=int, default=5000)
    args = parser.parse_args()

    rng = random.Random(2026)
    block = lambda count: [rng.getrandbits(64) for _ in range(count)]
    heads = [block(args.shared) for _ in range(-(-args.sequences // 16))]
    prompts = [heads[at // 16] + block(args.blocks - args.shared) for at in range(args.sequences)]
    empty = statistics.median(timed(RadixTree(), prompts, args.lookups))

    tree, before, pairs = RadixTree(), rss_bytes(), set()
    begin = time.perf_counter()
    for at, prompt in enumerate(prompts):
        event = stored(at, prompt)
        for worker in rng.sample(range(args.workers), args.holders):
            tree.apply_event(worker, event)
            pairs.add((worker, at // 16))
    # Shared blocks count once for each worker.
    held = len(pairs) * args.shared + args.sequences * args.holders * (args.blocks - args.shared)
    deepest = tree.find_matches(prompts[-1]).scores
    assert len(deepest) >= args.holders and max(deepest.values()) == args.blocks, "the last look-up waits for all stores"
    filled, after = time.perf_counter() - begin, rss_bytes()

    took = sorted(timed(tree, rng.sample(prompts, len(prompts)), args.lookups))
    tokens = [rng.randrange(32_000) for _ in range(args.blocks * BLOCK_TOKENS)]
    begin = time.perf_counter()
    for _ in range(100):
        compute_block_hash_for_seq(tokens, BLOCK_TOKENS)
    hashing = (time.perf_counter() - begin) * 1e4
    print(json.dumps({
        "peer": "dynamo 1.6.1",
        "case": f"RadixTree, {args.blocks} blocks, {args.workers} workers, {args.holders} hold each, {held} pairs",
        "p50_us": round(statistics.median(took), 2), "p99_us": round(took[len(took) * 99 // 100], 2),
        "ops_per_s": round(1e6 / statistics.mean(took)), "rss_bytes_per_pair": round((after - before) / held, 1),
        "empty_p50_us": round(empty, 2), "block_hash_us": round(hashing, 1),
        "stores_per_s": round(args.sequences * args.holders / filled),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
