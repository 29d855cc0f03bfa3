//! `--classifier pii`: the spans of personal data in a text.
//!
//! Of a chat body all turns are searched, as the gateway does; a span's `part` says whether it stands in the last user turn
//! (`focus`) or in the others (`context`). Offsets are bytes of that part, or of the text that was given. Called by `classify`;
//! `eval` shares the label.

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
pub(crate) const NAME: &str = "pii";

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
        let spans = parts.iter().flat_map(|(part, spans)| spans.iter().map(move |span| (*part, span)));
        let found = |(part, span): (Option<&'static str>, &Span)| Found {
            kind: span.kind,
            part,
            start: span.start,
            end: span.end,
            confidence: span.confidence,
        };
        Self {
            label: if pii > 0.0 { "pii" } else { "none" },
            confidence: pii.max(1.0 - pii),
            probabilities: Probabilities { none: 1.0 - pii, pii },
            tier: "detector",
            spans: spans.map(found).collect(),
        }
    }
}

/// How sure it is that something identifies somebody or is a secret; 0 where nothing does.
pub(crate) fn strongest(spans: &[Span]) -> f32 {
    spans.iter().filter(|span| span.kind.identifies()).map(|span| span.confidence).fold(0.0, f32::max)
}

pub(super) fn run(options: &Classify) -> Result<(), Error> {
    let detector = Detector::embedded()?;
    if options.jsonl {
        return stream(|text, out| {
            let parts = match &*text.context {
                "" => vec![(None, detector.find(&text.focus))],
                context => {
                    vec![
                        (Some("focus"), detector.find(&text.focus)),
                        (Some("context"), detector.find(context)),
                    ]
                }
            };
            write(out, &Answer::of(&parts))
        });
    }
    let text = match &options.text {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let begun = Instant::now();
    let parts = [(None, detector.find(&text))];
    let micros = micros(begun);
    let answer = Answer::of(&parts);
    if options.json {
        let mut value = json!({ NAME: answer });
        value[NAME]["micros"] = json!(micros);
        return print(&format!("{value}\n"));
    }
    let mut lines = String::new();
    let _ = writeln!(lines, "{NAME:<11} {}  {:.2}   ({micros:.0} us)", answer.label, answer.confidence);
    for span in &parts[0].1 {
        let shown = text.get(span.start..span.end).unwrap_or_default();
        let _ = writeln!(lines, "  {:<18} {:.2}  {shown}", span.kind.name(), span.confidence);
    }
    print(&lines)
}
