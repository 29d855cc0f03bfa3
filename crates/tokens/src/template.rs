//! Chat templates, rendered as Hugging Face and vLLM render them.
//!
//! Jinja with trimmed blocks, Python's string methods, `raise_exception`, `strftime_now`, `tojson` and loop
//! controls; `generation` blocks render as what they hold. Steps, nesting and output are bounded. It never
//! loads a file. Called by the tokenizer.

use crate::error::Error;
use crate::python;
use crate::request::{ChatRequest, ContentFormat, ValueMap};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Most steps of the template engine for one prompt, a fraction of a second; a message takes about a hundred.
const MAX_STEPS: u64 = 4_000_000;
/// Deepest nesting of macros.
const MAX_RECURSION: usize = 100;
/// Longest text that is encoded, in bytes: two million tokens or so.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Stands after the final message while `continue_final_message` renders. Ends in a space, so that one
/// sees whether the template trims.
const CONTINUE_TAG: &str = "WAYPOST_CONTINUES_HERE ";

/// The chat templates of one model.
pub(crate) struct Templates {
    environment: Environment<'static>,
    specials: Vec<(Value, Value)>,
    format: ContentFormat,
}

impl Templates {
    /// Compiles all of `sources`; `None` when there are none.
    pub(crate) fn new(
        sources: BTreeMap<String, String>,
        specials: Vec<(String, Value)>,
        file: &str,
    ) -> Result<Option<Self>, Error> {
        if sources.is_empty() {
            return Ok(None);
        }
        let wrong = |what: String| Error::File { file: file.to_owned(), what };
        let mut environment = environment().map_err(|e| wrong(e.to_string()))?;
        for (name, source) in sources {
            let source = plain_generation_blocks(&source).map_err(|e| wrong(e.to_string()))?;
            let named = format!("chat template '{name}'");
            environment
                .add_template_owned(name, source)
                .map_err(|e| wrong(format!("{named} does not parse: {e}")))?;
        }
        environment
            .get_template("default")
            .map_err(|_| wrong("no chat template named 'default'".to_owned()))?;
        let specials = specials.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
        let mut templates = Self { environment, specials, format: ContentFormat::Text };
        templates.format = templates.detect();
        Ok(Some(templates))
    }

    /// The prompt of `request`, of its conversation up to the media `until` if one is given, and the hashes
    /// of the media in it.
    pub(crate) fn render(
        &self,
        request: &ChatRequest<'_>,
        until: Option<usize>,
    ) -> Result<(String, Vec<u64>), Error> {
        let (mut messages, media) = request.conversation(self.format, until)?;
        let continues = until.is_none() && request.continues()?;
        if continues {
            let last = messages.pop().unwrap_or_default();
            messages.push(tagged(&last)?);
        }
        let mut variables = ValueMap::default();
        variables.extend(self.specials.iter().cloned());
        variables.extend(request.variables()?);
        let add = until.is_none() && request.adds_generation_prompt() && !continues;
        variables.insert(Value::from("add_generation_prompt"), Value::from(add));
        variables.insert(Value::from("messages"), messages.into_iter().collect());
        let with_tools = request.has_tools() && self.environment.get_template("tool_use").is_ok();
        let name = if with_tools { "tool_use" } else { "default" };
        let mut text = self.run(name, Value::from_object(variables))?;
        if continues {
            cut_at_tag(&mut text)?;
        }
        Ok((text, media))
    }

    fn run(&self, name: &str, variables: Value) -> Result<String, Error> {
        let broken = |e: minijinja::Error| Error::Tokenizer(e.to_string());
        let template = self.environment.get_template(name).map_err(broken)?;
        let mut out = Bounded(Vec::new());
        let result = template.render_captured_to(variables, &mut out);
        if let Err(e) = result {
            if out.0.len() > MAX_TEXT_BYTES || e.kind() == ErrorKind::OutOfFuel {
                return Err(Error::TooLong { what: "the templated prompt", limit: MAX_TEXT_BYTES });
            }
            return Err(Error::request(e));
        }
        String::from_utf8(out.0).map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// Whether the template walks over the parts of a content: with one text part, it must print what it
    /// prints for that text alone. One role in which it does is enough, as for vLLM.
    fn detect(&self) -> ContentFormat {
        const PROBE: &str = "waypostprobe";
        let part = [("type", "text"), ("text", PROBE)].map(|(k, v)| (Value::from(k), Value::from(v)));
        let parts: Value = [Value::from_object(ValueMap::from_iter(part))].into_iter().collect();
        let message = |role: &str, content: Value| {
            let fields = [("role", Value::from(role)), ("content", content)];
            Value::from_object(ValueMap::from_iter(fields.map(|(k, v)| (Value::from(k), v))))
        };
        let render = |conversation: Vec<Value>| {
            let mut variables = ValueMap::from_iter(self.specials.iter().cloned());
            variables.insert(Value::from("messages"), conversation.into_iter().collect());
            variables.insert(Value::from("add_generation_prompt"), Value::from(true));
            variables.insert(Value::from("tools"), Value::from(()));
            variables.insert(Value::from("documents"), Value::from(()));
            self.run("default", Value::from_object(variables)).ok()
        };
        let walks = |before: &[&str], role: &str| {
            let with = |content: &Value| {
                let said = before.iter().map(|role| message(role, Value::from("x")));
                render(said.chain([message(role, content.clone())]).collect())
            };
            let (plain, walked) = (with(&Value::from(PROBE)), with(&parts));
            walked.is_some() && plain == walked && plain.is_some_and(|text| text.contains(PROBE))
        };
        let any = walks(&[], "user")
            || walks(&[], "system")
            || walks(&["user"], "assistant")
            || walks(&["user", "assistant"], "tool");
        if any { ContentFormat::Parts } else { ContentFormat::Text }
    }
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| python::print(out, value));
    environment.add_filter("tojson", |value: Value, options| python::tojson(&value, options));
    environment.add_function("strftime_now", |format: String| python::strftime_now(&format));
    environment.add_function("raise_exception", |what: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
    });
    Ok(environment)
}

/// `{% generation %}` marks what a model said, for training. A `with` block has its scope and its output.
fn plain_generation_blocks(source: &str) -> Result<String, regex::Error> {
    let open = regex::Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}")?;
    let close = regex::Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}")?;
    let opened = open.replace_all(source, "{%$1 with generation=none $2%}");
    Ok(close.replace_all(&opened, "{%$1 endwith $2%}").into_owned())
}

/// The final message with the tag after its text.
fn tagged(message: &Value) -> Result<Value, Error> {
    let content = message.get_attr("content").map_err(Error::request)?;
    let content = match content.as_str() {
        Some(text) => Value::from(format!("{text}{CONTINUE_TAG}")),
        None => {
            let mut parts: Vec<Value> = content.try_iter().map_err(Error::request)?.collect();
            let last = parts.iter_mut().rev().find_map(|part| {
                let text = part.get_attr("text").ok()?.as_str()?.to_owned();
                Some((part, text))
            });
            let Some((part, text)) = last else {
                return Err(Error::request("the final message has no text to continue"));
            };
            *part = with(part, "text", Value::from(format!("{text}{CONTINUE_TAG}")))?;
            parts.into_iter().collect()
        }
    };
    with(message, "content", content)
}

fn with(map: &Value, name: &str, value: Value) -> Result<Value, Error> {
    let mut fields = ValueMap::default();
    for key in map.try_iter().map_err(Error::request)? {
        let value = map.get_item(&key).map_err(Error::request)?;
        fields.insert(key, value);
    }
    fields.insert(Value::from(name), value);
    Ok(Value::from_object(fields))
}

/// Ends `text` where the final message ends.
fn cut_at_tag(text: &mut String) -> Result<(), Error> {
    let Some(at) = text.rfind(CONTINUE_TAG.trim_end()) else {
        return Err(Error::request("the template does not print the final message"));
    };
    let trims = !text[at..].starts_with(CONTINUE_TAG);
    text.truncate(at);
    if trims {
        text.truncate(text.trim_end().len());
    }
    Ok(())
}

/// Takes no more than [`MAX_TEXT_BYTES`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.len() > MAX_TEXT_BYTES {
            return Err(io::Error::other("the prompt is too long"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
