"""A second, independent client of Envoy's protocol: `envoy_data_plane` on grpclib says what an Envoy would, or would never."""

import asyncio
import contextlib

import envoy_data_plane.envoy.config.core.v3 as core
import envoy_data_plane.envoy.service.ext_proc.v3 as v3
from envoy_data_plane.google.protobuf import ListValue, Struct, Value
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError
from grpclib.protocol import EventsProcessor
from h2.exceptions import StreamClosedError

# A server that has said all may reset the stream with NO_ERROR, and what it said counts (RFC 9113, 8.1). grpclib throws it away.
_reset = EventsProcessor.process_stream_reset
EventsProcessor.process_stream_reset = lambda self, event: event.error_code == 0 or _reset(self, event)

PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
N, S, B, BP, FD = range(5)
PATIENCE_S = 10
PARTS = ("request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers", "immediate_response")


class Talk:
    """One stream."""

    def __init__(self, stream):
        self.stream = stream
        self.over = False

    async def say(self, *messages):
        for message in messages:
            await self.stream.send_message(message)

    async def hear(self):
        """The next reply as (kind, what it says); `None` when the stream has ended in good order."""
        reply = await asyncio.wait_for(self.stream.recv_message(), PATIENCE_S)
        if reply is None:
            return None
        kind = next(part for part in PARTS if getattr(reply, part) is not None)
        return kind, getattr(reply, kind), reply

    async def kind(self):
        heard = await self.hear()
        return heard and heard[0]

    async def end(self):
        """The kinds of all that is still said, and the status that the stream fails with, or `None` for a good end."""
        kinds = []
        try:
            while kind := await self.kind():
                kinds.append(kind)
            # grpclib wants that our side has ended, too.
            self.stream._end_done = True
            await self.stream.recv_trailing_metadata()
        except GRPCError as error:
            return kinds, error
        return kinds, None

    async def half_close(self):
        # The other side may have ended the stream already.
        with contextlib.suppress(StreamClosedError):
            await self.stream.end()

    async def reset(self):
        """As Envoy does when it is done, or its client gone."""
        if not self.over:
            self.over = True
            # It may be over already.
            with contextlib.suppress(StreamClosedError):
                await self.stream.cancel()


@contextlib.asynccontextmanager
async def talk(port):
    """A stream on a connection of its own."""
    async with Channel("127.0.0.1", port) as channel:
        call = channel.request(PATH, Cardinality.STREAM_STREAM, v3.ProcessingRequest, v3.ProcessingResponse)
        # Not left as a client leaves, who wants to have ended its side and to see the status: as Envoy does.
        stream = await call.__aenter__()
        await stream.send_request()
        talk = Talk(stream)
        try:
            yield talk
        finally:
            await talk.reset()


def wire(headers):
    return core.HeaderMap(headers=[core.HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()])


def head(modes=(FD, FD), ends=False, metadata=None, **headers):
    """The first message; `modes=None` leaves out what Envoy says of them."""
    first = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "x", "content-type": "application/json"}
    first |= {name.replace("_", "-"): value for name, value in headers.items()}
    more = {}
    if modes:
        more["protocol_config"] = v3.ProtocolConfiguration(request_body_mode=modes[0], response_body_mode=modes[1])
    if metadata:
        more["metadata_context"] = core.Metadata(filter_metadata=metadata)
    return v3.ProcessingRequest(request_headers=v3.HttpHeaders(headers=wire(first), end_of_stream=ends), **more)


def body(data=b"", ends=False):
    return v3.ProcessingRequest(request_body=v3.HttpBody(body=data, end_of_stream=ends))


def trailers():
    return v3.ProcessingRequest(request_trailers=v3.HttpTrailers(trailers=wire({"x-t": "1"})))


def answer(status="200", ends=False, kind="text/event-stream"):
    headers = wire({":status": status, "content-type": kind})
    return v3.ProcessingRequest(response_headers=v3.HttpHeaders(headers=headers, end_of_stream=ends))


def data(piece=b"", ends=False):
    return v3.ProcessingRequest(response_body=v3.HttpBody(body=piece, end_of_stream=ends))


def answer_trailers():
    return v3.ProcessingRequest(response_trailers=v3.HttpTrailers(trailers=wire({"x-t": "1"})))


def subset(value):
    """Metadata with this for the endpoints that may be chosen."""
    return {"envoy.lb.subset_hint": Struct(fields={"x-gateway-destination-endpoint-subset": value})}


def texts(*values):
    return Value(list_value=ListValue(values=[Value(string_value=value) for value in values]))


def headers_set(said):
    """Headers that a reply to headers or a body sets, by name."""
    mutation = said.response.header_mutation
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers} if mutation is not None else {}


def body_of(said):
    """The bytes of a reply to a body and whether they are the last; `None` where it leaves the body alone."""
    mutation = said.response.body_mutation
    if mutation is None:
        return None
    streamed = mutation.streamed_response
    return (streamed.body, streamed.end_of_stream) if streamed is not None else (mutation.body, None)
