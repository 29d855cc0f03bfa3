//! Auto policies, conversations, shadows, splits, embeddings and the decision file: what loads, and what is said of what
//! does not.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use waypost_config::{
    AutoRule, AutoSource, Classifier, EmbeddingKind, Error, Snapshot, SplitBy, Sticky, load_str,
};

const MODELS: &str = "models:
  - {name: small, endpoint: http://a, price: {input: 0.1, output: 0.4}}
  - {name: large, endpoint: http://b, price: {input: 2, output: 8, cached_input: 0.2}}
  - {name: free, endpoint: http://c}
";
const EMBEDDINGS: &str = "embeddings:
  - {name: clip, folder: models/clip}
  - {name: nvclip, url: 'http://h/v1/embeddings', model: nvidia/nvclip, api_key: k}
  - {name: jina, jina: 'http://h:51000/'}
";

fn try_load(rest: &str) -> Result<Snapshot, Error> {
    load_str(&format!("{MODELS}{EMBEDDINGS}{rest}"), "waypost.yaml", &|_| None)
}

fn load(rest: &str) -> Snapshot {
    try_load(rest).unwrap_or_else(|error| panic!("{error}"))
}

/// A policy `p` with this under `auto`.
fn auto(spec: &str) -> String {
    format!("policies: [{{name: p, default: small, classifier: {{auto: {{{spec}}}}}}}]")
}

fn rule(spec: &str) -> AutoRule {
    let snapshot = load(&auto(&format!("models: [small, large], outcomes: o, {spec}")));
    match &snapshot.policies[0].classifier {
        Classifier::Auto(auto) => auto.rule.clone(),
        other => panic!("{other:?}"),
    }
}

fn message(rest: &str) -> String {
    try_load(rest).expect_err(rest).message
}

#[test]
fn every_rule() {
    assert_eq!(rule(""), AutoRule::Tolerance(0.03));
    assert_eq!(rule("tolerance: 0.1"), AutoRule::Tolerance(0.1));
    assert_eq!(rule("budget: 0.002"), AutoRule::Budget(0.002));
    assert_eq!(
        rule("maximize: quality - 20 * cost - 0.05 * latency"),
        AutoRule::Maximize { cost: 20.0, latency: 0.05 }
    );
    assert_eq!(
        rule("thresholds: {large: 0.7}, costs: {small: 0.3, large: 1}"),
        AutoRule::Thresholds { thresholds: vec![0.0, 0.7], costs: Some(vec![0.3, 1.0]) }
    );
    assert_eq!(
        rule("thresholds: {large: 0.7, small: 0.4}"),
        AutoRule::Thresholds { thresholds: vec![0.4, 0.7], costs: None }
    );
}

#[test]
fn names_and_sources() {
    let snapshot = load(&auto(
        "models: [small, free], network: n.safetensors, embeddings: jina, names: {nano: free}, thresholds: {nano: 0.5}",
    ));
    let Classifier::Auto(auto) = &snapshot.policies[0].classifier else { panic!() };
    let known: Vec<_> = auto.contestants.iter().map(|c| (c.model, &*c.known_as)).collect();
    assert_eq!(known, [(0, "small"), (2, "nano")]);
    assert!(matches!(&auto.source, AutoSource::Network { embeddings: 2, .. }));
    assert_eq!(snapshot.folders().count(), 2, "the network and the CLIP model");
    assert!(
        matches!(&snapshot.embeddings[2].kind, EmbeddingKind::Jina { base } if &**base == "http://h:51000")
    );
    assert_eq!(snapshot.policies[0].models(), [0, 2]);
    assert_eq!(snapshot.models[1].price.map(|p| p.cached_input), Some(0.2));
    assert_eq!(snapshot.models[0].price.map(|p| p.cached_input), Some(0.025));
}

#[test]
fn what_cannot_be_is_said() {
    let cases = [
        ("models: [small], outcomes: o", "`auto` chooses from 2 to 64 `models`"),
        ("models: [small, small], outcomes: o", "this model is listed twice"),
        ("models: [small, lage], outcomes: o", "unknown model `lage`; did you mean `large`?"),
        (
            "models: [small, large]",
            "`auto` needs one of `outcomes` (a folder from `waypost train --outcomes`) and `network`",
        ),
        (
            "models: [small, large], outcomes: o, network: n",
            "`auto` needs one of `outcomes` (a folder from `waypost train --outcomes`) and `network`",
        ),
        ("models: [small, large], outcomes: o, embeddings: clip", "`embeddings` belongs to `network`"),
        (
            "models: [small, large], network: n",
            "`network` needs `embeddings`: the entry that makes its input",
        ),
        (
            "models: [small, large], network: n, embeddings: clp",
            "`embeddings` of this file has no entry `clp`; did you mean `clip`?",
        ),
        (
            "models: [small, large], outcomes: o, tolerance: 0.1, budget: 1",
            "keep one of `tolerance`, `maximize`, `budget` and `thresholds`",
        ),
        ("models: [small, large], outcomes: o, tolerance: 2", "`2` must be between 0 and 1"),
        (
            "models: [small, large], outcomes: o, maximize: speed",
            "`speed` is not of the form `quality - 20 * cost - 0.05 * latency`; either term may be left out",
        ),
        (
            "models: [small, large], outcomes: o, costs: {small: 1}",
            "`costs` belongs to `thresholds`; other rules go by each model's `price`",
        ),
        (
            "models: [small, free], outcomes: o",
            "this rule compares costs, and model `free` has no `price`; for one of your own write what its tokens cost you",
        ),
        (
            "models: [small, large], outcomes: o, thresholds: {huge: 1}",
            "no model of this policy is called `huge`",
        ),
        ("models: [small, large], outcomes: o, names: {x: free}", "`free` is not among `models`"),
        ("models: [small, large], outcomes: o, names: {small: large}", "two models go by the name `small`"),
        (
            "models: [small, large], outcomes: o, tolerence: 0.1",
            "unknown key `tolerence`; did you mean `tolerance`?",
        ),
    ];
    for (spec, expected) in cases {
        let said = message(&auto(spec));
        assert!(said.starts_with(expected), "{spec}: {said}");
    }
    let routed = message(
        "policies: [{name: p, classifier: {auto: {models: [small, large], outcomes: o}}, routes: {math: large}}]",
    );
    assert_eq!(routed, "the classifier has no labels `math`: only those of `rules` can be routed");
    let floor = message(
        &auto("models: [small, large], outcomes: o").replace("default", "confidence_floor: 0.3, default"),
    );
    assert_eq!(floor, "`confidence_floor` does not go with `auto`, which has no labels to be sure of");
}

#[test]
fn a_branch_out_of_reach_is_reported() {
    let warned = |spec: &str| {
        let snapshot = load(&auto(&format!("models: [small, large], outcomes: o, {spec}")));
        snapshot.warnings.into_iter().map(|w| w.message).collect::<Vec<_>>()
    };
    assert_eq!(
        warned("thresholds: {small: 1.01, large: 0.5}, costs: {small: 0.3, large: 1}"),
        [
            "`small` is hardly ever chosen: its threshold of 1.01 is above 1, so it is taken only when no model qualifies"
        ]
    );
    assert_eq!(
        warned("thresholds: {large: 0.5}, costs: {small: 0.3, large: 1}"),
        ["`large` is hardly ever chosen: `small` costs less and always qualifies"]
    );
    let embeddings =
        "policies: [{name: p, classifier: {auto: {models: [small, large], network: n, embeddings: clip}}}]";
    let snapshot = load(embeddings);
    assert_eq!(
        snapshot.warnings[0].message,
        "policy `p` has no `default`: when its embeddings cannot be had, clients get an error"
    );
}

#[test]
fn conversations_shadows_and_splits() {
    let snapshot = load(
        "log: {file: {path: d.jsonl, prompts: true}}
policies:
  - {name: a, classifier: task, routes: {Open QA: small}, default: large, sticky: conversation, shadow: [b]}
  - {name: b, classifier: task, routes: {Open QA: small}, default: large, sticky: {spend: 0, keep: 1h, complaints: false}}
  - {name: c, split: {by: X-User-Id, arms: {a: 90, b: 10}}}
  - {name: d, split: {arms: {a: 1, b: 0}}}
  - {name: e, split: {by: converstion, arms: {a: 1}}}
",
    );
    let minute = Duration::from_secs(60);
    let of = |i: usize| snapshot.policies[i].sticky;
    assert_eq!(of(0).map(|s| (s.keep, s.complaints)), Some((15 * minute, true)));
    assert_eq!(of(1), Some(Sticky { spend: 0.0, keep: 60 * minute, complaints: false }));
    assert_eq!(snapshot.policies[0].shadow, [1]);
    let Classifier::Split(split) = &snapshot.policies[2].classifier else { panic!() };
    assert_eq!(
        (&split.by, &split.arms[..]),
        (&SplitBy::Header("x-user-id".into()), &[(0, 90.0), (1, 10.0)][..])
    );
    let warned: Vec<_> = snapshot.warnings.iter().map(|w| &*w.message).collect();
    let header = "requests are shared out by a header `converstion`; did you mean `conversation`?";
    assert_eq!(warned, ["the arm `b` gets no traffic", header]);
    assert!(snapshot.log.file.is_some_and(|file| file.prompts));
}

#[test]
fn what_they_cannot_be_is_said() {
    let two = "
  - {name: a, classifier: task, routes: {Open QA: small}, default: large}
  - {name: s, split: {arms: {a: 1}}}
";
    let cases = [
        ("{name: b, split: {arms: {x: 1}}}", "unknown policy `x`"),
        ("{name: b, split: {arms: {s: 1}}}", "an arm cannot be a split itself"),
        ("{name: b, split: {arms: {a: 0}}}", "`arms` needs a policy with a weight above 0"),
        ("{name: b, split: {arms: {a: -1}}}", "`-1` is not a weight such as `90`"),
        (
            "{name: b, split: {by: 'a b', arms: {a: 1}}}",
            "`a b` is neither `conversation`, `request` nor the name of a header",
        ),
        (
            "{name: b, split: {arms: {a: 1}}, default: small}",
            "a policy with `split` has nothing else: its arms decide",
        ),
        (
            "{name: b, classifier: task, routes: {Open QA: small}, default: large, shadow: [b]}",
            "a policy is no shadow of itself",
        ),
        (
            "{name: b, classifier: task, routes: {Open QA: small}, default: large, shadow: [s]}",
            "this policy is a split; name one of its arms",
        ),
        (
            "{name: b, classifier: task, routes: {Open QA: small}, default: large, sticky: user}",
            "`user` is not `conversation`; for details write a map such as `{spend: 0.2}`",
        ),
        (
            "{name: b, classifier: task, routes: {Open QA: small}, default: large, sticky: {spend: 2}}",
            "`2` must be between 0 and 1",
        ),
    ];
    for (policy, expected) in cases {
        let said = message(&format!("policies:{two}  - {policy}\n"));
        assert!(said.starts_with(expected), "{policy}: {said}");
    }
    for (embedding, expected) in [
        ("{name: e}", "needs one of `folder`, `url` and `jina`"),
        ("{name: e, folder: a, jina: 'http://h'}", "needs one of `folder`, `url` and `jina`"),
        ("{name: e, folder: a, model: m}", "`model` and `api_key` belong to `url`"),
        ("{name: e, url: 'http://h'}", "this server needs a `model` to ask for, such as `nvidia/nvclip`"),
    ] {
        let text = format!("{MODELS}embeddings: [{embedding}]\n");
        let said = load_str(&text, "waypost.yaml", &|_| None).expect_err(embedding).message;
        assert!(said.starts_with(expected), "{embedding}: {said}");
    }
}
