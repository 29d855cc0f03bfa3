"""Mocks: an upstream that records what it is sent byte for byte, and a KServe v2 classifier.

Neither is a real engine or a real Triton, and both say so in every answer (`x-mock`). They answer what
a test sets, so that a test can ask what Waypost makes of it.
"""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Request:
    """A request as it arrived: header pairs in their order, body without its transfer coding."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def header(self, name):
        """The only value of a header; None when absent."""
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def names(self):
        """Header names, lower case."""
        return {n.lower() for n, _ in self.headers}

    def json(self):
        """The body as JSON."""
        return json.loads(self.body)


class Reply:
    """What a mock answers.

    `chunks` (an iterable of bytes) makes a chunked answer, a piece at a time; a generator may wait
    between pieces. `cut=True` closes the connection without the end of the body.
    """

    def __init__(self, status=200, headers=(), body=b"", chunks=None, cut=False):
        self.status, self.headers, self.chunks, self.cut = status, list(headers), chunks, cut
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def setup(self):
        with self.server.mock.lock:
            self.server.mock.connections += 1
        super().setup()

    def _serve(self):
        request = Request(self.command, self.path, list(self.headers.items()), self._body())
        mock = self.server.mock
        with mock.lock:
            mock.requests.append(request)
            mock.arrived.notify_all()
        try:
            self._answer(mock.answer(request))
        except (BrokenPipeError, ConnectionResetError):
            with mock.lock:
                mock.gone += 1
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _serve

    def _body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, reply):
        self.send_response_only(reply.status)
        self.send_header("x-mock", self.server.mock.kind)
        for name, value in reply.headers:
            self.send_header(name, value)
        names = {name.lower() for name, _ in reply.headers}
        if "content-type" not in names and (reply.body or reply.chunks is not None):
            self.send_header("content-type", "application/json")
        if reply.chunks is None:
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in reply.chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if not reply.cut:
                self.wfile.write(b"0\r\n\r\n")
        if reply.cut:
            self.close_connection = True

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # A client that resets its connection is no news here.


class Mock:
    """A server on a port of its own. `answer(request) -> Reply` may be replaced by a test."""

    kind = "mock"

    def __init__(self):
        self.requests, self.gone, self.connections, self.lock = [], 0, 0, threading.Lock()
        self.arrived = threading.Condition(self.lock)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.mock = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request):
        """What is answered; a test may put another function here."""
        raise NotImplementedError

    def reply(self, *args, **kwargs):
        """From now on this one answer; the arguments are `Reply`'s."""
        self.answer = lambda _request: Reply(*args, **kwargs)

    def default(self):
        """Back to the mock's own answers."""
        self.__dict__.pop("answer", None)

    def wait(self, count=1, timeout=5.0):
        """Waits for at least `count` requests; returns all."""
        with self.lock:
            enough = self.arrived.wait_for(lambda: len(self.requests) >= count, timeout)
            assert enough, f"{len(self.requests)} of {count} requests arrived within {timeout} s"
            return list(self.requests)

    def last(self):
        """The latest request."""
        with self.lock:
            assert self.requests, "no request arrived"
            return self.requests[-1]

    def clear(self):
        """Forgets what arrived, and what was set."""
        with self.lock:
            self.requests.clear()
        self.default()

    def stop(self):
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Recorder(Mock):
    """An upstream that records. Its own answers have OpenAI's form, with 7 prompt and 3 completion tokens."""

    kind = "recorder"

    def answer(self, request):
        try:
            body = json.loads(request.body)
        except ValueError:
            return Reply(400, body={"error": {"message": "recorder: not JSON"}})
        model = body.get("model")
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        if body.get("stream"):
            return Reply(headers=[("content-type", "text/event-stream")], chunks=list(sse_events(model, usage)))
        message = {"role": "assistant", "content": f"mock answer of {model}"}
        return Reply(
            body={
                "id": "chatcmpl-mock",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        )


def sse_events(model, usage=None, words=("mock ", "answer")):
    """The events of a streamed chat answer; usage in a last chunk with empty choices."""

    def event(**fields):
        data = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": model, **fields}
        return b"data: " + json.dumps(data).encode() + b"\n\n"

    for word in words:
        yield event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
    yield event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage:
        yield event(choices=[], usage=usage)
    yield b"data: [DONE]\n\n"


class KServe(Mock):
    """A classifier that speaks KServe v2. Set `scores`, `shape`, `parameters`, or `reply(...)` for anything else."""

    kind = "kserve"
    url_path = "/v2/models/task_router_ensemble/infer"

    def __init__(self, scores=(1.0,)):
        self.scores = list(scores)
        self.shape = None
        self.parameters = True
        super().__init__()
        self.infer_url = self.url + self.url_path

    def one_hot(self, index, classes=12):
        """From now on class `index` of `classes`."""
        self.default()
        self.scores = [1.0 if i == index else 0.0 for i in range(classes)]

    def answer(self, request):
        body = {"model_name": "task_router_ensemble", "model_version": "1"}
        if self.parameters:
            body["parameters"] = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
        shape = self.shape or [len(self.scores)]
        body["outputs"] = [{"name": "OUTPUT", "datatype": "FP32", "shape": shape, "data": self.scores}]
        return Reply(body=body)

    def texts(self):
        """The texts that were to be classified, in order."""
        with self.lock:
            return [r.json()["inputs"][0]["data"][0][0] for r in self.requests]


class DeadPort:
    """A port where connections are refused: bound, so that nobody else gets it, but not listening."""

    def __init__(self):
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        """Frees the port."""
        self._sock.close()
