//! What may stand under `classifier`, `rules` and `encoder`, and what is said about what may not.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use waypost_config::{Classifier, Error, Policy, Snapshot, load_str, load_text};

fn try_load(policy: &str) -> Result<Snapshot, Error> {
    let text = format!(
        "models: [{{name: small, endpoint: http://a}}, {{name: large, endpoint: http://b}}]\npolicies:\n  - name: p\n{policy}"
    );
    load_str(&text, "waypost.yaml", &|name| (name == "SECRET").then(|| "hunter2".to_owned()))
}

fn load(policy: &str) -> Policy {
    let snapshot = try_load(policy).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(snapshot.warnings, [], "{policy}");
    snapshot.policies.into_iter().next().expect("one policy")
}

/// `line: message` of what is wrong.
fn error(policy: &str) -> String {
    let error = try_load(policy).expect_err(policy);
    format!("{}: {}", error.line().unwrap_or_default(), error.message)
}

#[test]
fn built_in_classifiers_go_by_name() {
    for (name, label) in
        [("task", "Open QA"), ("complexity", "Reasoning"), ("domain", "math"), ("safety", "injection")]
    {
        let policy =
            load(&format!("    classifier: {name}\n    routes: {{{label}: large}}\n    default: small\n"));
        assert_eq!((&*policy.classifier.name(), policy.confidence_floor), (name, 0.0));
        assert_eq!(policy.classifier.shown(), format!("embedded:{name}"));
    }
}

#[test]
fn safety_may_be_held_to_a_rate_of_false_alarms() {
    let policy = load(
        "    classifier: {safety: {false_alarms: 0.01}}\n    routes: {jailbreak: large, injection: large}\n    default: small\n",
    );
    assert!(matches!(policy.classifier, Classifier::Safety { false_alarms: Some(rate) } if rate == 0.01));
    assert_eq!(policy.classifier.labels(), ["benign", "jailbreak", "injection"]);
    let both = "    classifier: {safety: {false_alarms: 0.01}}\n    routes: {jailbreak: large}\n    default: small\n    confidence_floor: 0.3\n";
    let warnings = try_load(both).expect("loads").warnings;
    assert_eq!((warnings.len(), warnings[0].line), (1, Some(7)), "{warnings:?}");
}

#[test]
fn a_trained_folder_lies_beside_the_file() {
    let text = "models: [{name: small, endpoint: http://a}]\npolicies: [{name: p, classifier: {path: models/bank}, routes: {refund: small}}]";
    let snapshot = load_text(Path::new("/etc/waypost/waypost.yaml"), text).expect("loads");
    let classifier = &snapshot.policies[0].classifier;
    assert!(
        matches!(classifier, Classifier::Trained { folder } if **folder == *Path::new("/etc/waypost/models/bank"))
    );
    assert_eq!(classifier.name(), "bank");
    let said = snapshot.policies[0].check_labels(&["refunds", "card"]).expect_err("unknown");
    assert_eq!(said, "the classifier has no label `refund`; did you mean `refunds`?");
}

#[test]
fn examples_keep_their_order_and_their_similarity_is_the_floor() {
    let policy = load(
        "    classifier:
      examples:
        refund: [I want my money back, \"give it\\nback\"]
        card: [my card is gone]
      threshold: 0.6
    routes: {refund: large}
    default: small
",
    );
    assert_eq!(policy.confidence_floor, 0.6);
    assert_eq!(policy.classifier.labels(), ["refund", "card"]);
    let Classifier::Examples { texts } = policy.classifier else { panic!("examples") };
    assert_eq!(texts[0].1, ["I want my money back", "give it\nback"]);
    let one = load("    classifier: {examples: {a: [x]}}\n    routes: {a: large}\n    default: small\n");
    assert_eq!(one.confidence_floor, 0.4);
}

#[test]
fn rules_stand_before_the_classifier() {
    let policy = load(
        "    rules:
      - {label: Open QA, keywords: [faq, opening hours]}
      - {label: Rewrite, regex: '^(?i)rewrite\\b'}
    classifier: task
    routes: {Open QA: large, Rewrite: small}
    default: small
",
    );
    assert_eq!(policy.rules[0].keywords, ["faq", "opening hours"]);
    assert_eq!(
        (&*policy.rules[1].label, policy.rules[1].regex.as_deref()),
        ("Rewrite", Some(r"^(?i)rewrite\b"))
    );
}

#[test]
fn the_encoder_has_its_threads_queue_and_deadline() {
    let load = |text: &str| {
        let text = format!("models: [{{name: small, endpoint: http://a}}]\n{text}");
        load_str(&text, "waypost.yaml", &|_| None)
    };
    let default = load("").expect("loads").encoder;
    assert_eq!((default.threads, default.queue, default.deadline), (None, 64, Duration::from_millis(50)));
    let own = load("encoder: {threads: 0, queue: 8, deadline: 20ms}").expect("loads").encoder;
    assert_eq!((own.threads, own.queue, own.deadline), (Some(0), 8, Duration::from_millis(20)));
    for wrong in ["{queue: 0}", "{deadline: 0}", "{threads: 5000}", "{thread: 1}"] {
        load(&format!("encoder: {wrong}")).expect_err(wrong);
    }
}

#[test]
fn a_rule_may_have_a_label_of_its_own() {
    let policy = "    classifier: task\n    rules: [{label: vip, keywords: [ceo]}]\n    default: small\n";
    let bound = load(&format!("{policy}    routes: {{vip: large, Open QA: small}}\n"));
    assert_eq!(bound.check_labels(&["Open QA"]), Ok(()));
    let said = error(&format!("{policy}    routes: {{vip: small, vop: small}}\n"));
    assert!(said.contains("no label `vop`"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let routes = "    routes: {Open QA: small}\n    default: small\n";
    let cases = [
        (
            "    classifier: poetry\n",
            "4: `poetry` is not a built-in classifier: `task`, `complexity`, `domain`, `safety` or `pii`",
        ),
        (
            "    classifier: {path: a, safety: {false_alarms: 0.1}}\n",
            "4: a classifier is one of `path`, `safety`, `examples`, `decisions`, `kserve`, `intent` and `auto`, or the name of a built-in one",
        ),
        (
            "    classifier: {}\n",
            "4: a classifier is one of `path`, `safety`, `examples`, `decisions`, `kserve`, `intent` and `auto`, or the name of a built-in one",
        ),
        ("    classifier: {pth: a}\n", "4: unknown key `pth`; did you mean `path`?"),
        (
            "    classifier: {path: a, threshold: 0.5}\n",
            "4: `threshold` belongs to `examples`; for others there is `confidence_floor`",
        ),
        (
            "    classifier: domain\n",
            "5: the classifier has no label `Open QA`; its labels are biology, business, chemistry, computer science, economics, engineering, health, history, law, math, other, philosophy, physics, psychology",
        ),
        (
            "    classifier: {examples: {Open: [x]}}\n",
            "5: the classifier has no label `Open QA`; its labels are Open",
        ),
        ("    classifier: {examples: {Open QA: []}}\n", "4: `Open QA` has no example"),
        ("    classifier: {examples: {}}\n", "4: `examples` is empty"),
        ("    classifier: {examples: {Open QA: ['  ']}}\n", "4: `` is empty"),
        ("    classifier: {examples: {Open QA: [x]}, threshold: 2}\n", "4: `2` must be between 0 and 1"),
        (
            "    classifier: {examples: {Open QA: [x]}}\n    confidence_floor: 0.2\n",
            "5: `confidence_floor` does not go with `examples`: their similarity has its own `threshold`",
        ),
        (
            "    classifier: task\n    rules: [{label: Open Q, keywords: [a]}]\n",
            "5: `routes` has no label `Open Q`; did you mean `Open QA`?",
        ),
        (
            "    classifier: task\n    rules: [{label: Open QA}]\n",
            "5: this rule never applies: it needs `keywords` or `regex`",
        ),
        ("    classifier: task\n    rules: [{label: Open QA, regex: ''}]\n", "5: `` is empty"),
    ];
    for (policy, expected) in cases {
        assert_eq!(error(&format!("{policy}{routes}")), expected, "{policy}");
    }
    let without = error("    classifier: {examples: {a: [x]}}\n    routes: {a: small}\n");
    assert_eq!(
        without,
        "3: a policy from examples needs `default`: prompts that resemble none of them go there"
    );
    for rate in ["0", "0.0001", "0.3", "1%"] {
        let policy =
            format!("    classifier: {{safety: {{false_alarms: {rate}}}}}\n    routes: {{benign: small}}\n");
        assert!(error(&policy).contains("`"), "{rate}");
    }
    let many = vec!["x"; 501].join(", ");
    let many = error(&format!(
        "    classifier: {{examples: {{a: [{many}]}}}}\n    routes: {{a: small}}\n    default: small\n"
    ));
    assert_eq!(many, "4: 501 examples, at most 500 are read; `waypost train` takes any number");
}

#[test]
fn a_variable_is_named_but_never_its_value() {
    let said = error("    classifier: task\n    routes: {\"${SECRET}\": small}\n");
    assert!(said.contains("${SECRET}") && !said.contains("hunter2"), "{said}");
}
