"""What could not work is refused when the file is read, and the message says where and what."""

import json
import re

import pytest
import yaml

from helpers.process import run
from picking.kit import config

ONE, TWO = "http://127.0.0.1:9101", "http://127.0.0.1:9102"
EVENTS = {"url": ONE, "kv_events": "tcp://127.0.0.1:9201"}


def pool(*endpoints, **pick):
    return config([*(endpoints or (ONE, TWO))], **pick)


def and_adapter(spec, **adapter):
    spec["models"].append({"name": "law", "adapter_of": "a", **adapter})
    return spec


BAD = {
    "a scorer nobody knows": (pool(strategy="scorers", scorers={"prefx": 1}), ["no scorer is called", "prefx", "prefix"]),
    "a strategy nobody knows": (pool(strategy="kvv"), ["kvv", "kv"]),
    "a negative weight": (pool(strategy="scorers", scorers={"prefix": -1}), ["-1"]),
    "replay without events": (pool({"url": ONE, "kv_replay": "tcp://127.0.0.1:9301"}), ["kv_replay", "kv_events"]),
    "a topic without events": (pool({"url": ONE, "kv_topic": "kv"}), ["kv_topic", "kv_events"]),
    "an address that is none": (pool({"url": ONE, "kv_events": "9201"}), ["9201"]),
    "a port that is none": (pool({"url": ONE, "kv_events": "tcp://127.0.0.1:99999"}), ["99999"]),
    "events that nobody publishes": (pool(prefixes="events"), ["no endpoint of this model has `kv_events`"]),
    "dynamo's events that nobody publishes": (pool(prefixes="dynamo"), ["no endpoint of this model has `kv_events`"]),
    "a split without prefill": (pool(disaggregation={"connector": "nixl"}), ["role: prefill"]),
    "a split without decode": (pool({"url": ONE, "role": "prefill"}, disaggregation={"connector": "nixl"}), ["none would write answers"]),
    "dynamo's split without instances": (
        pool({"url": ONE, "role": "prefill"}, TWO, disaggregation={"connector": "dynamo"}),
        ["instance"],
    ),
    "own metrics without names": (pool(metrics={"engine": "custom"}), ["`custom` needs `names`"]),
    "names without own metrics": (pool(metrics={"names": {"waiting": "x"}}), ["`engine: custom` only"]),
    "a figure nobody knows": (pool(metrics={"engine": "custom", "names": {"waitin": "x"}}), ["waitin", "waiting"]),
    "an engine nobody knows": (pool(metrics={"engine": "vlm"}), ["vlm", "vllm"]),
    "a path that is none": (pool(health={"path": "health"}), ["is not a path"]),
    "no block size": (pool(block_size=0), ["block_size"]),
    "an index without room": (pool(index_memory="1KiB"), ["index_memory"]),
    "no ranks": (pool({"url": ONE, "ranks": 0}), ["ranks"]),
    "an endpoint twice": (pool(ONE, ONE), [ONE]),
    "a role nobody knows": (pool({"url": ONE, "role": "cook"}), ["cook", "prefill"]),
    "a header that is none": (pool(session_header="a b"), ["is not the name of a header"]),
    "a key nobody knows": (pool(strtegy="kv"), ["strtegy", "strategy"]),
    "an adapter with endpoints of its own": (and_adapter(pool(), endpoints=[ONE]), ["adapter_of", "endpoint"]),
    "an adapter of nobody": (and_adapter(pool(), adapter_of="b"), ["adapter_of", "b"]),
    "other processes at no address": ({**pool(), "replicas": {"redis": "localhost:secret@x"}}, ["redis://"]),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_its_place(tmp_path, name):
    spec, says = BAD[name]
    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    done = run("check", str(file))
    assert done.returncode != 0, done.stdout
    for part in says:
        assert part in done.stderr, done.stderr
    assert re.search(r"waypost\.yaml:\d+", done.stderr), "without a line: " + done.stderr
    assert "secret" not in done.stderr


TOKENIZERS = {
    "is not there": {},
    "has no tokenizer.json": {"config.json": "{}"},
    "has one that is no JSON": {"tokenizer.json": "{"},
    "has one that is empty": {"tokenizer.json": ""},
    "has one of another kind": {"tokenizer.json": json.dumps({"version": "1.0", "model": {"type": "Nothing"}})},
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_folder_that(tmp_path, name):
    folder = tmp_path / "tok"
    for file, text in TOKENIZERS[name].items():
        folder.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(pool(EVENTS, TWO, tokenizer="tok")))
    for command in (["check", str(file)], ["serve", "--config", str(file), "--listen", "127.0.0.1:0"]):
        done = run(*command)
        assert done.returncode != 0
        assert "tok" in done.stderr and "`a`" in done.stderr, done.stderr
        assert "panicked" not in done.stderr


WARNINGS = {
    "events without a tokenizer": (pool(EVENTS), "KV events without `tokenizer`"),
    "events of a part": (pool(EVENTS, TWO), "some endpoints have no `kv_events`"),
    "a queue without a bound": (pool(queue={}), "`queue` without `busy`"),
    "dynamo without instances": (pool(dynamo=True), "`dynamo` without `instance`"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_does_less_than_it_seems_to_is_warned_of(tmp_path, name):
    spec, says = WARNINGS[name]
    file = tmp_path / "waypost.yaml"
    file.write_text(yaml.safe_dump(spec))
    done = run("check", str(file))
    assert done.returncode == 0, done.stderr
    assert says in done.stdout, done.stdout
