"""Prints a `.kvrec` fixture, one line a message: kind, source, frames, and the batch shortened. Needs msgpack."""

import sys

import msgpack
from kvrec import read

LONGEST = 3


def short(value):
    """Long lists by their first items and their length."""
    if isinstance(value, dict):
        return {key: short(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        shown = [short(inner) for inner in value[:LONGEST]]
        return shown + [f"… {len(value)}"] if len(value) > LONGEST else shown
    if isinstance(value, bytes) and len(value) > 8:
        return f"bytes({len(value)}) {value[:8].hex()}…"
    return value


def payload(kind, frame):
    if kind == "ask" or not frame:
        return ""
    if kind != "plane":
        return short(msgpack.unpackb(frame))
    version, size = frame[0], int.from_bytes(frame[1:5], "big")
    envelope = msgpack.unpackb(frame[5 : 5 + size])
    inner = bytes(envelope.pop("payload"))
    return {"version": version, "length": size, **envelope, "payload": short(msgpack.unpackb(inner))}


if __name__ == "__main__":
    header, records = read(sys.argv[1])
    print(header)
    for kind, source, frames in records:
        heads = [frame.hex() if len(frame) == 8 else frame.decode() for frame in frames[:-1]]
        print(kind, source, len(frames), heads, payload(kind, frames[-1]))
