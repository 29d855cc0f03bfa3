//! `POST /api/v1/classify/batch`, many texts at once, and `/api/v1/classify/combined`, one text in every way.

use crate::desk::{Desk, share, whole_ms};
use crate::input::{IntentOptions, IntentRequest, Text, threshold};
use crate::intent;
use crate::pii::{self, PiiOptions, PiiRequest};
use crate::refusal::Refusal;
use crate::security::{self, BENIGN, SecurityOptions, SecurityRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use waypost_classify::Builtin;
use waypost_router::Brain;

/// Texts in one batch, as in vLLM Semantic Router.
const MAX_TEXTS: usize = 100;
/// Below this a result counts as of low confidence, unless the client says otherwise.
const LOW_BELOW: f64 = 0.7;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    texts: Option<Vec<String>>,
    #[serde(default)]
    task_type: String,
    options: Option<BatchOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BatchOptions {
    return_probabilities: bool,
    confidence_threshold: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CombinedRequest {
    #[serde(default)]
    text: String,
    intent_options: Option<IntentOptions>,
    pii_options: Option<PiiOptions>,
    security_options: Option<SecurityOptions>,
}

pub(crate) async fn answer(desk: &Desk, brain: &Brain, request: &BatchRequest) -> Result<Value, Refusal> {
    let begun = Instant::now();
    let texts = texts(request)?;
    let tasks: &[&str] = match &*request.task_type {
        "" | "intent" => &["intent"],
        "pii" => &["pii"],
        "security" => &["security"],
        "all" => &["intent", "pii", "security"],
        other => {
            let message = format!("task_type: '{other}' is none of intent, pii, security, all");
            return Err(Refusal::input(message));
        }
    };
    let none = BatchOptions::default();
    let options = request.options.as_ref().unwrap_or(&none);
    let low_below = threshold("confidence_threshold", options.confidence_threshold)?.unwrap_or(LOW_BELOW);
    let mut results = Vec::with_capacity(texts.len());
    for text in texts {
        let begun = Instant::now();
        let mut result = json!({});
        for (index, task) in tasks.iter().enumerate() {
            let found = one(desk, brain, task, text, options).await?;
            // The first is the result, the others stand beside it.
            if index == 0 { result = found } else { result[*task] = found }
        }
        result["processing_time_ms"] = whole_ms(begun.elapsed()).into();
        results.push(result);
    }
    Ok(json!({
        "statistics": statistics(&results, low_below),
        "results": results,
        "total_count": texts.len(),
        "processing_time_ms": whole_ms(begun.elapsed()),
    }))
}

fn texts(request: &BatchRequest) -> Result<&[String], Refusal> {
    let Some(texts) = &request.texts else { return Err(Refusal::input("texts field is required")) };
    if texts.is_empty() {
        return Err(Refusal::input("texts array cannot be empty"));
    }
    if texts.len() > MAX_TEXTS {
        return Err(Refusal::input(format!("texts holds {}, and may hold {MAX_TEXTS}", texts.len())));
    }
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(index) => Err(Refusal::input(format!("texts[{index}] cannot be empty"))),
        None => Ok(texts),
    }
}

async fn one(
    desk: &Desk,
    brain: &Brain,
    task: &str,
    text: &str,
    options: &BatchOptions,
) -> Result<Value, Refusal> {
    if task == "pii" {
        let (category, confidence) = pii::verdict(&desk.detector, text)?;
        return Ok(json!({"category": category, "confidence": share(confidence)}));
    }
    let text = Text::of(text)?;
    let seen = match task {
        "security" => security::usual(desk, brain, &text).await?,
        _ => desk.see(brain, Builtin::Domain, &text).await,
    };
    let category = if seen.label() == BENIGN { "safe" } else { seen.label() };
    let mut result = json!({"category": category, "confidence": share(seen.confidence())});
    if options.return_probabilities {
        result["probabilities"] = seen.probabilities();
    }
    Ok(result)
}

fn statistics(results: &[Value], low_below: f64) -> Value {
    let mut categories = BTreeMap::<&str, usize>::new();
    let (mut sum, mut low) = (0.0, 0);
    for result in results {
        *categories.entry(result["category"].as_str().unwrap_or_default()).or_default() += 1;
        let confidence = result["confidence"].as_f64().unwrap_or_default();
        sum += confidence;
        low += usize::from(confidence < low_below);
    }
    json!({
        "category_distribution": categories,
        "avg_confidence": share(sum / results.len().max(1) as f64),
        "low_confidence_count": low,
    })
}

pub(crate) async fn combined(desk: &Desk, brain: &Brain, request: CombinedRequest) -> Result<Value, Refusal> {
    let begun = Instant::now();
    let CombinedRequest { text, intent_options, pii_options, security_options } = request;
    let intent = IntentRequest::of(text.clone(), intent_options);
    let intent = intent::answer(desk, brain, &intent).await?;
    let security = SecurityRequest { text: text.clone(), options: security_options };
    let security = security::answer(desk, brain, &security).await?;
    let pii = pii::answer(desk, &PiiRequest { text, options: pii_options })?;
    Ok(json!({
        "intent": intent, "pii": pii, "security": security, "processing_time_ms": whole_ms(begun.elapsed()),
    }))
}
