//! `waypost explain`: why a request went where it went, as a person reads it.
//!
//! Asks a running Waypost for the Decision, or reads one; shows what the Decision says and decides nothing. Called by
//! `main`.

use crate::cli::Explain;
use crate::error::Error;
use crate::print;
use crate::table::Table;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;
use waypost_router::{Outgoing, client};

/// Largest Decision read, in bytes.
const MAX_DECISION_BYTES: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Explain) -> Result<(), Error> {
    let decision = match options.id.as_str() {
        "-" => crate::lines::all(MAX_DECISION_BYTES)?,
        id => crate::serve::runtime()?.block_on(fetch(&options.url, id))?,
    };
    let decision: Value =
        serde_json::from_str(&decision).map_err(|e| Error::Data(format!("this is no Decision: {e}")))?;
    if !decision.is_object() || decision.get("plan").is_none() {
        return Err(Error::Data("this is no Decision: it has no `plan`".to_owned()));
    }
    print(&explained(&decision))
}

/// The Decision of that id, from a running Waypost.
async fn fetch(base: &str, id: &str) -> Result<String, Error> {
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Error::Usage(format!(
            "`{id}` is not the id of a Decision; it stands in the header x-waypost-decision-id"
        )));
    }
    let base = base.trim_end_matches('/');
    let fail = |what: String| Error::Data(format!("{base}: {what}"));
    let request = http::Request::get(format!("{base}/v1/decisions/{id}"))
        .body(Outgoing::from(Bytes::new()))
        .map_err(|e| Error::Usage(format!("--url {base}: {e}")))?;
    let exchange = async {
        let answer =
            client::build(TIMEOUT).request(request).await.map_err(|e| fail(client::root_cause(&e)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_DECISION_BYTES).collect().await;
        let body = body.map_err(|e| fail(e.to_string()))?.to_bytes();
        match status.as_u16() {
            200 => String::from_utf8(body.into()).map_err(|e| fail(e.to_string())),
            404 => Err(fail(format!("no Decision {id}; the latest few thousand are kept in memory"))),
            other => Err(fail(format!("answered {other}"))),
        }
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(fail("did not answer in time".to_owned())))
}

fn explained(decision: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}  {}  {}", text(&decision["id"]), text(&decision["path"]), outcome(decision));
    for key in ["policy", "label", "reasoning", "tier", "fallback"] {
        let value = &decision[key];
        if !value.is_null() {
            let _ = writeln!(out, "{key:<9} {}", text(value));
        }
    }
    if let Some(signals) = decision["signals"].as_object() {
        let signals: Vec<_> = signals.iter().map(|(name, sure)| format!("{name} {}", text(sure))).collect();
        let _ = writeln!(out, "signals   {}", signals.join(", "));
    }
    if let Value::Object(guard) = &decision["guard"] {
        let read = guard.get("label").map(|label| format!(", read as {}", text(label))).unwrap_or_default();
        let _ = writeln!(out, "guard     {}{read}", text(guard.get("outcome").unwrap_or(&Value::Null)));
    }
    let plan = items(&decision["plan"]);
    let plan: Vec<_> =
        plan.iter().map(|m| format!("{} ({})", text(&m["model"]), text(&m["reason"]))).collect();
    let _ =
        writeln!(out, "plan      {}", if plan.is_empty() { "none".to_owned() } else { plan.join(", then ") });
    for unfit in items(&decision["unfit"]) {
        let _ = writeln!(out, "not       {} ({})", text(&unfit["model"]), text(&unfit["reason"]));
    }
    for attempt in items(&decision["attempts"]) {
        let _ = writeln!(
            out,
            "sent to   {} at {}: {} after {} ms",
            text(&attempt["model"]),
            text(&attempt["endpoint"]),
            text(&attempt["result"]),
            text(&attempt["ms"])
        );
    }
    if let Some(why) = decision["no_place"].as_str() {
        let _ = writeln!(out, "no place  {why}");
    }
    items(&decision["placements"]).iter().for_each(|placement| placed(placement, &mut out));
    out
}

fn outcome(decision: &Value) -> String {
    let word = decision["outcome"].as_str().unwrap_or("not ended");
    let ms = |key: &str| decision[key].as_f64().map(|ms| format!("{ms:.1} ms"));
    let first = ms("ttft_ms").map(|ms| format!(", first byte after {ms}")).unwrap_or_default();
    format!("{word}, status {}, {} in all{first}", decision["status"], ms("total_ms").unwrap_or_default())
}

/// One choice of an endpoint, as a table.
fn placed(placement: &Value, out: &mut String) {
    let _ = writeln!(out, "\nendpoint of {}: {}", text(&placement["model"]), text(&placement["endpoint"]));
    if let Some(ms) = placement["queued_ms"].as_f64() {
        let _ = writeln!(out, "  waited {ms:.1} ms for it in the queue");
    }
    if let Some(reading) = placement["reading"].as_str() {
        let tokens = &placement["choice"]["prompt_tokens"];
        let ms = placement["read_ms"].as_f64().unwrap_or(0.0);
        let _ = writeln!(
            out,
            "  prompt: {} tokens ({reading}, {ms:.2} ms), of which {} are expected in its cache",
            text(tokens),
            text(&placement["cached_tokens"])
        );
    }
    if let Some(why) = placement["pair"].as_str() {
        let _ = writeln!(out, "  prefill apart: {why}");
    }
    choice(&placement["choice"], out);
    if let Some(prefill) = placement.get("prefill").filter(|prefill| !prefill.is_null()) {
        let result = prefill["result"].as_str().unwrap_or("under way");
        let ms = prefill["ms"].as_f64().map(|ms| format!(" after {ms:.1} ms")).unwrap_or_default();
        let _ = writeln!(out, "  prompt read by {}: {result}{ms}", text(&prefill["endpoint"]));
        choice(&prefill["choice"], out);
    }
}

fn choice(choice: &Value, out: &mut String) {
    let candidates = items(&choice["candidates"]);
    if candidates.is_empty() {
        return;
    }
    let scored = candidates.iter().any(|candidate| !candidate["score"].is_null());
    let worth = if scored { "score" } else { "cost" };
    let headings = [
        "",
        "endpoint",
        "note",
        "device",
        "host",
        "disk",
        "requests",
        "prefill tok",
        "decode blk",
        "age ms",
        worth,
    ];
    let mut table = Table::new(&headings, 3);
    for candidate in candidates {
        let chosen = candidate["chosen"] == true;
        table.row(vec![
            if chosen { "  ->" } else { "" }.to_owned(),
            text(&candidate["endpoint"]),
            note(candidate),
            text(&candidate["device_blocks"]),
            text(&candidate["host_blocks"]),
            text(&candidate["disk_blocks"]),
            text(&candidate["requests"]),
            text(&candidate["prefill_tokens"]),
            text(&candidate["decode_blocks"]),
            text(&candidate["figures_age_ms"]),
            candidate[worth].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")),
        ]);
    }
    let _ = write!(out, "{}", table.shown());
    let best = choice["best_cached_blocks"].as_u64().unwrap_or(0);
    let regret = choice["regret_blocks"].as_u64().unwrap_or(0);
    let _ = writeln!(
        out,
        "  by {}: of {} blocks the best endpoint holds {best}; the chosen one lacks {regret} of these",
        text(&choice["strategy"]),
        text(&choice["blocks"])
    );
}

/// What is to be known of a candidate beside its figures.
fn note(candidate: &Value) -> String {
    let mut notes = Vec::new();
    notes.extend(candidate["why_not"].as_str().map(str::to_owned));
    let state = candidate["kv_state"].as_str().unwrap_or("off");
    if !matches!(state, "off" | "live") {
        notes.push(format!("events {state}"));
    }
    if candidate["stale"] == true {
        notes.push("stale".to_owned());
    }
    notes.join(", ")
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value without quotes; a dash for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_choice_becomes_a_table() {
        let decision = json!({
            "id": "7", "path": "/v1/completions", "signals": {"math": 0.93, "urgent": 1.0}, "reasoning": "high", "outcome": "completed", "status": 200, "total_ms": 12.0,
            "ttft_ms": 3.25, "policy": null, "plan": [{"model": "a", "reason": "named"}], "unfit": [],
            "attempts": [{"model": "a", "endpoint": "http://1", "result": "ok", "ms": 3.0}],
            "placements": [{
                "model": "a", "endpoint": "http://1", "reading": "exact", "read_ms": 0.5, "cached_tokens": 32,
                "queued_ms": 4.0, "choice": {
                    "strategy": "kv", "prompt_tokens": 40, "blocks": 3, "best_cached_blocks": 2, "regret_blocks": 0,
                    "candidates": [
                        {"endpoint": "http://1", "chosen": true, "device_blocks": 2, "kv_state": "live", "cost": 1.5},
                        {"endpoint": "http://2", "chosen": false, "device_blocks": 0, "kv_state": "blind",
                         "stale": true, "why_not": "busy_kv"},
                    ],
                },
            }],
        });
        let shown = explained(&decision);
        for line in [
            "7  /v1/completions  completed, status 200, 12.0 ms in all, first byte after 3.2 ms",
            "reasoning high",
            "signals   math 0.93, urgent 1.0",
            "plan      a (named)",
            "sent to   a at http://1: ok after 3.0 ms",
            "  waited 4.0 ms for it in the queue",
            "  prompt: 40 tokens (exact, 0.50 ms), of which 32 are expected in its cache",
            "  by kv: of 3 blocks the best endpoint holds 2; the chosen one lacks 0 of these",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
        let chosen = shown.lines().find(|line| line.starts_with("  ->")).unwrap();
        assert!(chosen.contains("http://1") && chosen.ends_with("1.500"), "{shown}");
        assert!(shown.contains("busy_kv, events blind, stale"), "{shown}");
    }
}
