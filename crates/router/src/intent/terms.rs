//! What a server is asked for beside the answer, and what it has refused.
//!
//! Guided decoding, log-probabilities and the template switch are not known to every server; some refuse what they do
//! not know with 400 or 422. What was left out of a request that then succeeded is not asked for again, until the
//! configuration is loaded anew. Called by the asker.

use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use waypost_config::Guided;

/// Tokens of an answer that is held to the names.
const GUIDED_TOKENS: usize = 32;
/// Tokens of one that is not: room for a code fence or a word before it.
const FREE_TOKENS: usize = 64;
/// Tokens around the name; a name of `n` bytes has at most `n` tokens.
const FRAME_TOKENS: usize = 12;
/// Alternatives asked for per token.
const TOP_LOGPROBS: u8 = 5;

/// Something a server may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extra {
    /// `chat_template_kwargs: {"enable_thinking": false}`, for Qwen3 and its like.
    Template,
    /// `response_format` with a JSON schema.
    JsonSchema,
    /// vLLM's `guided_json`.
    GuidedJson,
    /// `logprobs` and `top_logprobs`.
    Logprobs,
}

impl Extra {
    /// In the order in which they are given up when the server does not say what it minds: the least common first.
    const ALL: [Self; 4] = [Self::Template, Self::JsonSchema, Self::GuidedJson, Self::Logprobs];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The word used in Decisions and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::JsonSchema => "json_schema",
            Self::GuidedJson => "guided_json",
            Self::Logprobs => "logprobs",
        }
    }

    /// How an error message would speak of it, in lower case.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Template => &["chat_template_kwargs", "enable_thinking"],
            Self::JsonSchema => &["response_format", "json_schema"],
            Self::GuidedJson => &["guided"],
            Self::Logprobs => &["logprobs"],
        }
    }
}

/// Error messages about a prompt that is too long say one of these; giving up extras would not help.
const TOO_LONG: [&str; 3] = ["context_length", "context length", "maximum context"];

/// The extras of one request: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    asked: u8,
    /// Guided decoding that the user insists on.
    fixed: u8,
}

impl Offer {
    pub(super) fn has(self, extra: Extra) -> bool {
        self.asked & extra.bit() != 0
    }

    /// How the answer is held to the names.
    pub(super) fn guided(self) -> &'static str {
        match (self.has(Extra::JsonSchema), self.has(Extra::GuidedJson)) {
            (true, _) => Extra::JsonSchema.as_str(),
            (_, true) => Extra::GuidedJson.as_str(),
            _ => "off",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Terms {
    guided: Guided,
    refused: AtomicU8,
    /// The JSON schema of an answer.
    schema: String,
    longest: usize,
}

impl Terms {
    pub(super) fn new(guided: Guided, labels: &[Arc<str>]) -> Self {
        let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
        let schema = json!({
            "type": "object",
            "properties": {"route": {"type": "string", "enum": labels}},
            "required": ["route"],
            "additionalProperties": false,
        });
        let longest = labels.iter().map(|label| label.len()).max().unwrap_or(0);
        Self { guided, refused: AtomicU8::new(0), schema: schema.to_string(), longest }
    }

    /// What to ask for now.
    pub(super) fn offer(&self) -> Offer {
        self.without(self.refused.load(Relaxed))
    }

    fn without(&self, refused: u8) -> Offer {
        let (json_schema, guided_json) = (Extra::JsonSchema.bit(), Extra::GuidedJson.bit());
        let (guided, fixed) = match self.guided {
            Guided::Auto if refused & json_schema == 0 => (json_schema, 0),
            Guided::Auto => (guided_json, 0),
            Guided::JsonSchema => (json_schema, json_schema),
            Guided::GuidedJson => (guided_json, guided_json),
            Guided::Off => (0, 0),
        };
        let all = Extra::Template.bit() | Extra::Logprobs.bit() | guided;
        Offer { asked: all & !(refused & !fixed), fixed }
    }

    /// What to ask for instead, when a server refused `offer` with this message (in lower case), and what is given up;
    /// `None` when it must have been something else.
    pub(super) fn less(&self, offer: Offer, message: &str) -> Option<(Offer, Extra)> {
        if TOO_LONG.iter().any(|words| message.contains(words)) {
            return None;
        }
        let may = |extra: &Extra| offer.has(*extra) && offer.fixed & extra.bit() == 0;
        let named = |extra: &Extra| extra.names().iter().any(|name| message.contains(name));
        let extra = Extra::ALL
            .into_iter()
            .find(|extra| may(extra) && named(extra))
            .or_else(|| Extra::ALL.into_iter().find(may))?;
        // `guided_json` comes in only where `response_format` goes.
        let kept =
            |extra: Extra| offer.has(extra) || extra == Extra::GuidedJson && offer.has(Extra::JsonSchema);
        let gone = Extra::ALL.into_iter().filter(|extra| !kept(*extra));
        let refused = gone.fold(extra.bit(), |gone, extra| gone | extra.bit());
        Some((self.without(refused), extra))
    }

    /// A server took what is left after these were given up: they are not asked for again.
    pub(super) fn learn(&self, given_up: &[Extra]) {
        let bits = given_up.iter().fold(0, |bits, extra| bits | extra.bit());
        if bits != 0 {
            self.refused.fetch_or(bits, Relaxed);
        }
    }

    /// The request's body. `question` is plain text.
    pub(super) fn body(&self, model: &str, question: &str, offer: Offer) -> String {
        let guided = offer.guided() != "off";
        let tokens = if guided { GUIDED_TOKENS } else { FREE_TOKENS }.max(self.longest + FRAME_TOKENS);
        let (model, question) = (serde_json::Value::from(model), serde_json::Value::from(question));
        let mut body = format!(
            "{{\"model\":{model},\"messages\":[{{\"role\":\"user\",\"content\":{question}}}],\"temperature\":0,\
             \"max_tokens\":{tokens},\"stream\":false"
        );
        // Writing to a string cannot fail.
        if offer.has(Extra::Logprobs) {
            let _ = write!(body, ",\"logprobs\":true,\"top_logprobs\":{TOP_LOGPROBS}");
        }
        if offer.has(Extra::JsonSchema) {
            let schema = &self.schema;
            let _ = write!(
                body,
                ",\"response_format\":{{\"type\":\"json_schema\",\"json_schema\":{{\"name\":\"route\",\
                 \"strict\":true,\"schema\":{schema}}}}}"
            );
        }
        if offer.has(Extra::GuidedJson) {
            let _ = write!(body, ",\"guided_json\":{}", self.schema);
        }
        if offer.has(Extra::Template) {
            body.push_str(",\"chat_template_kwargs\":{\"enable_thinking\":false}");
        }
        body.push('}');
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn terms(guided: Guided) -> Terms {
        Terms::new(guided, &["a".into(), "it's \"b\"".into()])
    }

    fn keys(terms: &Terms, offer: Offer) -> Vec<String> {
        let body: Value = serde_json::from_str(&terms.body("m\"", "q\n", offer)).unwrap();
        assert_eq!((&body["model"], &body["messages"][0]["content"]), (&json!("m\""), &json!("q\n")));
        assert_eq!((&body["temperature"], &body["stream"]), (&json!(0), &json!(false)));
        let known = ["model", "messages", "temperature", "max_tokens", "stream", "top_logprobs"];
        body.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).cloned().collect()
    }

    #[test]
    fn all_is_asked_for_at_first_and_the_schema_lists_the_labels() {
        let terms = terms(Guided::Auto);
        assert_eq!(keys(&terms, terms.offer()), ["chat_template_kwargs", "logprobs", "response_format"]);
        let body: Value = serde_json::from_str(&terms.body("m", "q", terms.offer())).unwrap();
        let schema = &body["response_format"]["json_schema"]["schema"];
        assert_eq!(schema["properties"]["route"]["enum"], json!(["a", "it's \"b\""]));
        assert_eq!(body["max_tokens"], 32);
        let long = Terms::new(Guided::Off, &["n".repeat(64).into()]);
        let body: Value = serde_json::from_str(&long.body("m", "q", long.offer())).unwrap();
        assert_eq!((body["max_tokens"].as_u64(), body.get("response_format")), (Some(76), None));
    }

    #[test]
    fn what_the_server_names_is_given_up_and_only_that() {
        let terms = terms(Guided::Auto);
        let (offer, gone) = terms.less(terms.offer(), "unknown field 'response_format'").unwrap();
        assert_eq!((gone, offer.guided()), (Extra::JsonSchema, "guided_json"));
        let (offer, gone) = terms.less(offer, "no guided decoding here").unwrap();
        assert_eq!((gone, offer.guided()), (Extra::GuidedJson, "off"));
        assert!(offer.has(Extra::Template) && offer.has(Extra::Logprobs));
        terms.learn(&[Extra::JsonSchema, Extra::GuidedJson]);
        assert_eq!(terms.offer(), offer);
        let (offer, gone) = terms.less(offer, "top_logprobs is too much").unwrap();
        assert_eq!((gone, keys(&terms, offer)), (Extra::Logprobs, vec!["chat_template_kwargs".to_owned()]));
    }

    #[test]
    fn a_server_that_says_nothing_is_asked_for_less_until_nothing_is_left() {
        let terms = terms(Guided::Auto);
        let (mut offer, mut order) = (terms.offer(), Vec::new());
        while let Some((less, gone)) = terms.less(offer, "bad request") {
            (offer, order) = (less, [order, vec![gone.as_str()]].concat());
        }
        assert_eq!(order, ["template", "json_schema", "guided_json", "logprobs"]);
        assert_eq!(keys(&terms, offer), Vec::<String>::new());
        assert_eq!(terms.offer(), terms.without(0), "nothing is learnt before something succeeds");
    }

    #[test]
    fn what_the_user_insists_on_is_not_given_up() {
        let terms = terms(Guided::GuidedJson);
        let (offer, gone) = terms.less(terms.offer(), "guided_json").unwrap();
        assert_eq!((gone, offer.guided()), (Extra::Template, "guided_json"));
        let (offer, _) = terms.less(offer, "guided_json").unwrap();
        assert_eq!(terms.less(offer, "guided_json"), None);
        assert_eq!(terms.less(terms.offer(), "maximum context length is 2048"), None);
    }
}
