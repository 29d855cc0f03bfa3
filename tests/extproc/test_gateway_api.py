"""The manifests of deploy/gateway-api: their names agree, and what they put into Istio's Envoy works in a real one.

No cluster runs here. What Istio would make of its own objects (listener, the Service's cluster, the route to the public model) is
written out below; everything of ours is taken from the manifests as it stands, but for addresses.
"""

import yaml

import pytest
from helpers.envoy import Envoy
from helpers.ports import free_ports
from helpers.process import ROOT, run
from helpers.web import web

FOLDER = ROOT / "deploy" / "gateway-api"
TYPES = "type.googleapis.com/envoy.extensions"


def objects(name):
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one]


def only(name, kind, called=None):
    found = [o for o in objects(name) if o["kind"] == kind and called in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {called} in {name}"
    return found[0]


def config():
    return yaml.safe_load(only("waypost.yaml", "ConfigMap")["data"]["waypost.yaml"])


def patches():
    return {p["applyTo"]: p["patch"]["value"] for p in only("istio.yaml", "EnvoyFilter")["spec"]["configPatches"]}


def static(name, port, **more):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": name, "type": "STATIC", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}, **more}


def istio(door, public):
    """What Istio makes of the manifests, without our patches' place in it changed."""
    patch, grpc = patches(), "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    asked = patch["HTTP_FILTER"]["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
    route = only("istio.yaml", "HTTPRoute")["spec"]["rules"][0]["matches"][0]["headers"][0]
    by_name = {"match": {"prefix": "/", "headers": [{"name": route["name"], "string_match": {"exact": route["value"]}}]},
               "route": {"cluster": "outbound|443||openai"}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "clients",
        "http_filters": [patch["HTTP_FILTER"], router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [patch["HTTP_ROUTE"], by_name]}]},
    }
    http2 = {"typed_extension_protocol_options": {
        grpc: {"@type": f"type.googleapis.com/{grpc}", "explicit_http_config": {"http2_protocol_options": {}}}}}
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return yaml.safe_dump({
        "admin": {"address": address(9901)},
        "static_resources": {
            "listeners": [{"name": "clients", "address": address(8080), "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [static(asked, door, **http2), static("outbound|443||openai", public), patch["CLUSTER"]],
        },
    })


class Cluster:
    def __init__(self, workshop, folder):
        self.local = [workshop.sim("sim-local"), workshop.sim("sim-local")]
        self.public = workshop.sim("sim-public", record=True)
        self.door, health = free_ports(2)
        ours = config()
        listed = "\n".join(f'  - {{name: "l{i}", namespace: models, address: "127.0.0.1", port: "{sim.port}"}}'
                           for i, sim in enumerate(self.local))
        (folder / "local.yaml").write_text(f"endpoints:\n{listed}\n")
        ours["listen"], ours["admin"]["listen"] = "127.0.0.1:0", "127.0.0.1:0"
        ours["ext_proc"] = {"listen": f"127.0.0.1:{self.door}", "health_listen": f"127.0.0.1:{health}"}
        local, public = ours["models"]
        # The engines here go by other names, and the public one speaks plain HTTP, which it also has to be by name.
        local.update(model="sim-local", endpoints_file=str(folder / "local.yaml"))
        public.update(model="sim-public", endpoint=f"http://localhost:{self.public.port}")
        self.waypost = workshop.waypost(ours, env={"OPENAI_API_KEY": "sk-of-the-secret"})
        self.envoy = workshop.keep(Envoy(None, str(folder), {}, text=istio(self.door, self.public.port)))
        self.url = self.envoy.url


@pytest.fixture(scope="module")
def cluster(shared, tmp_path_factory):
    return Cluster(shared, tmp_path_factory.mktemp("cluster"))


def ask(cluster, prompt, headers=None, model="auto"):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    return web.post(f"{cluster.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def test_the_picked_endpoint_answers(cluster):
    answers = [ask(cluster, f"Who wrote Faust? {n}") for n in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4, answers[0].text
    assert {answer.json()["model"] for answer in answers} == {"sim-local"}
    assert sum(sim.stats()["requests"] for sim in cluster.local) >= 4


def test_a_model_known_by_name_goes_by_its_route_with_the_key_of_the_secret(cluster):
    answer = ask(cluster, "2+2 is ")
    assert answer.json()["model"] == "sim-public" and answer.headers["x-vsr-selected-decision"] == "math"
    asked = {name.lower(): value for name, value in cluster.public.requests()[-1]["headers"]}
    assert asked.get("authorization") == "Bearer sk-of-the-secret"


def test_the_list_of_models_needs_no_route(cluster):
    names = [model["id"] for model in web.get(f"{cluster.url}/v1/models", timeout=10).json()["data"]]
    assert {"auto", "local", "public"} <= set(names)


def test_a_client_cannot_name_the_endpoint(cluster):
    there = f"127.0.0.1:{cluster.public.port}"
    answer = ask(cluster, "Who wrote Faust?", {"x-gateway-destination-endpoint": there})
    assert answer.json()["model"] == "sim-local"


def test_the_authority_is_needed(cluster, tmp_path):
    """Without it Envoy sends the cluster's name, which is no authority; so the manifest's comment says the truth."""
    text = istio(cluster.door, cluster.public.port).replace("authority: waypost\n", "")
    envoy = Envoy(None, str(tmp_path), {}, text=text)
    try:
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
        assert web.post(f"{envoy.url}/v1/chat/completions", json=body, timeout=30).status_code == 500
    finally:
        envoy.stop()


def test_the_names_agree():
    deployment, service = only("waypost.yaml", "Deployment"), only("waypost.yaml", "Service")
    ports = {port["name"]: port["containerPort"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    ours = config()
    listening = {"ext-proc": ours["ext_proc"]["listen"], "health": ours["ext_proc"]["health_listen"], "metrics": ours["admin"]["listen"]}
    assert {name: int(listen.rsplit(":", 1)[1]) for name, listen in listening.items()} == ports
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    patch = patches()
    assert patch["HTTP_FILTER"]["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] == f"outbound|{ports['ext-proc']}||{host}"
    assert host in [o["spec"]["host"] for o in objects("istio.yaml") if o["kind"] == "DestinationRule"]
    assert patch["HTTP_ROUTE"]["route"]["cluster"] == patch["CLUSTER"]["name"]
    chosen = only("istio.yaml", "HTTPRoute")["spec"]["rules"][0]["matches"][0]["headers"][0]["value"]
    assert chosen in [model["name"] for model in ours["models"]]
    assert {data["name"] for data in yaml.safe_load(only("waypost.yaml", "ConfigMap")["data"]["local.yaml"])["endpoints"]}


def test_the_pools_names_agree():
    pool, service, deployment = (only("inferencepool.yaml", kind) for kind in ("InferencePool", "Service", "Deployment"))
    picker = pool["spec"]["endpointPickerRef"]
    assert (picker["name"], picker["port"]["number"]) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert only("inferencepool.yaml", "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]["name"] == pool["metadata"]["name"]
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--pool-name") + 1] == pool["metadata"]["name"]


def test_the_pools_picker_takes_its_configuration(tmp_path):
    data = only("inferencepool.yaml", "ConfigMap")["data"]
    args = only("inferencepool.yaml", "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    for name, text in data.items():
        (tmp_path / name).write_text(text.replace("/etc/waypost", str(tmp_path)))
    done = run(*[arg.replace("/etc/waypost", str(tmp_path)) for arg in args], "--print-config")
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(done.stdout)
    assert made["models"][0]["pick"]["scorers"] == {"queue": 2, "kv-utilization": 2, "prefix": 3}
    assert made["models"][0]["endpoints_file"].endswith("llama.yaml")
