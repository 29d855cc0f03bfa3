use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use waypost_config::{Classifier, load_str};

const SIGNALS: usize = 4;

/// A policy over the signals `a`, `b`, `c` and `d`, one of each family but the encoder's.
fn decisions(decide: &str, order: &str) -> Decisions {
    let text = format!(
        "models: [{{name: m, endpoint: http://a}}]\npolicies:\n  - name: p\n    classifier:\n      decisions:\n        signals:\n          \
         - {{name: a, regex: x}}\n          - {{name: b, domain: [math]}}\n          - {{name: c, safety: [jailbreak]}}\n          \
         - {{name: d, pii: true}}\n        decide: {decide}\n        order: {order}\n    default: m\n    routes: {{first: m}}\n"
    );
    let snapshot = load_str(&text, "test", &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let Classifier::Decisions(decisions) = &snapshot.policies[0].classifier else { panic!("decisions") };
    (**decisions).clone()
}

fn condition(when: &str) -> Condition {
    decisions(&format!("[{{name: first, when: {when}}}]"), "priority").decide.remove(0).when
}

fn all(values: [Option<f32>; SIGNALS]) -> impl Fn(usize) -> Holds {
    move |signal| Ok(values[signal])
}

#[test]
fn the_table_of_truth() {
    let (no, half, full) = (None, Some(0.5), Some(1.0));
    let cases = [
        ("a", [half, no, no, no], half),
        ("a", [no, full, full, full], no),
        ("{all: []}", [no; 4], Some(0.0)),
        ("{all: [a, b]}", [half, full, no, no], Some(0.75)),
        ("{all: [a, b]}", [full, no, no, no], no),
        ("{all: [a, b]}", [no, full, no, no], no),
        ("{all: [a, b, c]}", [half, half, full, no], Some(2.0 / 3.0)),
        ("{any: [a, b]}", [half, full, no, no], full),
        ("{any: [a, b]}", [half, Some(0.25), no, no], half),
        ("{any: [a, b]}", [no, half, no, no], half),
        ("{any: [a, b]}", [no, no, full, full], no),
        ("{not: a}", [no; 4], full),
        ("{not: a}", [Some(0.01), no, no, no], no),
        ("{not: {not: a}}", [half, no, no, no], full),
        ("{all: [a, {not: b}]}", [half, no, no, no], Some(0.75)),
        ("{all: [a, {not: b}]}", [half, half, no, no], no),
        ("{any: [{all: [a, b]}, {all: [c, {not: d}]}]}", [half, no, half, no], Some(0.75)),
        ("{all: [{any: [a, b]}, {any: [c, d]}]}", [half, no, no, full], Some(0.75)),
    ];
    for (when, values, expected) in cases {
        assert_eq!(holds(&condition(when), &all(values)), Ok(expected), "{when} {values:?}");
    }
}

#[test]
fn what_cannot_change_the_outcome_is_not_asked_for() {
    let only = |known: [Option<Option<f32>>; SIGNALS]| {
        let families = [Family::Rules, Family::Domain, Family::Safety, Family::Pii];
        move |signal: usize| known[signal].ok_or(families[signal])
    };
    let (yes, no, open) = (Some(Some(1.0)), Some(None), None);
    let cases = [
        ("{all: [b, a]}", [no, open, open, open], Ok(None)),
        ("{all: [b, a]}", [yes, open, open, open], Err(Family::Domain)),
        ("{all: [d, c, b]}", [open; 4], Err(Family::Domain)),
        ("{any: [d, a]}", [yes, open, open, open], Ok(Some(1.0))),
        ("{any: [d, a]}", [Some(Some(0.9)), open, open, open], Err(Family::Pii)),
        ("{not: c}", [open; 4], Err(Family::Safety)),
    ];
    for (when, known, expected) in cases {
        assert_eq!(holds(&condition(when), &only(known)), expected, "{when}");
    }
    let two =
        decisions("[{name: first, priority: 2, when: a}, {name: second, priority: 1, when: d}]", "priority");
    assert_eq!(taken(&two, &only([yes, open, open, open])), Ok(Some((0, 1.0))));
    assert_eq!(taken(&two, &only([no, open, open, open])), Err(Family::Pii));
    let sure = Decisions { order: Order::Confidence, ..two };
    assert_eq!(taken(&sure, &only([yes, open, open, open])), Err(Family::Pii));
}

#[test]
fn priority_confidence_and_name_decide_in_that_order_or_confidence_first() {
    let decide = "[{name: low, priority: -1, when: a}, {name: b_second, priority: 5, when: b}, \
                  {name: a_first, priority: 5, when: c}, {name: first, priority: 1}]";
    let found = |order: &str, values| {
        let decisions = decisions(decide, order);
        taken(&decisions, &all(values))
            .unwrap()
            .map(|(at, sure)| (decisions.decide[at].name.to_string(), sure))
    };
    let named = |name: &str, sure: f32| Some((name.to_owned(), sure));
    let (no, half, full) = (None, Some(0.5), Some(1.0));
    for (values, priority, confidence) in [
        ([full, half, half, no], named("a_first", 0.5), named("low", 1.0)),
        ([half, full, half, no], named("b_second", 1.0), named("b_second", 1.0)),
        ([half, half, half, no], named("a_first", 0.5), named("a_first", 0.5)),
        ([half, no, no, no], named("first", 0.0), named("low", 0.5)),
        ([no; 4], named("first", 0.0), named("first", 0.0)),
    ] {
        assert_eq!(found("priority", values), priority, "{values:?}");
        assert_eq!(found("confidence", values), confidence, "{values:?}");
    }
    let none = decisions("[{name: first, when: a}]", "priority");
    assert_eq!(taken(&none, &all([no; 4])), Ok(None));
}

fn conditions() -> impl Strategy<Value = Condition> {
    let leaf = (0..SIGNALS).prop_map(Condition::Signal);
    leaf.prop_recursive(7, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Condition::All),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|child| Condition::Not(Box::new(child))),
        ]
    })
}

proptest! {
    #[test]
    fn asking_little_by_little_decides_as_asking_for_everything(
        whens in proptest::collection::vec((conditions(), -2_i64..3), 1..8),
        values in proptest::array::uniform4(proptest::option::of(0.0_f32..=1.0)),
        by_confidence: bool,
    ) {
        let mut decisions = decisions("[{name: first}]", if by_confidence { "confidence" } else { "priority" });
        let named = |(at, (when, priority)): (usize, (Condition, i64))| {
            Decide { name: format!("d{at}").into(), priority, when }
        };
        decisions.decide = whens.into_iter().enumerate().map(named).collect();
        decisions.by_priority = (0..decisions.decide.len()).collect();
        decisions.by_priority.sort_by_key(|at| std::cmp::Reverse(decisions.decide[*at].priority));

        let families = decisions.signals.iter().map(|signal| signal.kind.family()).collect::<Vec<_>>();
        let asked = RefCell::new(Vec::new());
        let lazy = loop {
            let known = |signal: usize| match asked.borrow().contains(&families[signal]) {
                true => Ok(values[signal]),
                false => Err(families[signal]),
            };
            match taken(&decisions, &known) {
                Ok(found) => break found,
                Err(family) => {
                    prop_assert!(!asked.borrow().contains(&family), "nothing is asked twice");
                    asked.borrow_mut().push(family);
                }
            }
        };
        let eager = taken(&decisions, &all(values)).unwrap();
        prop_assert_eq!(lazy, eager);

        // Whatever is taken applies, and nothing that applies comes before it.
        let applies = |decide: &Decide| {
            let sure = holds(&decide.when, &all(values)).unwrap()?;
            Some((decide.priority, sure, decide.name.to_string()))
        };
        let mut applying: Vec<_> = decisions.decide.iter().filter_map(applies).collect();
        prop_assert!(applying.iter().all(|(_, sure, _)| (0.0..=1.0).contains(sure)));
        applying.sort_by(|(p, c, n), (q, d, m)| match by_confidence {
            true => d.total_cmp(c).then(q.cmp(p)).then(n.cmp(m)),
            false => q.cmp(p).then(d.total_cmp(c)).then(n.cmp(m)),
        });
        let named = eager.map(|(at, sure)| (decisions.decide[at].priority, sure, decisions.decide[at].name.to_string()));
        prop_assert_eq!(named.as_ref(), applying.first());
    }
}
