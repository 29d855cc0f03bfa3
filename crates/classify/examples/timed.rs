//! Times what `bench/classify.py` asks for: one command a line on standard input, one line of JSON in answer.
//!
//! A command is `MODE WARM FILE`: FILE holds one text a line, as JSON strings; the first WARM of them are read once
//! before the clock counts. MODE is `tier0` (all four classifiers over one reading), `tier1` (the encoder), a
//! classifier's name or `all` (both tiers as they are served), or `idle`, which opens nothing.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::hint::black_box;
use std::io::BufRead as _;
use std::sync::OnceLock;
use std::time::Instant;

use waypost_classify::encoder::{Branch, Session};
use waypost_classify::{Builtin, Cascade, Engine, Model, Prompt, Tier};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

static ENGINE: OnceLock<Engine> = OnceLock::new();

fn main() -> Fallible<()> {
    for command in std::io::stdin().lock().lines() {
        let command = command?;
        let mut words = command.splitn(3, ' ');
        let (Some(mode), Some(warm), Some(file)) = (words.next(), words.next(), words.next()) else {
            return Err("a command is MODE WARM FILE".into());
        };
        if mode == "idle" {
            println!("{{}}");
            continue;
        }
        let texts: Vec<String> =
            std::fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let (micros, escalated) = time(mode, &texts, warm.parse()?)?;
        println!("{}", serde_json::json!({ "micros": micros, "escalated": escalated }));
    }
    Ok(())
}

/// Microseconds for each text, and for how many of them the encoder answered.
fn time(mode: &str, texts: &[String], warm: usize) -> Fallible<(Vec<f64>, usize)> {
    let engine = match ENGINE.get() {
        Some(engine) => engine,
        None => {
            let engine = Engine::embedded()?;
            ENGINE.get_or_init(|| engine)
        }
    };
    let mut cascade = Cascade::new(engine);
    let all: Vec<&Model> = Builtin::ALL.iter().map(|name| &**engine.builtin(*name)).collect();
    let mut session = None;
    // Whether the encoder was asked.
    let mut run = |text: &str| -> Fallible<bool> {
        let prompt = Prompt { focus: text, context: "" };
        let verdicts = match mode {
            "tier0" => {
                engine.read(&prompt, |reading| all.iter().map(|model| model.judge(&reading)).collect())
            }
            "tier1" => {
                let session = match &mut session {
                    Some(session) => session,
                    None => session.insert(Session::new(engine.encoder().clone())?),
                };
                black_box(session.encode(text, Branch::Prompt)?);
                return Ok(true);
            }
            "all" => cascade.classify_all(&all, &prompt)?,
            name => {
                let model = all.iter().find(|model| model.name() == name).ok_or("no such mode")?;
                vec![cascade.classify(model, &prompt)?]
            }
        };
        Ok(black_box(verdicts).iter().any(|verdict| verdict.tier == Tier::Encoder))
    };
    for text in texts.iter().take(warm) {
        run(text)?;
    }
    let (mut micros, mut escalated) = (Vec::with_capacity(texts.len()), 0);
    for text in texts {
        let begun = Instant::now();
        let asked = run(text)?;
        micros.push(begun.elapsed().as_nanos() as f64 / 1e3);
        escalated += usize::from(asked);
    }
    Ok((micros, escalated))
}
