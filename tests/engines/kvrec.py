"""Reads and writes `.kvrec`: ZMQ messages as they were on the wire, with a header that says where they come from.

Layout, all integers little endian: `KVREC1\\n`, u32 length, a JSON object, then records until the end of the file. A record
is u8 kind, u8 source, u8 number of frames, and for each frame u32 length and its bytes. A source is an index into the
header's list `sources`, of addresses. The kinds are in `KINDS`: `live` messages came from a PUB socket, `replay` ones answer the
latest `ask`, which was sent; `plane` ones are of Dynamo's own event plane.
"""

import json
import struct

MAGIC = b"KVREC1\n"
KINDS = ["live", "ask", "replay", "plane"]


def write(path, header, records):
    """Writes a fixture; `records` are `(kind, source, frames)` in the order they came."""
    text = json.dumps(header, indent=1).encode()
    with open(path, "wb") as file:
        file.write(MAGIC + struct.pack("<I", len(text)) + text)
        for kind, source, frames in records:
            file.write(struct.pack("<BBB", KINDS.index(kind), source, len(frames)))
            for frame in frames:
                file.write(struct.pack("<I", len(frame)) + frame)


def read(path):
    """The header, and the records as `(kind, source, frames)`."""
    with open(path, "rb") as file:
        data = file.read()
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is no recording")
    at = len(MAGIC)

    def take(size):
        nonlocal at
        at += size
        if at > len(data):
            raise ValueError(f"{path} is cut short")
        return data[at - size : at]

    def sized():
        return take(struct.unpack("<I", take(4))[0])

    header, records = json.loads(sized()), []
    while at < len(data):
        kind, source, frames = take(3)
        records.append((KINDS[kind], source, [sized() for _ in range(frames)]))
    return header, records
