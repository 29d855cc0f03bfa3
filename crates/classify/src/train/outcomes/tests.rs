//! Learning from made-up outcomes, on the real featuriser and encoder.

use bytes::Bytes;

use super::*;
use crate::encoder::{Branch, Session};
use crate::outcomes::OutcomeModel;
use crate::train::Random;

const MATHS: [&str; 4] =
    ["Solve for x: {} x = {}", "Integrate {} x from 0 to {}", "What is {} times {}?", "Factor {} x + {}"];
const HISTORY: [&str; 4] = [
    "Who ruled Rome in {} or {}?",
    "Why did Athens fall in {} and {}?",
    "Which war began in {} or {}?",
    "Name a king of {} or {}",
];

/// Prompts of two topics in turn.
fn prompts(count: usize) -> Vec<String> {
    let mut random = Random(5);
    let mut fill = |form: &str| {
        let [a, b] = [random.below(900) + 100, random.below(900) + 100].map(|number| number.to_string());
        form.replacen("{}", &a, 1).replacen("{}", &b, 1)
    };
    (0..count).map(|at| fill(if at % 2 == 0 { MATHS } else { HISTORY }[at / 2 % 4])).collect()
}

/// Outcomes of two models with these chances to be right on each topic.
fn outcomes(count: usize, chances: [[f32; 2]; 2]) -> Outcomes {
    let mut random = Random(9);
    let quality = (0..count)
        .flat_map(|at| chances[at % 2].map(|chance| if random.unit() < chance { 1.0 } else { 0.0 }))
        .collect();
    Outcomes {
        models: vec!["a".into(), "b".into()],
        quality,
        tokens: Vec::new(),
        latency_ms: Vec::new(),
        groups: (0..count as u32).collect(),
        sources: Vec::new(),
    }
}

struct Learnt {
    engine: Engine,
    fitted: Fitted,
    model: OutcomeModel,
}

fn learn(data: &Outcomes, encoder: bool) -> Learnt {
    let engine = Engine::embedded().unwrap();
    let texts = prompts(data.len());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let read = Read::new(&engine, &texts, encoder, 2, &|_| {}).unwrap();
    let chosen: Vec<usize> = (0..data.len()).collect();
    let fitted = fit(&engine, data, &read, &chosen, 1, &mut |_| {}).unwrap();
    let bytes = Bytes::from(fitted.file.clone());
    let model = OutcomeModel::open("o.safetensors", &bytes, engine.fingerprint()).unwrap();
    Learnt { engine, fitted, model }
}

impl Learnt {
    fn quality(&self, text: &str) -> Vec<f32> {
        let signals = self.model.signals(&self.engine, &Prompt { focus: text, context: "" });
        self.model.expect(&signals, None).iter().map(|expected| expected.quality).collect()
    }
}

#[test]
fn who_is_good_at_what_is_learnt_and_told_without_the_encoder() {
    let learnt = learn(&outcomes(400, [[0.9, 0.3], [0.3, 0.9]]), false);
    assert!(learnt.fitted.gain.low > 0.2 && learnt.fitted.gain.others_may_lead, "{:?}", learnt.fitted.gain);
    let (maths, history) =
        (learnt.quality("Integrate 7 x from 0 to 12"), learnt.quality("Who ruled Rome in 400?"));
    assert!(maths[0] > maths[1] + 0.2 && history[1] > history[0] + 0.2, "{maths:?} {history:?}");
    assert_eq!(learnt.quality("Integrate 7 x from 0 to 12"), maths, "the same bits");
    assert!(
        learnt.fitted.advice.starts_with("Worth routing") && learnt.model.advice() == learnt.fitted.advice
    );
    assert_eq!(learnt.model.branch(), None);
}

#[test]
fn where_nothing_can_be_told_every_prompt_gets_the_means() {
    let data = outcomes(300, [[0.5, 0.6], [0.5, 0.6]]);
    let learnt = learn(&data, true);
    let means = data.means(&(0..300).collect::<Vec<_>>());
    assert!(!learnt.model.tells_prompts_apart() && learnt.fitted.advice.starts_with("No gain"));
    for text in ["Integrate 7 x from 0 to 12", "Who ruled Rome in 400?", ""] {
        assert_eq!(learnt.quality(text), means);
    }
}

#[test]
fn nobody_leads_the_best_single_model_unless_that_paid() {
    // The second model is never better, but on half of the prompts hardly worse.
    let data = outcomes(600, [[0.95, 0.9], [0.95, 0.2]]);
    let learnt = learn(&data, false);
    assert!(!learnt.fitted.gain.others_may_lead && learnt.model.tells_prompts_apart());
    assert_eq!(learnt.model.best_single(), 0);
    let (maths, history) =
        (learnt.quality("Integrate 7 x from 0 to 12"), learnt.quality("Who ruled Rome in 400?"));
    assert!(maths[0] > maths[1] && history[0] > history[1], "{maths:?} {history:?}");
    assert!(maths[0] - maths[1] + 0.3 < history[0] - history[1], "still told apart: {maths:?} {history:?}");
}

#[test]
fn an_encoding_counts_only_if_it_is_of_the_right_branch() {
    let learnt = learn(&outcomes(400, [[0.9, 0.3], [0.3, 0.9]]), true);
    let text = "Integrate 7 x from 0 to 12";
    let mut session = Session::new(learnt.engine.encoder().clone()).unwrap();
    let signals = learnt.model.signals(&learnt.engine, &Prompt { focus: text, context: "" });
    let without = learnt.model.expect(&signals, None);
    let foreign = session.encode(text, Branch::Prompt).unwrap();
    assert_eq!(learnt.model.expect(&signals, Some(&foreign)), without);
    let encoding = session.encode(text, Branch::Sentence).unwrap();
    let with = learnt.model.expect(&signals, Some(&encoding));
    assert_eq!(with != without, learnt.model.branch().is_some());
    assert!(with[0].quality > with[1].quality && (with[0].tokens, with[0].latency_ms) == (None, None));
}

#[test]
fn amounts_are_learnt_beside_quality_and_unknown_ones_stay_so() {
    let mut data = outcomes(200, [[0.9, 0.3], [0.3, 0.9]]);
    // The first model writes four times as much about history; nothing is known of the second.
    data.tokens = (0..200).flat_map(|at| [if at % 2 == 0 { 100.0 } else { 400.0 }, f32::NAN]).collect();
    let learnt = learn(&data, false);
    let tokens = |text: &str| {
        let signals = learnt.model.signals(&learnt.engine, &Prompt { focus: text, context: "" });
        learnt.model.expect(&signals, None)
    };
    let (maths, history) = (tokens("Integrate 7 x from 0 to 12"), tokens("Who ruled Rome in 400?"));
    assert!(maths[0].tokens.unwrap() < 200.0 && history[0].tokens.unwrap() > 300.0, "{maths:?} {history:?}");
    assert_eq!((maths[1].tokens, maths[0].latency_ms), (None, None));
}

#[test]
fn the_same_data_and_seed_give_the_same_bytes_and_damage_is_noticed() {
    let data = outcomes(60, [[0.9, 0.3], [0.3, 0.9]]);
    let (one, two) = (learn(&data, true), learn(&data, true));
    assert!(one.fitted.file == two.fitted.file);
    let fingerprint = one.engine.fingerprint();
    let open =
        |bytes: Vec<u8>, fingerprint: &str| OutcomeModel::open("o.safetensors", &bytes.into(), fingerprint);
    let mut damaged = one.fitted.file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let error = open(damaged, fingerprint).unwrap_err().to_string();
    assert!(error.contains("o.safetensors") && error.contains("checksum"), "{error}");
    let error = open(one.fitted.file.clone(), "another").unwrap_err().to_string();
    assert!(error.contains("another encoder"), "{error}");
}

#[test]
fn sources_are_folded_whole() {
    let mut data = outcomes(100, [[0.9, 0.3], [0.3, 0.9]]);
    data.sources = (0..100).map(|at| at / 10).collect();
    let (rows, fold) = folds::assign(&data, &(0..100).collect::<Vec<_>>(), 3);
    assert_eq!(rows, (0..100).collect::<Vec<_>>());
    assert!((0..100).all(|at| fold[at] == fold[at / 10 * 10]));
    assert!((0..FOLDS).all(|of| fold.iter().filter(|fold| **fold == of).count() == 20));
}

#[test]
fn few_prompts_or_one_are_no_failure() {
    for count in [1, 2, 7] {
        let learnt = learn(&outcomes(count, [[1.0, 0.0], [0.0, 1.0]]), true);
        assert!(
            learnt.quality("Integrate 7 x from 0 to 12").iter().all(|quality| (0.0..=1.0).contains(quality))
        );
    }
}
