"""Dynamo's frontend is told the worker: in `nvext` and by the headers of both generations. A recorder stands in for it."""

import pytest

from placing.kit import LONG, chat, config, endpoint

BIG = 2**64 - 3  # beyond a signed number of 64 bits, as half of all real ids are
READS = 2**63 + 7
CLIENTS = b'"seed":9007199254740993,"z":1.0,"a":"<&>\\u00e9","messages":[{"role":"user","content":"' + LONG.encode() + b'"}]'
STEERING = {
    "x-dynamo-worker-instance-id": "1",
    "x-worker-instance-id": "1",
    "x-prefill-instance-id": "1",
    "x-prefiller-host-port": "evil:1",
    "x-dynamo-prefill-instance-id": "1",
    "x-dynamo-request-priority": "9",
    "x-dp-rank": "1",
    "x-data-parallel-rank": "1",
    "x-dynamo-anything": "1",
    "x-llm-d-inference-objective": "1",
}


@pytest.fixture
def frontend(recorder):
    """A recorder in the place of Dynamo's frontend."""
    return recorder()


def aggregated(frontend, **pick):
    return config(endpoint(frontend, instance=BIG), dynamo=True, **pick)


def disaggregated(frontend, other, **pick):
    ends = endpoint(other, instance=READS, role="prefill"), endpoint(frontend, instance=BIG, role="decode")
    how = {"connector": "dynamo", "min_uncached_tokens": 64}
    return config(*ends, strategy="kv", disaggregation=how, **pick)


def told(request, *more):
    """Headers of a request that steer."""
    names = ("x-dynamo-", "x-worker-", "x-prefill", "x-dp-", "x-data-", "x-llm-d-", *more)
    return {name.lower(): value for name, value in request.headers if name.lower().startswith(names)}


def test_a_worker_is_pinned_and_every_other_byte_stays(gateway, frontend):
    gate = gateway(aggregated(frontend))
    assert gate.chat(b'{"model":"m",' + CLIENTS + b"}").status_code == 200
    pin = b'"nvext":{"backend_instance_id":%d}' % BIG
    assert frontend.last().body == b"{" + pin + b',"model":"sim-small",' + CLIENTS + b"}"
    assert told(frontend.last()) == {
        "x-worker-instance-id": str(BIG),
        "x-dynamo-worker-instance-id": str(BIG),
        "x-dynamo-routing-mode": "aggregated",
    }


def test_the_clients_own_extensions_stay(gateway, frontend):
    gate = gateway(aggregated(frontend))
    own = b'"cache_salt":"<s>", "agent_hints":{"osl":9007199254740993},"annotations":["a" ]'
    gate.chat(b'{"model":"m","nvext": {' + own + b"}," + CLIENTS + b"}")
    pin = b'"backend_instance_id":%d,' % BIG
    assert frontend.last().body == b'{"model":"sim-small","nvext": {' + pin + own + b"}," + CLIENTS + b"}"


@pytest.mark.parametrize("nvext", [b"null", b"7", b"[]", b"{}", b'{"backend_instance_id":null}'])
def test_whatever_stands_in_its_place_the_pin_is_made(gateway, frontend, nvext):
    gate = gateway(aggregated(frontend))
    gate.chat(b'{"model":"m","nvext":' + nvext + b"," + CLIENTS + b"}")
    assert frontend.last().json()["nvext"] == {"backend_instance_id": BIG}


@pytest.mark.parametrize("said", [False, True], ids=["by the connector", "by both"])
def test_a_pair_is_told_with_both_ids(gateway, frontend, recorder, said):
    other = recorder()
    gate = gateway(disaggregated(frontend, other, **({"dynamo": True} if said else {})))
    answer = gate.chat(b'{"model":"m",' + CLIENTS + b"}")
    assert answer.status_code == 200
    assert frontend.last().json()["nvext"] == {"prefill_worker_id": READS, "decode_worker_id": BIG}
    assert told(frontend.last()) == {
        "x-worker-instance-id": str(BIG),
        "x-dynamo-worker-instance-id": str(BIG),
        "x-prefill-instance-id": str(READS),
        "x-dynamo-prefill-instance-id": str(READS),
        "x-prefiller-host-port": str(READS),
        "x-dynamo-routing-mode": "disaggregated",
    }
    assert not other.requests, "its own frontend has it read"
    (placement,) = gate.decision(answer)["placements"]
    assert (placement["pair"], placement["prefill"]["endpoint"]) == ("split", f"{other.url}@{READS}")
    # A short one is not split.
    gate.chat(chat("hi"))
    assert frontend.last().json()["nvext"] == {"backend_instance_id": BIG}
    assert told(frontend.last())["x-dynamo-routing-mode"] == "aggregated"


PINS = {"backend_instance_id": 1, "prefill_worker_id": 2, "decode_worker_id": 3, "dp_rank": 4, "prefill_dp_rank": 5}


def test_clients_cannot_steer(gateway, frontend):
    gate = gateway(aggregated(frontend))
    gate.chat(chat(nvext={**PINS, "cache_salt": "s"}), headers={**STEERING, "x-dynamo-session-id": "s1"})
    assert frontend.last().json()["nvext"] == {"cache_salt": "s", "backend_instance_id": BIG}
    assert told(frontend.last()) == {
        "x-worker-instance-id": str(BIG),
        "x-dynamo-worker-instance-id": str(BIG),
        "x-dynamo-routing-mode": "aggregated",
        "x-dynamo-session-id": "s1",
    }


def test_clients_cannot_steer_where_dynamo_chooses_the_worker(gateway, frontend):
    gate = gateway(config(frontend, dynamo=True))
    gate.chat(chat(nvext={**PINS, "cache_salt": "s"}), headers=STEERING)
    assert frontend.last().json()["nvext"] == {"cache_salt": "s"}
    assert not told(frontend.last())
    gate.chat(chat())
    assert "nvext" not in frontend.last().json()


def test_trusted_clients_may_but_for_the_worker_that_was_chosen(gateway, frontend):
    gate = gateway(aggregated(frontend, trust_clients=True))
    gate.chat(chat(nvext=PINS), headers=STEERING)
    assert frontend.last().json()["nvext"] == {**PINS, "backend_instance_id": BIG}
    headers = told(frontend.last())
    assert headers["x-worker-instance-id"] == headers["x-dynamo-worker-instance-id"] == str(BIG)
    assert headers["x-dynamo-request-priority"] == "9"


def test_ranks_are_told_too(gateway, frontend):
    gate = gateway(config(endpoint(frontend, instance=BIG, ranks=2), dynamo=True, strategy="round-robin"))
    ranks = set()
    for _ in range(4):
        gate.chat(chat())
        request = frontend.last()
        rank = request.json()["nvext"]["dp_rank"]
        assert request.header("x-dynamo-dp-rank") == request.header("x-data-parallel-rank") == str(rank)
        ranks.add(rank)
    assert ranks == {0, 1}
