//! `POST /api/v1/classify/pii`: personal data in a text, where it stands, and the text without it.
//!
//! Positions count characters (Unicode code points), not bytes.

use crate::desk::{Desk, share, whole_ms};
use crate::input::threshold;
use crate::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Instant;
use waypost_classify::pii::{Detector, FAINTEST, Kind, MIN_CONFIDENCE, Span, strongest};

/// Spans in one text; with more it is refused, so that a masked text holds none.
const MAX_ENTITIES: usize = 10_000;
/// vLLM Semantic Router's names for kinds that have another one here.
const ALIASES: [(&str, Kind); 2] = [("GPE", Kind::Location), ("DOMAIN_NAME", Kind::Url)];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PiiRequest {
    #[serde(default)]
    pub(crate) text: String,
    pub(crate) options: Option<PiiOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PiiOptions {
    entity_types: Vec<String>,
    confidence_threshold: Option<f64>,
    return_positions: bool,
    mask_entities: bool,
    reveal_entity_text: bool,
}

pub(crate) fn answer(desk: &Desk, request: &PiiRequest) -> Result<Value, Refusal> {
    let begun = Instant::now();
    let (text, none) = (&*request.text, PiiOptions::default());
    let options = request.options.as_ref().unwrap_or(&none);
    let wanted: Vec<Kind> = options.entity_types.iter().map(|name| kind(name)).collect::<Result<_, _>>()?;
    let least = threshold("confidence_threshold", options.confidence_threshold)?;
    let mut spans = find(&desk.detector, text, least.map_or(MIN_CONFIDENCE, |least| least as f32))?;
    spans.retain(|span| wanted.is_empty() || wanted.contains(&span.kind));
    let masks = masks(text, &spans);
    let blocked = spans.iter().any(|span| !wanted.is_empty() || span.kind.identifies());
    let mut answer = json!({
        "has_pii": !spans.is_empty(),
        "entities": entities(text, &spans, &masks, options),
        "security_recommendation": if blocked { "block" } else { "allow" },
    });
    if options.mask_entities && !spans.is_empty() {
        answer["masked_text"] = masked(text, &spans, &masks).into();
    }
    answer["processing_time_ms"] = whole_ms(begun.elapsed()).into();
    Ok(answer)
}

/// A text in short: `no_pii` or the first kind found, and how sure that is.
pub(crate) fn verdict(detector: &Detector, text: &str) -> Result<(&'static str, f64), Refusal> {
    let spans = find(detector, text, FAINTEST)?;
    let found = || spans.iter().filter(|span| span.confidence >= MIN_CONFIDENCE);
    let surest = found().map(|span| span.confidence).fold(0.0, f32::max);
    Ok(match found().next() {
        Some(first) => (first.kind.name(), f64::from(surest)),
        None => ("no_pii", f64::from(1.0 - strongest(&spans))),
    })
}

fn find(detector: &Detector, text: &str, least: f32) -> Result<Vec<Span>, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::input("text cannot be empty"));
    }
    let spans = detector.find_throughout(text, least, MAX_ENTITIES + 1);
    if spans.len() > MAX_ENTITIES {
        return Err(Refusal::input(format!(
            "the text holds more than {MAX_ENTITIES} entities; send it in parts"
        )));
    }
    Ok(spans)
}

fn kind(name: &str) -> Result<Kind, Refusal> {
    let alias = || ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
    Kind::from_name(name).or_else(alias).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        Refusal::input(format!("entity_types: '{name}' is not detected; known are {}", known.join(", ")))
    })
}

/// What stands in place of each entity: the same for the same text of the same kind.
fn masks<'a>(text: &'a str, spans: &[Span]) -> HashMap<(Kind, &'a str), String> {
    let (mut masks, mut counts) = (HashMap::new(), HashMap::<Kind, usize>::new());
    for span in spans {
        masks.entry((span.kind, part(text, span.start, span.end))).or_insert_with(|| {
            let count = counts.entry(span.kind).or_default();
            *count += 1;
            format!("[{}_{}]", span.kind.name(), *count - 1)
        });
    }
    masks
}

fn entities(
    text: &str,
    spans: &[Span],
    masks: &HashMap<(Kind, &str), String>,
    options: &PiiOptions,
) -> Vec<Value> {
    // In characters: those before `byte` are counted already.
    let (mut byte, mut characters) = (0, 0);
    let mut position = |until: usize| {
        characters += part(text, byte, until).chars().count();
        byte = byte.max(until);
        characters
    };
    let entity = |span: &Span| {
        let value = part(text, span.start, span.end);
        let mut entity = json!({
            "type": span.kind.name(),
            "value": if options.reveal_entity_text { value } else { "[DETECTED]" },
            "confidence": share(f64::from(span.confidence)),
        });
        if options.return_positions {
            entity["start_position"] = position(span.start).into();
            entity["end_position"] = position(span.end).into();
        }
        if options.mask_entities {
            entity["masked_value"] = json!(masks.get(&(span.kind, value)));
        }
        entity
    };
    spans.iter().map(entity).collect()
}

fn masked(text: &str, spans: &[Span], masks: &HashMap<(Kind, &str), String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        out.push_str(part(text, done, span.start));
        let value = part(text, span.start, span.end);
        out.push_str(masks.get(&(span.kind, value)).map_or("", String::as_str));
        done = done.max(span.end);
    }
    out.push_str(part(text, done, text.len()));
    out
}

/// Empty where the detector's spans overlap or cut a character, which would be a defect: a panic shows the text.
fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str, value: &str, kind: Kind) -> Vec<Span> {
        let found = text.match_indices(value);
        found.map(|(start, _)| Span { start, end: start + value.len(), kind, confidence: 0.9 }).collect()
    }

    #[test]
    fn what_is_too_weak_to_be_shown_hides_nothing() {
        let text = "1999 ".repeat(600) + "jane.doe@example.org";
        let spans = find(&Detector::embedded().unwrap(), &text, MIN_CONFIDENCE).unwrap();
        let masked = masked(&text, &spans, &masks(&text, &spans));
        assert_eq!(masked, "1999 ".repeat(600) + "[EMAIL_ADDRESS_0]");
    }

    #[test]
    fn spans_that_no_text_has_panic_nobody() {
        let (text, kind) = ("é a@b.de", Kind::EmailAddress);
        let spans = [(1, 5), (3, 9), (2, 4), (7, 99)];
        let spans = spans.map(|(start, end)| Span { start, end, kind, confidence: 0.9 });
        let masks = masks(text, &spans);
        let options = PiiOptions { return_positions: true, mask_entities: true, ..PiiOptions::default() };
        assert_eq!(entities(text, &spans, &masks, &options).len(), 4);
        assert!(!masked(text, &spans, &masks).contains("b.de"));
    }

    #[test]
    fn positions_are_characters_and_masks_repeat() {
        let text = "こんにちは、Ann ruft Bob und Ann an";
        let mut spans = span(text, "Ann", Kind::Person);
        spans.extend(span(text, "Bob", Kind::Person));
        spans.sort_by_key(|span| span.start);
        let masks = masks(text, &spans);
        let options = PiiOptions {
            return_positions: true,
            mask_entities: true,
            reveal_entity_text: true,
            ..PiiOptions::default()
        };
        let entities = entities(text, &spans, &masks, &options);
        let characters: Vec<char> = text.chars().collect();
        for entity in &entities {
            let at = |name: &str| entity[name].as_u64().unwrap() as usize;
            let cut: String = characters[at("start_position")..at("end_position")].iter().collect();
            assert_eq!(entity["value"], cut);
        }
        assert_eq!(entities[0]["start_position"], 6);
        assert_eq!(masked(text, &spans, &masks), "こんにちは、[PERSON_0] ruft [PERSON_1] und [PERSON_0] an");
    }

    #[test]
    fn kinds_go_by_their_names_and_those_of_others() {
        assert_eq!(kind("gpe").unwrap(), Kind::Location);
        assert_eq!(kind("Person").unwrap(), Kind::Person);
        assert!(kind("SHOE_SIZE").is_err());
    }
}
