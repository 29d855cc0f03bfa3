# Waypost from the official OpenAI SDK: a plain call, a stream, v1's body object, an error.
# Run it: make run, then: pip install openai && python examples/openai_client.py [http://localhost:8084/v1]
import sys

import openai

BASE_URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8084/v1"
# Waypost checks no key; the SDK wants one to be set.
client = openai.OpenAI(base_url=BASE_URL, api_key="unused")
PROMPT = [{"role": "user", "content": "Write a python function that reverses a list"}]


def main():
    print("models and policies:", ", ".join(model.id for model in client.models.list()))

    # `auto` is the default policy. with_raw_response gives the headers, which say what was decided.
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=PROMPT, max_tokens=16)
    print("label:", raw.headers["x-waypost-label"], "| model:", raw.headers["x-waypost-model"])
    print("answer:", raw.parse().choices[0].message.content)

    # A policy by its name, streamed, with token usage in the last event.
    stream = client.chat.completions.create(
        model="complexity_router",
        messages=PROMPT,
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
    )
    for event in stream:
        if event.choices and event.choices[0].delta.content:
            print(event.choices[0].delta.content, end="", flush=True)
        if event.usage:
            print("\ntokens:", event.usage.total_tokens)

    # What an NVIDIA LLM Router v1 client sends; works as before.
    answer = client.chat.completions.create(
        model="",
        messages=PROMPT,
        max_tokens=16,
        extra_body={"nim-llm-router": {"policy": "task_router", "routing_strategy": "triton", "model": ""}},
    )
    print("v1 client got:", answer.model)

    # Errors have OpenAI's shape, so the SDK raises its own exceptions.
    try:
        client.chat.completions.create(model="no-such-model", messages=PROMPT)
    except openai.NotFoundError as error:
        print("error:", error.code, "|", error.body["message"])


if __name__ == "__main__":
    main()
