//! Trains the classifiers that ship inside the binary: `make models` calls it, step by step.
//!
//! `corpus` gathers public and own rows, `export` hands them to `finetune.py`, `validate` measures and calibrates, `train` fits the
//! heads of all built-in classifiers and writes them. Nothing else calls it.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

mod balance;
mod corpus;
mod dev;
mod heads;
mod own;
mod report;
mod roughen;
mod safety_gates;
mod tasks;
mod templates;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use waypost_classify::{Builtin, Error};

const USAGE: &str = "usage: waypost-training export --data DIR --out FILE
       waypost-training export-dev --out FILE
       waypost-training validate --data DIR --models DIR --encoder FILE --gates FILE --without FAMILY,FAMILY
       waypost-training train --data DIR --models DIR --gates FILE";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let option = |name: &str| -> Result<PathBuf, Error> {
        let at = words.iter().position(|w| w == name).and_then(|at| words.get(at + 1));
        at.map(PathBuf::from).ok_or_else(|| Error::Data(USAGE.into()))
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match command.as_str() {
        "export" => export(&corpus::rows(&option("--data")?, here)?, &option("--out")?)?,
        "export-dev" => export(&dev::rows(here)?, &option("--out")?)?,
        "validate" => {
            let without = option("--without")?.display().to_string();
            let without: Vec<&str> = without.split(',').collect();
            let rows = corpus::rows(&option("--data")?, here)?;
            let files = (option("--models")?, option("--encoder")?, option("--gates")?);
            heads::validate(&rows, here, (&files.0, &files.1, &files.2), &without)?;
        }
        "train" => {
            let rows = corpus::rows(&option("--data")?, here)?;
            heads::train(&rows, here, &option("--models")?, &option("--gates")?)?;
        }
        _ => return Err(Error::Data(USAGE.into()).into()),
    }
    Ok(())
}

/// One JSON object a row: text, group, and per classifier label and weight.
fn export(rows: &[corpus::Row], out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let weights = Builtin::ALL.map(|builtin| balance::weights(rows, builtin));
    let mut file = std::io::BufWriter::new(std::fs::File::create(out)?);
    for (at, row) in rows.iter().enumerate() {
        let weights: Vec<f32> = weights.iter().map(|w| w[at]).collect();
        serde_json::to_writer(&mut file, &serde_json::json!({ "row": row, "weights": weights }))?;
        file.write_all(b"\n")?;
    }
    println!("{} rows", rows.len());
    Ok(())
}
