"""`waypost epp` in the place of an endpoint picker: its flags and files, behind a real Envoy with TLS to it."""

import concurrent.futures
import json
import re
import signal

import pytest

from helpers.envoy import FOLDER
from helpers.epp import Epp, Front, place
from helpers.health import NOT_SERVING, SERVING, health
from helpers.ports import free_ports
from helpers.process import ROOT, run
from helpers.wait import until
from helpers.web import web

LONG = "Rule: be brief and kind to all who ask. " * 60
PREFIX_ONLY = """
plugins:
- {type: approx-prefix-cache-producer, parameters: {blockSizeTokens: 16}}
- {type: prefix-cache-scorer}
- {type: active-request-scorer}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-scorer, weight: PREFIX}
  - {pluginRef: active-request-scorer, weight: ACTIVE}
"""


def weights(prefix, active):
    return PREFIX_ONLY.replace("PREFIX", str(prefix)).replace("ACTIVE", str(active))


@pytest.fixture
def front(workshop, tmp_path):
    """`front(*flags, engines=2, config=None, …)` starts one."""
    return lambda *flags, **more: Front(workshop, tmp_path, *flags, **more)


def test_the_conformance_manifests_flags_start_it(workshop):
    engine = workshop.sim()
    flags = ["--pool-name", "primary-inference-pool", "--pool-namespace", "inference-conformance-app-backend"]
    flags += ["--v", "4", "--zap-encoder", "json", "--endpoints", place(engine)]
    # The light picker's own, beside them.
    flags += ["--pool-group", "inference.networking.k8s.io", "--endpoint-target-ports", "3000", "--health-checking", "--secure-serving"]
    config = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
    config += "- type: header-based-testing-filter\n- type: destination-endpoint-served-verifier\nschedulingProfiles:\n"
    config += "- name: conformance-profile\n  plugins:\n  - pluginRef: header-based-testing-filter\n"
    epp = workshop.keep(Epp(*flags, config=config))
    for name in ("inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor", "", "liveness"):
        until(lambda name=name: health(epp.health, name) == SERVING)
    epp.wait_log(r'"message":"--pool-namespace has no meaning here: ')
    epp.wait_log(r'"message":"--v has no meaning here: ')
    assert epp.metrics().value("waypost_endpoint_requests") == 0


def test_a_prompt_stays_where_it_is_cached_and_metrics_are_on_their_port(front):
    front = front(engines=3)
    first = front.who(front.ask(LONG))
    for number in range(6):
        assert front.who(front.ask(f"{LONG} {number}")) == first
    idle(front)
    assert front.epp.metrics().value("waypost_ext_proc_streams_total") == 7
    assert web.get(f"{front.epp.url}/health", timeout=5).status_code == 200
    assert front.envoy.stats().get("spurious_msgs_received", 0) == 0


@pytest.mark.parametrize(("prefix", "active", "stays"), [(10, 1, True), (1, 10, False)])
def test_weights_matter(front, prefix, active, stays):
    front = front(config=weights(prefix, active), decode_ms=1000)
    first = front.who(front.ask(LONG))
    idle(front)
    with web.stream("POST", f"{front.url}/v1/chat/completions", json=chat(LONG, stream=True), timeout=20) as held:
        assert held.status_code == 200
        pieces = held.iter_raw()  # Kept: it closes the stream when it goes.
        next(pieces)
        second = front.who(front.ask(LONG))
    assert (second == first) is stays


def idle(front):
    """Waits until nothing is booked."""
    until(lambda: front.epp.metrics().value("waypost_endpoint_requests") == 0, 15)


def chat(prompt, model="some-model", **more):
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def test_every_name_passes_as_it_is(front):
    front = front(config=weights(5, 0))
    body = b'{ "model" : "org/some-lora",\n "max_tokens":1, "messages":[{"role":"user","content":"hi"}], "seed": 12345678901234567890 }'
    answer = web.post(f"{front.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}, timeout=20)
    assert answer.json()["model"] == "sim-org/some-lora", "what engines are called is theirs"
    assert front.sent(answer)[1] == body
    assert answer.headers["x-waypost-model"] == "epp"


def test_adapters_share_no_prefix(front):
    front = front(config=weights(5, 0))

    def cached(model):
        placement = front.epp.decision(front.ask(LONG, model))["placements"][-1]
        return placement["cached_tokens"]

    assert cached("lora-a") == 0 and cached("lora-a") > 100
    assert cached("lora-b") == 0 and cached("lora-b") > 100


def test_only_engines_know_their_models(front):
    front = front(any_model=False, model="sim-one")
    answer = web.get(f"{front.url}/v1/models", timeout=10)
    assert [one["id"] for one in answer.json()["data"]] == ["sim-one"]
    refused = front.ask(model="nobody-has-it")
    assert refused.status_code == 404 and "x-waypost-decision-id" in refused.headers


def test_names_are_rewritten_by_header_and_requests_have_ids(front):
    # Envoy would make the id itself.
    front = front(change=lambda text: text.replace("stat_prefix: clients", "stat_prefix: clients\n                generate_request_id: false"))
    older = {"x-gateway-model-name-rewrite": "older"}
    answer = front.ask(headers={**older, "x-request-id": "mine"})
    headers, body = front.sent(answer)
    assert json.loads(body)["model"] == "older" and "x-gateway-model-name-rewrite" not in headers
    assert headers["x-request-id"] == "mine"
    answer = front.ask(headers={**older, "x-llm-d-model-name-rewrite": "newer", "x-llm-d-slo-ttft-ms": "5"})
    headers, body = front.sent(answer)
    assert json.loads(body)["model"] == "newer"
    assert not [name for name in headers if name.startswith(("x-llm-d-", "x-gateway-model", "x-gateway-inference"))]
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-request-id"])


def test_prefer_if_available(front):
    front = front(config=weights(5, 0))
    prefer = {"prefer": "respond-async, if-available"}
    for _ in range(2):  # A refused prompt does not count as cached.
        refused = front.ask(LONG, headers=prefer)
        assert refused.status_code == 412, refused.text
        assert refused.text.startswith("inference error: PreconditionFailed - ")
    assert front.ask(LONG).status_code == 200
    assert front.ask(LONG, headers=prefer).status_code == 200
    assert front.ask(LONG, headers={"prefer": "return=minimal"}).status_code == 200


def test_a_body_without_a_model_is_refused_in_gaies_words(front):
    front = front()
    for body in ({"messages": [{"role": "user", "content": "x"}]}, {"model": "", "messages": [{"role": "user", "content": "x"}]}):
        refused = web.post(f"{front.url}/v1/chat/completions", json=body, timeout=10)
        assert (refused.status_code, refused.text) == (400, "inference error: BadRequest - model not found in request body")
    refused = web.post(f"{front.url}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}, timeout=10)
    assert refused.status_code == 400 and refused.text.startswith("inference error: BadRequest - ")


FULL = """
featureGates: [flowControl]
plugins:
- {type: queue-scorer}
- {type: concurrency-detector, parameters: {maxConcurrency: 1}}
flowControl: {maxRequests: 1, defaultRequestTTL: 700ms, saturationDetector: {pluginRef: concurrency-detector}}
"""


def test_dropped_requests_say_why(front):
    front = front("--objective", "batch=-1", "--objective", "urgent=5", engines=1, config=FULL, decode_ms=1000)

    def dropped(**headers):
        answer = front.ask(headers=headers)
        return answer.status_code, answer.headers.get("x-llm-d-request-dropped-reason"), answer.text.split(" - ")[0]

    body = chat("x", stream=True)
    with web.stream("POST", f"{front.url}/v1/chat/completions", json=body, timeout=30) as held:
        pieces = held.iter_raw()  # Kept: it closes the stream when it goes.
        next(pieces)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            seen = {one.result() for one in [pool.submit(dropped) for _ in range(8)]}
    refused = "inference error: ResourceExhausted"
    assert seen == {(429, "rejected-ttl-expired", refused), (429, "rejected-saturated", refused)}
    idle(front)
    assert dropped()[0] == 200


def test_an_empty_pool_has_no_endpoints(front, tmp_path):
    (tmp_path / "endpoints.yaml").write_text("endpoints: []\n")
    front = front(engines=1, pool=False, config=discovery(tmp_path))
    refused = front.ask()
    assert (refused.status_code, refused.headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-no-endpoints")
    assert refused.text.startswith("inference error: ServiceUnavailable - ")


def discovery(folder):
    return f"""
plugins:
- {{name: files, type: file-discovery, parameters: {{path: {folder}/endpoints.yaml, watchFile: true}}}}
- {{type: queue-scorer}}
dataLayer: {{discovery: {{endpoints: {{pluginRef: files}}}}}}
"""


def test_a_file_of_endpoints_is_followed(front, tmp_path):
    file = tmp_path / "endpoints.yaml"

    def write(*ports):
        new = file.with_suffix(".new")
        entries = [{"name": f"e{port}", "address": "127.0.0.1", "port": str(port)} for port in ports]
        new.write_text(json.dumps({"endpoints": entries}))
        new.replace(file)

    write()
    front = front(engines=2, pool=False, config=discovery(tmp_path))
    one, two = front.engines
    assert front.ask().status_code == 503
    for engine in (one, two):
        write(engine.port)
        until(lambda: front.ask().status_code == 200 and front.who(front.ask()) == front.engines.index(engine))
    file.write_text("endpoints: 7\n")
    front.epp.wait_log("configuration refused, the old one stays")
    assert front.ask().status_code == 200


# A gateway names the subset in the filter's metadata; here a header does.
SUBSET = """
                  - name: envoy.filters.http.header_to_metadata
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
                      request_rules:
                        - header: x-subset
                          on_header_present: {metadata_namespace: envoy.lb.subset_hint, key: x-gateway-destination-endpoint-subset}
                  - name: envoy.filters.http.ext_proc"""


def with_subset(text):
    mark = "\n                  - name: envoy.filters.http.ext_proc"
    assert text.count(mark) == 1
    return text.replace(mark, SUBSET)


def test_a_subset_binds_and_conformance_tests_choose(front):
    front = front("--conformance", engines=3, change=with_subset, config="plugins: [{type: random-picker}]")
    places = [place(engine) for engine in front.engines]
    for index, wanted in enumerate(places):
        answer = front.ask(headers={"x-subset": wanted})
        assert front.who(answer) == index
        assert answer.headers["x-conformance-test-served-endpoint"] == wanted
        chosen = front.ask(headers={"x-subset": places[0], "test-epp-endpoint-selection": wanted})
        assert front.who(chosen) == index, "a test's choice goes before the subset"
        headers, _ = front.sent(chosen)
        assert headers["x-echo-set-header"] == f"x-conformance-test-served-endpoint:{wanted}"
        assert "test-epp-endpoint-selection" not in headers
        get = web.get(f"{front.url}/health", headers={"test-epp-endpoint-selection": wanted}, timeout=10)
        assert get.headers["x-conformance-test-served-endpoint"] == wanted
    two = {front.who(front.ask(headers={"test-epp-endpoint-selection": ",".join(places[1:])})) for _ in range(12)}
    assert two == {1, 2}
    everywhere = {front.who(front.ask(headers={"test-epp-endpoint-selection": "10.9.9.9"})) for _ in range(30)}
    assert everywhere == {0, 1, 2}, "unknown is as absent"
    nobody = front.ask(headers={"x-subset": "10.9.9.9:1"})
    assert (nobody.status_code, nobody.headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-no-endpoints")


def test_without_the_switch_nobody_chooses(front):
    front = front(config="plugins: [{type: random-picker}]")
    wanted = {"test-epp-endpoint-selection": place(front.engines[0]), "x-echo-set-header": "a:b"}
    answers = [front.ask(headers=wanted) for _ in range(16)]
    assert {front.who(answer) for answer in answers} == {0, 1}
    headers, _ = front.sent(answers[-1])
    assert not {"test-epp-endpoint-selection", "x-echo-set-header"} & set(headers)
    assert "x-conformance-test-served-endpoint" not in answers[-1].headers


def test_clients_are_given_a_session(front):
    front = front(config="plugins: [{type: session-affinity-scorer}]", engines=3)
    first = front.ask()
    token, home = first.headers["x-session-token"], front.who(first)
    for _ in range(6):
        again = front.ask(headers={"x-session-token": token})
        assert (again.headers["x-session-token"], front.who(again)) == (token, home)
    assert front.ask().headers["x-session-token"] != token


def test_plaintext_and_a_given_certificate(workshop, tmp_path, front):
    def plain(text):
        before, rest = text.split("      transport_socket:\n", 1)
        return before + "      load_assignment:\n" + rest.split("      load_assignment:\n", 1)[1]

    made = front("--secure-serving=false", change=plain)
    assert made.ask().status_code == 200
    made.epp.wait_log(r"Envoy asks on [^ ]* \(plaintext\)")
    done = run("epp", "--endpoints", "127.0.0.1:1", "--cert-path", str(tmp_path / "none"), "--grpc-port", "0")
    assert done.returncode == 1 and "tls.crt" in done.stderr


def test_a_term_signal_ends_readiness_first(front):
    front = front("--drain-timeout", "2s")
    assert health(front.epp.health, "inference-extension") == SERVING
    front.epp.signal(signal.SIGTERM)
    until(lambda: health(front.epp.health, "inference-extension") == NOT_SERVING)
    assert health(front.epp.health, "liveness") == SERVING
    assert front.ask().status_code == 200
    assert front.epp.proc.wait(10) == 0


@pytest.mark.parametrize("name", ["llm-d", "dynamo"])
def test_the_examples_run(front, name):
    flags, env = ["--config-file", str(ROOT / f"examples/epp/{name}.yaml")], {}
    if name == "dynamo":
        env = {"DYNAMO_KV_BLOCK_SIZE": "16"}
    front = front(*flags, env=env)
    first = front.who(front.ask(LONG))
    assert front.who(front.ask(LONG)) == first


def test_dynamos_ids_go_into_header_and_body(workshop, tmp_path):
    engine = workshop.sim(any_model=True, record=True)
    ids = [5269112803711203811, 11431130917446755266]
    flags = ["--config-file", str(ROOT / "examples/epp/dynamo.yaml"), "--endpoints", ",".join(f"{place(engine)}@{one}" for one in ids)]
    front = Front(workshop, tmp_path, *flags, engines=0, pool=False, env={"DYNAMO_KV_BLOCK_SIZE": "16"})
    answer = front.ask(model="any/name", nvext={"annotations": []})
    assert answer.status_code == 200, answer.text
    asked = engine.requests(1)[0]
    headers, body = {name.lower(): value for name, value in asked["headers"]}, json.loads(asked["body"])
    worker = int(headers["x-worker-instance-id"])
    assert worker in ids and body["nvext"] == {"annotations": [], "backend_instance_id": worker} and body["model"] == "any/name"
    assert headers["x-dynamo-routing-mode"] == "aggregated"


def test_what_cannot_start_says_why():
    pool = ["--endpoints", "10.0.0.1:8000"]
    for args, wanted in [
        (["--pool-name", "p"], "Kubernetes discovery is not built yet; give --endpoints"),
        ([*pool, "--lora-info-metric", "x"], "--lora-info-metric was removed"),
        ([*pool, "--disable-endpoint-subset-filter"], "is not built: leave `envoy.lb.subset_hint` out"),
        ([*pool, "--config-text", "plugins:\n- type: queue-scorrer"], "--config-text:2: no plugin has the type `queue-scorrer`"),
        ([*pool, "--config-file", "/nowhere.yaml"], "/nowhere.yaml"),
        ([*pool, "--config-file", "a", "--config-text", "b"], "either --config-file or --config-text"),
        ([*pool, "--grpc-prot", "1"], "did you mean `grpc-port`?"),
        ([*pool, "--config-text", "plugins: [{type: no-hit-lru-scorer}]"], "are known, but not built: use `token-load-scorer`"),
    ]:
        done = run("epp", *args)
        assert done.returncode == 1 and wanted in done.stderr, (args, done.stderr)
    done = run("epp", *pool, env={"DYN_EPP_MODE": "standalone", "DYN_MODEL_NAME": "m", "DYN_KV_CACHE_BLOCK_SIZE": "17"})
    assert "DYN_KV_CACHE_BLOCK_SIZE: `17` is not a power of two from 16 to 8192" in done.stderr


def test_the_translation_is_an_ordinary_configuration(tmp_path):
    done = run("epp", "--endpoints", "10.0.0.1:8000", "--config-file", str(ROOT / "examples/epp/llm-d.yaml"), "--print-config", "-v=4")
    assert done.returncode == 0 and done.stdout.startswith("# --v has no meaning here"), done.stderr
    file = tmp_path / "waypost.yaml"
    file.write_text(done.stdout)
    checked = run("check", str(file))
    assert checked.returncode == 0, checked.stderr
    assert "waypost epp" in run("epp", "--help").stdout and (ROOT / FOLDER / "epp.yaml").exists()


def test_prompts_are_split_as_the_decider_says(workshop, tmp_path):
    reader = workshop.sim(any_model=True)
    config = """
plugins:
- {type: prefix-cache-scorer}
- {type: prefill-filter}
- {type: decode-filter}
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 100}}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: prefix-cache-scorer}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer}]}
"""
    front = Front(workshop, tmp_path, "--prefill-endpoints", place(reader), engines=1, config=config)
    short, _ = front.sent(front.ask("hi"))
    long, _ = front.sent(front.ask(LONG, headers={"x-prefiller-host-port": "10.9.9.9:1"}))
    assert "x-prefiller-host-port" not in short and long["x-prefiller-host-port"] == place(reader)


TOKENS = str(ROOT / "tests/fixtures/tokens/tiny")
EXACT = """
plugins:
- {type: token-producer, parameters: {modelName: base}}
- {type: precise-prefix-cache-producer, parameters: {tokenProcessorConfig: {blockSize: 16}, kvEventsConfig: {EVENTS}}}
- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}}
"""


def tokens(front, model, ids):
    answer = web.post(f"{front.url}/v1/completions", json={"model": model, "prompt": ids, "max_tokens": 1}, timeout=20)
    return answer, front.epp.decision(answer)["placements"][-1]


def test_exact_prefixes_of_engines_that_connect_here(workshop, tmp_path):
    events, *ports = free_ports(3)
    front = Front(workshop, tmp_path, "--tokenizer", TOKENS, "--endpoints", ",".join(f"127.0.0.1:{port}" for port in ports), engines=0,
                  pool=False, config=EXACT.replace("EVENTS", f"zmqEndpoint: 'tcp://*:{events}'"))  # fmt: skip
    for port in ports:
        topic = f"kv@127.0.0.1:{port}@base"
        front.engines.append(workshop.sim(any_model=True, listen=f"127.0.0.1:{port}", kv_topic=topic, kv_events=f"connect:tcp://127.0.0.1:{events}"))

    ids = list(range(1000, 1160))
    answer, _ = tokens(front, "base", ids)
    home = front.who(answer)

    def known():
        answer, placement = tokens(front, "base", ids)
        held = {one["endpoint"]: one["device_blocks"] for one in placement["choice"]["candidates"]}
        return placement["reading"] == "exact" and held[front.engines[home].url] == 10 and front.who(answer) == home

    until(known, 10)


def test_standalone_mode_of_dynamos_picker(workshop, tmp_path):
    events, replay = free_ports(2)
    engine = workshop.sim(any_model=True, kv_events=f"tcp://127.0.0.1:{events}", kv_replay=f"tcp://127.0.0.1:{replay}")
    env = {
        "DYN_EPP_MODE": "standalone", "DYN_EPP_INFERENCE_POOL_NAME": "pool", "POD_NAMESPACE": "ns", "DYN_MODEL_NAME": "base",
        "DYN_KV_CACHE_BLOCK_SIZE": "16", "DYN_EPP_TOKENIZER_PROTOCOL": "vllm-render", "DYN_EPP_TOKENIZER_SERVICE_URL": "http://x",
        "DYN_EPP_KV_EVENT_PORT": str(events), "DYN_EPP_KV_EVENT_REPLAY_PORT": str(replay),
    }  # fmt: skip
    front = Front(workshop, tmp_path, "--tokenizer", TOKENS, "--endpoints", place(engine), engines=0, pool=False, env=env)
    front.epp.wait_log("DYN_EPP_TOKENIZER_SERVICE_URL is not needed")
    ids = list(range(2000, 2160))

    def cached(model):
        answer, placement = tokens(front, model, ids)
        assert answer.headers["x-waypost-model"] == "pool" and placement["choice"]["strategy"] == "kv"
        return placement["choice"]["candidates"][0]["device_blocks"]

    until(lambda: cached("base") == 10, 10)
    assert cached("some-lora") == 0, "blocks of the base model are not the adapter's"


def test_any_name_at_the_http_door(waypost, sim):
    engine = sim(any_model=True, record=True)
    other = sim("sim-other")
    pool = {"name": "pool", "endpoint": engine.url, "any_name": True}
    gate = waypost({"models": [{"name": "other", "model": "sim-other", "endpoint": other.url}, pool]})
    body = b'{"model": "org/lora" , "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}'
    assert gate.chat(body).status_code == 200 and engine.requests(1)[0]["body"] == body
    assert gate.chat(body.replace(b"org/lora", b"other")).json()["model"] == "sim-other"
    assert gate.chat(body.replace(b"org/lora", b"pool")).status_code == 200
    assert json.loads(engine.requests(1)[0]["body"])["model"] == "pool"
    assert gate.chat(body.replace(b"org/lora", b"")).status_code == 400
