//! `--classifier pii`: the spans of personal data in a text.
//!
//! Offsets are bytes of the text that was given. Called by `classify`.

use std::fmt::Write as _;
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::json;
use waypost_classify::pii::{Detector, Kind, Span};

use super::stream::{stream, write};
use super::{micros, read_stdin};
use crate::cli::Classify;
use crate::error::Error;
use crate::print;

/// The name after `--classifier`.
pub(super) const NAME: &str = "pii";

#[derive(Serialize)]
struct Answer {
    label: &'static str,
    confidence: f32,
    probabilities: Probabilities,
    tier: &'static str,
    spans: Vec<Found>,
}

#[derive(Serialize)]
struct Probabilities {
    none: f32,
    pii: f32,
}

#[derive(Serialize)]
struct Found {
    #[serde(serialize_with = "name")]
    kind: Kind,
    start: usize,
    end: usize,
    confidence: f32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl Answer {
    fn of(spans: &[Span]) -> Self {
        let identifying = spans.iter().filter(|span| span.kind.identifies());
        let pii = identifying.map(|span| span.confidence).fold(0.0, f32::max);
        let found = |span: &Span| Found {
            kind: span.kind,
            start: span.start,
            end: span.end,
            confidence: span.confidence,
        };
        Self {
            label: if pii > 0.0 { "pii" } else { "none" },
            confidence: pii.max(1.0 - pii),
            probabilities: Probabilities { none: 1.0 - pii, pii },
            tier: "detector",
            spans: spans.iter().map(found).collect(),
        }
    }
}

pub(super) fn run(options: &Classify) -> Result<(), Error> {
    let detector = Detector::embedded()?;
    if options.jsonl {
        return stream(|text, out| write(out, &Answer::of(&detector.find(&text.focus))));
    }
    let text = match &options.text {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let begun = Instant::now();
    let spans = detector.find(&text);
    let micros = micros(begun);
    let answer = Answer::of(&spans);
    if options.json {
        let mut value = json!({ NAME: answer });
        value[NAME]["micros"] = json!(micros);
        return print(&format!("{value}\n"));
    }
    let mut lines = String::new();
    let _ = writeln!(lines, "{NAME:<11} {}  {:.2}   ({micros:.0} us)", answer.label, answer.confidence);
    for span in &spans {
        let shown = text.get(span.start..span.end).unwrap_or_default();
        let _ = writeln!(lines, "  {:<18} {:.2}  {shown}", span.kind.name(), span.confidence);
    }
    print(&lines)
}
