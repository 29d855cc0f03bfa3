//! Trains the tagger of `crates/classify/src/pii` and measures the detector.
//!
//! `train` writes `models/pii.safetensors` and prints held-out figures first; `measure` only measures an existing file;
//! `speed` times it; `show` prints the spans of standard input.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

mod crf;
#[path = "../../../crates/classify/src/error.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the classifier's own sources, of which only a part is used here"
)]
mod error;
mod evaluate;
mod example;
mod generate;
#[path = "../../../crates/classify/src/hash.rs"]
mod hash;
mod lists;
#[path = "../../../crates/classify/src/model_file.rs"]
#[allow(dead_code, reason = "the classifier's own sources, of which only a part is used here")]
mod model_file;
#[path = "../../../crates/classify/src/pii/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the classifier's own sources, of which only a part is used here"
)]
mod pii;
mod places;
mod public;
mod rng;
mod values;
mod write;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use error::Error;
use example::Example;
use lists::Lists;
use pii::Detector;
use pii::lexicon::Lexicon;
use rng::Rng;

const USAGE: &str = "usage: waypost-pii-training train --data DIR --out FILE [--dev DIR] [--errors]
       waypost-pii-training measure --data DIR --model FILE [--dev DIR]
       waypost-pii-training speed --model FILE
       waypost-pii-training show --model FILE < text";
const SEED: u64 = 20_261_121;
/// How often a template is filled.
const FILLS: usize = 60;
/// How often a public row is taken, since there are few.
const PUBLIC_COPIES: usize = 3;
const HARMLESS: usize = 7_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let option =
        |name: &str| words.iter().position(|w| w == name).and_then(|at| words.get(at + 1)).map(PathBuf::from);
    let needed = |name: &str| option(name).ok_or_else(|| Error::Data(USAGE.into()));
    match command.as_str() {
        "train" => {
            let data = needed("--data")?;
            let out = needed("--out")?;
            let prompts = public::prompts(&data)?;
            let lists = Lists::read(&prompts)?;
            let records = lists.records();
            let lexicon = Lexicon::new(&records);
            let examples = examples(&data, &prompts, &lists, &lexicon)?;
            let kept: Vec<Example> = examples.iter().filter(|e| !e.is_held_out()).cloned().collect();
            println!("fitting without the held-out templates: {} of {} texts", kept.len(), examples.len());
            let detector = packed(&kept, &lexicon, &records)?;
            let detector = open(&detector)?;
            measure(&detector, &examples, option("--dev").as_deref())?;
            if words.iter().any(|w| w == "--errors") {
                evaluate::errors(&detector, &examples.iter().filter(|e| e.is_held_out()).collect::<Vec<_>>());
                return Ok(());
            }
            println!("\nfitting to all templates: {} texts", examples.len());
            let all = packed(&examples, &lexicon, &records)?;
            std::fs::write(&out, &all)?;
            println!("{}: {} bytes", out.display(), all.len());
        }
        "measure" => {
            let data = needed("--data")?;
            let prompts = public::prompts(&data)?;
            let lists = Lists::read(&prompts)?;
            let lexicon = Lexicon::new(&lists.records());
            let detector = open(&std::fs::read(needed("--model")?)?)?;
            measure(&detector, &examples(&data, &prompts, &lists, &lexicon)?, option("--dev").as_deref())?;
        }
        "speed" => speed(&open(&std::fs::read(needed("--model")?)?)?),
        "show" => {
            let detector = open(&std::fs::read(needed("--model")?)?)?;
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            for line in text.lines() {
                let line = line.replace("\\n", "\n");
                println!("{line}");
                for span in detector.find_above(&line, 0.2) {
                    println!(
                        "    {:<18}{:.2}  {}",
                        span.kind.name(),
                        span.confidence,
                        &line[span.start..span.end]
                    );
                }
            }
        }
        _ => return Err(Error::Data(USAGE.into()).into()),
    }
    Ok(())
}

fn open(bytes: &[u8]) -> Result<Detector, Error> {
    Detector::open(&bytes::Bytes::copy_from_slice(bytes))
}

fn packed(examples: &[Example], lexicon: &Lexicon, records: &[u8]) -> Result<Vec<u8>, Error> {
    let learned = crf::fit(examples, lexicon, SEED);
    Ok(write::pack(
        &learned,
        records,
        "presidio-research train rows (MIT), generated sentences, public prompts",
    ))
}

/// All training texts; those of one template share a group.
fn examples(
    data: &Path,
    prompts: &[String],
    lists: &Lists,
    lexicon: &Lexicon,
) -> Result<Vec<Example>, Error> {
    let mut rng = Rng::new(SEED);
    let mut examples = Vec::new();
    for file in ["chat.txt", "prose.txt", "forms.txt", "neg.txt"] {
        examples.extend(generate::fill(file, FILLS, lists, &mut rng)?);
    }
    let public = public::labelled(data)?;
    for _ in 0..PUBLIC_COPIES {
        examples.extend(public.iter().cloned());
    }
    examples.extend(public::harmless(prompts, lexicon, HARMLESS));
    Ok(examples)
}

fn measure(detector: &Detector, examples: &[Example], dev: Option<&Path>) -> Result<(), Error> {
    let held_out = |prefix: &str| -> Vec<&Example> {
        examples.iter().filter(|e| e.is_held_out() && e.group.starts_with(prefix)).collect()
    };
    for prefix in ["public:", "chat.txt:", "prose.txt:", "forms.txt:"] {
        evaluate::report(prefix, detector, pii::MIN_CONFIDENCE, &held_out(prefix));
    }
    // Bare years and weekdays count as dates in the public set; here they are found, but below the default.
    evaluate::report("public:", detector, 0.3, &held_out("public:"));
    let texts =
        |examples: Vec<&Example>| -> Vec<String> { examples.iter().map(|e| e.text.clone()).collect() };
    evaluate::alarms("generated without spans, held out", detector, &texts(held_out("neg.txt:")));
    evaluate::alarms("public prompts, held out", detector, &texts(held_out("prompt:")));
    let Some(dev) = dev else { return Ok(()) };
    let fail = |source| Error::Io { path: dev.display().to_string(), source };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dev).map_err(fail)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "txt")) {
        let fail = |source| Error::Io { path: path.display().to_string(), source };
        let text = std::fs::read_to_string(path).map_err(fail)?;
        // "eng D2 prompt": the first two words are labels.
        let prompts: Vec<String> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '[']))
            .map(|line| line.splitn(3, ' ').nth(2).unwrap_or(line).replace("\\n", "\n"))
            .collect();
        evaluate::alarms(&path.display().to_string(), detector, &prompts);
    }
    Ok(())
}

/// Times typical and hard texts.
fn speed(detector: &Detector) {
    let prose = "The committee met on Tuesday to discuss whether the new library should open at nine or at ten. Maria Jensen from the city office said that most visitors come in the afternoon, and that 45 people had signed the list by then. ";
    let names = "Maria Jensen, Peter Schulz, Ana Lopes, Wei Zhang, 12 Oak Street, Leeds LS1 4AB; ";
    let digits = "4111111111111111 030 1234567 10.0.0.1 2024-01-02 12:00:00 555-123-4567 88,12 99 ";
    let code = "fn main() { let total_count = items.iter().map(|item| item.price * 3).sum::<u32>(); println!(\"{}\", total_count); }\n";
    let lower = "hey can you help me write a short note to my landlord about the boiler that has been broken since last week thanks ";
    for (name, text) in
        [("prose", prose), ("names", names), ("digits", digits), ("code", code), ("lower case", lower)]
    {
        for (bytes, label) in [(1 << 10, "1 KiB"), (24 << 10, "24 KiB"), (32_000, "32 kB")] {
            let long: String = text.chars().cycle().take(bytes).collect();
            // The best of many short batches: other work on the machine must not count.
            let batch = |work: &dyn Fn() -> usize| -> (f64, usize) {
                let rounds = (256 << 10) / bytes;
                let mut best = f64::MAX;
                let mut spans = 0;
                for _ in 0..40 {
                    let start = Instant::now();
                    for _ in 0..rounds {
                        spans = work();
                    }
                    best = best.min(start.elapsed().as_secs_f64() / rounds as f64);
                }
                (best, spans)
            };
            let (whole, spans) = batch(&|| detector.find(std::hint::black_box(&long)).len());
            let (rules, _) = batch(&|| detector.scan_only(std::hint::black_box(&long)));
            println!(
                "{name:<12}{label:>8}: whole {:>8.1} us, rules {:>7.1} us ({:.0} MB/s), {spans} spans",
                whole * 1e6,
                rules * 1e6,
                bytes.min(24 << 10) as f64 / rules / 1e6
            );
        }
    }
}
