//! Where the pool is and which ports are served, as the flags say; and at the end, what follows from all parts together.
//!
//! Reads no configuration and no plugin. Used by `epp`.

use super::Fault;
use super::flags::Flags;
use super::write::{Endpoint, Events, Metrics, Replicas, Setup};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use waypost_config::literal;

/// llm-d's name for a pool that has none.
const POOL: &str = "epp";
/// What to do when nothing says where the pool is.
const NO_ENDPOINTS: &str = "nothing says where the pool's endpoints are: Kubernetes discovery is not built yet; give \
     --endpoints IP:PORT,IP:PORT or a file-discovery plugin";

/// What the plugins, and after them Dynamo's variables, leave to be settled at the end.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Where KV events come from, if the choice goes by them.
    pub(super) events: Option<Events>,
    /// Figures of the engines are needed, or at least useful.
    pub(super) metrics: Option<Metrics>,
    /// Dynamo's ids are told where endpoints have them.
    pub(super) dynamo: bool,
    /// Its plugins are those of the first generation.
    pub(super) first_dynamo: bool,
}

/// Ports, certificate, endpoints and names.
pub(super) fn setup(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Setup, Fault> {
    let host = match flags.value("host") {
        Some(host) => host.parse().map_err(|_| wrong("host", host, "an IP address"))?,
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let name = flags.value("pool-name").map(str::to_owned).or_else(|| env("DYN_EPP_INFERENCE_POOL_NAME"));
    let mut setup = Setup::new(host, name.unwrap_or_else(|| POOL.to_owned()));
    let port = |name: &str, at: &mut SocketAddr| match flags.value(name) {
        Some(text) => text.parse().map(|port| at.set_port(port)).map_err(|_| wrong(name, text, "a port")),
        None => Ok(()),
    };
    port("grpc-port", &mut setup.ext_proc.listen)?;
    port("grpc-health-port", &mut setup.ext_proc.health_listen)?;
    port("metrics-port", &mut setup.admin.listen)?;
    tls(flags, env, &mut setup)?;
    setup.ext_proc.scores = flags.has("emit-endpoint-scores");
    setup.ext_proc.conformance = flags.has("conformance");
    if let Some(drain) = flags.value("drain-timeout") {
        setup.shutdown.delay = duration("drain-timeout", drain)?;
    }
    setup.limits.body = flags.value("body-limit").map(literal);
    setup.replicas = flags.value("redis").map(|redis| Replicas { redis: literal(redis) });
    setup.pool().model = flags.value("model-name").map(literal);
    setup.pick().tokenizer = flags.value("tokenizer").map(literal);
    for (flag, role) in [("endpoints", None), ("prefill-endpoints", Some("prefill"))] {
        for one in flags.values(flag).flat_map(|list| list.split(',')) {
            let endpoint = endpoint(flag, one.trim(), role)?;
            setup.pool().endpoints.push(endpoint);
        }
    }
    Ok(setup)
}

/// The flag goes before Dynamo's variable; both say TLS where they say nothing.
fn tls(flags: &Flags, env: &dyn Fn(&str) -> Option<String>, setup: &mut Setup) -> Result<(), Fault> {
    let by_env = match env("DYN_SECURE_SERVING") {
        Some(word) => Some(super::environment::truth("DYN_SECURE_SERVING", &word)?),
        None => None,
    };
    let secure = flags.switch("secure-serving").or(by_env).unwrap_or(true);
    match flags.value("cert-path") {
        _ if !secure => setup.ext_proc.tls = "off",
        None => {}
        Some(folder) => {
            let file = |name: &str| Some(literal(&Path::new(folder).join(name).to_string_lossy()));
            setup.ext_proc.tls = "files";
            (setup.ext_proc.certificate, setup.ext_proc.key) = (file("tls.crt"), file("tls.key"));
        }
    }
    Ok(())
}

fn endpoint(flag: &str, text: &str, role: Option<&'static str>) -> Result<Endpoint, Fault> {
    let (place, id) = text.split_once('@').map_or((text, None), |(place, id)| (place, Some(id)));
    let address = place.parse().map_err(|_| wrong(flag, text, "an address such as 10.0.0.1:8000"))?;
    let id = id.map(|id| id.parse().map_err(|_| wrong(flag, text, "an address with a worker's number")));
    Ok(Endpoint::new(address, role, id.transpose()?))
}

/// What needs all parts: roles, events, metrics, and whether there is a pool at all.
pub(super) fn finish(
    flags: &Flags,
    open: Open,
    setup: &mut Setup,
    notes: &mut Vec<String>,
) -> Result<(), Fault> {
    let Open { events, metrics, dynamo, .. } = open;
    let pool = setup.pool();
    if pool.endpoints.is_empty() && pool.endpoints_file.is_none() {
        return Err(Fault::new(NO_ENDPOINTS));
    }
    if pool.endpoints.iter().any(|endpoint| endpoint.role.is_some()) && pool.pick.disaggregation.is_none() {
        notes.push("no plugin splits requests: the prefill endpoints are not used".to_owned());
    }
    pool.pick.dynamo = dynamo && pool.endpoints.iter().any(|endpoint| endpoint.instance.is_some());
    if dynamo && !pool.pick.dynamo {
        notes.push(
            "no worker's id is known, so none is told: give --endpoints as IP:PORT@ID where a frontend of Dynamo stands \
             before its workers"
                .to_owned(),
        );
    }
    // Who takes any endpoint, or goes by bookings, has no use for them.
    let looks = matches!(pool.pick.strategy, "scorers" | "kv") || !pool.pick.busy.is_empty();
    if let Some(mut metrics) = metrics.filter(|_| looks) {
        if let Some(engine) = flags.value("engine") {
            literal(engine).clone_into(&mut metrics.engine);
        }
        metrics.path = flags.value("model-server-metrics-path").map(literal).or(metrics.path);
        let given = |flag: &str| flags.value(flag).map(|text| duration(flag, text)).transpose();
        metrics.interval = given("refresh-metrics-interval")?.or(metrics.interval);
        metrics.stale_after = given("metrics-staleness-threshold")?.or(metrics.stale_after);
        pool.pick.metrics = Some(metrics);
    }
    let Some(events) = events else { return Ok(()) };
    if pool.endpoints_file.is_some() {
        return Err(Fault::new(
            "KV events need --endpoints: a file of endpoints does not say where they publish; or use the \
             approx-prefix-cache-producer",
        ));
    }
    if pool.pick.tokenizer.is_none() {
        return Err(Fault::new(
            "KV events are matched by tokens, which are made in this process: --tokenizer DIR names the folder with the \
             model's tokenizer.json and chat template; or use the approx-prefix-cache-producer",
        ));
    }
    if pool.model.is_none() {
        return Err(Fault::new(
            "KV events name LoRA adapters but not the base model: say its name with --model-name NAME or the \
             token-producer's `modelName`",
        ));
    }
    pool.pick.prefixes = Some("events");
    setup.listen_to(events);
    Ok(())
}

/// A duration as Go writes it: `30s`, `1m30s`, `50ms`.
pub(super) fn duration(name: &str, text: &str) -> Result<String, Fault> {
    go_duration(text).ok_or_else(|| wrong(name, text, "a duration such as 30s, 1m30s or 50ms"))
}

/// The same in milliseconds, as our configuration takes it.
pub(super) fn go_duration(text: &str) -> Option<String> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-6), ("us", 1e-3), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6)];
    if text == "0" {
        return Some("0s".to_owned());
    }
    let (mut rest, mut ms) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit =
            tail.find(|c: char| c.is_ascii_digit()).map_or(tail, |end| tail.get(..end).unwrap_or(tail));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        ms += number.parse::<f64>().ok()? * scale;
        rest = tail.get(unit.len()..)?;
    }
    (!text.is_empty() && ms.is_finite()).then(|| match ms % 1000.0 == 0.0 {
        true => format!("{}s", ms / 1000.0),
        false => format!("{ms}ms"),
    })
}

fn wrong(flag: &str, text: &str, kind: &str) -> Fault {
    Fault::new(format!("--{flag}: `{text}` is not {kind}"))
}

#[cfg(test)]
mod tests {
    use super::go_duration;

    #[test]
    fn durations_are_gos() {
        for (text, ours) in [
            ("30s", "30s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("50ms", "50ms"),
            ("1m30s", "90s"),
            ("1h", "3600s"),
            ("1.5s", "1500ms"),
            ("2.5ms", "2.5ms"),
            ("100us", "0.1ms"),
        ] {
            assert_eq!(go_duration(text).as_deref(), Some(ours), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1d", "1s2", "x", "1.2.3s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
