//! `--jsonl`: an object in, an object out, line by line.
//!
//! Reads `{"text": …}`, or the body of a chat request with the same split into focus and context as the gateway. Holds
//! one line at a time; flushes whenever the input has to be waited for. Called by `classify`.

use std::io::{self, BufReader, BufWriter, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use waypost_classify::{Builtin, Cascade, Engine, Prompt};
use waypost_router::PromptText;
use waypost_wire::RequestView;

use super::answer::{Answer, Answers};
use super::{MAX_INPUT_BYTES, builtins};
use crate::data::not_json;
use crate::error::Error;
use crate::lines::{self, Line};
use crate::opened::Opened;

/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BUFFER_BYTES: usize = 64 * 1024;

/// The fields that say which kind of object a line is.
#[derive(serde::Deserialize)]
struct Kind<'a> {
    text: Option<Value>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    /// From 1.
    line: usize,
}

/// Answers every line with one classifier.
pub(super) fn one(opened: &Opened) -> Result<(), Error> {
    let mut cascade = Cascade::new(opened.base());
    stream(|text, out| {
        let verdict = cascade.classify(opened.model(), &prompt(text))?;
        write(out, &Answer::new(opened.model(), &verdict))
    })
}

/// Answers every line with all built-in classifiers.
pub(super) fn all(engine: &Engine) -> Result<(), Error> {
    let (mut cascade, models) = (Cascade::new(engine), builtins(engine));
    stream(|text, out| {
        let verdicts = cascade.classify_all(&models, &prompt(text))?;
        let answers = Builtin::ALL.into_iter().zip(&verdicts);
        write(
            out,
            &Answers(answers.map(|(b, verdict)| (b, Answer::new(engine.builtin(b), verdict))).collect()),
        )
    })
}

fn prompt(text: &PromptText) -> Prompt<'_> {
    Prompt { focus: &text.focus, context: &text.context }
}

pub(super) fn write(out: &mut impl Write, object: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(&mut *out, object).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Hands every line's text to `answer`; a bad line is answered with its error.
pub(super) fn stream(
    mut answer: impl FnMut(&PromptText, &mut BufWriter<io::StdoutLock<'static>>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let mut line = Vec::new();
    let (mut number, mut bad) = (0, 0);
    loop {
        if !input.buffer().contains(&b'\n') {
            // The next line may be long in coming; whoever sent the last ones has their answers.
            out.flush()?;
        }
        number += 1;
        let text = match lines::next(&mut input, MAX_INPUT_BYTES, &mut line)? {
            Line::End => break,
            Line::TooLong => Err(format!("longer than {MAX_INPUT_BYTES} bytes")),
            Line::Whole if line.trim_ascii().is_empty() => continue,
            Line::Whole => {
                read(if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line })
            }
        };
        match text {
            Ok(text) => answer(&text, &mut out)?,
            Err(error) => {
                bad += 1;
                write(&mut out, &Failure { error: &error, line: number })?;
            }
        }
    }
    out.flush()?;
    match bad {
        0 => Ok(()),
        1 => Err(Error::Data("one line could not be read; its answer says why".to_owned())),
        _ => Err(Error::Data(format!("{bad} lines could not be read; their answers say why"))),
    }
}

fn read(line: &[u8]) -> Result<PromptText, String> {
    if !line.trim_ascii_start().starts_with(b"{") {
        // A list would pass for the fields in their order.
        return Err("not a JSON object".to_owned());
    }
    let kind: Kind<'_> = serde_json::from_slice(line).map_err(|error| not_json(&error))?;
    match kind {
        Kind { text: Some(Value::String(focus)), .. } => Ok(PromptText { focus, context: String::new() }),
        Kind { messages: Some(_), .. } => {
            let view = RequestView::parse(line).map_err(|error| error.message)?;
            Ok(PromptText::of(&view, false))
        }
        Kind { text: Some(_), .. } => Err("'text' is not a string".to_owned()),
        Kind { .. } => Err("neither 'text' nor 'messages'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_conversations_are_read_and_the_rest_is_refused_by_name() {
        let focus = |line: &str| read(line.as_bytes()).map(|text| (text.focus, text.context));
        let own = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(focus(r#"{"text":"hi \"you\"","more":1}"#), own("hi \"you\"", ""));
        let talk = r#"{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]}"#;
        assert_eq!(focus(talk), own("hi", "be kind"));
        assert_eq!(
            focus(r#"{"text":{"format":1},"messages":[{"role":"user","content":"x"}]}"#),
            own("x", "")
        );
        for (bad, wanted) in [
            ("{}", "neither"),
            (r#"{"text":5}"#, "not a string"),
            ("nonsense", "not a JSON object"),
            (r#"{"text":"x"} y"#, "not JSON: trailing characters at column 14"),
            ("[\"x\",null]", "not a JSON object"),
            (r#"{"messages":"x"}"#, "messages"),
        ] {
            let error = focus(bad).unwrap_err();
            assert!(error.contains(wanted), "{bad}: {error}");
        }
    }
}
