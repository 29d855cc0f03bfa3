//! The classifier from examples, on the real encoder.

use proptest::prelude::*;

use super::*;

type Sets = Vec<(String, Vec<String>)>;

fn sets(listed: &[(&str, &[&str])]) -> Sets {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    listed.iter().map(|&(label, texts)| (label.to_owned(), owned(texts))).collect()
}

fn shop() -> Sets {
    sets(&[
        ("refund", &["I want my money back", "how do I return these shoes", "refund my last order please"]),
        ("delivery", &["where is my parcel", "when will my order arrive"]),
        ("greeting", &["hello there"]),
    ])
}

fn with<R>(sets: &Sets, ask: impl FnOnce(&Base, &mut Session, Result<ExampleModel, Error>) -> R) -> R {
    let base = Base::embedded().unwrap();
    let mut session = Session::new(base.encoder().clone()).unwrap();
    let model = ExampleModel::build(&base, &mut session, sets);
    ask(&base, &mut session, model)
}

/// Both tiers' verdicts.
fn verdicts(base: &Base, session: &mut Session, model: &ExampleModel, text: &str) -> [Verdict; 2] {
    let encoding = session.encode(text, Branch::Sentence).unwrap();
    base.read(&focus(text), |reading| [model.judge(&reading), model.judge_with(&reading, &encoding)])
}

#[test]
fn an_example_gets_its_label_and_full_confidence() {
    let sets = shop();
    with(&sets, |base, session, model| {
        let model = model.unwrap();
        for (label, (_, texts)) in sets.iter().enumerate() {
            for text in texts {
                for verdict in verdicts(base, session, &model, text) {
                    assert_eq!(verdict.label, label, "{text}");
                    assert!(verdict.confidence > 0.999, "{text}: {}", verdict.confidence);
                    assert_eq!(verdict.doubt, Some(Doubt::Similarity));
                }
            }
        }
    });
}

#[test]
fn what_resembles_is_accepted_and_what_does_not_is_not() {
    with(&shop(), |base, session, model| {
        let model = model.unwrap();
        for (text, label) in [
            ("can i get a refund for my order?", 0),
            ("when is my parcel going to arrive", 1),
            ("Hello, is anybody there?", 2),
        ] {
            let [first, second] = verdicts(base, session, &model, text);
            assert_eq!((first.label, second.label), (label, label), "{text}");
            assert!(second.confidence >= DEFAULT_THRESHOLD, "{text}: {}", second.confidence);
        }
        for text in
            ["integrate x squared from 0 to 3", "which rivers flow through Vienna", "", "   ", "\u{200b}"]
        {
            for verdict in verdicts(base, session, &model, text) {
                assert!(verdict.confidence < DEFAULT_THRESHOLD, "{text}: {}", verdict.confidence);
            }
        }
    });
}

#[test]
fn a_foreign_encoding_is_not_used() {
    with(&shop(), |base, session, model| {
        let model = model.unwrap();
        let encoding = session.encode("where is my parcel", Branch::Prompt).unwrap();
        let verdict =
            base.read(&focus("where is my parcel"), |reading| model.judge_with(&reading, &encoding));
        assert_eq!(verdict.tier, Tier::Ngram);
    });
}

#[test]
fn errors_name_the_label_and_the_example() {
    let many: Vec<String> = (0..=MAX_EXAMPLES).map(|number| format!("text {number}")).collect();
    for (sets, expected) in [
        (sets(&[]), "there is no label"),
        (sets(&[("a", &["x"]), (" ", &["y"])]), "label 2 is empty"),
        (sets(&[("a", &["x"]), ("a", &["y"])]), "label `a` is listed twice"),
        (sets(&[("a", &["x"]), ("b", &[])]), "label `b` has no example"),
        (sets(&[("a", &["x", " \n"])]), "example 2 of `a` is empty"),
        (sets(&[("a", &["My money"]), ("b", &["my  MONEY"])]), "\"my  MONEY\" stands under both `a` and `b`"),
        (vec![("a".to_owned(), many)], "501 texts, at most 500"),
    ] {
        let error = check(&sets).and_then(|()| one_owner(&sets)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn any_text_gets_a_sound_verdict() {
    with(&shop(), |base, _, model| {
        let model = model.unwrap();
        proptest!(|(text in "\\PC{0,80}|[ -~\\n]{0,200}")| {
            let verdict = base.read(&focus(&text), |reading| model.judge(&reading));
            prop_assert!((0.0..=1.0).contains(&verdict.confidence));
            prop_assert!((verdict.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            prop_assert!(verdict.probabilities.iter().all(|p| *p <= verdict.probabilities[verdict.label]));
        });
    });
}
