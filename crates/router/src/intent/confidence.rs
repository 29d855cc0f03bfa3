//! How sure a model was of the route it named, from the log-probabilities of its tokens.
//!
//! For each token that spells the name: of all that the server lists for its place, the share that still spells this
//! name, among what still spells any name; whatever the server does not list counts as other names. The product of
//! these shares is at most the probability that the model meant this route. Without alternatives it is the product of
//! the tokens' own probabilities. Pure; called by the asker.

use super::answer::Names;
use serde::Deserialize;
use std::ops::Range;
use waypost_config::fold;

/// Rounding aside, a log-probability is at most 0.
const MAX_LOGPROB: f64 = 0.01;
/// What may follow a name, and stands in none; `<` begins a special token.
const ENDS: [char; 8] = ['"', '\'', '`', '”', '’', '}', '<', '\n'];

/// A token of the answer.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    #[serde(flatten)]
    own: Listed,
    top_logprobs: Option<Vec<Listed>>,
}

/// A token and how likely it was.
#[derive(Debug, Deserialize)]
struct Listed {
    token: String,
    logprob: f64,
    /// Where a character is spread over tokens, only these tell.
    bytes: Option<Vec<u8>>,
}

impl Listed {
    fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.token.as_bytes())
    }

    fn probability(&self) -> Option<f64> {
        (self.logprob <= MAX_LOGPROB).then(|| self.logprob.exp().min(1.0))
    }
}

/// The confidence in `label`, 0 to 1, if the tokens spell an answer that names it.
pub(super) fn confidence(tokens: &[Token], names: &Names, label: usize) -> Option<f32> {
    let spelled: Vec<u8> = tokens.iter().flat_map(|token| token.own.bytes()).copied().collect();
    let answer = String::from_utf8(spelled).ok()?;
    let named = names.read(&answer).ok().filter(|named| named.label == label)?;
    let (mut end, mut product) = (0, 1.0);
    for token in tokens {
        let start = end;
        end += token.own.bytes().len();
        // The token behind the name counts too: it tells `hard` from `hard_question`.
        if end > named.span.start && start <= named.span.end && end > start {
            product *= share(token, start, &answer, &named.span, names.folded(), label)?;
        }
    }
    Some(product as f32)
}

/// The factor of one token, which begins at byte `start` of the answer.
fn share(
    token: &Token,
    start: usize,
    answer: &str,
    span: &Range<usize>,
    names: &[String],
    label: usize,
) -> Option<f64> {
    let own = token.own.probability()?;
    let listed = match &token.top_logprobs {
        Some(listed) if !listed.is_empty() => listed,
        _ => return Some(own),
    };
    // Half a character would begin or end here: no way to tell what else it could have been.
    let (Some(prefix), Some(lead)) =
        (answer.get(span.start..start.max(span.start)), answer.get(start.min(span.start)..span.start))
    else {
        return Some(own);
    };
    let (mut this, mut others, mut seen) = (0.0, 0.0, 0.0);
    let mut count = |probability: f64, bytes: &[u8]| {
        seen += probability;
        let spells = |name: &String| spells(name, prefix, lead, bytes);
        if names.get(label).is_some_and(spells) {
            this += probability;
        } else if names.iter().any(spells) {
            others += probability;
        }
    };
    for one in listed {
        count(one.probability()?, one.bytes());
    }
    if !listed.iter().any(|one| one.bytes() == token.own.bytes()) {
        count(own, token.own.bytes());
    }
    let unseen = (1.0 - seen).max(0.0);
    Some(if this > 0.0 { this / (this + others + unseen) } else { 0.0 })
}

/// Whether `token`, after `prefix` of a name has been written, still leads to the (folded) `name`. `lead` is what the
/// token itself has before the name.
fn spells(name: &String, prefix: &str, lead: &str, token: &[u8]) -> bool {
    // A token may end within a character; what is whole of it is compared.
    let token = match std::str::from_utf8(token) {
        Ok(token) => token,
        Err(error) => std::str::from_utf8(&token[..error.valid_up_to()]).unwrap_or_default(),
    };
    let Some(written) = token.strip_prefix(lead) else { return lead.starts_with(token) };
    let whole = format!("{prefix}{written}");
    match whole.find(ENDS) {
        Some(end) => fold(&whole[..end]) == *name,
        None => name.starts_with(&fold(&whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn names() -> Names {
        Names::new(&["hard", "hard_question", "chit_chat", "größe", "other"].map(Arc::from))
    }

    fn of(tokens: Value, label: usize) -> Option<f32> {
        confidence(&serde_json::from_value::<Vec<Token>>(tokens).unwrap(), &names(), label)
    }

    fn plain(token: &str, probability: f64) -> Value {
        json!({"token": token, "logprob": probability.ln(), "bytes": null, "top_logprobs": []})
    }

    fn with(token: &str, top: &[(&str, f64)]) -> Value {
        let list = |(token, p): &(&str, f64)| json!({"token": token, "logprob": p.ln()});
        let own = top.iter().find(|(one, _)| *one == token).map_or(0.01, |(_, p)| *p);
        json!({"token": token, "logprob": own.ln(), "top_logprobs": top.iter().map(list).collect::<Vec<_>>()})
    }

    fn close(found: Option<f32>, expected: f64) {
        let found = f64::from(found.unwrap());
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn without_alternatives_it_is_the_product_of_the_names_tokens() {
        let tokens = json!([
            plain("{\"route\":", 0.5),
            plain(" \"", 0.5),
            plain("chit", 0.9),
            plain("_chat", 0.8),
            plain("\"}", 0.95),
            plain("\n", 0.1)
        ]);
        close(of(tokens, 2), 0.9 * 0.8 * 0.95);
    }

    #[test]
    fn alternatives_that_spell_no_route_do_not_count() {
        // "Sure" is no route, "c" and "chit" are the same one, 0.1 is not listed.
        let first = with("chit", &[("chit", 0.4), ("hard", 0.2), ("c", 0.1), ("Sure", 0.2)]);
        let tokens = json!([plain("{\"route\": \"", 0.9), first, plain("_chat\"}", 1.0)]);
        close(of(tokens, 2), 0.5 / (0.5 + 0.2 + 0.1));
    }

    #[test]
    fn the_quote_behind_a_name_tells_it_from_a_longer_one() {
        let end = with("\"}", &[("\"}", 0.6), ("_question", 0.3), ("\"", 0.1)]);
        let tokens = json!([plain("{\"route\": \"", 1.0), with("hard", &[("hard", 1.0)]), end]);
        close(of(tokens, 0), 0.7);
        let longer = with("_question", &[("\"}", 0.6), ("_question", 0.3), ("-", 0.1)]);
        let tokens =
            json!([plain("{\"route\": \"", 1.0), with("hard", &[("hard", 1.0)]), longer, plain("\"}", 1.0)]);
        close(of(tokens, 1), 0.4 / 1.0);
    }

    #[test]
    fn a_token_may_hold_the_quote_before_the_name_and_half_a_character() {
        let first = with(" \"ch", &[(" \"ch", 0.7), (" \"", 0.1), (" \"hard", 0.2)]);
        let tokens = json!([plain("{\"route\":", 1.0), first, plain("it_chat\"}", 1.0)]);
        close(of(tokens, 2), 0.8);
        let bytes = |bytes: &[u8]| {
            json!({"token": "\u{fffd}", "logprob": -0.1, "bytes": bytes,
            "top_logprobs": [{"token": "\u{fffd}", "logprob": -0.1, "bytes": bytes}]})
        };
        let tokens =
            json!([plain("{\"route\": \"gr", 0.5), bytes(&[0xc3]), bytes(&[0xb6]), plain("ße\"}", 1.0)]);
        let found = of(tokens, 3).unwrap();
        assert!((0.3..0.5).contains(&found), "{found}");
    }

    #[test]
    fn a_bare_name_has_one_too_and_thoughts_do_not_count() {
        close(of(json!([plain("<think>hm</think>", 0.1), plain("other", 0.8)]), 4), 0.8);
    }

    #[test]
    fn what_makes_no_sense_gives_none() {
        assert_eq!(of(json!([]), 2), None);
        assert_eq!(of(json!([plain("{\"route\": \"hard\"}", 0.9)]), 2), None, "another route");
        assert_eq!(of(json!([{"token": "other", "logprob": 3.0}]), 4), None);
        close(of(json!([{"token": "other", "logprob": -9999.0}]), 4), 0.0);
        let lying = with("other", &[("other", 0.9), ("hard", 0.9)]);
        close(of(json!([lying]), 4), 0.5);
    }
}
