"""CLIP in process, from a folder: a tiny one with random weights, so what it says means nothing, only that it is asked.

That the arithmetic is right is tested against Hugging Face's in `crates/vision`.
"""

import random

import openai
import pytest
import yaml

from auto.kit import clip, network, png, with_image
from helpers.configs import user
from helpers.process import run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    dims = clip(folder / "model")
    chance = random.Random(3)
    rows = [[chance.gauss(0, 0.5) for _ in range(2 * dims)] for _ in range(2)]
    return folder / "model", network(folder / "network.safetensors", ["a", "b"], rows), dims


def config(upstream, folder, file):
    auto = {"models": ["a", "b"], "network": str(file), "embeddings": "clip", "thresholds": {"a": 0.5, "b": 0.5}}
    return {
        "models": [{"name": name, "endpoint": upstream.url} for name in ("a", "b", "spare")],
        "embeddings": [{"name": "clip", "folder": str(folder)}],
        "policies": [{"name": "p", "classifier": {"auto": auto}, "default": "spare", "classify_timeout": "30s"}],
    }


@pytest.fixture(scope="module")
def gateway(shared, made):
    return shared.waypost(config(shared.recorder(), *made[:2]))


def qualities(gateway, messages):
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x")
    answer = client.chat.completions.with_raw_response.create(model="auto", messages=messages)
    d = gateway.decision(answer.headers["x-waypost-decision-id"])
    assert d["tier"] == "network" and d["model"] in ("a", "b"), d
    return [c["quality"] for c in d["candidates"]]


def test_text_and_image_are_seen_and_the_same_is_the_same(gateway):
    alone, shown = qualities(gateway, user("hello")), qualities(gateway, with_image("hello", png(40, 30)))
    other = qualities(gateway, user("a long goodbye"))
    assert alone != shown and alone != other
    assert qualities(gateway, user("hello")) == alone
    assert qualities(gateway, with_image("hello", png(40, 30))) == shown


def test_a_folder_that_does_not_fit_is_an_error_at_load(made, recorder, tmp_path):
    folder, file, dims = made

    def check(text):
        path = tmp_path / "waypost.yaml"
        path.write_text(yaml.safe_dump(text))
        return run("check", str(path))

    upstream = recorder()
    assert check(config(upstream, folder, file)).returncode == 0
    wide = network(tmp_path / "wide.safetensors", ["a", "b"], [[0.0] * 1024] * 2)
    done = check(config(upstream, folder, wide))
    assert done.returncode == 1 and f"takes 1024 numbers, and `clip` makes {dims} for a text" in done.stderr
    done = check(config(upstream, tmp_path / "absent", file))
    assert done.returncode == 1 and "absent" in done.stderr
