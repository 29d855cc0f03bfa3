//! `--classifier pii`: the spans of personal data in a text.
//!
//! Of a chat body all turns are searched, as the gateway does; a span's `part` says whether it stands in the last user turn
//! (`focus`) or in the others (`context`). Offsets are bytes of that part, or of the text that was given. Called by `classify`.

use std::fmt::Write as _;
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::json;
use waypost_classify::pii::{Detector, FAINTEST, Kind, MIN_CONFIDENCE, Span, strongest};

use super::stream::{stream, write};
use super::{MAX_INPUT_BYTES, micros};
use crate::cli::Classify;
use crate::error::Error;
use crate::lines;
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
    /// Only of a chat body.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'static str>,
    start: usize,
    end: usize,
    confidence: f32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl Answer {
    fn of(parts: &[(Option<&'static str>, Vec<Span>)]) -> Self {
        let pii = parts.iter().map(|(_, spans)| strongest(spans)).fold(0.0, f32::max);
        let spans = parts.iter().flat_map(|(part, spans)| certain(spans).map(move |span| (*part, span)));
        let found = |(part, span): (Option<&'static str>, &Span)| Found {
            kind: span.kind,
            part,
            start: span.start,
            end: span.end,
            confidence: span.confidence,
        };
        Self {
            label: if pii >= MIN_CONFIDENCE { "pii" } else { "none" },
            confidence: pii.max(1.0 - pii),
            probabilities: Probabilities { none: 1.0 - pii, pii },
            tier: "detector",
            spans: spans.map(found).collect(),
        }
    }
}

/// The spans that are shown; fainter ones only say how sure one is that there is nothing.
fn certain(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans.iter().filter(|span| span.confidence >= MIN_CONFIDENCE)
}

pub(super) fn run(options: &Classify) -> Result<(), Error> {
    let detector = Detector::embedded()?;
    let find = |text: &str| detector.find_above(text, FAINTEST);
    if options.jsonl {
        return stream(|text, out| {
            let parts = match &*text.context {
                "" => vec![(None, find(&text.focus))],
                context => {
                    vec![(Some("focus"), find(&text.focus)), (Some("context"), find(context))]
                }
            };
            write(out, &Answer::of(&parts))
        });
    }
    let text = match &options.text {
        Some(text) => text.clone(),
        None => lines::all(MAX_INPUT_BYTES)?,
    };
    let begun = Instant::now();
    let parts = [(None, find(&text))];
    let micros = micros(begun);
    let answer = Answer::of(&parts);
    if options.json {
        let mut value = json!({ NAME: answer });
        value[NAME]["micros"] = json!(micros);
        return print(&format!("{value}\n"));
    }
    let mut lines = String::new();
    let _ = writeln!(lines, "{NAME:<11} {}  {:.2}   ({micros:.0} us)", answer.label, answer.confidence);
    for span in certain(&parts[0].1) {
        let shown = text.get(span.start..span.end).unwrap_or_default();
        let _ = writeln!(lines, "  {:<18} {:.2}  {shown}", span.kind.name(), span.confidence);
    }
    print(&lines)
}
