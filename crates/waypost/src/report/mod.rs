//! `waypost report`: the policies, experiments and shadows of a decision file, side by side.
//!
//! Reads the file once, a line at a time; needs no prompts. Called by `main`.

mod arm;
mod show;
mod stats;

use crate::cli::{Report, ReportBy};
use crate::error::Error;
use crate::logged::{self, Log, Recorded};
use crate::print;
use arm::{Arm, Shadow};
use std::collections::BTreeMap;

/// Policies, arms, models or shadows told apart in one view.
const MAX_GROUPS: usize = 64;
/// All the others.
const OTHERS: &str = "(others)";
/// Where the client named a model itself.
const NO_POLICY: &str = "(model named)";
/// Where no model answered.
const NO_MODEL: &str = "(none)";

/// Everything that is counted.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    first_ms: Option<u64>,
    last_ms: Option<u64>,
    policies: Groups<Arm>,
    /// By split and arm.
    arms: Groups<Arm>,
    models: Groups<Arm>,
    /// By policy and shadow.
    shadows: Groups<Shadow>,
}

/// Things by two names, of a bounded number.
#[derive(Debug, Default)]
struct Groups<T>(BTreeMap<(String, String), T>);

impl<T: Default> Groups<T> {
    fn of(&mut self, first: &str, second: &str) -> &mut T {
        let key = (first.to_owned(), second.to_owned());
        let room = self.0.len() < MAX_GROUPS || self.0.contains_key(&key);
        self.0.entry(if room { key } else { (OTHERS.to_owned(), OTHERS.to_owned()) }).or_default()
    }
}

pub(crate) fn run(options: &Report) -> Result<(), Error> {
    let mut log = Log::open(&options.log)?;
    let mut counted = Counted::default();
    while let Some((number, line)) = log.next() {
        match logged::read(line) {
            Ok((_, recorded)) => counted.add(&recorded),
            Err(reason) => log.unread.note(number, &reason),
        }
    }
    if counted.requests == 0 {
        log.whole()?;
        return Err(log.nothing("no decision to report on"));
    }
    let wants = |view: ReportBy| options.by.is_none_or(|by| by == view);
    match options.json {
        true => print(&format!("{}\n", show::json(&counted, wants, log.unread.lines)))?,
        false => {
            print(&format!("{}{}", log.unread.shown(), show::text(&counted, wants, options.by.is_some())))?;
        }
    }
    log.whole()
}

impl Counted {
    fn add(&mut self, recorded: &Recorded) {
        self.requests += 1;
        let at = recorded.at_unix_ms;
        self.first_ms = Some(self.first_ms.map_or(at, |first| first.min(at)));
        self.last_ms = Some(self.last_ms.map_or(at, |last| last.max(at)));
        let policy = recorded.policy.as_deref().unwrap_or(NO_POLICY);
        self.policies.of(policy, "").add(recorded);
        self.models.of(recorded.model.as_deref().unwrap_or(NO_MODEL), "").add(recorded);
        if let Some(split) = &recorded.split {
            self.arms.of(split, policy).add(recorded);
        }
        for shadowed in &recorded.shadow {
            self.shadows.of(policy, &shadowed.policy).add(recorded, shadowed);
        }
    }

    /// The arms of each split, that with the most requests first: the others are held against it.
    fn splits(&self) -> BTreeMap<&str, Vec<(&str, &Arm)>> {
        let mut splits: BTreeMap<&str, Vec<(&str, &Arm)>> = BTreeMap::new();
        for ((split, name), arm) in &self.arms.0 {
            splits.entry(split).or_default().push((name, arm));
        }
        splits.values_mut().for_each(|arms| arms.sort_by_key(|(_, arm)| std::cmp::Reverse(arm.requests)));
        splits
    }
}
