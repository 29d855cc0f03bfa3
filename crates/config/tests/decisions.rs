//! Policies by decisions, and reasoning: what is read, and what is said about what may not be.

#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use waypost_config::{
    Classifier, Condition, Decisions, Effort, Error, Matching, Order, Reasoning, SignalKind, Snapshot,
    load_str,
};

const WHOLE: &str = r#"
models:
  - {name: large, endpoint: "http://a", reasoning: {chat_template: enable_thinking}}
  - {name: small, endpoint: "http://b", reasoning: {effort: reasoning_effort}}
policies:
  - name: semantic
    classifier:
      decisions:
        signals:
          - {name: math, domain: [math, physics], threshold: 0.6}
          - {name: urgent, keywords: [urgent, "as soon as"], match: all, case_sensitive: true}
          - {name: ticket, regex: "(?i)ticket \\d+"}
          - {name: refunds, examples: ["I want my money back"]}
          - {name: attack, safety: [jailbreak, injection]}
          - {name: private, pii: true, threshold: 0.9}
        decide:
          - {name: hard_math, priority: 10, when: {all: [math, {not: urgent}]}}
          - {name: rest, priority: -5, when: {any: [refunds, ticket, attack, private]}}
          - {name: other}
        order: confidence
    routes: {hard_math: large, rest: small}
    reasoning: {hard_math: high, rest: off}
    default: small
"#;

fn try_load(text: &str) -> Result<Snapshot, Error> {
    load_str(text, "waypost.yaml", &|_| None)
}

fn decisions(snapshot: &Snapshot) -> &Decisions {
    let Classifier::Decisions(decisions) = &snapshot.policies[0].classifier else { panic!("decisions") };
    decisions
}

/// One policy with these signals and decisions; `rest` stands behind `routes`.
fn with(signals: &str, decide: &str, rest: &str) -> Result<Snapshot, Error> {
    try_load(&format!(
        "models: [{{name: m, endpoint: http://a}}]\npolicies:\n  - name: p\n    classifier:\n      decisions:\n        \
         signals: {signals}\n        decide: {decide}\n    {rest}\n"
    ))
}

/// `line:column message` of what is wrong.
fn error(signals: &str, decide: &str) -> String {
    wrong(with(signals, decide, "routes: {d: m}"))
}

fn wrong(loaded: Result<Snapshot, Error>) -> String {
    let error = loaded.expect_err("must not load");
    let (line, column) = error.position.expect("a place");
    format!("{line}:{column} {}", error.message)
}

#[test]
fn everything_is_read_and_named_by_index() {
    let snapshot = try_load(WHOLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(snapshot.warnings, []);
    let found = decisions(&snapshot);
    assert_eq!(found.order, Order::Confidence);
    assert_eq!(found.by_priority, [0, 2, 1]);
    let kinds: Vec<_> = found.signals.iter().map(|signal| signal.kind.clone()).collect();
    assert_eq!(kinds[0], SignalKind::Domain { labels: vec![9, 12], threshold: 0.6 });
    assert!(
        matches!(&kinds[1], SignalKind::Keywords { words, matching: Matching::All, case_sensitive: true } if words.len() == 2)
    );
    assert_eq!(kinds[2], SignalKind::Regex(r"(?i)ticket \d+".to_owned()));
    assert!(matches!(&kinds[3], SignalKind::Examples { threshold, .. } if *threshold == 0.4));
    assert_eq!(kinds[4], SignalKind::Safety { labels: vec![1, 2], threshold: 0.5 });
    assert_eq!(kinds[5], SignalKind::Pii { threshold: 0.9 });
    let not_urgent = Condition::Not(Box::new(Condition::Signal(1)));
    assert_eq!(found.decide[0].when, Condition::All(vec![Condition::Signal(0), not_urgent]));
    assert_eq!((found.decide[1].priority, &found.decide[2].when), (-5, &Condition::All(vec![])));

    let policy = &snapshot.policies[0];
    assert_eq!(policy.classifier.labels(), ["hard_math", "rest", "other"]);
    assert_eq!(
        [policy.effort("hard_math"), policy.effort("rest"), policy.effort("other")],
        [Some(Effort::High), Some(Effort::Off), None]
    );
    assert_eq!(snapshot.models[0].reasoning, Some(Reasoning::ChatTemplate("enable_thinking".into())));
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    let math = "[{name: math, domain: [math]}]";
    let d = "[{name: d, when: math}]";
    let cases: [(&str, &str, &str); 19] = [
        (math, "[{name: d, when: maths}]", "7:34 unknown signal `maths`; did you mean `math`?"),
        (
            math,
            "[{name: d, when: {not: {all: [maths]}}}]",
            "7:47 unknown signal `maths`; did you mean `math`?",
        ),
        (math, "[{name: d, when: {any: []}}]", "7:34 `any` of nothing never applies"),
        (
            math,
            "[{name: d, when: {any: [math], all: [math]}}]",
            "7:34 a condition is the name of a signal, or a map with one key: `all`, `any` or `not`",
        ),
        (math, "[{name: d, when: {al: [math]}}]", "7:35 unknown key `al`; did you mean `all`?"),
        (math, "[{name: d, when: math}, {name: d}]", "7:48 another decision has this name"),
        (math, "[]", "5:7 `decide` is empty"),
        ("[]", d, "5:7 `signals` is empty"),
        ("[{name: math, domain: [math]}, {name: math, pii: true}]", d, "6:56 another signal has this name"),
        (
            "[{name: math, domain: [maths]}]",
            d,
            "6:41 the classifier has no label `maths`; did you mean `math`?",
        ),
        ("[{name: math, domain: []}]", d, "6:26 the list of this signal is empty"),
        ("[{name: math, keywords: []}]", d, "6:26 the list of this signal is empty"),
        ("[{name: math, examples: []}]", d, "6:26 the list of this signal is empty"),
        (
            "[{name: math}]",
            d,
            "6:26 a signal says exactly one of `domain`, `keywords`, `regex`, `examples`, `safety` and `pii`",
        ),
        (
            "[{name: math, pii: true, regex: x}]",
            d,
            "6:26 a signal says exactly one of `domain`, `keywords`, `regex`, `examples`, `safety` and `pii`",
        ),
        (
            "[{name: math, pii: false}]",
            d,
            "6:37 `pii` can only be `true`; for its absence write `{not: …}` in `when`",
        ),
        (
            "[{name: math, pii: true, match: any}]",
            d,
            "6:50 `match` and `case_sensitive` belong to `keywords`",
        ),
        (
            "[{name: math, regex: x, threshold: 0.5}]",
            d,
            "6:53 keywords and regular expressions are found or not: they have no `threshold`",
        ),
        ("[{name: math, domain: [math], threshold: 2}]", d, "6:59 `2` must be between 0 and 1"),
    ];
    let found = cases.map(|(signals, decide, _)| error(signals, decide));
    assert_eq!(found, cases.map(|(.., expected)| expected.to_owned()));
}

#[test]
fn a_decision_leads_somewhere() {
    let (math, two) = ("[{name: math, domain: [math]}]", "[{name: d, when: math}, {name: e}]");
    let message = "7:48 `routes` has no model for `e`, and the policy has no `default`";
    assert_eq!(wrong(with(math, two, "routes: {d: m}")), message);
    assert_eq!(with(math, two, "routes: {d: m}\n    default: m").expect("loads").warnings, []);
    let stray = wrong(with(math, "[{name: d, when: math}]", "routes: {e: m}\n    default: m"));
    assert_eq!(stray, "8:14 the classifier has no label `e`; did you mean `d`?");
    let floor = wrong(with(math, "[{name: d, when: math}]", "routes: {d: m}\n    confidence_floor: 0.2"));
    let message =
        "9:23 `confidence_floor` does not go with `decisions`, whose signals have a `threshold` each";
    assert_eq!(floor, message);
    let open = with(math, "[{name: d, when: math}]", "routes: {d: m}").expect("loads").warnings;
    assert_eq!(
        open.iter().map(|warning| (warning.line, &*warning.message)).collect::<Vec<_>>(),
        [(Some(3), "policy `p` has no `default`: when none of its decisions applies, clients get an error")]
    );
}

#[test]
fn signals_that_nothing_uses_are_told() {
    let signals = "[{name: math, domain: [math]}, {name: idle, pii: true}]";
    let loaded = with(signals, "[{name: d, when: math}]", "routes: {d: m}\n    default: m").expect("loads");
    let warning = &loaded.warnings[0];
    assert_eq!((loaded.warnings.len(), warning.line), (1, Some(6)));
    assert_eq!(warning.message, "no decision uses the signal `idle`");
}

#[test]
fn conditions_nest_eight_deep_and_no_file_breaks_the_reader() {
    let nested =
        |depth: usize| format!("[{{name: d, when: {}math{}}}]", "{not: ".repeat(depth), "}".repeat(depth));
    let load =
        |depth| with("[{name: math, domain: [math]}]", &nested(depth), "routes: {d: m}\n    default: m");
    assert!(load(8).is_ok());
    assert!(wrong(load(9)).ends_with("`when` nests deeper than 8"));
    for depth in [60, 1_000, 100_000] {
        assert!(load(depth).is_err(), "{depth}");
    }
}

#[test]
fn there_are_256_signals_and_500_examples_at_most() {
    let many = |count: usize| {
        let signals: Vec<_> = (0..count).map(|i| format!("{{name: s{i}, regex: x}}")).collect();
        let names: Vec<_> = (0..count).map(|i| format!("s{i}")).collect();
        let decide = format!("[{{name: d, when: {{any: [{}]}}}}]", names.join(", "));
        with(&format!("[{}]", signals.join(", ")), &decide, "routes: {d: m}\n    default: m")
    };
    assert!(many(256).is_ok());
    assert_eq!(wrong(many(257)), "5:7 `signals` lists 257, at most 256 are possible");
    let texts = vec!["x"; 251].join(", ");
    let signals = format!("[{{name: a, examples: [{texts}]}}, {{name: b, examples: [{texts}]}}]");
    let found = wrong(with(&signals, "[{name: d, when: {any: [a, b]}}]", "routes: {d: m}\n    default: m"));
    assert!(found.ends_with("with this one there are 502 examples, at most 500 are read"), "{found}");
}

#[test]
fn reasoning_is_for_labels_and_by_names() {
    let file = |told: &str, efforts: &str| {
        try_load(&format!(
            "models:\n  - {{name: m, endpoint: http://a{told}}}\npolicies:\n  - name: p\n    classifier: domain\n    \
             routes: {{math: m}}\n    default: m\n    reasoning: {efforts}\n"
        ))
    };
    let told = ", reasoning: {chat_template_effort: reasoning_effort}";
    let policy = file(told, "{math: on, law: medium}").expect("loads").policies.remove(0);
    assert_eq!((policy.effort("math"), policy.effort("law")), (Some(Effort::On), Some(Effort::Medium)));
    let cases = [
        (file(told, "{maths: on}"), "8:17 the classifier has no label `maths`; did you mean `math`?"),
        (
            file(told, "{math: hihg}"),
            "8:23 `hihg` is not `off`, `on`, `low`, `medium` or `high`; did you mean `high`?",
        ),
        (file(", reasoning: {effort: model}", "{}"), "2:55 `model` is another member of the request"),
        (
            file(", reasoning: {effort: 'a\"b'}", "{}"),
            "2:55 `a\"b` is no name of a request's member: letters, digits, `_`, `-` and `.`, 64 at most",
        ),
        (
            file(", reasoning: {effort: a, chat_template: b}", "{}"),
            "2:12 `reasoning` says exactly one of `chat_template`, `chat_template_effort` and `effort`",
        ),
    ];
    let (found, expected): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(loaded, text)| (wrong(loaded), text)).unzip();
    assert_eq!(found, expected);
    let warnings = file("", "{math: on}").expect("loads").warnings;
    let message = "no model of this policy is told how much to think: give them `reasoning` under `models`";
    assert_eq!((warnings.len(), warnings[0].line, &*warnings[0].message), (1, Some(8), message));
}
