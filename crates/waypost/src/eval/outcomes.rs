//! `waypost eval --outcomes`: how good a folder of learnt outcomes is on rows of outcomes.
//!
//! Every decision is made on its own and timed, warm, on one core, with the encoder and without. Called by `eval`.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use waypost_classify::encoder::Session;
use waypost_classify::outcomes::{Expected, OutcomeModel, stem};
use waypost_classify::{Engine, Prompt};

use super::note;
use super::report::percentiles;
use crate::cli::Eval;
use crate::error::Error;
use crate::outcomes::{Asked, Fields, MODEL_FIELD, Measured, Sheet, picture, prices_for, shown};

/// Prompts decided before the clock counts.
const WARM_UP: usize = 50;
/// Of the intervals' resamples: the same file gives the same figures.
const SEED: u64 = 2026;

/// How one tier did.
struct Tier {
    measured: Measured,
    p50_us: f64,
    p99_us: f64,
}

pub(super) fn run(options: &Eval, folder: &Path) -> Result<(), Error> {
    let engine = Engine::embedded()?;
    let model = waypost_router::read_outcomes(&engine, folder)?;
    let [file] = &options.data[..] else {
        return Err(Error::Usage("--outcomes is judged on one file".to_owned()));
    };
    let of_file = |what: String| Error::Data(format!("{}: {what}", file.display()));
    let fields = Fields {
        prompt: options.outcome.prompt_field.as_deref(),
        model: options.outcome.model_field.as_deref().unwrap_or(MODEL_FIELD),
        score: options.outcome.score_field.as_deref(),
        source: None,
    };
    let sheet = Sheet::read(file, fields)?;
    note(&sheet.left_out.shown());
    let models: Vec<String> = model.models().iter().map(|name| name.to_string()).collect();
    let prices = prices_for(&models, &options.outcome.prices, options.outcome.config.as_deref())?;
    let (outcomes, prompts) = sheet.outcomes(&models).map_err(of_file)?;
    let asked = Asked { sheet: &sheet, outcomes: &outcomes, prompts: &prompts, prices: prices.as_deref() };
    let rows = asked.complete(&(0..outcomes.len()).collect::<Vec<_>>());
    if rows.is_empty() {
        return Err(of_file("no prompt has an outcome of every model of the folder".to_owned()));
    }
    let others = sheet.models().len() - models.len();
    if others > 0 {
        note(&format!("{others} models of the data are not among the folder's and count for nothing\n"));
    }
    if rows.len() < sheet.prompts.len() {
        note(&format!(
            "{} of {} prompts have every outcome and are judged by\n",
            rows.len(),
            sheet.prompts.len()
        ));
    }
    let tier0 = decide(&engine, &model, asked, &rows, false)?;
    let tier1 = model.branch().map(|_| decide(&engine, &model, asked, &rows, true)).transpose()?;
    let answers = tier1.as_ref().unwrap_or(&tier0);
    if let Some(out) = &options.out {
        std::fs::create_dir_all(out).map_err(|source| Error::File { path: out.clone(), source })?;
        let path = out.join("curve.svg");
        let title = folder.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(&path, picture(&title, &answers.measured))
            .map_err(|source| Error::File { path, source })?;
    }
    if options.json {
        let shown =
            |tier: &Tier| json!({"measured": tier.measured, "p50_us": tier.p50_us, "p99_us": tier.p99_us});
        let object = json!({
            "n": rows.len(), "skipped": sheet.left_out.rows, "advice": model.advice(), "parts": model.parts(),
            "tier0": shown(&tier0), "tier1": tier1.as_ref().map(shown),
        });
        return crate::print(&format!("{object}\n"));
    }
    let mut out = format!("{}\n\n", model.advice());
    for (name, tier) in [("without the encoder", Some(&tier0)), ("with the encoder", tier1.as_ref())] {
        if let Some(Tier { measured, p50_us, p99_us }) = tier {
            let count = measured.n;
            out += &format!(
                "{count} prompts, {name}; a decision takes {p50_us:.0} us (p99 {p99_us:.0})\n\n{}\n",
                shown(measured)
            );
        }
    }
    crate::print(&out)
}
fn decide(
    engine: &Engine,
    model: &OutcomeModel,
    asked: Asked<'_>,
    rows: &[usize],
    encoder: bool,
) -> Result<Tier, Error> {
    let branch = model.branch().filter(|_| encoder);
    let mut session = branch.map(|_| Session::new(engine.encoder().clone())).transpose()?;
    let mut micros: Vec<f64> = Vec::with_capacity(rows.len());
    let mut expect = |row: usize| -> Result<Vec<Expected>, Error> {
        let prompt = Prompt { focus: asked.text(row), context: "" };
        let begun = Instant::now();
        let signals = model.signals(engine, &prompt);
        let encoding = match (branch, &mut session) {
            (Some(branch), Some(session)) => Some(session.encode(stem(prompt.focus), branch)?),
            _ => None,
        };
        let expected = model.expect(&signals, encoding.as_ref());
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        Ok(expected)
    };
    for &row in rows.iter().take(WARM_UP) {
        expect(row)?;
    }
    let judged = asked.judge(model, rows, &mut expect)?;
    let [p50_us, p99_us] = percentiles(micros.split_off(rows.len().min(WARM_UP)));
    Ok(Tier { measured: judged.measure(SEED), p50_us, p99_us })
}
