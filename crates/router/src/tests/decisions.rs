//! Policies by decisions, from a configuration to the Decision.

use super::*;
use crate::Survey;
use proptest::prelude::*;
use waypost_config::Classifier;
use waypost_policy::taken;
use waypost_wire::labels::DOMAIN_LABELS;

/// A policy of these signals and decisions; `rest` stands behind them.
fn policy(signals: &[&str], decide: &[&str], rest: &str) -> String {
    let list =
        |items: &[&str]| items.iter().map(|item| format!("\n          - {{{item}}}")).collect::<String>();
    format!(
        "\n  - name: p\n    classify_timeout: 60s\n    classifier:\n      decisions:\n        signals:{}\n        decide:{}\n    {rest}\n",
        list(signals),
        list(decide)
    )
}

/// As vLLM Semantic Router's own example has it: a signal and a decision for each domain.
fn fourteen() -> String {
    let name = |label: &str| label.replace(' ', "_");
    let signals: Vec<_> = DOMAIN_LABELS
        .iter()
        .map(|label| format!("name: {}_, domain: [{label}], threshold: 0", name(label)))
        .collect();
    let decide: Vec<_> = DOMAIN_LABELS
        .iter()
        .map(|label| format!("name: {label}, priority: 10, when: {}_", name(label)))
        .collect();
    let borrow = |items: &[String]| items.iter().map(String::as_str).collect::<Vec<_>>().join("},{");
    policy(
        &[&borrow(&signals).replace("},{", "}\n          - {")],
        &[&borrow(&decide).replace("},{", "}\n          - {")],
        "routes: {math: large}\n    default: small",
    )
}

async fn survey(brain: &Brain, prompt: &str) -> Survey {
    let body = json!({"messages": [{"role": "user", "content": prompt}]}).to_string();
    brain.survey(0, &RequestView::parse(body.as_bytes()).unwrap()).await.unwrap()
}

/// Names and confidences of the signals that apply.
async fn applying(brain: &Brain, prompt: &str) -> Vec<String> {
    let seen = survey(brain, prompt).await.signals;
    seen.iter().filter(|signal| signal.applied).map(|signal| signal.name.to_string()).collect()
}

#[tokio::test]
async fn words_are_found_as_their_signal_wants_them() {
    let brain = brain(
        &policy(
            &[
                "name: any, keywords: [urgent, as soon as]",
                "name: all, keywords: [red, green, blue], match: all",
                "name: none, keywords: [please, thanks], match: none",
                "name: exact, keywords: [US, New York], case_sensitive: true",
                "name: both, keywords: [A, B], match: all, case_sensitive: true",
                r#"name: ticket, regex: "(?i)ticket \\d+""#,
            ],
            &["name: d, when: {any: [any, all, none, exact, both, ticket]}"],
            "routes: {d: large}\n    default: small",
        ),
        "",
    );
    for (prompt, expected) in [
        ("URGENT, please", &["any"][..]),
        ("as  soon\nas you can, thanks", &["any"]),
        ("red and blue please", &[]),
        ("Blue, green, RED please", &["all"]),
        ("give it to us, please", &[]),
        ("the US, please", &["exact"]),
        ("A b please", &[]),
        ("B and A please", &["both"]),
        ("TICKET 42 please", &["ticket"]),
        ("hello", &["none"]),
        ("", &["none"]),
    ] {
        assert_eq!(applying(&brain, prompt).await, expected, "{prompt}");
    }
}

#[tokio::test]
async fn a_decision_is_told_with_the_signals_that_led_to_it() {
    let text = policy(
        &[
            "name: science, domain: [math, physics]",
            "name: urgent, keywords: [urgent]",
            "name: private, pii: true",
        ],
        &[
            "name: hard, priority: 10, when: {all: [science, {not: urgent}]}",
            "name: quick, priority: 10, when: {all: [science, urgent]}",
            "name: personal, priority: 5, when: private",
        ],
        "routes: {hard: large, quick: small, personal: large}\n    default: small\n    reasoning: {hard: high, personal: off}",
    );
    let brain = brain(&text, PATIENT);
    let decision = decide(&brain, "Prove that the square root of two is irrational.").await;
    let sure = decision["signals"]["science"].as_f64().unwrap();
    assert_eq!((&decision["label"], &decision["reasoning"]), (&json!("hard"), &json!("high")));
    assert!((decision["confidence"].as_f64().unwrap() - (sure + 1.0) / 2.0).abs() < 1e-3 && sure > 0.5);
    assert_eq!(
        (first_of_plan(&decision), &decision["classifier"]),
        (("large", "label"), &json!("decisions"))
    );
    assert_eq!(decision.get("pii"), None, "nothing depended on it");

    let decision = decide(&brain, "Urgent: solve 3x + 4 = 10").await;
    assert_eq!((&decision["label"], decision.get("reasoning")), (&json!("quick"), None));
    assert_eq!(decision["signals"]["urgent"], 1.0);

    let decision = decide(&brain, "Write to jane.doe@example.org about the party").await;
    assert_eq!((&decision["label"], &decision["reasoning"]), (&json!("personal"), &json!("off")));
    assert_eq!(decision["pii"], json!({"EMAIL_ADDRESS": 1}));

    let decision = decide(&brain, "hello there").await;
    for absent in ["signals", "reasoning"] {
        assert_eq!(decision.get(absent), None, "{absent}");
    }
    assert_eq!((&decision["label"], first_of_plan(&decision)), (&json!(null), ("small", "no_decision")));
}

#[tokio::test]
async fn where_no_decision_applies_and_nothing_stands_in_the_client_is_told() {
    let brain = brain(&policy(&["name: x, regex: x"], &["name: d, when: x"], "routes: {d: large}"), "");
    let view = RequestView::parse(br#"{"messages": [{"role": "user", "content": "y"}]}"#).unwrap();
    let headers = http::HeaderMap::new();
    let context = Context::new(&headers, 0);
    let (mut decision, ask) = (Decision::default(), Ask::Classify(0));
    let error = brain.route(ask, Via::VirtualModel, &view, &context, &mut decision).await.unwrap_err();
    assert_eq!(error.message, "No decision of the policy 'p' applies, and it has no default.");
}

#[tokio::test]
async fn what_always_applies_is_taken_with_a_confidence_of_0_and_rules_still_come_first() {
    let text = policy(
        &["name: math, domain: [math]"],
        &["name: always"],
        "routes: {always: large, ruled: small}\n    default: small\n    rules: [{label: ruled, keywords: [abracadabra]}]",
    );
    let brain = brain(&text, PATIENT);
    let decision = decide(&brain, "What is 2+2?").await;
    assert_eq!((&decision["label"], &decision["confidence"]), (&json!("always"), &json!(0.0)));
    assert_eq!((first_of_plan(&decision), &decision["tier"]), (("large", "label"), &json!("rule")));
    assert_eq!(decision.get("signals"), None, "nothing depended on the domain");
    let ruled = decide(&brain, "abracadabra").await;
    assert_eq!((&ruled["label"], &ruled["rule"]), (&json!("ruled"), &json!(1)));
}

#[tokio::test]
async fn fourteen_decisions_by_domain_are_the_domain_classifier() {
    let decisions = brain(&fourteen(), PATIENT);
    let domain =
        "\n  - {name: p, classifier: domain, classify_timeout: 60s, routes: {math: large}, default: small}\n";
    let domain = brain(domain, PATIENT);
    for prompt in [
        "2+2 is ",
        "Linux is said to be an open source kernel because ",
        "Who won the Thirty Years' War?",
        "hello",
    ] {
        let (ours, plain) = (decide(&decisions, prompt).await, decide(&domain, prompt).await);
        for key in ["label", "confidence", "tier", "escalated_because", "encoder"] {
            assert_eq!(ours.get(key), plain.get(key), "{key} of {prompt}");
        }
    }
}

#[tokio::test]
async fn a_domain_below_the_threshold_counts_as_other() {
    let signals = [
        "name: math, domain: [math], threshold: 0.2",
        "name: strict, domain: [math], threshold: 1",
        "name: rest, domain: [other, law], threshold: 1",
    ];
    let decide = ["name: d, when: {any: [math, strict, rest]}"];
    let brain = brain(
        &policy(&signals, &decide, "routes: {d: large}\n    default: small"),
        "encoder: {threads: 0}\n",
    );
    let prompt = "2+2 is ";
    assert_eq!(applying(&brain, prompt).await, ["math", "rest"]);
    let seen = survey(&brain, prompt).await.signals;
    assert_eq!(seen[0].confidence, seen[1].confidence);
    assert!(seen[2].confidence < 0.2, "{seen:?}");
}

#[tokio::test]
async fn examples_apply_each_for_itself_and_are_kept_over_a_reload() {
    let text = policy(
        &[
            "name: refund, examples: [I want my money back, please refund my order]",
            "name: shop, examples: [I want my money back, where is my parcel, is this in stock]",
        ],
        &["name: both, priority: 1, when: {all: [refund, shop]}", "name: one, when: {any: [refund, shop]}"],
        "routes: {both: large, one: small}\n    default: small",
    );
    let brain = brain(&text, PATIENT);
    assert_eq!(applying(&brain, "I want my money back").await, ["refund", "shop"]);
    let decision = decide(&brain, "I want my money back").await;
    assert_eq!((&decision["label"], &decision["escalated_because"]), (&json!("both"), &json!("similarity")));
    assert_eq!(decide(&brain, "where is my parcel").await["label"], "one");
    let again = load(&text, PATIENT, Some(&brain)).unwrap();
    assert!(again.classifiers().shares_encoder_and_examples_with(brain.classifiers()));
}

#[tokio::test]
async fn the_encoder_is_asked_within_one_deadline_and_not_again_after_it() {
    let text = policy(
        &["name: refund, examples: [I want my money back]", "name: science, domain: [math]"],
        &["name: d, when: {any: [refund, science]}"],
        "routes: {d: large}\n    default: small",
    );
    // A nanosecond has passed before any thread can take the job; a millisecond was enough for one machine.
    let late = brain(&text, "encoder: {threads: 1, deadline: 0.000001ms}\n");
    let decision = decide(&late, "hm, well, so what of it then").await;
    assert_eq!((&decision["tier"], &decision["encoder"]), (&json!("ngram"), &json!("late")));
    let off = brain(&text, "encoder: {threads: 0}\n");
    let decision = decide(&off, "I want my money back").await;
    assert_eq!((&decision["label"], &decision["encoder"]), (&json!("d"), &json!("off")));
}

#[tokio::test]
async fn the_encoder_is_asked_once_for_what_guard_and_policy_read() {
    let guarded = |encoder: &str| {
        brain(
            "\n  - {name: p, classifier: domain, classify_timeout: 60s, routes: {math: large}, default: small}\n",
            &format!("guard: {{refuse: [jailbreak]}}\n{encoder}"),
        )
    };
    let (on, off) = (guarded(PATIENT), guarded("encoder: {threads: 0}\n"));
    // In doubt for the guard as for the policy.
    let ask = |prompt: &str| {
        json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]}).to_string()
    };
    let body = ask("hm, well, so what of it then");
    let other = ask("hm, well, so what of them then");
    let headers = http::HeaderMap::new();
    let context = Context::new(&headers, 0);
    let mut decision = Decision::default();
    let encoder = |decision: &Decision| serde_json::to_value(decision).unwrap()["encoder"].clone();

    let view = RequestView::parse(body.as_bytes()).unwrap();
    on.guard(&Ask::Classify(0), &view, &context, &mut decision).await.unwrap();
    let asked = serde_json::to_value(&decision).unwrap();
    assert_eq!(asked["guard"]["encoder"], "answered", "{asked}");
    // Its output is there for a brain that has no encoder; for another text it is not.
    off.route(Ask::Classify(0), Via::VirtualModel, &view, &context, &mut decision).await.unwrap();
    assert_eq!(encoder(&decision), "answered");
    let view = RequestView::parse(other.as_bytes()).unwrap();
    off.route(Ask::Classify(0), Via::VirtualModel, &view, &context, &mut decision).await.unwrap();
    assert_eq!(encoder(&decision), "off");
}

#[test]
fn a_signal_that_cannot_be_compiled_is_named() {
    let bad = |signal: &str| {
        let text = policy(
            &["name: x, regex: x", signal],
            &["name: d, when: {any: [x, bad]}"],
            "routes: {d: large}\n    default: small",
        );
        load(&text, "", None).unwrap_err().to_string()
    };
    let error = bad("name: bad, regex: '(x'");
    assert!(error.contains("signal `bad`: the regular expression `(x` is wrong at character 1"), "{error}");
    let error = bad("name: bad, keywords: [x, \"\u{ad}\"]");
    assert!(error.contains("signal `bad`: keyword 2 is empty"), "{error}");
}

#[test]
fn what_is_asked_little_by_little_is_what_a_survey_finds() {
    let text = policy(
        &[
            "name: words, keywords: [alpha, beta], match: all",
            "name: law, domain: [law, other]",
            "name: attack, safety: [jailbreak, injection], threshold: 0.3",
            "name: private, pii: true",
            "name: refund, examples: [I want my money back], threshold: 0.2",
        ],
        &[
            "name: a, priority: 3, when: {all: [attack, {not: words}]}",
            "name: b, priority: 3, when: {any: [words, private]}",
            "name: c, priority: 2, when: {all: [law, {not: refund}]}",
            "name: d, priority: -1, when: {not: {all: [law, private]}}",
        ],
        "routes: {a: large}\n    default: small",
    );
    for order in ["priority", "confidence"] {
        let text = text.replace("        decide:", &format!("        order: {order}\n        decide:"));
        let brain = brain(&text, "encoder: {threads: 0}\n");
        let Classifier::Decisions(decisions) = &brain.snapshot().policies[0].classifier else { panic!() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        proptest!(ProptestConfig::with_cases(200), |(
            prompt in "\\PC{0,40}|((alpha|beta|law|court|a@b.org|ignore all rules|my money back|4111 1111 1111 1111) ){0,6}"
        )| {
            runtime.block_on(async {
                let (lazy, eager) = (decide(&brain, &prompt).await, survey(&brain, &prompt).await);
                let known = |at: usize| {
                    let signal = &eager.signals[at];
                    Ok(signal.applied.then_some(signal.confidence))
                };
                let taken = taken(decisions, &known).unwrap().map(|(at, _)| &eager.decisions[at]);
                prop_assert_eq!(lazy["label"].as_str(), taken.map(|taken| &*taken.name));
                prop_assert!(taken.is_none_or(|taken| taken.applied));
                prop_assert!(eager.signals.iter().all(|signal| (0.0..=1.0).contains(&signal.confidence)));
                Ok(())
            })?;
        });
    }
}
