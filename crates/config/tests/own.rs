//! Waypost's own form: what each key does, and what is odd enough to warn of.

#![expect(clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use waypost_config::{Accepts, Classifier, Snapshot, load_str};

fn load(text: &str) -> Snapshot {
    load_str(text, "waypost.yaml", &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

fn warnings(policies: &str) -> String {
    let text = format!(
        "models:\n  - {{name: small, endpoint: http://a}}\n  - {{name: large, endpoint: http://b}}\npolicies:\n{policies}"
    );
    let lines = load(&text).warnings.into_iter();
    let lines = lines.map(|w| format!("{}: {}", w.line.unwrap_or_default(), w.message));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn models_alone_are_a_plain_proxy() {
    let snapshot = load("models:\n  - {name: small, endpoint: http://a:1/v1}\n");
    assert_eq!((snapshot.policies.len(), snapshot.default_policy), (0, None));
    let model = &snapshot.models[snapshot.model("small").expect("named")];
    assert_eq!(&*model.upstream_id, "small");
    assert_eq!(model.timeouts.total, Duration::from_secs(900));
    assert!(model.accepts.images && model.accepts.audio && model.accepts.tools);
    assert!(model.price.is_none() && model.context_length.is_none());
    assert_eq!(snapshot.limits.body_bytes, 10 << 20);
    assert_eq!(snapshot.retry.max_attempts, 4);
    assert_eq!(snapshot.shutdown.grace, Duration::from_secs(120));
}

#[test]
fn every_key_reaches_the_snapshot() {
    let snapshot = load(
        "
listen: '[::]:80'
models:
  - name: small
    model: meta/small
    endpoints: [http://a:1, http://b:1/v1/]
    api_key: k
    price: {input: 0.1, output: 0.4}
    context_length: 131072
    accepts: [images, tools]
    timeouts: {connect: 250ms, first_byte: 2m, idle: 5, total: 1h}
  - {name: large, endpoint: http://c}
policies:
  - name: first
    classifier: complexity
    routes: {Reasoning: large}
    default: small
  - name: second
    classifier: {kserve: {url: 'http://t/v2/models/x/infer', labels: [easy, hard], timeout: 200ms}}
    routes: {easy: small, hard: large}
    confidence_floor: 0.35
    default: large
    fallbacks: [small]
    compat: v1
default_policy: second
limits: {body: 1MiB, header_bytes: 16KiB, header_fields: 5, connections: 6, requests_in_flight: 7,
         header_timeout: 1s, body_timeout: 2s, keepalive_timeout: 3s, decisions_kept: 8}
retry: {budget: 0.5, min_per_second: 1.5, max_attempts: 2}
shutdown: {delay: 5s, grace: 0}
log: {decisions: false}
",
    );
    assert_eq!(snapshot.warnings, []);
    let small = &snapshot.models[0];
    assert_eq!(&*small.upstream_id, "meta/small");
    assert_eq!(&*small.endpoints[1].base, "http://b:1");
    assert_eq!(small.context_length, Some(131_072));
    let accepts = Accepts { images: true, audio: false, tools: true, json_schema: false };
    assert_eq!(small.accepts, accepts);
    assert_eq!(small.timeouts.connect, Duration::from_millis(250));
    assert_eq!(small.timeouts.idle, Duration::from_secs(5));

    assert!(matches!(snapshot.policies[0].classifier, Classifier::Complexity));
    assert_eq!(snapshot.policies[0].classify_timeout, Duration::from_secs(1));
    let second = &snapshot.policies[1];
    assert_eq!(second.classify_timeout, Duration::from_millis(200));
    assert_eq!((second.confidence_floor, second.default, second.compat_v1), (0.35, Some(1), true));
    assert_eq!(second.fallbacks, [0]);
    assert_eq!(snapshot.default_policy, Some(1));

    let limits = snapshot.limits;
    assert_eq!((limits.body_bytes, limits.header_bytes), (1 << 20, 16 << 10));
    assert_eq!((limits.header_fields, limits.connections, limits.requests_in_flight), (5, 6, 7));
    assert_eq!((limits.keepalive_timeout, limits.decisions_kept), (Duration::from_secs(3), 8));
    assert_eq!((snapshot.retry.budget_ratio, snapshot.retry.max_attempts), (0.5, 2));
    assert_eq!(snapshot.shutdown.delay, Duration::from_secs(5));
    assert!(!snapshot.log.decisions);
}

#[test]
fn empty_sections_mean_their_defaults() {
    let snapshot = load("models: [{name: m, endpoint: http://a}]\nlimits:\nretry: {}\npolicies:\n");
    assert_eq!(snapshot.limits.connections, 20_000);
}

#[test]
fn branches_that_cannot_happen_and_prompts_that_go_nowhere_are_reported() {
    insta::assert_snapshot!(warnings("
  - name: gaps
    classifier: complexity
    routes: {Reasoning: large, Creativity: small, Few-Shot: large, Constraint: small}
    confidence_floor: 0.3
  - name: dead
    classifier: {kserve: {url: http://t/infer, labels: [easy, hard]}}
    routes: {easy: small, hard: large, hrad: large}
    fallbacks: [large, small, large]
  - name: same
    classifier: task
    routes: {Open QA: small}
    default: small
    fallbacks: [small, large]
"), @r#"
    9: policy `gaps` has a `confidence_floor` but no `default`: prompts below it get an error
    6: policy `gaps` has no model for `Contextual-Knowledge`, `Domain-Knowledge`, `No-Label-Reason`: prompts so classified get an error; set `default`
    12: the route for `hrad` is never taken: `labels` does not list it; did you mean `hard`?
    13: fallback `large` is listed twice
    18: fallback `small` is never tried: every branch already chooses it
    "#);
}

#[test]
fn one_frontend_of_dynamo_stands_before_several_instances() {
    let endpoints = "[{url: http://f, instance: 7, ranks: 2}, {url: http://f, instance: 8}, http://f]";
    let snapshot = load(&format!("models: [{{name: a, endpoints: {endpoints}}}]"));
    let ids: Vec<_> = snapshot.models[0].endpoints.iter().map(|e| e.id()).collect();
    assert_eq!(
        ids.iter().map(|id| &**id).collect::<Vec<_>>(),
        ["http://f@7#0", "http://f@7#1", "http://f@8", "http://f"]
    );
    let twice =
        "models: [{name: a, endpoints: [{url: http://f, instance: 7}, {url: http://f, instance: 7}]}]";
    let refused = load_str(twice, "waypost.yaml", &|_| None).map(|_| ()).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|error| error.contains("this endpoint is listed twice")));
}

#[test]
fn a_model_that_takes_any_name_tells_engines_the_clients_own() {
    let snapshot = load(
        "models:\n  - {name: pool, model: base, endpoint: http://a, any_name: true}\n  \
         - {name: law, model: law-v2, adapter_of: pool}\n  - {name: other, endpoint: http://b}\n",
    );
    let [pool, law, other] = &snapshot.models[..] else { panic!("three models") };
    assert_eq!((pool.called(Some("x")), pool.called(None)), ("x", "base"));
    assert_eq!(
        (pool.adapter(Some("x")), pool.adapter(Some("base")), pool.adapter(None)),
        (Some("x"), None, None)
    );
    assert_eq!((law.called(Some("x")), law.adapter(Some("x"))), ("law-v2", Some("law-v2")));
    assert_eq!((other.called(Some("x")), other.adapter(Some("x"))), ("other", None));
}

#[test]
fn a_queue_may_read_several_headers() {
    let snapshot = load(
        "models: [{name: m, endpoint: http://a, pick: {busy: {requests: 1}, queue: {priority_header: 'X-New, x-old'}}}]",
    );
    let queue = snapshot.models[0].picking.queue.as_ref().expect("a queue");
    assert_eq!(queue.priority_headers, ["x-new".into(), "x-old".into()]);
    assert_eq!(queue.fairness_headers, ["x-waypost-caller".into()]);
}
