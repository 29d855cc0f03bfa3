//! Which contestants an auto policy can choose at all: its rule tried on the sample that came with its outcomes.
//!
//! A rule that never takes the cheap model saves nothing, and all answers are 200. Called when a configuration is loaded.

use crate::decision::Tier;
use crate::outlook::{self, Oracle, Outlook};
use waypost_classify::outcomes::Expected as Learnt;
use waypost_config::{Auto, Policy, Snapshot};
use waypost_policy::Demand;

/// The prompt that is priced: 250 tokens.
const PROMPT_BYTES: u64 = 1000;

/// A sentence about the contestants that the rule never takes, if there are such.
pub(crate) fn warning(snapshot: &Snapshot, policy: &Policy, auto: &Auto, oracle: &Oracle) -> Option<String> {
    let Oracle::Outcomes { model, columns } = oracle else { return None };
    let demand = Demand { text_bytes: PROMPT_BYTES, ..Demand::default() };
    let unknown = vec![None; auto.contestants.len()];
    let mut taken = vec![0_usize; auto.contestants.len()];
    for row in model.sample() {
        let learnt = columns.iter().map(|c| Learnt { quality: row[*c], tokens: None, latency_ms: None });
        let outlook = Outlook { learnt: learnt.collect(), tier: Tier::None, escalation: None };
        let expected = outlook::expected(snapshot, auto, &outlook, &demand, &unknown);
        let first = waypost_policy::rank(&auto.rule, &expected);
        let chosen =
            first.first().and_then(|(model, _)| auto.contestants.iter().position(|c| c.model == *model));
        chosen.into_iter().for_each(|chosen| taken[chosen] += 1);
    }
    let count: usize = taken.iter().sum();
    let name = |i: usize| format!("`{}`", snapshot.models[auto.contestants[i].model].name);
    let never: Vec<String> = (0..taken.len()).filter(|i| taken[*i] == 0).map(name).collect();
    if never.is_empty() || count == 0 {
        return None;
    }
    let shares: Vec<String> = (0..taken.len())
        .filter(|i| taken[*i] > 0)
        .map(|i| format!("{} {:.0} %", name(i), 100.0 * taken[i] as f64 / count as f64))
        .collect();
    Some(format!(
        "policy `{}` can hardly ever choose {}: on {count} prompts of its outcomes the rule takes {}",
        policy.name,
        never.join(", "),
        shares.join(", ")
    ))
}
