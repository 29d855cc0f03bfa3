//! `waypost epp`: in the place of another endpoint picker, with that one's flags, configuration and environment.
//!
//! They are translated into an ordinary Waypost configuration, and that is served: nothing here runs while requests do.
//! `--print-config` shows the translation and stops. Called by `main`.

mod environment;
mod flags;
mod picker_config;
mod plugins;
mod pool;
mod tree;
mod write;

use crate::error::Error;
use crate::source::Source;
use crate::{print, serve};
use flags::Flags;
use write::Setup;

/// The translation's name in messages.
const MADE: &str = "(made by waypost epp)";

/// What is wrong, and in which line of the configuration; 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    line: u64,
    message: String,
}

impl Fault {
    /// About no line in particular.
    fn new(message: impl Into<String>) -> Self {
        Self { line: 0, message: message.into() }
    }
}

/// A translation, and what a person should know of it.
struct Translated {
    setup: Setup,
    notes: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> Result<(), Error> {
    let flags = Flags::read(args).map_err(Error::Usage)?;
    if flags.has("help") {
        return print(&flags::help());
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (name, text) = config(&flags)?;
    let Translated { setup, notes } = translate(&flags, &text, &env).map_err(|fault| {
        Error::Data(match fault.line {
            0 => fault.message,
            line => format!("{name}:{line}: {}", fault.message),
        })
    })?;
    let text = setup.text().map_err(|fault| Error::Internal(fault.message))?;
    // What does not load is a defect of the translation, or an address that no flag's form told wrong.
    waypost_config::load_str(&text, MADE, &|_| None)?;
    if flags.has("print-config") {
        let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
        return print(&format!("{notes}{text}"));
    }
    serve::run_made(Source::Made(MADE, text), &notes, flags.log_format())
}

/// The `EndpointPickerConfig` with its name in messages; empty where there is none.
fn config(flags: &Flags) -> Result<(String, String), Error> {
    match (flags.value("config-file"), flags.value("config-text")) {
        (Some(_), Some(_)) => {
            Err(Error::Usage("give either --config-file or --config-text, not both".into()))
        }
        (Some(file), None) => Ok((file.to_owned(), waypost_config::read_file(std::path::Path::new(file))?)),
        (None, Some(text)) => Ok(("--config-text".to_owned(), text.to_owned())),
        (None, None) => Ok((String::new(), String::new())),
    }
}

/// Flags first: they say where the pool is. Then what its choice is made of, and what Dynamo's variables change of it.
fn translate(flags: &Flags, config: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Translated, Fault> {
    let (mut setup, mut notes) = (pool::setup(flags, env)?, flags.notes());
    let config = picker_config::read(config)?;
    let part = plugins::apply(&config, flags, &mut setup, &mut notes)?;
    let part = environment::apply(env, flags, part, &mut setup, &mut notes)?;
    pool::finish(flags, part, &mut setup, &mut notes)?;
    Ok(Translated { setup, notes })
}

#[cfg(test)]
mod tests;
