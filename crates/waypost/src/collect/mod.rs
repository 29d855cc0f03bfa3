//! `waypost collect`: several models answer the same prompts, and their answers are scored, for `train --outcomes`.
//!
//! Questions are asked several at once; rows are written as answers come. A model that fails is not wrong: its rows are
//! left out and counted. Called by `main`.

mod ask;
mod judge;
mod prompts;
mod rows;
mod score;
mod tally;

use crate::cli::Collect;
use crate::error::Error;
use crate::print;
use ask::{Answer, Asked, Terms};
use prompts::{Prompt, Prompts, Scoring};
use rows::{BY_ANSWER, BY_OWN_REGEX, Row, Rows};
use std::hash::{Hash, Hasher};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::task::JoinSet;
use waypost_config::Snapshot;

/// A model that fails so often one after another is not asked any more.
const FAILURES_IN_A_ROW: u64 = 20;
/// Most tokens of a judge's reply: one word, and the thoughts of those that think aloud.
const JUDGE_TOKENS: u32 = 2048;
/// How often a person is told how far it is.
const TELL_TERMINAL: Duration = Duration::from_secs(1);
const TELL_FILE: Duration = Duration::from_secs(15);

/// A prompt for one model.
#[derive(Debug, Clone)]
struct Task {
    prompt: Arc<Prompt>,
    model: usize,
}

/// What became of it.
enum Outcome {
    Scored(f64, Answer),
    Failed(String),
    /// The judge said neither yes nor no, or failed.
    Unjudged,
}

/// Whom to ask, and how.
#[derive(Debug)]
struct Panel {
    models: Vec<Asked>,
    judge: Option<Asked>,
    terms: Terms,
    /// How answers are scored, where a prompt does not say it itself: in the words of a row.
    scored_by: String,
}

pub(crate) fn run(options: &Collect) -> Result<(), Error> {
    let snapshot = waypost_config::load_file(&options.config)?;
    let panel = Arc::new(panel(&snapshot, options)?);
    let prompts = Prompts::read(
        &options.prompts,
        options.prompt_field.as_deref(),
        &options.answer_field,
        options.regex.as_deref(),
    )?;
    let mut tally = Tally::new(&panel.models);
    let mut rows = Rows::open(&options.out, &panel.scored_by, |row| tally.row(row))?;
    let mut err = std::io::stderr();
    write!(err, "{}", prompts.left_out.shown())?;
    let tasks = tasks(prompts.rows, &panel, &rows);
    let known = tally.rows();
    if known > 0 {
        writeln!(err, "{known} rows are in {} already", options.out.display())?;
    }
    if rows.unsaid() > 0 {
        writeln!(err, "{} of them do not say how they were scored", rows.unsaid())?;
    }
    let finished = crate::serve::runtime()?.block_on(ask_all(
        &panel,
        tasks,
        usize::from(options.concurrency),
        &mut rows,
        &mut tally,
    ))?;
    print(&tally.shown())?;
    let failed = tally.failed();
    match (finished, failed) {
        (false, _) => Err(Error::Data("stopped; run the command again to go on".to_owned())),
        (true, 0) => Ok(()),
        (true, 1) => {
            Err(Error::Data("one answer failed; run the command again to ask for it anew".to_owned()))
        }
        (true, n) => {
            Err(Error::Data(format!("{n} answers failed; run the command again to ask for them anew")))
        }
    }
}

/// The models that are asked, and the judge, who must not be one of them.
fn panel(snapshot: &Snapshot, options: &Collect) -> Result<Panel, Error> {
    let model = |name: &String| {
        let known = || snapshot.models.iter().map(|model| &*model.name).collect::<Vec<_>>().join(", ");
        let found = snapshot.model(name).map(|index| snapshot.models[index].clone());
        found.ok_or_else(|| {
            Error::Usage(format!("no model '{name}' in this configuration; it has {}", known()))
        })
    };
    let mut models: Vec<Asked> = Vec::new();
    for name in &options.models {
        if models.iter().any(|asked| *asked.model.name == **name) {
            return Err(Error::Usage(format!("--models names '{name}' twice")));
        }
        models.push(Asked::new(model(name)?));
    }
    let judge = options.judge.as_ref().map(model).transpose()?;
    if let Some(judge) = &judge
        && let Some(same) = models.iter().find(|asked| asked.model.upstream_id == judge.upstream_id)
    {
        return Err(Error::Usage(format!(
            "the judge '{}' is the contestant '{}': nobody judges himself",
            judge.name, same.model.name
        )));
    }
    let terms = Terms { max_tokens: options.max_tokens, temperature: options.temperature };
    let scored_by = match (&options.judge, &options.regex) {
        (Some(judge), _) => rows::by_judge(judge),
        (None, Some(regex)) => rows::by_regex(regex),
        (None, None) => BY_ANSWER.to_owned(),
    };
    Ok(Panel { models, judge: judge.map(Asked::new), terms, scored_by })
}

/// What is not in the file yet: prompt by prompt, so that a file that is not complete holds whole comparisons.
fn tasks(prompts: Vec<Prompt>, panel: &Panel, rows: &Rows) -> Vec<Task> {
    let mut tasks = Vec::new();
    for prompt in prompts.into_iter().map(Arc::new) {
        for (model, asked) in panel.models.iter().enumerate() {
            if !rows.has(&asked.model.name, &prompt.text) {
                tasks.push(Task { prompt: Arc::clone(&prompt), model });
            }
        }
    }
    tasks
}

/// Asks until all is asked, or until it is stopped: then false.
async fn ask_all(
    panel: &Arc<Panel>,
    tasks: Vec<Task>,
    at_once: usize,
    rows: &mut Rows,
    tally: &mut Tally,
) -> Result<bool, Error> {
    let mut stop = std::pin::pin!(crate::serve::stop_signal());
    let mut progress = Progress::new(tasks.len());
    let mut tasks = tasks.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < at_once
            && let Some(task) = tasks.next()
        {
            if tally.failing(task.model) >= FAILURES_IN_A_ROW {
                tally.given_up(task.model);
                progress.done += 1;
                continue;
            }
            let panel = Arc::clone(panel);
            under_way.spawn(async move {
                let outcome = one(&panel, &task).await;
                (task, outcome)
            });
        }
        tokio::select! {
            stopped = &mut stop => {
                stopped?;
                progress.end()?;
                return Ok(false);
            }
            ended = under_way.join_next() => {
                let Some(ended) = ended else { break };
                let (task, outcome) = ended.map_err(|error| Error::Internal(format!("asking broke: {error}")))?;
                note(panel, &task, &outcome, rows, tally)?;
                progress.step(tally.failed())?;
            }
        }
    }
    progress.end()?;
    Ok(true)
}

async fn one(panel: &Panel, task: &Task) -> Outcome {
    let asked = &panel.models[task.model];
    let answer = match asked.ask(&task.prompt.text, panel.terms).await {
        Ok(answer) => answer,
        Err(reason) => return Outcome::Failed(reason),
    };
    let right = match (&task.prompt.scoring, &panel.judge) {
        (Scoring::Regex(regex) | Scoring::OwnRegex(regex), _) => {
            Some(regex.is_match(score::said(&answer.text)))
        }
        (Scoring::Answer(reference), None) => Some(score::is_right(reference, &answer.text)),
        (Scoring::Answer(reference), Some(judge)) => {
            let question = judge::question(&task.prompt.text, reference, &answer.text);
            let terms = Terms { max_tokens: JUDGE_TOKENS, temperature: 0.0 };
            let reply = judge.ask(&question, terms).await;
            reply.ok().and_then(|reply| judge::verdict(&reply.text))
        }
    };
    right.map_or(Outcome::Unjudged, |right| Outcome::Scored(f64::from(u8::from(right)), answer))
}

fn note(
    panel: &Panel,
    task: &Task,
    outcome: &Outcome,
    rows: &mut Rows,
    tally: &mut Tally,
) -> Result<(), Error> {
    match outcome {
        Outcome::Failed(reason) => tally.failure(task.model, reason),
        Outcome::Unjudged => tally.unjudged(task.model),
        Outcome::Scored(score, answer) => {
            let scored_by = match &task.prompt.scoring {
                Scoring::OwnRegex(_) => BY_OWN_REGEX,
                Scoring::Regex(_) | Scoring::Answer(_) => &panel.scored_by,
            };
            let row = Row {
                prompt: task.prompt.text.as_str().into(),
                model: (*panel.models[task.model].model.name).into(),
                score: *score,
                scored_by: Some(scored_by.into()),
                prompt_tokens: answer.prompt_tokens,
                completion_tokens: answer.completion_tokens,
                latency_ms: Some((answer.latency_ms * 1e3).round() / 1e3),
                source: task.prompt.source.as_deref().map(Into::into),
            };
            rows.append(&row)?;
            tally.row(&row);
            tally.answered(task.model, answer.cut);
        }
    }
    Ok(())
}

/// A model and a prompt, as one number.
fn key(model: &str, prompt: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (model, prompt).hash(&mut hasher);
    hasher.finish()
}

/// How far it is, on standard error.
#[derive(Debug)]
struct Progress {
    wanted: usize,
    done: usize,
    begun: Instant,
    told: Instant,
    every: Duration,
    terminal: bool,
}

impl Progress {
    fn new(wanted: usize) -> Self {
        let (now, terminal) = (Instant::now(), std::io::stderr().is_terminal());
        let every = if terminal { TELL_TERMINAL } else { TELL_FILE };
        Self { wanted, done: 0, begun: now, told: now, every, terminal }
    }

    fn step(&mut self, failed: u64) -> Result<(), Error> {
        self.done += 1;
        if self.told.elapsed() < self.every {
            return Ok(());
        }
        self.told = Instant::now();
        let rate = self.done as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
        let (start, end) = if self.terminal { ("\r", "   ") } else { ("", "\n") };
        let text = format!(
            "{start}{} of {} asked, {failed} failed, {rate:.1} a second{end}",
            self.done, self.wanted
        );
        Ok(std::io::stderr().write_all(text.as_bytes())?)
    }

    fn end(&self) -> Result<(), Error> {
        let done =
            format!("{}{} of {} asked\n", if self.terminal { "\r" } else { "" }, self.done, self.wanted);
        Ok(std::io::stderr().write_all(done.as_bytes())?)
    }
}
