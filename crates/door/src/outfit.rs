//! What an endpoint is told beside the client's own request: its rank, Dynamo's ids, and how much its model is to think.
//!
//! Ids come from the configuration only. The headers by which clients could steer engines themselves are kept back, unless
//! the model trusts its clients. Used by doors.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use waypost_config::{Connector, Effort, Model, Reasoning, Secret};
use waypost_picker::Endpoint;
use waypost_router::Held;
use waypost_wire::members::{self, Change};
use waypost_wire::{ApiError, Code, RequestView, Segments};

/// Which data-parallel rank behind an address is meant; vLLM's and SGLang's name.
const RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");

/// Steer an engine or a router behind this one. Names beginning so are kept back, too: [`STEERING_PREFIXES`].
const STEERING: [&str; 9] = [
    "x-worker-instance-id",
    "x-prefill-instance-id",
    "x-prefiller-host-port",
    "x-dp-rank",
    "x-data-parallel-rank",
    "x-prefill-dp-rank",
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
    "x-decode-instance-id",
];
const STEERING_PREFIXES: [&str; 2] = ["x-dynamo-", "x-llm-d-"];
/// Names a session and steers nothing.
const SESSION: &str = "x-dynamo-session-id";
/// Members of `nvext` that pin workers; ours alone count.
const PINS: [&str; 5] =
    ["backend_instance_id", "prefill_worker_id", "decode_worker_id", "dp_rank", "prefill_dp_rank"];

/// Whether a client's header of this name is kept back.
#[must_use]
pub fn steers(name: &HeaderName) -> bool {
    let name = name.as_str();
    let reserved =
        STEERING.contains(&name) || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    reserved && name != SESSION
}

/// What one attempt changes of the client's request.
#[derive(Debug, Default)]
pub struct Outfit {
    /// In the body.
    pub changes: Vec<Change<'static>>,
    /// How much the model is to think, where a policy says so.
    pub reasoning: Option<Effort>,
    /// Set over the client's own.
    pub headers: HeaderMap,
    /// Load of a prefill that ends when the answer begins.
    pub kept: Option<Held>,
}

impl Outfit {
    /// For `endpoint`, after `prefill` where that reads the prompt.
    #[must_use]
    pub fn new(model: &Model, endpoint: &Endpoint, prefill: Option<&Endpoint>) -> Self {
        let mut outfit = Self::default();
        outfit.rank(endpoint);
        if model.picking.dynamo {
            outfit.dynamo(endpoint, prefill, model.picking.trust_clients);
        }
        outfit
    }

    /// Which rank is meant; a number of another endpoint must not stay.
    pub fn rank(&mut self, endpoint: &Endpoint) {
        match endpoint.spec().rank {
            Some(rank) => drop(self.headers.insert(RANK, HeaderValue::from(rank))),
            None => drop(self.headers.remove(RANK)),
        }
    }

    /// Dynamo's ids, in the body for those frontends that read it there and as headers for the others, of both generations.
    fn dynamo(&mut self, endpoint: &Endpoint, prefill: Option<&Endpoint>, trust: bool) {
        let Some(worker) = endpoint.spec().instance else {
            // Its own router chooses, and not the client.
            if !trust {
                self.changes.push(Change::Merge("nvext", PINS.map(Change::Remove).to_vec()));
            }
            return;
        };
        let prefill = prefill.and_then(|prefill| Some((prefill.spec().instance?, prefill.spec().rank)));
        self.changes.push(pinned((worker, endpoint.spec().rank), prefill, trust));

        let mut set = |name: &'static str, value: HeaderValue| {
            self.headers.insert(HeaderName::from_static(name), value);
        };
        for name in ["x-worker-instance-id", "x-dynamo-worker-instance-id"] {
            set(name, HeaderValue::from(worker));
        }
        if let Some(rank) = endpoint.spec().rank {
            set("x-dynamo-dp-rank", HeaderValue::from(rank));
        }
        let mode = if prefill.is_some() { "disaggregated" } else { "aggregated" };
        set("x-dynamo-routing-mode", HeaderValue::from_static(mode));
        if let Some((id, rank)) = prefill {
            // The last one held an id, whatever its name says, in the first generation.
            for name in ["x-prefill-instance-id", "x-dynamo-prefill-instance-id", "x-prefiller-host-port"] {
                set(name, HeaderValue::from(id));
            }
            if let Some(rank) = rank {
                set("x-dynamo-prefill-dp-rank", HeaderValue::from(rank));
            }
        }
    }
}

/// Dynamo's pins, merged into the body's `nvext`: the `worker`, and who reads the prompt for it, each an id and a rank. A
/// client's own pins go, unless it is trusted.
#[must_use]
pub fn pinned(
    worker: (u64, Option<u32>),
    prefill: Option<(u64, Option<u32>)>,
    trust: bool,
) -> Change<'static> {
    let (id, rank) = (worker.0.to_string(), worker.1);
    let mut pins: Vec<(&'static str, String)> = match prefill {
        Some((reader, _)) => vec![("prefill_worker_id", reader.to_string()), ("decode_worker_id", id)],
        None => vec![("backend_instance_id", id)],
    };
    pins.extend(rank.map(|rank| ("dp_rank", rank.to_string())));
    pins.extend(prefill.and_then(|(_, rank)| Some(("prefill_dp_rank", rank?.to_string()))));
    let foreign = PINS.iter().filter(|pin| !trust && !pins.iter().any(|(ours, _)| ours == *pin));
    let mut inner: Vec<Change<'static>> = foreign.map(|pin| Change::Remove(pin)).collect();
    inner.extend(pins.into_iter().map(|(key, json)| Change::Set(key, json)));
    Change::Merge("nvext", inner)
}

/// `model` as the endpoint calls it and v1's object gone, which is what [`waypost_wire::RequestView::rewrite`] does; and how
/// much the model is to think.
#[must_use]
pub fn rewrite<'a>(model: &'a Model, called: &str, reasoning: Option<Effort>) -> Vec<Change<'a>> {
    let id = serde_json::Value::from(called).to_string();
    let named = [Change::Set("model", id), Change::Remove("nim-llm-router")];
    named.into_iter().chain(thinking(model, reasoning)).collect()
}

/// The body of a model whose choice of an endpoint looks at prompts, with how much it is to think put in; `None` where that
/// changes nothing.
#[must_use]
pub fn told(model: &Model, reasoning: Option<Effort>, body: &Bytes) -> Option<Bytes> {
    let change = thinking(model, reasoning).filter(|_| model.picking.reads_prompts())?;
    Some(members::edit(body, &[change]).ok()?.to_vec().into())
}

/// What the model's way of being told makes of `reasoning`. What the client says itself stays: it knows what its answer is
/// for, while a policy knows the average prompt of a label.
fn thinking(model: &Model, reasoning: Option<Effort>) -> Option<Change<'_>> {
    let (told, effort) = (model.reasoning.as_ref()?, reasoning?);
    let level = effort.level().map(|level| format!("\"{level}\""));
    let template = |name, json| Change::Merge("chat_template_kwargs", vec![Change::Default(name, json)]);
    match told {
        Reasoning::ChatTemplate(name) => Some(template(name, (effort != Effort::Off).to_string())),
        Reasoning::ChatTemplateEffort(name) => level.map(|json| template(name, json)),
        Reasoning::Effort(name) => level.map(|json| Change::Default(name, json)),
    }
}

/// The client's body as it goes to `model`: the name that it is `called` by, what the endpoint is told, and without what a
/// client must not say. Every other byte is the client's.
///
/// # Errors
/// When the body is no JSON object, of which no view could have been made.
pub fn dressed(
    view: &RequestView<'_>,
    body: &Bytes,
    (model, called): (&Model, &str),
    outfit: &Outfit,
) -> Result<Segments, ApiError> {
    let reserved = reserved(model);
    let untold = outfit.reasoning.is_none() || model.reasoning.is_none();
    if outfit.changes.is_empty() && reserved.is_empty() && untold {
        return Ok(view.rewrite(body, called));
    }
    let mut changes = rewrite(model, called, outfit.reasoning);
    changes.extend(outfit.changes.iter().cloned());
    let theirs = reserved.iter().filter(|key| !outfit.changes.iter().any(|ours| ours.key() == **key));
    changes.extend(theirs.map(|key| Change::Remove(key)));
    members::edit(body, &changes).map_err(|e| ApiError::new(Code::Internal, e.to_string()))
}

/// A model's key as bearer token; none for an empty key.
#[must_use]
pub fn bearer(key: &Secret) -> Option<HeaderValue> {
    let value = (!key.is_empty()).then(|| HeaderValue::try_from(format!("Bearer {}", key.expose())).ok());
    let mut value = value.flatten()?;
    value.set_sensitive(true);
    Some(value)
}

/// Members by which engines fetch caches from one another: addresses that a client must not choose.
fn reserved(model: &Model) -> &'static [&'static str] {
    let settings = model.picking.disaggregation.filter(|_| !model.picking.trust_clients);
    match settings.map(|settings| settings.connector) {
        Some(Connector::Nixl) => &["kv_transfer_params"],
        Some(Connector::Sglang) => &["bootstrap_host", "bootstrap_port", "bootstrap_room"],
        Some(Connector::Dynamo) | None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_picker::Worker;

    fn endpoint(instance: u64, rank: Option<u32>) -> Endpoint {
        let spec = waypost_config::Endpoint {
            instance: Some(instance),
            rank,
            ..waypost_config::Endpoint::at("http://f")
        };
        Endpoint::new(spec, Worker(0))
    }

    fn dynamo(trust: bool, prefill: Option<&Endpoint>) -> Outfit {
        let mut outfit = Outfit::default();
        outfit.dynamo(&endpoint(u64::MAX - 1, Some(2)), prefill, trust);
        outfit
    }

    #[test]
    fn ids_are_whole_64_bit_numbers_in_body_and_headers() {
        let outfit = dynamo(true, None);
        let body = bytes::Bytes::from_static(br#"{"nvext":{"cache_salt":"s","backend_instance_id":1}}"#);
        let out = waypost_wire::members::edit(&body, &outfit.changes).unwrap().to_vec();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"nvext":{"dp_rank":2,"cache_salt":"s","backend_instance_id":18446744073709551614}}"#
        );
        assert_eq!(outfit.headers["x-worker-instance-id"], "18446744073709551614");
        assert_eq!(outfit.headers["x-dynamo-routing-mode"], "aggregated");
        assert!(!outfit.headers.contains_key("x-prefiller-host-port"));
    }

    /// A body as it goes to a model that is told in this way.
    fn told(reasoning: &str, effort: Option<Effort>, body: &'static str) -> String {
        let text = format!("models: [{{name: m, endpoint: http://a, reasoning: {reasoning}}}]");
        let snapshot = waypost_config::load_str(&text, "test", &|_| None).unwrap();
        let body = Bytes::from_static(body.as_bytes());
        let view = RequestView::parse(&body).unwrap();
        let outfit = Outfit { reasoning: effort, ..Outfit::default() };
        let model = &snapshot.models[0];
        let out = dressed(&view, &body, (model, model.called(None)), &outfit).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_model_is_told_how_much_to_think_in_its_own_way() {
        const BODY: &str = r#"{"model":"m", "messages":[]}"#;
        let (switch, template, member) = (
            "{chat_template: enable_thinking}",
            "{chat_template_effort: effort}",
            "{effort: reasoning_effort}",
        );
        let kwargs =
            |within: &str| format!(r#"{{"chat_template_kwargs":{{{within}}},"model":"m", "messages":[]}}"#);
        let (on, off) = (kwargs(r#""enable_thinking":true"#), kwargs(r#""enable_thinking":false"#));
        let level = |level: &str| kwargs(&format!(r#""effort":"{level}""#));
        let top = |level: &str| format!(r#"{{"reasoning_effort":"{level}","model":"m", "messages":[]}}"#);
        let cases = [
            (Effort::Off, off, BODY.to_owned(), BODY.to_owned()),
            (Effort::On, on.clone(), level("medium"), top("medium")),
            (Effort::Low, on.clone(), level("low"), top("low")),
            (Effort::Medium, on.clone(), level("medium"), top("medium")),
            (Effort::High, on, level("high"), top("high")),
        ];
        for (effort, by_switch, by_template, by_member) in cases {
            assert_eq!(told(switch, Some(effort), BODY), by_switch);
            assert_eq!(told(template, Some(effort), BODY), by_template);
            assert_eq!(told(member, Some(effort), BODY), by_member);
        }
        for way in [switch, template, member] {
            assert_eq!(told(way, None, BODY), BODY);
        }
    }

    #[test]
    fn what_a_client_says_of_thinking_stays_byte_for_byte() {
        let switch = "{chat_template: enable_thinking}";
        let high = |way, body| told(way, Some(Effort::High), body);
        for (way, own) in [
            (switch, r#"{"model":"m","chat_template_kwargs": { "enable_thinking" : false,"x":1e2}}"#),
            (switch, r#"{"model":"m","chat_template_kwargs":"nonsense"}"#),
            ("{effort: reasoning_effort}", r#"{"model":"m","reasoning_effort" : "none"}"#),
        ] {
            assert_eq!(high(way, own), own);
        }
        assert_eq!(
            high(switch, r#"{"a":1.50, "chat_template_kwargs" : { "x" : 1e2 , "y":"<&>" },"model":"m"}"#),
            r#"{"a":1.50, "chat_template_kwargs" : {"enable_thinking":true, "x" : 1e2 , "y":"<&>" },"model":"m"}"#
        );
        for nothing in ["null", "{}", r#"{"enable_thinking":null}"#] {
            let body = format!(r#"{{"model":"m","chat_template_kwargs":{nothing}}}"#);
            let out = high(switch, Box::leak(body.into_boxed_str()));
            assert_eq!(out, r#"{"model":"m","chat_template_kwargs":{"enable_thinking":true}}"#);
        }
        let null = r#"{"model":"m","reasoning_effort":null}"#;
        assert_eq!(high("{effort: reasoning_effort}", null), r#"{"model":"m","reasoning_effort":"high"}"#);
    }

    #[test]
    fn a_pair_is_told_both_ids_and_a_clients_own_pins_are_gone() {
        let prefill = endpoint(7, None);
        let outfit = dynamo(false, Some(&prefill));
        let body = bytes::Bytes::from_static(br#"{"nvext":{"backend_instance_id":1,"annotations":[]}}"#);
        let out = waypost_wire::members::edit(&body, &outfit.changes).unwrap().to_vec();
        let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({"nvext": {
            "annotations": [], "prefill_worker_id": 7, "decode_worker_id": 18_446_744_073_709_551_614_u64, "dp_rank": 2
        }});
        assert_eq!(out, expected);
        assert_eq!(outfit.headers["x-prefiller-host-port"], "7");
        assert_eq!(outfit.headers["x-dynamo-routing-mode"], "disaggregated");
    }

    #[test]
    fn clients_name_sessions_and_steer_nothing() {
        for name in ["x-dynamo-worker-instance-id", "x-dp-rank", "x-llm-d-anything"] {
            assert!(steers(&HeaderName::from_static(name)), "{name}");
        }
        for name in [SESSION, "x-request-id", "x-session-id"] {
            assert!(!steers(&HeaderName::from_static(name)), "{name}");
        }
    }
}
