"""LangChain's ChatOpenAI against the real binary and simulated engines."""

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from helpers.configs import SIM_MODELS, SOURCE_PROMPTS, three_sims

CODE = SOURCE_PROMPTS[0][0]


@pytest.fixture(scope="module")
def gateway(shared):
    return shared.waypost(three_sims(shared.sim(SIM_MODELS).url))


def llm(gateway, **more):
    settings = {"model": "auto", "api_key": "sk-x", "base_url": f"{gateway.url}/v1", "max_retries": 0}
    return ChatOpenAI(**{**settings, **more})


def test_invoke(gateway):
    answer = llm(gateway).invoke([SystemMessage("Be brief."), HumanMessage(CODE)])
    assert answer.content.startswith("[simulated]")
    assert answer.response_metadata["model_name"] == "sim-large"
    assert answer.usage_metadata["total_tokens"] > 0


def test_stream(gateway):
    chunks = list(llm(gateway, stream_usage=True).stream(CODE))
    text = "".join(chunk.content for chunk in chunks)
    assert text.startswith("[simulated]") and len(chunks) > 5
    assert text == llm(gateway).invoke(CODE).content
    assert sum(c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata) > 0


def test_the_body_object(gateway):
    nim = {"policy": "task_router", "routing_strategy": "manual", "model": "Chatbot"}
    answer = llm(gateway, extra_body={"nim-llm-router": nim}).invoke(CODE)
    assert answer.response_metadata["model_name"] == "sim-creative"


def test_the_policy_header_and_the_response_headers(gateway):
    model = llm(gateway, default_headers={"x-waypost-policy": "complexity_router"}, include_response_headers=True)
    headers = model.invoke(CODE).response_metadata["headers"]
    assert headers["x-waypost-policy"] == "complexity_router"
    assert headers["x-chosen-classifier"]


def test_structured_output(gateway):
    class Answer(BaseModel):
        text: str
        count: int

    answer = llm(gateway).with_structured_output(Answer, method="json_schema").invoke("How many apples?")
    assert isinstance(answer, Answer)


def test_tools(gateway):
    def weather(city: str) -> str:
        """Tells the weather."""
        return city

    answer = llm(gateway).bind_tools([weather], tool_choice="weather").invoke("Weather in Oslo?")
    assert [call["name"] for call in answer.tool_calls] == ["weather"]


def test_embeddings(gateway):
    model = OpenAIEmbeddings(
        model="sim-small", api_key="k", base_url=f"{gateway.url}/v1", check_embedding_ctx_length=False
    )
    assert len(model.embed_documents(["a", "b"])) == 2
