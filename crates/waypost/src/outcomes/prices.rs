//! What a request costs, in USD: from `--price`, or from the models of a configuration.
//!
//! Without prices, the best single model's calls are what is counted. Called by `outcomes`.

use std::path::Path;

use crate::error::Error;

/// Prices are for so many tokens.
const PER_TOKENS: f64 = 1e6;
/// Most that a million tokens may cost.
const MAX_USD: f64 = 1e6;
/// Bytes of text a token has, where rows don't say how many tokens a prompt has.
const BYTES_PER_TOKEN: f64 = 4.0;

/// Of one model, in USD a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
}

impl Price {
    /// USD for a request.
    pub(crate) fn of(self, prompt_tokens: f64, completion_tokens: f64) -> f64 {
        (self.input * prompt_tokens + self.output * completion_tokens) / PER_TOKENS
    }
}

/// Tokens of a prompt: as its row says, or estimated.
pub(crate) fn prompt_tokens(said: f32, text: &str) -> f64 {
    if said.is_nan() { text.len() as f64 / BYTES_PER_TOKEN } else { f64::from(said) }
}

/// `NAME=IN/OUT`.
pub(crate) fn parse(text: &str) -> Result<(String, Price), String> {
    let wrong = || format!("'{text}' is not NAME=IN/OUT, such as small=0.15/0.60, in USD a million tokens");
    let (name, price) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (input, output) = price.split_once('/').ok_or_else(wrong)?;
    let usd = |text: &str| text.trim().parse::<f64>().ok().filter(|usd| (0.0..=MAX_USD).contains(usd));
    match (usd(input), usd(output)) {
        (Some(input), Some(output)) if !name.is_empty() => Ok((name.to_owned(), Price { input, output })),
        _ => Err(wrong()),
    }
}

/// The price of each model: all of them, or none.
///
/// # Errors
/// If some have a price and some have none, or a price is for a model that is no contestant.
pub(crate) fn for_models(
    models: &[String],
    given: &[(String, Price)],
    config: Option<&Path>,
) -> Result<Option<Vec<Price>>, Error> {
    let mut known = given.to_vec();
    for (name, _) in given {
        if !models.contains(name) {
            return Err(Error::Usage(format!(
                "--price names '{name}'; the models are {}",
                models.join(", ")
            )));
        }
    }
    if let Some(file) = config {
        let snapshot = waypost_config::load_file(file)?;
        for model in snapshot.models.iter() {
            if let Some(price) = model.price {
                known.push((model.name.to_string(), Price { input: price.input, output: price.output }));
            }
        }
    }
    if known.is_empty() && config.is_none() {
        return Ok(None);
    }
    let price = |model: &String| {
        let found = known.iter().find(|(name, _)| name == model).map(|(_, price)| *price);
        found.ok_or_else(|| Error::Usage(format!("no price for model '{model}'; add --price {model}=IN/OUT")))
    };
    models.iter().map(price).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_every_model_needs_one() {
        let (name, price) = parse("a=b=0.5/2").unwrap();
        assert_eq!((name.as_str(), price), ("a=b", Price { input: 0.5, output: 2.0 }));
        assert!((price.of(1000.0, 500.0) - 0.0015).abs() < 1e-12);
        for wrong in ["a", "a=1", "=1/2", "a=1/x", "a=-1/2", "a=1/inf"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let models = ["a".to_owned(), "b".to_owned()];
        let given = [("a".to_owned(), price)];
        assert_eq!(for_models(&models, &[], None).unwrap(), None);
        let error = for_models(&models, &given, None).unwrap_err().to_string();
        assert!(error.contains("no price for model 'b'"), "{error}");
        let error = for_models(&models[1..], &given, None).unwrap_err().to_string();
        assert!(error.contains("--price names 'a'"), "{error}");
    }
}
