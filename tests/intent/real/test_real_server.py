"""Intents from a real model server, `transformers serve` with a random model: does the wire work?

`scripts/real-intent-server.sh` starts the server and runs this; `make test` leaves it out. The model cannot judge
anything, so which route it names, if any, is chance: what is checked is that its answers are read and never believed
further than they go. The models that requests are forwarded to are mocks.
"""

import json
import os

import pytest

from intent.kit import MODELS, ask, config

ASKED_S = "60s"


@pytest.fixture(scope="module")
def upstream(shared):
    return shared.recorder()


def served(upstream, **intent):
    model = {"model": os.environ["REAL_INTENT_MODEL"]}
    return config(os.environ["REAL_INTENT_URL"], upstream.url, timeout=ASKED_S, router=model, cache=0, **intent)


def show(d):
    """For whoever reads the run."""
    print(json.dumps({key: d.get(key) for key in ("label", "model", "fallback", "classifier_error", "intent")}, indent=1))


def test_the_server_is_asked_and_its_answer_is_read(waypost, upstream):
    d = ask(waypost(served(upstream)), "Prove that there are infinitely many primes")
    show(d)
    intent = d["intent"]
    *refused, last = intent["tries"]
    assert last["status"] == 200 and last["result"] in ("ok", "unreadable", "unknown_route")
    assert all(one["result"] in ("refused", "unreadable", "unknown_route") for one in refused)
    assert all(one["status"] in (400, 422) for one in refused if one["result"] == "refused")
    assert intent["prompt_tokens"] > 300 and 0 < intent["completion_tokens"] <= 64, "its own count of bytes"
    if last["result"] == "ok":
        assert d["model"] == MODELS[d["label"]] and "classifier_error" not in d
    else:
        assert d["classifier_error"] == f"intent_{last['result']}"
        assert (d["model"], d.get("label")) == ("spare", None)
    assert upstream.last().json()["model"] == d["model"]


def test_what_it_refuses_is_shown_and_not_asked_for_again(waypost, upstream):
    """`transformers serve` 5.24 takes what is asked for by default, and heeds little of it; others refuse some."""
    gateway = waypost(served(upstream))
    first, second = ask(gateway, "hello"), ask(gateway, "hello again")
    show(second)
    refused = [one for one in first["intent"]["tries"] if one["result"] == "refused"]
    assert len(refused) == len(first["intent"].get("refused", []))
    assert all(one["status"] == 200 for one in second["intent"]["tries"])


def test_guided_json_that_is_insisted_on_is_refused_and_the_default_decides(waypost, upstream):
    d = ask(waypost(served(upstream, guided="guided_json")))
    show(d)
    assert (d["classifier_error"], d["model"]) == ("intent_refused", "spare")
    assert {(one["status"], one["result"]) for one in d["intent"]["tries"]} == {(422, "refused")}
