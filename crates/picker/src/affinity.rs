//! llm-d's prefix affinity, sticky until saturated: keep to endpoints that hold the prompt, until waiting for them costs
//! more than computing it elsewhere.
//!
//! Runs before the scorers and only takes endpoints away; never the last one.

use crate::ask::WhyNot;
use crate::survey::{Row, Survey};
use waypost_config::Affinity;

/// Bars endpoints that lack the prompt, if it is worth it. `draw` is uniform in 0..1; true: the filter was passed over
/// to explore.
pub(crate) fn filter(affinity: &Affinity, survey: &mut Survey, blocks: u32, draw: f64) -> bool {
    let holds = |row: &Row| {
        f64::from(row.terms.cached.blocks()) >= affinity.threshold * f64::from(blocks.max(1)) && blocks > 0
    };
    if !survey.eligible().any(|(_, row)| holds(row)) {
        return false;
    }
    if draw < affinity.exploration {
        return true;
    }
    let backlog = |row: &Row| row.terms.prefill_tokens;
    let sticky = survey.eligible().filter(|(_, row)| holds(row)).map(|(_, row)| backlog(row)).min();
    let idlest = survey.eligible().map(|(_, row)| backlog(row)).min();
    let behind = sticky.unwrap_or(0).saturating_sub(idlest.unwrap_or(0)) as f64;
    if behind > affinity.max_ttft_penalty.as_secs_f64() * affinity.prefill_tokens_per_second {
        return false;
    }
    for row in survey.rows.iter_mut().filter(|row| row.why_not.is_none()) {
        if !holds(row) {
            row.why_not = Some(WhyNot::FilteredAffinity);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Terms;
    use crate::prefixes::Cached;
    use std::time::Duration;

    const AFFINITY: Affinity = Affinity {
        threshold: 0.8,
        max_ttft_penalty: Duration::from_secs(2),
        prefill_tokens_per_second: 1_000.0,
        exploration: 0.1,
    };

    /// (cached blocks, backlog) of each endpoint; the positions that are left for a prompt of 10 blocks.
    fn left(rows: &[(u32, u64)], draw: f64) -> (Vec<usize>, bool) {
        let row = |(device, prefill_tokens): &(u32, u64)| {
            let cached = Cached { device: *device, host: 0, disk: 0 };
            Row {
                terms: Terms { cached, prefill_tokens: *prefill_tokens, ..Terms::default() },
                ..Row::default()
            }
        };
        let mut survey = Survey::of(rows.iter().map(row).collect());
        let explored = filter(&AFFINITY, &mut survey, 10, draw);
        (survey.eligible().map(|(index, _)| index).collect(), explored)
    }

    #[test]
    fn it_sticks_until_saturated() {
        assert_eq!(left(&[(7, 0), (8, 500), (10, 2_000)], 0.5), (vec![1, 2], false));
        assert_eq!(left(&[(7, 0), (8, 2_000)], 0.5), (vec![1], false), "at the bound");
        assert_eq!(left(&[(7, 0), (8, 2_001)], 0.5), (vec![0, 1], false), "beyond it");
        assert_eq!(left(&[(7, 0), (3, 0)], 0.5), (vec![0, 1], false), "nobody holds it");
        assert_eq!(left(&[(0, 0), (10, 0)], 0.05), (vec![0, 1], true), "exploration");
    }
}
