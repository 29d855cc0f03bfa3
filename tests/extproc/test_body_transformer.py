"""`waypost body-transformer`: the worker that another picker named goes into the body, and nothing else changes.

`deploy/envoy/body-transformer.yaml` as it stands, in every body mode, and the protocol's rarer turns by a second client. The
defects are those of the program that it takes the place of.
"""

import asyncio
import json
import signal
import socket
import ssl

import pytest

from extproc import peer
from extproc.peer import FD, B, N, S
from helpers.envoy import FOLDER, Envoy
from helpers.health import SERVING, health
from helpers.ports import free_ports
from helpers.process import STOP_S, Process, run
from helpers.prometheus import Metrics
from helpers.wait import until
from helpers.web import web

WORKER = 11431130917446755266  # beyond a signed number of 64 bits, as half of all real ids are
BODY = (
    b'{ "model": "sim-dynamo", "max_tokens": 4, "seed": 9007199254740993, "z": 1.0, "a": "<&>\\u00e9",\n'
    b'  "nvext": {"agent_hints": {"priority": 3}, "backend_instance_id": 7}, "messages": [{"role": "user", "content": "Hi"}]}'
)
PINNED = BODY.replace(b'"backend_instance_id": 7', b'"backend_instance_id": %d' % WORKER)


with open(f"{FOLDER}/body-transformer.yaml", encoding="utf-8") as _file:
    FILE = _file.read()


class Transformer(Process):
    def __init__(self, *args):
        self.door, self.health, metrics = free_ports(3)
        where = ["--listen", self.door, "--health-listen", self.health, "--metrics-listen", metrics]
        super().__init__(["body-transformer", *[str(word) for word in where], *args])
        self.wait_log("Envoy asks on")

    def stop(self):
        # Without the delay that lets an Envoy see its health.
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(STOP_S)
        return super().stop()

    def counts(self):
        """What became of requests, as far as it is not 0."""
        found = Metrics(web.get(f"{self.url}/metrics").text).find("waypost_body_transformer_requests_total")
        return {labels["outcome"]: value for _, labels, value in found if value}

    def left_over(self):
        metrics = Metrics(web.get(f"{self.url}/metrics").text)
        names = ["waypost_ext_proc_streams_open", "waypost_ext_proc_held_bytes"]
        return {name: metrics.value(name) for name in names if metrics.value(name)}


@pytest.fixture(scope="module")
def frontend(shared):
    return shared.sim("sim-dynamo", record=True)


@pytest.fixture(scope="module")
def envoy(shared, frontend, tmp_path_factory):
    """`envoy(*args, change=...)`: a transformer with these options behind an Envoy whose file was changed so."""
    made = {}

    def start(*args, change=lambda text: text):
        key = (args, change(FILE))
        if key not in made:
            transformer = shared.keep(Transformer(*args))
            folder = tmp_path_factory.mktemp("envoy")
            ports = {9003: transformer.door, 9131: frontend.port}
            made[key] = shared.keep(Envoy("body-transformer", str(folder), ports, change)), transformer
        return made[key]

    return start


def in_mode(name, more=""):
    def change(text):
        text = text.replace("message_timeout: 5s", f"message_timeout: 5s{more}")
        text = text.replace("request_body_mode: BUFFERED", f"request_body_mode: {name}")
        # Envoy takes full duplex only with trailers.
        return text.replace("request_trailer_mode: SKIP", "request_trailer_mode: SEND") if name.startswith("FULL") else text

    return change


def post(envoy, body=BODY, **headers):
    headers = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return web.post(f"{envoy.url}/v1/chat/completions", content=body, headers=headers, timeout=20)


def received(frontend):
    return frontend.requests(last=1)[0]


@pytest.mark.parametrize("mode", ["BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"])
def test_the_worker_goes_into_the_body(envoy, frontend, mode):
    envoy, transformer = envoy(change=in_mode(mode))
    before = transformer.counts().get("aggregated", 0)
    answer = post(envoy)
    assert answer.status_code == 200, answer.text
    assert received(frontend)["body"] == PINNED
    assert transformer.counts()["aggregated"] == before + 1
    until(lambda: not transformer.left_over())


def test_a_body_in_pieces_and_one_of_a_megabyte(envoy, frontend):
    envoy, _ = envoy()
    large = BODY.replace(b'"Hi"', b'"' + b"x y " * 250_000 + b'"')
    assert post(envoy, iter([large[:10], large[10:700_000], large[700_000:]])).status_code == 200
    assert received(frontend)["body"] == large.replace(b'"backend_instance_id": 7', b'"backend_instance_id": %d' % WORKER)


def test_clients_cannot_name_a_worker(envoy, frontend):
    """Defect 6: nobody took the headers of clients away. Here the gateway does, as the file shows."""
    envoy, _ = envoy()
    steering = {"x_dynamo_worker_instance_id": "7", "x_prefiller_host_port": "8", "X_Dynamo_Routing_Mode": "disaggregated"}
    assert post(envoy, **steering).status_code == 200
    seen = received(frontend)
    assert seen["body"] == PINNED
    assert not {"x-dynamo-worker-instance-id", "x-prefiller-host-port"} & {name.lower() for name, _ in seen["headers"]}


def test_two_workers(envoy, frontend):
    def split(text):
        mode = 'header: {key: x-dynamo-routing-mode, value: aggregated}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}'
        assert mode in text
        more = mode.replace("aggregated", "disaggregated") + (
            "\n                          - append: {header: {key: x-prefiller-host-port, value: \"10\"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}"
        )
        return text.replace(mode, more)

    envoy, transformer = envoy(change=split)
    assert post(envoy).status_code == 200
    nvext = json.loads(received(frontend)["body"])["nvext"]
    assert nvext == {"agent_hints": {"priority": 3}, "prefill_worker_id": 10, "decode_worker_id": WORKER}
    assert transformer.counts() == {"disaggregated": 1}


def test_a_picker_that_names_nobody_lets_everything_pass(envoy, frontend):
    envoy, transformer = envoy(change=lambda text: text.replace("key: x-worker-instance-id", "key: x-other"))
    assert post(envoy).status_code == 200
    assert received(frontend)["body"] == BODY
    assert transformer.counts() == {"no_worker": 1}


@pytest.mark.parametrize("mode", ["NONE", "STREAMED"])
def test_where_envoy_hides_the_body_it_is_refused_passed_or_asked_for(envoy, frontend, mode):
    refusing, transformer = envoy(change=in_mode(mode))
    answer = post(refusing)
    assert answer.status_code == 500 and "request_body_mode" in answer.json()["error"]["message"]
    assert transformer.counts() == {"unseen": 1}
    passing, transformer = envoy("--on-error", "pass", change=in_mode(mode))
    assert post(passing).status_code == 200 and received(frontend)["body"] == BODY
    assert transformer.counts() == {"unseen": 1}
    allowed = "\n                      allow_mode_override: true"
    asking, transformer = envoy("--mode-override", change=in_mode(mode, allowed))
    assert post(asking).status_code == 200 and received(frontend)["body"] == PINNED
    assert transformer.counts() == {"aggregated": 1}


@pytest.mark.parametrize("bad", [b"not json", b"[1]", b"{} {}", b'{"a": '])
def test_a_bad_body_is_refused_or_passes(envoy, frontend, bad):
    refusing, transformer = envoy()
    answer = post(refusing, bad)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"
    passing, transformer = envoy("--on-error", "pass")
    assert post(passing, bad).status_code == 400
    assert received(frontend)["body"] == bad


def test_a_body_beyond_the_limit(envoy):
    envoy, transformer = envoy("--body-limit", "1KiB")
    answer = post(envoy, BODY + b" " * 1024)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"
    assert transformer.counts()["faulty"] == 1
    until(lambda: not transformer.left_over())


@pytest.fixture(scope="module")
def alone(shared):
    """Without an Envoy."""
    return shared.keep(Transformer())


def conversation(alone, steps):
    async def run():
        async with peer.talk(alone.door) as talk:
            return await steps(talk)

    result = asyncio.run(run())
    until(lambda: not alone.left_over())
    return result


@pytest.mark.parametrize("modes", [(B, N), (B, B), (FD, FD), (FD, S)])
def test_defect_4_trailers_are_answered(alone, modes):
    async def steps(talk):
        await talk.say(peer.head(modes, x_worker_instance_id="42"))
        if modes[0] != FD:
            assert await talk.kind() == "request_headers"
        await talk.say(peer.body(b"{}"))
        if modes[0] == FD:
            await talk.say(peer.trailers())
            assert await talk.kind() == "request_headers"
        said = (await talk.hear())[1]
        if modes[0] != FD:
            await talk.say(peer.trailers())
        assert peer.body_of(said)[0] == b'{"nvext":{"backend_instance_id":42}}'
        assert await talk.kind() == "request_trailers"
        await talk.say(peer.answer())
        assert await talk.kind() == "response_headers"
        await talk.say(peer.data(b"x"), peer.answer_trailers())
        assert [await talk.kind(), await talk.kind()] == ["response_body", "response_trailers"]

    conversation(alone, steps)


def test_defect_5_a_streamed_body_is_seen_whole(alone):
    async def steps(talk):
        await talk.say(peer.head((FD, N), x_dynamo_worker_instance_id=str(WORKER)))
        for at in range(0, len(BODY), 7):
            await talk.say(peer.body(BODY[at : at + 7]))
        await talk.say(peer.body(b"", True))
        assert await talk.kind() == "request_headers"
        return peer.body_of((await talk.hear())[1])

    pinned = BODY.replace(b'"backend_instance_id": 7', b'"backend_instance_id": %d' % WORKER)
    assert conversation(alone, steps) == (pinned, True)


@pytest.mark.parametrize("field", ["raw_value", "value"])
@pytest.mark.parametrize("name", ["x-worker-instance-id", "X-Worker-Instance-ID"])
def test_defect_6_names_in_any_case_and_values_in_either_field(alone, name, field):
    async def steps(talk):
        first = peer.head((FD, N))
        text = "42"
        value = {field: text.encode() if field == "raw_value" else text}
        first.request_headers.headers.headers.append(peer.core.HeaderValue(key=name, **value))
        await talk.say(first, peer.body(b"{}", True))
        assert await talk.kind() == "request_headers"
        return peer.body_of((await talk.hear())[1])

    assert conversation(alone, steps) == (b'{"nvext":{"backend_instance_id":42}}', True)


def test_a_pickers_destination_stays(alone):
    async def steps(talk):
        await talk.say(peer.head((FD, N), x_worker_instance_id="42", x_gateway_destination_endpoint="10.0.0.1:80"))
        await talk.say(peer.body(b"{}", True))
        kind, said, _ = await talk.hear()
        mutation = said.response.header_mutation
        assert kind == "request_headers" and not (mutation and mutation.remove_headers)

    conversation(alone, steps)


def test_its_health_and_its_end(shared):
    transformer = shared.keep(Transformer("--tls"))
    assert "(TLS)" in transformer.log() and health(transformer.health) == SERVING
    nobody = ssl.create_default_context()
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    nobody.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", transformer.door), 5) as sock, nobody.wrap_socket(sock) as tls:
        assert tls.selected_alpn_protocol() == "h2"
    assert web.get(f"{transformer.url}/other").status_code == 404
    assert transformer.stop() == 0


@pytest.mark.parametrize("args", [["--on-error", "x"], ["--body-limit", "x"], ["--certificate", "a"], ["--certificate", "a", "--key", "b"]])
def test_bad_options_are_named(args):
    done = run("body-transformer", *args)
    assert done.returncode == 2 and args[0] in done.stderr
