"""The official OpenAI Python SDK against the real binary and simulated engines."""

import asyncio

import openai
import pytest

from helpers.configs import SIM_MODELS, SOURCE_PROMPTS, three_sims, user

CODE = SOURCE_PROMPTS[0][0]


@pytest.fixture(scope="module")
def engine(shared):
    return shared.sim(SIM_MODELS, record=True)


@pytest.fixture(scope="module")
def gateway(shared, engine):
    return shared.waypost(three_sims(engine.url, **{"meta/sim": {"model": "sim-small", "endpoint": engine.url}}))


@pytest.fixture
def client(gateway):
    with openai.OpenAI(api_key="sk-client", base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def failing(shared, waypost, sim):
    """`failing(fault)`: a client whose only model shows this fault."""

    def make(fault, **timeouts):
        engine = sim(fault=fault)
        model = {"name": "sim-small", "endpoint": engine.url, "timeouts": timeouts}
        gateway = waypost({"models": [model]})
        client = openai.OpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0, timeout=20)
        return client, engine

    return make


@pytest.mark.parametrize("prompt, label", SOURCE_PROMPTS, ids=[label for _, label in SOURCE_PROMPTS])
def test_the_sources_own_prompts_go_where_their_table_says(client, prompt, label):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(prompt))
    expected = "sim-small" if label == "Rewrite" else "sim-large"
    assert raw.headers["x-chosen-classifier"] == label
    assert raw.headers["x-waypost-model"] == expected
    answer = raw.parse()
    assert answer.model == expected
    assert answer.choices[0].message.content.startswith("[simulated]")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("model, policy", [("auto", "task_router"), ("complexity_router", "complexity_router")])
def test_virtual_models(client, model, policy):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=user(CODE))
    assert raw.headers["x-waypost-policy"] == policy
    assert raw.parse().model in SIM_MODELS


def test_a_real_model_by_name_is_not_classified(client):
    raw = client.chat.completions.with_raw_response.create(model="sim-creative", messages=user(CODE))
    assert raw.parse().model == "sim-creative"
    assert "x-waypost-policy" not in raw.headers


def test_streaming(client, gateway):
    with client.chat.completions.with_streaming_response.create(
        model="auto", messages=user(CODE), stream=True, stream_options={"include_usage": True}
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-chosen-classifier"] == "Code Generation"
        chunks = list(raw.parse())
        decision = gateway.decision(raw.headers["x-waypost-decision-id"])
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("[simulated]") and len(chunks) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert decision["completion_tokens"] == chunks[-1].usage.completion_tokens > 0
    plain = client.chat.completions.create(model="auto", messages=user(CODE))
    assert text == plain.choices[0].message.content, "streamed or not, the same prompt has the same answer"


def test_the_stream_helper(client):
    with client.chat.completions.stream(model="auto", messages=user(CODE)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


def test_the_body_object_as_extra_body(client, engine):
    nim = {"policy": "task_router", "routing_strategy": "triton", "model": ""}
    raw = client.chat.completions.with_raw_response.create(
        model="", messages=user(CODE), extra_body={"nim-llm-router": nim}
    )
    assert raw.headers["x-chosen-classifier"] == "Code Generation"
    assert b"nim-llm-router" not in engine.requests(1)[0]["body"]
    manual = {"policy": "task_router", "routing_strategy": "manual", "model": "Chatbot"}
    raw = client.chat.completions.with_raw_response.create(
        model="", messages=user(CODE), extra_body={"nim-llm-router": manual}
    )
    assert raw.headers["x-chosen-classifier"] == "Chatbot"
    assert raw.parse().model == "sim-creative"


def test_the_policy_header(client):
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=user(CODE), extra_headers={"x-waypost-policy": "complexity_router"}
    )
    assert raw.headers["x-waypost-policy"] == "complexity_router"


def test_unknown_fields_reach_the_engine(client, engine):
    client.chat.completions.create(
        model="sim-small", messages=user("hi"), extra_body={"top_k": 3, "guided": {"x": [1]}}
    )
    body = engine.requests(1)[0]["body"]
    assert b'"top_k":3' in body and b'"guided":{"x":[1]}' in body


def test_models(client):
    listed = {model.id: model.owned_by for model in client.models.list()}
    assert listed == {
        "auto": "waypost-policy", "task_router": "waypost-policy", "complexity_router": "waypost-policy",
        "sim-small": "waypost", "sim-large": "waypost", "sim-creative": "waypost", "meta/sim": "waypost",
    }  # fmt: skip
    assert client.models.retrieve("sim-large").id == "sim-large"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_a_model_with_a_slash_in_its_name_is_retrieved(client):
    assert client.models.retrieve("meta/sim").id == "meta/sim"


def test_completions(client):
    answer = client.completions.create(model="sim-small", prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    chunks = list(client.completions.create(model="sim-small", prompt="Once upon a time", max_tokens=8, stream=True))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == answer.choices[0].text


def test_embeddings(client, gateway):
    before = gateway.metrics().value("waypost_tokens_total", model="sim-small", kind="prompt")
    answer = client.embeddings.create(model="sim-small", input=["one two", "one three"])
    assert [len(item.embedding) for item in answer.data] == [len(answer.data[0].embedding)] * 2
    after = gateway.metrics().value("waypost_tokens_total", model="sim-small", kind="prompt")
    assert after - before == answer.usage.prompt_tokens
    with pytest.raises(openai.BadRequestError, match="name of a model"):
        client.embeddings.create(model="auto", input="x")


def test_responses(client):
    answer = client.responses.create(model="sim-small", input="Say something")
    assert answer.output_text.startswith("[simulated]")
    events = list(client.responses.create(model="sim-small", input="Say something", stream=True))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == answer.output_text


def test_rerank(gateway):
    body = {"model": "sim-small", "query": "red apple", "documents": ["a blue sky", "a red apple"]}
    answer = gateway.chat(body, path="/v1/rerank")
    assert answer.status_code == 200
    assert answer.json()["results"][0]["index"] == 1


def test_async_requests_run_side_by_side(gateway):
    async def run():
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0) as client:

            async def stream(n):
                text = ""
                chunks = await client.chat.completions.create(model="auto", messages=user(f"Count to {n}"), stream=True)
                async for chunk in chunks:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                return text

            async def whole(n):
                answer = await client.chat.completions.create(model="auto", messages=user(f"Count to {n}"))
                return answer.choices[0].message.content

            streamed = await asyncio.gather(*(stream(n) for n in range(20)))
            plain = await asyncio.gather(*(whole(n) for n in range(20)))
            return streamed, plain

    streamed, plain = asyncio.run(run())
    assert streamed == plain, "no answer got lost or went to another request"


@pytest.mark.parametrize(
    "request_, error, code",
    [
        ({"model": "auto", "messages": []}, openai.BadRequestError, "missing_required_parameter"),
        ({"model": "auto", "messages": [{"content": "x"}]}, openai.BadRequestError, "invalid_type"),
        ({"model": "nope", "messages": user("x")}, openai.NotFoundError, "model_not_found"),
        (
            {"model": "", "messages": user("x"), "extra_headers": {"x-waypost-policy": "nope"}},
            openai.NotFoundError,
            "policy_not_found",
        ),
        ({"model": "", "messages": user("x")}, openai.BadRequestError, "missing_required_parameter"),
    ],
)
def test_own_errors_become_the_sdks_exceptions(client, request_, error, code):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**request_)
    assert caught.value.code == code
    assert caught.value.type in ("invalid_request_error", "not_found_error")
    assert caught.value.body["message"]


@pytest.mark.parametrize(
    "status, error",
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_the_upstreams_errors_become_the_sdks_exceptions(client, status, error, engine):
    # The fault rides on the request, so it strikes every retry of it and no other request.
    fault = {"x-sim-fault": f"status={status}"}
    with pytest.raises(error) as caught:
        client.chat.completions.create(model="meta/sim", messages=user("x"), extra_headers=fault)
    assert caught.value.status_code == status
    assert caught.value.response.headers["x-chosen-classifier"] == "meta/sim"


def test_too_large_a_body(shared, engine):
    gateway = shared.waypost({**three_sims(engine.url), "limits": {"body": "64KiB"}})
    client = openai.OpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="auto", messages=user("x" * 100_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_nobody_at_home(waypost, dead_port):
    gateway = waypost({"models": [{"name": "m", "endpoint": dead_port().url}]})
    client = openai.OpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="m", messages=user("x"))
    assert (caught.value.status_code, caught.value.code) == (503, "upstream_unreachable")


def test_the_clients_timeout(failing):
    client, engine = failing("stall")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="sim-small", messages=user("x"))
    assert engine.stats()["requests"] == 1, "a client that left is not retried for"


def test_the_models_timeout(failing):
    client, _ = failing("stall", first_byte="200ms", total="5s")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="sim-small", messages=user("x"))
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


def test_a_stream_that_breaks_raises(failing):
    client, _ = failing("cut=3")
    texts = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model="sim-small", messages=user("x"), stream=True):
            texts.append(chunk)
    assert texts, "what came before the break was handed on"
    assert caught.value.code == "upstream_error"


def test_the_sdks_own_retry_works_through_waypost(failing):
    client, engine = failing("status=500,n=1")
    answer = client.with_options(max_retries=2).chat.completions.create(model="sim-small", messages=user("x"))
    assert answer.choices[0].message.content.startswith("[simulated]")
    assert engine.stats()["requests"] == 2
