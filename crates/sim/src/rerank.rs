//! `POST /v1/rerank` in simple form: documents by the share of the query's words they contain.
//!
//! Equal scores keep the order of the documents, so an answer repeats.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::Core;
use crate::generate::{Need, Run};
use crate::metrics::Finish;
use crate::reply::{ApiError, Reply, parse};
use crate::stats::Ticket;

/// Documents per request.
const MAX_DOCUMENTS: usize = 1_024;

#[derive(Deserialize)]
struct Request {
    model: String,
    query: String,
    documents: Vec<Document>,
    top_n: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Plain(String),
    Object { text: String },
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Document::Plain(text) | Document::Object { text } => text,
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(core: &Core, ticket: &Ticket, body: &[u8]) -> Result<Reply, ApiError> {
    let request: Request = parse(body)?;
    let model = core.model(&request.model, ticket.rank).ok_or_else(|| ApiError::no_model(&request.model))?;
    let documents = request.documents;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let why = format!("There must be 1 to {MAX_DOCUMENTS} documents.");
        return Err(ApiError::bad(Some("documents"), why));
    }
    let mut prompt = request.query.clone();
    for document in &documents {
        prompt.push('\n');
        prompt.push_str(document.text());
    }
    let mut run = Run::start(core, &model, Need::read(prompt.as_bytes()), ticket.arrived).await?;
    run.read().await;
    let query = words(&request.query);
    let mut ranked: Vec<(usize, f64)> =
        documents.iter().map(|document| score(&query, document.text())).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(request.top_n.unwrap_or(usize::MAX));
    let results: Vec<Value> = ranked
        .into_iter()
        .map(|(index, score)| {
            let document = json!({"text": documents[index].text()});
            json!({"index": index, "document": document, "relevance_score": score})
        })
        .collect();
    let body = json!({
        "id": format!("rerank-sim-{}", ticket.id),
        "model": model.name,
        "usage": {"total_tokens": run.prompt_tokens},
        "results": results,
    });
    run.end(Finish::Stop);
    Ok(Reply::json(&body))
}

fn words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Share of the query's words found in the document, 0 to 1.
fn score(query: &HashSet<String>, document: &str) -> f64 {
    let document = words(document);
    let found = query.iter().filter(|word| document.contains(*word)).count();
    found as f64 / query.len().max(1) as f64
}
