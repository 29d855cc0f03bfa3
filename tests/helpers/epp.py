"""`waypost epp` behind a real Envoy, which reaches it by TLS unless a test says otherwise."""

from helpers.envoy import Envoy
from helpers.ports import free_ports
from helpers.process import Router
from helpers.web import web


class Epp(Router):
    """The picker. `port` is the one of its metrics, where decisions are asked for, too."""

    def __init__(self, *flags, env=None, config=None):
        self.grpc, self.health, metrics = free_ports(3)
        ports = ["--grpc-port", str(self.grpc), "--grpc-health-port", str(self.health), "--metrics-port", str(metrics)]
        text = ["--config-text", config] if config else []
        super().__init__(["epp", "--drain-timeout", "0s", *ports, *text, *flags], env)
        assert self.port == metrics


class Front:
    """An Envoy, a picker behind it, and engines that answer for every name."""

    def __init__(self, workshop, folder, *flags, engines=2, config=None, env=None, change=lambda text: text, pool=True, **sim):
        sim = {"any_model": True, "record": True, **sim}
        self.engines = [workshop.sim(**sim) for _ in range(engines)]
        given = ["--endpoints", ",".join(map(place, self.engines))] if pool else []
        self.epp = workshop.keep(Epp(*given, *flags, config=config, env=env))
        self.envoy = workshop.keep(Envoy("epp", str(folder), {9002: self.epp.grpc}, change))
        self.url = self.envoy.url

    def ask(self, prompt="hi", model="some-model", path="/v1/chat/completions", headers=None, timeout=20, **more):
        """A chat through Envoy."""
        body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": prompt}], **more}
        return web.post(f"{self.url}{path}", json=body, headers=headers, timeout=timeout)

    def who(self, answer):
        """The position of the engine that a 200 came from."""
        assert answer.status_code == 200, answer.text
        return [engine.url for engine in self.engines].index(self.epp.decision(answer)["endpoint"])

    def sent(self, answer):
        """What the engine of a 200 was sent: headers in lower case, and the body."""
        last = self.engines[self.who(answer)].requests(1)[0]
        return {name.lower(): value for name, value in last["headers"]}, last["body"]


def place(engine):
    """Its `ip:port`."""
    return f"127.0.0.1:{engine.port}"
