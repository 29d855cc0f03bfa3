//! Prints how well a few example texts per label tell ten intents from each other and from everything else.
//!
//! `few_examples INTENTS.jsonl UNRELATED.txt…`: rows with `text`, `label` and `split`, where `oos` is no intent, and
//! prompts that belong to none, one a line. Twenty draws of ten labels for each number of examples.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::collections::{BTreeMap, HashMap};

use waypost_classify::encoder::{Branch, Encoding, Session};
use waypost_classify::examples::ExampleModel;
use waypost_classify::{Base, Prompt, Verdict};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const DRAWS: u64 = 20;
const LABELS: usize = 10;
const EXAMPLES: [usize; 4] = [1, 3, 5, 10];
const THRESHOLDS: [f32; 6] = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55];
/// Texts judged per drawn label, per other label, and of those outside all labels.
const QUERIES: usize = 15;
const OTHERS: usize = 1;
const OUTSIDE: usize = 200;

/// Texts by what they are to a draw: to be labelled, of a label not drawn, of no label, of another world.
const KINDS: [&str; 4] = ["in", "other", "oos", "unrelated"];

/// Both tiers, with every text encoded once.
struct Judge {
    base: Base,
    session: Session,
    known: HashMap<String, Encoding>,
}

impl Judge {
    fn verdicts(&mut self, model: &ExampleModel, text: &str) -> Fallible<[Verdict; 2]> {
        if !self.known.contains_key(text) {
            self.known.insert(text.to_owned(), self.session.encode(text, Branch::Sentence)?);
        }
        let encoding = &self.known[text];
        let prompt = Prompt { focus: text, context: "" };
        Ok(self.base.read(&prompt, |reading| [model.judge(&reading), model.judge_with(&reading, encoding)]))
    }
}

/// What a tier made of the texts: confidence, and whether the label was right, by kind.
type Outcomes = [Vec<(f32, bool)>; KINDS.len()];

fn main() -> Fallible<()> {
    let mut args = std::env::args().skip(1);
    let intents = read_intents(&args.next().ok_or("usage: few_examples INTENTS.jsonl UNRELATED.txt…")?)?;
    let mut unrelated = Vec::new();
    for path in args {
        // The lines of our own files are `domain XN text`.
        let text = std::fs::read_to_string(path)?;
        let lines = text.lines().filter(|line| !line.starts_with(['[', '#']));
        unrelated.extend(lines.filter_map(|line| Some(line.splitn(3, ' ').nth(2)?.replace("\\n", "\n"))));
    }
    shuffle(&mut unrelated, 0);
    unrelated.truncate(OUTSIDE);
    let base = Base::embedded()?;
    let session = Session::new(base.encoder().clone())?;
    let mut judge = Judge { base, session, known: HashMap::new() };
    for examples in EXAMPLES {
        let mut tiers: [Outcomes; 2] = Default::default();
        for seed in 1..=DRAWS {
            draw(&mut judge, &intents, &unrelated, examples, seed, &mut tiers)?;
        }
        for (name, outcomes) in ["tier 0", "tier 1"].into_iter().zip(&tiers) {
            report(&format!("{name}, {examples} examples a label"), outcomes);
        }
    }
    Ok(())
}

fn draw(
    judge: &mut Judge,
    intents: &BTreeMap<String, Vec<String>>,
    unrelated: &[String],
    examples: usize,
    seed: u64,
    tiers: &mut [Outcomes; 2],
) -> Fallible<()> {
    let mut labels: Vec<&String> = intents.keys().filter(|label| *label != "oos").collect();
    shuffle(&mut labels, seed);
    let (mut sets, mut texts) = (Vec::new(), Vec::new());
    for (at, label) in labels.iter().enumerate() {
        let mut own = intents[*label].clone();
        shuffle(&mut own, seed);
        let rest = own.split_off(examples.min(own.len()));
        if at < LABELS {
            sets.push(((*label).clone(), own));
        }
        let (kind, count) = if at < LABELS { (0, QUERIES) } else { (1, OTHERS) };
        texts.extend(rest.into_iter().take(count).map(|text| (kind, at, text)));
    }
    let oos = intents.get("oos").into_iter().flatten().take(OUTSIDE);
    texts.extend(oos.map(|text| (2, LABELS, text.clone())));
    texts.extend(unrelated.iter().map(|text| (3, LABELS, text.clone())));
    let model = ExampleModel::build(&judge.base, &mut judge.session, &sets)?;
    for (kind, label, text) in texts {
        for (outcomes, verdict) in tiers.iter_mut().zip(judge.verdicts(&model, &text)?) {
            outcomes[kind].push((verdict.confidence, verdict.label == label));
        }
    }
    Ok(())
}

fn report(title: &str, outcomes: &Outcomes) {
    let share = |kind: usize, count: &dyn Fn(&(f32, bool)) -> bool| {
        let all = &outcomes[kind];
        100.0 * all.iter().filter(|one| count(one)).count() as f32 / all.len().max(1) as f32
    };
    println!("{title}: accuracy {:.1} %", share(0, &|one| one.1));
    println!("  threshold  accepted  accepted+right  rejected: other labels  oos  unrelated   (%)");
    for threshold in THRESHOLDS {
        let rejected = |kind| share(kind, &|one| one.0 < threshold);
        println!(
            "  {threshold:>9}  {:>8.1}  {:>14.1}  {:>22.1}  {:>3.1}  {:>9.1}",
            share(0, &|one| one.0 >= threshold),
            share(0, &|one| one.0 >= threshold && one.1),
            rejected(1),
            rejected(2),
            rejected(3),
        );
    }
}

fn read_intents(path: &str) -> Fallible<BTreeMap<String, Vec<String>>> {
    let mut intents: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let row: BTreeMap<String, String> = serde_json::from_str(line)?;
        if row["split"] == "train" {
            intents.entry(row["label"].clone()).or_default().push(row["text"].clone());
        }
    }
    Ok(intents)
}

/// Fisher and Yates, with Marsaglia's generator.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for at in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(at, (state % (at as u64 + 1)) as usize);
    }
}
