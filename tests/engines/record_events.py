"""Records what a KV event publisher sends into a `.kvrec` fixture; see kvrec.py for the form.

    record_events.py OUT --connect tcp://127.0.0.1:20080 --replay tcp://127.0.0.1:20180 --note engine=vllm --seconds 20

`--bind` is for publishers that connect, as vLLM does when its endpoint names a host. `--plane` subscribes to Dynamo's own event
plane. Ends after `--seconds`, after `--messages`, or on SIGINT or SIGTERM; the replay, from `--from`, is asked for at the end.
Needs pyzmq.
"""

import argparse
import datetime
import signal
import struct
import sys
import time

import zmq
from kvrec import write

REPLAY_S = 5.0
POLL_MS = 100
END = b"\xff" * 8


def live(sockets, seconds, most):
    """What comes in, as `(kind, source, frames)`, until one of the limits is met or a signal comes."""
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(True))
    poller, records, end = zmq.Poller(), [], time.monotonic() + seconds
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    while not ended and time.monotonic() < end and len(records) < most:
        for socket, _ in poller.poll(POLL_MS):
            records.append((*sockets[socket], socket.recv_multipart()))
    return records


def replay(context, address, source, first):
    """A request from sequence `first` and all that answers it; the last one carries the end mark."""
    socket = context.socket(zmq.DEALER)
    socket.connect(address)
    ask = [b"", struct.pack(">Q", first)]
    socket.send_multipart(ask)
    records = [("ask", source, ask)]
    while socket.poll(REPLAY_S * 1000):
        records.append(("replay", source, socket.recv_multipart()))
        if END in records[-1][2]:
            break
    else:
        print(f"{address}: no end mark within {REPLAY_S} s", file=sys.stderr)
    socket.close(0)
    return records


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name in ("connect", "bind", "plane", "replay"):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--messages", type=int, default=1 << 30)
    parser.add_argument("--note", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()

    context, sockets = zmq.Context(), {}
    sources = args.connect + args.bind + args.plane + args.replay
    for at, address in enumerate(args.connect + args.bind + args.plane):
        socket = context.socket(zmq.SUB)
        socket.subscribe(b"")
        (socket.bind if address in args.bind else socket.connect)(address)
        sockets[socket] = ("plane" if address in args.plane else "live", at)
    print("listening", flush=True)
    records = live(sockets, args.seconds, args.messages)
    for address in args.replay:
        records += replay(context, address, sources.index(address), args.first)
    header = dict(one.split("=", 1) for one in args.note)
    header |= {"date": datetime.date.today().isoformat(), "sources": sources}
    write(args.out, header, records)
    context.destroy(0)
    print(f"{args.out}: {len(records)} messages", flush=True)


if __name__ == "__main__":
    main()
