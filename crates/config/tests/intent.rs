//! Intent policies: what reaches the snapshot, and names that no answer could be held against.

#![expect(clippy::panic, reason = "helpers of tests")]

use waypost_config::{Classifier, Guided, Intent, Snapshot, load_str};

const HEAD: &str =
    "models: [{name: router, endpoint: http://a}, {name: big, endpoint: http://b}]\npolicies:\n- name: p\n";

fn load(intent: &str, rest: &str) -> Result<Snapshot, String> {
    let text = format!("{HEAD}  classifier:\n    intent: {intent}\n{rest}");
    load_str(&text, "f", &|_| None).map_err(|error| error.message)
}

fn intent(snapshot: &Snapshot) -> &Intent {
    match &snapshot.policies[0].classifier {
        Classifier::Intent(intent) => intent,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_reaches_the_snapshot() {
    let written = "{model: router, routes: [{name: hard question, description: ' Needs thought. '}], guided: guided_json, \
                   context: 4KiB, concurrency: 3, cache: 0}";
    let loaded = load(written, "  routes: {hard question: big, other: big}\n").expect("loads");
    let intent = intent(&loaded);
    assert_eq!((intent.model, intent.guided), (0, Guided::GuidedJson));
    assert_eq!((intent.context_bytes, intent.concurrency, intent.cache), (4096, 3, 0));
    assert_eq!(intent.routes[0].description, "Needs thought.");
    assert_eq!(intent.labels(), ["hard question", "other"]);
    let said: Vec<_> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        said,
        ["policy `p` has no `default`: when its intent model is late, down or unclear, clients get an error"]
    );
}

#[test]
fn defaults_and_a_described_other() {
    let routes = "[{name: other, description: All else.}, {name: a, description: A.}]";
    let loaded =
        load(&format!("{{model: router, routes: {routes}}}"), "  routes: {a: big}\n").expect("loads");
    let intent = intent(&loaded);
    assert_eq!((intent.context_bytes, intent.concurrency, intent.cache), (8192, 16, 1024));
    assert_eq!((intent.guided, intent.labels()), (Guided::Auto, vec!["other", "a"]));
    let dead_end = &loaded.warnings[1].message;
    assert!(dead_end.starts_with("policy `p` has no model for `other`:"), "{dead_end}");
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let one = |name: &str| format!("{{model: router, routes: [{{name: {name}, description: A.}}]}}");
    let two = |a: &str, b: &str| {
        let route = |name: &str| format!("{{name: {name}, description: A.}}");
        format!("{{model: router, routes: [{}, {}]}}", route(a), route(b))
    };
    let many: Vec<_> = (0..65).map(|i| format!("{{name: r{i}, description: A.}}")).collect();
    let long = format!("{{model: router, routes: [{{name: a, description: {}}}]}}", "x".repeat(2049));
    for (written, expected) in [
        (one("a").replace("router", "rooter"), "unknown model `rooter`; did you mean `router`?"),
        (one("a").replace("name: a", "nam: a"), "unknown key `nam`; did you mean `name`?"),
        (two("a", "a"), "another route has this name"),
        (
            two("hard_question", "Hard-Question"),
            "`Hard-Question` could not be told from `hard_question` in an answer",
        ),
        (one("'it''s'"), "`it's` holds a quote, a bracket or a backslash; answers are read by those"),
        (one("'- -'"), "`- -` has neither letter nor digit"),
        (one("OTHER"), "`OTHER` would be taken for `other`, the route of what fits no other"),
        (one(&"n".repeat(65)), " is longer than 64 bytes"),
        (one("other"), "`intent` needs `routes` with at least one route beside `other`"),
        (
            "{model: router, routes: []}".to_owned(),
            "`intent` needs `routes` with at least one route beside `other`",
        ),
        (format!("{{model: router, routes: [{}]}}", many.join(", ")), "65 routes, at most 64 are possible"),
        (long, "this description is longer than 2048 bytes"),
        (
            one("a").replace("]}", "], guided: on}"),
            "`on` is not `auto`, `json_schema`, `guided_json` or `off`",
        ),
        (one("a").replace("]}", "], context: 100B}"), "`100B` must be between 512 and 256KiB"),
        (one("a").replace("]}", "], concurrency: 0}"), "`0` must be between 1 and 4096"),
        (one("bicycle"), "the classifier has no label `a`; its labels are bicycle, other"),
    ] {
        let said = load(&written, "  routes: {a: big}\n  default: big\n").expect_err(&written);
        assert!(said.contains(expected), "{written}\n{said}");
    }
    let both =
        load("{model: router, routes: [{name: a, description: A.}]}\n    path: x", "  routes: {a: big}\n");
    assert!(both.expect_err("two classifiers").contains("a classifier is one of"));
}
