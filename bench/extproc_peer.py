"""A processor in Python, as one would write it with grpc.aio: holds the request, names one endpoint, passes everything on.

`extproc_peer.py STUBS LISTEN IP:PORT`. It decides nothing. A peer of `make bench-extproc`.
"""

import asyncio
import sys

STUBS, LISTEN, DESTINATION = sys.argv[1:]
sys.path.insert(0, STUBS)

import grpc  # noqa: E402
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb  # noqa: E402
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as services  # noqa: E402

FULL_DUPLEX = 4
MESSAGE_BYTES = 64 << 20


def streamed(reply, body, end):
    piece = reply.response.body_mutation.streamed_response
    piece.body, piece.end_of_stream = body, end


class Passing(services.ExternalProcessorServicer):
    async def Process(self, messages, context):
        request_mode = response_mode = None
        held = []
        async for message in messages:
            if message.HasField("protocol_config"):
                request_mode = message.protocol_config.request_body_mode
                response_mode = message.protocol_config.response_body_mode
            kind = message.WhichOneof("request")
            if kind == "request_headers" and request_mode == FULL_DUPLEX and not message.request_headers.end_of_stream:
                continue
            if kind == "request_body" and request_mode == FULL_DUPLEX:
                held.append(message.request_body.body)
                if not message.request_body.end_of_stream:
                    continue
                named = pb.ProcessingResponse()
                common = named.request_headers.response
                common.clear_route_cache = True
                header = common.header_mutation.set_headers.add(append_action=2).header
                header.key, header.raw_value = "x-gateway-destination-endpoint", DESTINATION.encode()
                yield named
                for at, body in enumerate(held):
                    reply = pb.ProcessingResponse()
                    streamed(reply.request_body, body, at == len(held) - 1)
                    yield reply
                continue
            reply = pb.ProcessingResponse()
            getattr(reply, kind).SetInParent()
            if kind == "response_body" and response_mode == FULL_DUPLEX:
                streamed(reply.response_body, message.response_body.body, message.response_body.end_of_stream)
            yield reply


async def main():
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_BYTES)])
    services.add_ExternalProcessorServicer_to_server(Passing(), server)
    server.add_insecure_port(LISTEN)
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
