//! What an auto policy maximizes: `quality - 20 * cost - 0.05 * latency`.
//!
//! Expected quality is 0 to 1, cost is in US dollars a request, latency in seconds. Part of `leaf`, whose rules it
//! follows.

use serde_json::{Value, json};

use super::Leaf;

/// How much of quality a dollar and a second are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Objective {
    /// Per US dollar.
    pub(crate) cost: f64,
    /// Per second.
    pub(crate) latency: f64,
}

impl Leaf for Objective {
    const KIND: &'static str = "`quality - A * cost - B * latency`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "is not of the form `quality - 20 * cost - 0.05 * latency`; either term may be left out"
                .to_owned()
        };
        let mut terms = text.split('-').map(str::trim);
        if terms.next() != Some("quality") {
            return Err(wrong());
        }
        let (mut cost, mut latency) = (None, None);
        for term in terms {
            let (number, name) = term.split_once(['*', '·', '×']).ok_or_else(wrong)?;
            let slot = match name.trim() {
                "cost" => &mut cost,
                "latency" => &mut latency,
                _ => return Err(wrong()),
            };
            let weight = f64::parse(number).ok().filter(|weight| *weight >= 0.0).ok_or_else(wrong)?;
            if slot.replace(weight).is_some() {
                return Err(format!("names `{}` twice", name.trim()));
            }
        }
        Ok(Self { cost: cost.unwrap_or(0.0), latency: latency.unwrap_or(0.0) })
    }

    fn to_json(&self) -> Value {
        json!(format!("quality - {} * cost - {} * latency", self.cost, self.latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_in_any_order_and_number() {
        let cases = [
            ("quality", 0.0, 0.0),
            ("quality - 20 * cost", 20.0, 0.0),
            ("quality-0.05*latency - 20·cost", 20.0, 0.05),
            (" quality - 1 × cost ", 1.0, 0.0),
        ];
        for (text, cost, latency) in cases {
            assert_eq!(Objective::parse(text), Ok(Objective { cost, latency }), "{text}");
        }
        let wrong = [
            "",
            "cost",
            "quality + 1 * cost",
            "quality - cost",
            "quality - x * cost",
            "quality - 1 * price",
            "quality - -1 * cost",
            "quality - 1 * cost - 2 * cost",
            "quality -",
        ];
        for text in wrong {
            assert!(Objective::parse(text).is_err(), "{text}");
        }
    }
}
