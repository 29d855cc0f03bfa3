//! `POST /v1/embeddings`: deterministic unit vectors in which texts that share words lie close together.
//!
//! A vector is the sum of one pseudo-random vector per word; it means nothing beyond that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Core;
use crate::generate::{Need, Run};
use crate::metrics::Finish;
use crate::options::MAX_DIMENSIONS;
use crate::prompt::Input;
use crate::reply::{ApiError, Reply, parse};
use crate::stats::Ticket;
use crate::text::{Dice, hash};

/// Inputs per request, as at OpenAI.
const MAX_INPUTS: usize = 2_048;
/// Numbers in one answer: inputs times dimensions.
const MAX_NUMBERS: usize = 1 << 20;
/// Words of one input that count towards its vector, so that a long text cannot keep a core busy.
const MAX_WORDS: usize = 256;

#[derive(Deserialize)]
struct Request {
    model: String,
    input: Input,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

/// Answers one request.
pub(crate) async fn answer(core: &Core, ticket: &Ticket, body: &[u8]) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model, ticket.rank).ok_or_else(|| ApiError::no_model(&request.model))?;
    let dimensions = request.dimensions.unwrap_or(core.options.dimensions);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        let why = format!("dimensions must be 1 to {MAX_DIMENSIONS}.");
        return Err(ApiError::bad(Some("dimensions"), why));
    }
    let inputs = request.input.prompts();
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        let why = format!("There must be 1 to {MAX_INPUTS} inputs.");
        return Err(ApiError::bad(Some("input"), why));
    }
    if inputs.len() * dimensions > MAX_NUMBERS {
        let why = format!("Inputs times dimensions must be at most {MAX_NUMBERS}.");
        return Err(ApiError::bad(Some("input"), why));
    }
    let mut run = Run::start(core, &model, Need::read(&inputs.concat()), ticket.arrived).await?;
    run.read().await;
    let packed = request.encoding_format.as_deref() == Some("base64");
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = embed(model.seed, input, dimensions);
            let embedding = if packed {
                let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
                Value::from(STANDARD.encode(bytes))
            } else {
                Value::from(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let body = json!({
        "object": "list",
        "model": model.name,
        "data": data,
        "usage": {"prompt_tokens": run.prompt_tokens, "total_tokens": run.prompt_tokens},
    });
    run.end(Finish::Stop);
    Ok(Reply::json(&body))
}

/// A vector of length one.
fn embed(seed: u64, input: &[u8], dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0; dimensions];
    let words = input.split(|b| !b.is_ascii_alphanumeric() && b.is_ascii()).filter(|word| !word.is_empty());
    let mut any = false;
    for word in words.take(MAX_WORDS) {
        any = true;
        add(&mut sum, hash(seed, &word.to_ascii_lowercase()));
    }
    if !any {
        add(&mut sum, hash(seed, input));
    }
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    let length = length.max(f64::MIN_POSITIVE);
    sum.into_iter().map(|x| (x / length) as f32).collect()
}

fn add(sum: &mut [f64], seed: u64) {
    let mut dice = Dice::new(seed);
    for slot in sum {
        *slot += dice.fraction() - 0.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (embed(1, a.as_bytes(), 256), embed(1, b.as_bytes(), 256));
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn vectors_are_of_length_one_and_near_when_words_are_shared() {
        assert!((cosine("the red house", "The red house") - 1.0).abs() < 1e-5);
        let near = cosine("the red house", "the red boat");
        let far = cosine("the red house", "some other words");
        assert!(near > 0.4 && far < 0.3, "{near} {far}");
        assert!((cosine("", "") - 1.0).abs() < 1e-5);
    }
}
