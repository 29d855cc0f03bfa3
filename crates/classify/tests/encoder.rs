//! The encoder against the published model run in float by PyTorch.

use waypost_classify::Base;
use waypost_classify::encoder::{Branch, MAX_TOKENS, Session, excerpt};

#[derive(serde::Deserialize)]
struct Row {
    text: String,
    tokens: usize,
    embedding: Vec<f32>,
    prompt: Vec<f32>,
}

/// Least cosine between our int8 embedding and the float one. The lowest of 300 prompts was 0.988.
const LEAST_COSINE: f32 = 0.98;

/// The golden file (`training/golden.py`) holds what the float weights give, published and fine-tuned, tokenised by the
/// reference tokenizer: one token to many, several scripts, a text of which only both ends fit.
#[test]
fn agrees_with_the_float_models() {
    let base = Base::embedded().unwrap();
    let mut session = Session::new(base.encoder().clone()).unwrap();
    for line in include_str!("encoder_golden.jsonl").lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let ours = session.encode(&row.text, Branch::Sentence).unwrap().embedding();
        assert_eq!(session.tokens(), row.tokens, "{}", row.text);
        let likeness = cosine(&ours, &row.embedding);
        assert!(likeness > LEAST_COSINE, "{likeness} for {}", row.text);
        let likeness = cosine(session.encode(&row.text, Branch::Prompt).unwrap().values(), &row.prompt);
        assert!(likeness > LEAST_COSINE, "{likeness} fine-tuned, for {}", row.text);
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn any_text_fits_and_the_same_text_gives_the_same_numbers() {
    let base = Base::embedded().unwrap();
    let mut session = Session::new(base.encoder().clone()).unwrap();
    for text in ["", " ", "\u{0}", "🙂", &"word ".repeat(100_000), &"x".repeat(1 << 20), &"é".repeat(9000)]
    {
        let encoding = session.encode(text, Branch::Prompt).unwrap();
        assert!(session.tokens() <= MAX_TOKENS);
        assert!(encoding.values().iter().all(|v| v.is_finite()));
        assert_eq!(encoding, session.encode(text, Branch::Prompt).unwrap());
    }
}

#[test]
fn sessions_on_other_threads_give_the_same_numbers() {
    let base = Base::embedded().unwrap();
    let encode = || {
        let mut session = Session::new(base.encoder().clone()).unwrap();
        session.encode("which replica should answer this?", Branch::Sentence).unwrap()
    };
    let here = encode();
    let there = std::thread::scope(|scope| scope.spawn(encode).join().unwrap());
    assert_eq!(here, there);
}

#[test]
fn an_excerpt_reads_as_the_whole() {
    let base = Base::embedded().unwrap();
    let mut session = Session::new(base.encoder().clone()).unwrap();
    for filler in ["word ", "é", "漢字 "] {
        let text = format!("The beginning. {} The end.", filler.repeat(9000));
        let cut = excerpt(&text);
        assert!(cut.len() <= 2 * 4096 + 8, "{}", cut.len());
        let mut encode = |text: &str| session.encode(text, Branch::Prompt).unwrap();
        assert_eq!(encode(&cut), encode(&text), "{filler}");
    }
    assert_eq!(excerpt("short"), "short");
}
