//! From signals to a decision, as vLLM Semantic Router has it: what applies, how surely, and which comes first.
//!
//! `all` is as sure as its parts on average, `any` as its surest part, `not` entirely; what always applies has a confidence
//! of 0. Signals are asked for only when the outcome depends on them. Called by the router.

use std::cmp::Ordering;

use waypost_config::{Condition, Decide, Decisions, Family, Order};

/// The confidence with which something applies, 0 to 1; `None` where it does not. An error says who has to be asked before
/// that is known.
pub type Holds = Result<Option<f32>, Family>;

/// Whether a condition holds, by what is `known` of each signal.
///
/// # Errors
/// The cheapest family of signals that may still make a difference.
pub fn holds(condition: &Condition, known: &impl Fn(usize) -> Holds) -> Holds {
    match condition {
        Condition::Signal(signal) => known(*signal),
        Condition::Not(child) => Ok(holds(child, known)?.is_none().then_some(1.0)),
        Condition::All(children) => {
            let (mut sum, mut missing) = (0.0, None);
            for child in children {
                match holds(child, known) {
                    Ok(None) => return Ok(None),
                    Ok(Some(confidence)) => sum += confidence,
                    Err(family) => missing = cheaper(missing, family),
                }
            }
            missing.map_or(Ok(Some(sum / children.len().max(1) as f32)), Err)
        }
        Condition::Any(children) => {
            let (mut best, mut missing) = (None, None);
            for child in children {
                match holds(child, known) {
                    // Nothing can be surer.
                    Ok(Some(confidence)) if confidence >= 1.0 => return Ok(Some(confidence)),
                    Ok(confidence) => best = surer(best, confidence),
                    Err(family) => missing = cheaper(missing, family),
                }
            }
            missing.map_or(Ok(best), Err)
        }
    }
}

/// The decision that is taken: its index, and how sure it is. `None` where none applies.
///
/// # Errors
/// As [`holds`].
pub fn taken(decisions: &Decisions, known: &impl Fn(usize) -> Holds) -> Result<Option<(usize, f32)>, Family> {
    let decide = |at: usize| &decisions.decide[at];
    let equal = |a: &usize, b: &usize| {
        decisions.order == Order::Confidence || decide(*a).priority == decide(*b).priority
    };
    for equals in decisions.by_priority.chunk_by(equal) {
        let (mut first, mut missing): (Option<(usize, f32)>, _) = (None, None);
        for at in equals {
            match holds(&decide(*at).when, known) {
                Ok(Some(sure)) => {
                    let comes_first = first.is_none_or(|(other, than)| {
                        before((decide(*at), sure), (decide(other), than), decisions.order)
                    });
                    first = if comes_first { Some((*at, sure)) } else { first };
                }
                Ok(None) => {}
                Err(family) => missing = cheaper(missing, family),
            }
        }
        if let Some(family) = missing {
            return Err(family);
        }
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

/// Whether the first of two decisions that apply is taken.
fn before((a, sure): (&Decide, f32), (b, than): (&Decide, f32), order: Order) -> bool {
    let (priority, confidence) = (b.priority.cmp(&a.priority), than.total_cmp(&sure));
    let by = match order {
        Order::Priority => priority.then(confidence),
        Order::Confidence => confidence.then(priority),
    };
    by.then_with(|| a.name.cmp(&b.name)) == Ordering::Less
}

fn cheaper(known: Option<Family>, family: Family) -> Option<Family> {
    Some(known.map_or(family, |known| known.min(family)))
}

fn surer(a: Option<f32>, b: Option<f32>) -> Option<f32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
