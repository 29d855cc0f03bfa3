//! JSON that fits a JSON schema well enough: arguments of a tool call, structured output.
//!
//! Covers types, enums, constants, ranges and nesting; does not follow `$ref`. Bounded in depth and length.

use serde_json::{Map, Value};

use crate::text::Dice;

/// Below this depth every value is null.
const MAX_DEPTH: usize = 8;
/// Largest schema in bytes that is followed; a constant in it may be repeated once per value.
const MAX_SCHEMA_BYTES: usize = 32 * 1024;
/// Values in all; beyond that every value is null.
const MAX_VALUES: usize = 1_024;
/// Longest array and, in words, longest string made to satisfy a minimum.
const MAX_ITEMS: u64 = 16;
/// Numbers are taken from `0..=` this when the schema sets no range.
const NUMBER_SPAN: f64 = 100.0;

/// A value for this schema; an empty object for one that is too large.
pub(crate) fn value(schema: &Value, dice: &mut Dice) -> Value {
    if schema.to_string().len() > MAX_SCHEMA_BYTES {
        return Value::Object(Map::new());
    }
    Maker { dice, made: 0 }.make(schema, 0)
}

struct Maker<'a> {
    dice: &'a mut Dice,
    made: usize,
}

impl Maker<'_> {
    fn make(&mut self, schema: &Value, depth: usize) -> Value {
        self.made += 1;
        if depth >= MAX_DEPTH || self.made > MAX_VALUES {
            return Value::Null;
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        let choices = |key: &str| {
            let list = schema.get(key).and_then(Value::as_array);
            list.filter(|list| !list.is_empty())
        };
        if let Some(values) = choices("enum") {
            return values[pick(self.dice, values.len())].clone();
        }
        if let Some(variants) = choices("anyOf").or_else(|| choices("oneOf")) {
            let variant = &variants[pick(self.dice, variants.len())];
            return self.make(variant, depth + 1);
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None if schema.get("properties").is_some() => Some("object"),
            None => None,
        };
        match kind {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("integer") => number(schema, self.dice, true),
            Some("number") => number(schema, self.dice, false),
            Some("boolean") => Value::from(self.dice.roll() & 1 == 1),
            Some("null") => Value::Null,
            _ => string(schema, self.dice),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut fields = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                fields.insert(name.clone(), self.make(property, depth + 1));
            }
        }
        Value::Object(fields)
    }

    fn array(&mut self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
        let any = Value::Null;
        let items = schema.get("items").unwrap_or(&any);
        let count = least.min(MAX_ITEMS);
        (0..count).map(|_| self.make(items, depth + 1)).collect()
    }
}

fn pick(dice: &mut Dice, len: usize) -> usize {
    (dice.roll() % len as u64) as usize
}

fn number(schema: &Value, dice: &mut Dice, whole: bool) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let low = bound("minimum").or(bound("exclusiveMinimum").map(|low| low + 1.0));
    let high = bound("maximum").or(bound("exclusiveMaximum").map(|high| high - 1.0));
    let (low, high) = match (low, high) {
        (Some(low), Some(high)) => (low, high.max(low)),
        (Some(low), None) => (low, low + NUMBER_SPAN),
        (None, Some(high)) => (high - NUMBER_SPAN, high),
        (None, None) => (0.0, NUMBER_SPAN),
    };
    let drawn = low + dice.fraction() * (high - low);
    if whole { Value::from(drawn.ceil().min(high.floor()) as i64) } else { Value::from(drawn) }
}

fn string(schema: &Value, dice: &mut Dice) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    let least = bound("minLength").unwrap_or(0);
    let mut text = dice.word().to_owned();
    for _ in 0..MAX_ITEMS {
        if text.len() as u64 >= least {
            break;
        }
        text.push(' ');
        text.push_str(dice.word());
    }
    if let Some(most) = bound("maxLength").and_then(|most| usize::try_from(most).ok()) {
        // The words are ASCII, so every place is a character boundary.
        text.truncate(most);
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_fits_its_schema() {
        let schema = json!({"type":"object","properties":{
            "city":{"type":"string","minLength":20,"maxLength":24},
            "unit":{"enum":["C","F"]},
            "days":{"type":"integer","minimum":3,"maximum":5},
            "share":{"type":["number","null"],"maximum":-1},
            "flags":{"type":"array","minItems":2,"items":{"type":"boolean"}},
            "either":{"anyOf":[{"const":7},{"type":"null"}]}}});
        for seed in 0..50 {
            let made = value(&schema, &mut Dice::new(seed));
            assert!((20..=24).contains(&made["city"].as_str().unwrap().len()));
            assert!(["C", "F"].contains(&made["unit"].as_str().unwrap()));
            assert!((3..=5).contains(&made["days"].as_i64().unwrap()));
            assert!(made["share"].as_f64().unwrap() <= -1.0);
            assert_eq!(made["flags"].as_array().unwrap().len(), 2);
            assert!(made["either"].is_null() || made["either"] == 7);
            assert_eq!(made, value(&schema, &mut Dice::new(seed)));
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let mut greedy = json!({"type":"string"});
        for _ in 0..40 {
            greedy = json!({"type":"array","minItems":1_000_000_000u64,"items":greedy});
        }
        assert!(value(&greedy, &mut Dice::new(1)).to_string().len() < 16 * MAX_VALUES);
        let large = json!({"type":"array","minItems":16,"items":{"const":"x".repeat(MAX_SCHEMA_BYTES)}});
        assert_eq!(value(&large, &mut Dice::new(1)), json!({}));
        let shallow = json!({"type":"array","minItems":1_000_000_000u64});
        assert_eq!(value(&shallow, &mut Dice::new(1)).as_array().unwrap().len(), 16);
        let mut nested = json!({"type":"string"});
        for _ in 0..40 {
            nested = json!({"type":"array","items":nested});
        }
        assert!(value(&nested, &mut Dice::new(1)).to_string().ends_with("null]]]]]]]]"));
    }
}
