"""v2's network over embeddings of text and image: OpenAI's form, Jina's, CLIP in process; and bad images."""

import pytest
import yaml

from helpers.configs import user
from helpers.process import run
from auto.kit import Embeddings, network, png, with_image

# Inputs: text about the sea, text about anything else, then an image's two numbers.
WEIGHTS = [[4.0, -4.0, -4.0, -4.0], [-4.0, 4.0, 4.0, 4.0]]
SEA, OTHER = "a poem about the sea", "the tax law of Peru"


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


@pytest.fixture(scope="module", params=["openai", "jina"])
def server(request, shared):
    return shared.keep(Embeddings(jina=request.param == "jina"))


def embeddings(server):
    if server.jina:
        return {"name": "e", "jina": server.url}
    return {"name": "e", "url": f"{server.url}/v1/embeddings", "model": "nvidia/nvclip", "api_key": "sk-embed"}


def config(upstream, server, file, default="spare", **auto):
    spec = {"models": ["small", "vision"], "network": str(file), "embeddings": "e", **auto}
    spec.setdefault("thresholds", {"small": 0.5, "vision": 0.5})
    models = [{"name": name, "endpoint": upstream.url} for name in ("small", "vision", "spare")]
    policy = {"name": "p", "classifier": {"auto": spec}, **({"default": default} if default else {})}
    return {"models": models, "embeddings": [server if isinstance(server, dict) else embeddings(server)], "policies": [policy]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return network(tmp_path_factory.mktemp("network") / "nn_router.safetensors", ["small", "vision"], WEIGHTS)


@pytest.fixture(scope="module")
def gateway(shared, upstream, server, file):
    return shared.waypost(config(upstream, server, file))


@pytest.fixture(autouse=True)
def fresh(server):
    server.clear()


def decide(gateway, messages):
    answer = gateway.chat({"model": "p", "messages": messages})
    assert answer.status_code == 200, answer.text
    return gateway.decision(answer)


def test_text_and_image_decide(gateway, server):
    d = decide(gateway, user(SEA))
    assert (d["model"], d["tier"], d["plan"][0]["reason"]) == ("small", "network", "highest_probability")
    assert [round(c["quality"], 3) for c in d["candidates"]] == [0.982, 0.018]
    assert decide(gateway, user(OTHER))["model"] == "vision"
    assert decide(gateway, with_image(SEA, png()))["model"] == "vision", "the image outweighs the text"
    body = server.last().json()
    items = [row.get("text") or row["uri"] for row in body["data"]] if server.jina else body["input"]
    assert items == [f"[USER]: {SEA}", png()], "v2's form of the text, and the image as it came"
    if not server.jina:
        assert body["model"] == "nvidia/nvclip" and server.last().header("authorization") == "Bearer sk-embed"


def test_the_whole_conversation_is_embedded(gateway, server):
    messages = [{"role": "system", "content": "Be brief."}, *user(SEA), {"role": "assistant", "content": "Waves."}, *user("more")]
    decide(gateway, messages)
    body = server.last().json()
    text = body["data"][0]["text"] if server.jina else body["input"][0]
    assert text == f"[SYSTEM]: Be brief. [USER]: {SEA} [ASSISTANT]: Waves. [USER]: more"


BAD_IMAGES = {
    "http": ("https://example.com/cat.png", "never fetches"),
    "type": ("data:image/tiff;base64,AAAA", "not supported"),
    "base64": ("data:image/png;base64,@@@@", "base64"),
    "broken": ("data:image/png;base64,aGVsbG8gd29ybGQ=", "broken"),
    "huge": (png(20_000, 4), "too large"),
    "nothing": ("", "not a `data:` URL"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_an_image_that_cannot_be_embedded_takes_the_default(gateway, server, kind):
    d = decide(gateway, with_image(SEA, BAD_IMAGES[kind][0]))
    assert (d["model"], d["fallback"], d["classifier_error"]) == ("spare", "classifier_failed", "invalid_image")
    assert not server.requests, "nothing was sent, and nothing fetched"
    assert gateway.metrics().value("waypost_fallbacks_total", policy="p", reason="classifier_failed") >= 1


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_without_a_default_the_client_is_told(waypost, upstream, server, file, kind):
    gateway = waypost(config(upstream, server, file, default=None))
    answer = gateway.chat({"model": "p", "messages": with_image(SEA, BAD_IMAGES[kind][0])})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, "invalid_image", "invalid_request_error")
    assert BAD_IMAGES[kind][1] in error["message"]


@pytest.mark.parametrize(
    "reply, code",
    [
        (dict(status=500, body={"error": "no"}), "classifier_unavailable"),
        (dict(body={"data": []}), "classifier_invalid_response"),
        (dict(body=b"<html>"), "classifier_invalid_response"),
        (dict(body={"data": [{"embedding": [1.0]}]}), "classifier_invalid_response"),
        (dict(body=b"", cut=True, chunks=[b"{"]), "classifier_unavailable"),
    ],
)
def test_a_server_that_fails_takes_the_default(gateway, server, reply, code):
    server.reply(**reply)
    d = decide(gateway, user(SEA))
    assert (d["model"], d["fallback"], d["classifier_error"]) == ("spare", "classifier_failed", code)


def test_a_server_that_is_slow_or_gone_takes_the_default(waypost, upstream, server, file, dead_port):
    import time

    text = config(upstream, server, file)
    text["policies"][0]["classify_timeout"] = "100ms"
    gateway = waypost(text)
    plain = type(server).answer
    server.answer = lambda request: (time.sleep(0.5), plain(server, request))[1]
    d = decide(gateway, user(SEA))
    assert d["classifier_error"] == "classifier_unavailable" and 100 <= d["classify_ms"] < 400
    gone = waypost(config(upstream, {"name": "e", "jina": dead_port().url}, file))
    assert decide(gone, user(SEA))["classifier_error"] == "classifier_unavailable"


def check(text, tmp_path):
    path = tmp_path / "waypost.yaml"
    path.write_text(yaml.safe_dump(text))
    return run("check", str(path))


def test_v2s_own_slip_is_an_error_at_load(upstream, server, tmp_path):
    """v2 ships weights whose third output no setting knows; here that does not load."""
    file = network(tmp_path / "n.safetensors", ["small", "Qwen/Qwen3-VL-8B-Instruct"], WEIGHTS)
    done = check(config(upstream, server, file), tmp_path)
    assert done.returncode == 1 and "the network knows nothing of `vision`" in done.stderr
    three = network(tmp_path / "3.safetensors", ["small", "vision", "Qwen/Qwen3-VL-8B-Instruct"], [*WEIGHTS, WEIGHTS[0]])
    done = check(config(upstream, server, three), tmp_path)
    assert done.returncode == 1 and "has an output for `Qwen/Qwen3-VL-8B-Instruct`" in done.stderr, done.stderr
    mapped = config(upstream, server, file, names={"Qwen/Qwen3-VL-8B-Instruct": "vision"})
    assert check(mapped, tmp_path).returncode == 0


def test_a_file_that_is_no_network_is_named(upstream, server, tmp_path):
    for name, content in (("absent", None), ("empty", b""), ("text", b"hello")):
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        done = check(config(upstream, server, file), tmp_path)
        assert done.returncode == 1 and str(file) in done.stderr, done.stderr


def test_a_contestant_that_can_stands_in_where_the_default_cannot(waypost, upstream, server, file):
    """A text-only default must not turn a bad image, or a server that is down, into a refusal."""
    text = config(upstream, server, file, default="small")
    text["models"][0]["accepts"] = ["tools"]
    gateway = waypost(text)
    d = decide(gateway, with_image(SEA, BAD_IMAGES["http"][0]))
    assert d["plan"][0] == {"model": "vision", "reason": "capable"} and d["classifier_error"] == "invalid_image"
    assert d["fallback"] == "classifier_failed", "whoever stands in, this is why"
    assert gateway.metrics().value("waypost_fallbacks_total", policy="p", reason="classifier_failed") == 1
    line = gateway.wait_log(rf'^.*"{d["id"]}".*$')[0]
    assert '"classifier_error":"invalid_image"' in line
    server.reply(500)
    d = decide(gateway, user(SEA))
    assert [c["model"] for c in d["plan"]] == ["small", "vision"], "and the others stand by"


def test_a_big_image_holds_nobody_up(waypost, upstream, file):
    """Pixels are not unpacked for a server, and never on the event loop."""
    import threading
    import time

    gateway = waypost(config(upstream, {"name": "e", "jina": Embeddings(jina=True).url}, file))
    image = png(8000, 4000)
    threads = [
        threading.Thread(target=gateway.chat, args=({"model": "p", "messages": with_image("x", image)},)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    slowest = 0.0
    for _ in range(20):
        start = time.monotonic()
        assert gateway.chat({"model": "small", "messages": user("hi")}).status_code == 200
        slowest = max(slowest, time.monotonic() - start)
    for thread in threads:
        thread.join()
    assert slowest < 2.0, slowest
