"""Which headers pass, in both directions. What is refused here is refused on the wire, at the recorder (a mock)."""

import pytest

from helpers import raw

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module")
def gateway(shared, upstream):
    models = [
        {"name": "m", "endpoint": upstream.url},
        {"name": "keyed", "endpoint": upstream.url, "api_key": "sk-config"},
    ]
    return shared.waypost({"models": models})


@pytest.fixture(autouse=True)
def fresh(upstream):
    upstream.clear()


def send(gateway, *headers, body=BODY):
    answer = raw.send(
        gateway.port, raw.request("/v1/chat/completions", body, [("content-type", "application/json"), *headers])
    )
    assert answer.status == 200, answer.body
    return answer


@pytest.mark.parametrize(
    "name, value",
    [
        ("authorization", "Bearer sk-client"),
        ("proxy-authorization", "Basic eA=="),
        ("cookie", "session=1"),
        ("x-api-key", "sk-client"),
        ("api-key", "sk-client"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-waypost-policy-secret", "1"),
        ("x-gateway-destination-endpoint", "10.0.0.1:80"),
        ("origin", "https://page.example"),
        ("te", "trailers"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
    ],
)
def test_what_must_not_pass(gateway, upstream, name, value):
    send(gateway, (name, value))
    assert name not in upstream.last().names()


def test_headers_named_by_connection_do_not_pass(gateway, upstream):
    send(gateway, ("connection", "keep-alive, X-Private , te"), ("x-private", "1"), ("x-public", "1"))
    assert "x-private" not in upstream.last().names()
    assert upstream.last().header("x-public") == "1"


@pytest.mark.parametrize(
    "name, value",
    [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "vendor=1"),
        ("baggage", "k=v"),
        ("x-request-id", "req-1"),
        ("idempotency-key", "idem-1"),
        ("openai-organization", "org-1"),
        ("openai-project", "proj-1"),
        ("openai-beta", "assistants=v2"),
        ("user-agent", "client/1.0"),
        ("accept", "text/event-stream"),
        ("accept-language", "de, en;q=0.5"),
        ("x-custom", "caf\xe9 \t  spaced"),
        ("x-empty", ""),
    ],
)
def test_what_must_pass(gateway, upstream, name, value):
    send(gateway, (name, value))
    assert upstream.last().header(name) == value


def test_a_repeated_header_stays_repeated(gateway, upstream):
    send(gateway, ("x-many", "1"), ("x-many", "2"))
    assert [v for n, v in upstream.last().headers if n.lower() == "x-many"] == ["1", "2"]


def test_the_key_of_the_model_replaces_the_clients(gateway, upstream):
    send(gateway, ("authorization", "Bearer sk-client"), body=BODY.replace(b'"m"', b'"keyed"'))
    assert upstream.last().header("authorization") == "Bearer sk-config"


def test_host_and_length_are_the_upstreams_own(gateway, upstream):
    send(gateway, ("accept-encoding", "gzip, br"))
    request = upstream.last()
    assert request.header("host") == upstream.url.removeprefix("http://")
    assert request.header("content-length") == str(len(request.body))
    assert "accept-encoding" not in request.names(), "usage must stay readable"
    assert "transfer-encoding" not in request.names()


def test_accept_is_json_when_the_client_sends_none(gateway, upstream):
    send(gateway)
    assert upstream.last().header("accept") == "application/json"


def test_nothing_is_added(gateway, upstream):
    send(gateway)
    assert upstream.last().names() == {"host", "content-type", "content-length", "accept"}


@pytest.mark.parametrize("name", ["connection", "keep-alive", "proxy-authenticate", "upgrade", "trailer"])
def test_hop_by_hop_headers_of_the_answer_stop_here(gateway, upstream, name):
    upstream.reply(200, [(name, "x-thing"), ("x-kept", "1")], b"{}")
    answer = send(gateway)
    assert answer.header("x-kept") == "1"
    assert answer.header(name) in (None, "close", "keep-alive")


def test_headers_of_the_answer_pass(gateway, upstream):
    headers = [("x-request-id", "up-1"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-latin", "caf\xe9"),
               ("retry-after-ms", "20"), ("server", "mock/1"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")]  # fmt: skip
    upstream.reply(200, headers, b"{}")
    got = send(gateway).headers
    for header in headers:
        assert header in [(n.lower(), v) for n, v in got]


def test_an_upstream_cannot_forge_waypost_headers(gateway, upstream):
    upstream.reply(200, [("x-waypost-model", "forged"), ("x-chosen-classifier", "forged")], b"{}")
    got = [(n.lower(), v) for n, v in send(gateway).headers]
    assert [v for n, v in got if n == "x-waypost-model"] == ["m"]
    assert [v for n, v in got if n == "x-chosen-classifier"] == ["m"]
