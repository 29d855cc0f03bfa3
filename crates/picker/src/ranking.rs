//! What stands beside a pick: who would be picked next, and how good each endpoint looked.
//!
//! For doors whose proxy tries others by itself. Nothing is booked, counted or remembered. Called by the router after a
//! pick, where its door asks for it.

use crate::booking::Pick;
use crate::cost::Side;
use crate::survey::Survey;
use crate::{Ask, Millis, Pool};
use smallvec::SmallVec;
use waypost_config::Strategy;

impl Pool {
    /// Positions of up to `most` endpoints in the order in which they would be picked one after the other, each without
    /// those before it and those in `ask.tried`; as far as chance lets that be known. The order is that of whoever writes
    /// answers.
    #[must_use]
    pub fn next_best(&self, ask: &Ask<'_>, most: usize, now: Millis) -> Vec<usize> {
        let inner = &*self.inner;
        let side = if inner.picking.disaggregation.is_some() { Side::Decode } else { Side::Whole };
        let mut tried: SmallVec<[usize; 8]> = ask.tried.into();
        let mut found = Vec::new();
        Survey::with(|survey| {
            survey.look_up(inner, ask);
            let mut book = inner.shared.book.lock();
            book.expire(now);
            survey.fill(inner, &book, ask, now);
            while found.len() < most {
                let ask = Ask { tried: &tried, ..*ask };
                survey.judge(inner, &ask, now);
                let Some((index, _)) = inner.choose(survey, side, &ask, now) else { break };
                tried.push(index);
                found.push(index);
            }
        });
        found
    }

    /// How good each endpoint looked when `pick` was made for `ask`, as position and score, the higher the better; those
    /// that could not be taken are left out. Costs are negated: blocks with `kv`, milliseconds with `ttft`, requests in
    /// flight with the strategies that compare those. `scorers` gives its weighted sum. Strategies that compare nothing
    /// give 0 to all.
    #[must_use]
    pub fn scores(&self, pick: &Pick, ask: &Ask<'_>, now: Millis) -> Vec<(usize, f64)> {
        let inner = &*self.inner;
        let mut scores: Vec<(usize, f64)> = match &pick.choice {
            Some(choice) => {
                let seen = choice.candidates.iter().enumerate();
                seen.filter_map(|(index, c)| Some((index, c.score.or(c.cost.map(|cost| 0.0 - cost))?)))
                    .collect()
            }
            None => {
                let free =
                    (0..inner.endpoints.len()).filter(|index| inner.barred(*index, ask, now).is_none());
                let before = |index: usize| {
                    inner.endpoints[index].requests().saturating_sub(u32::from(index == pick.index))
                };
                free.map(|index| (index, 0.0 - f64::from(before(index)))).collect()
            }
        };
        if matches!(inner.picking.strategy, Strategy::RoundRobin | Strategy::Random) {
            scores.iter_mut().for_each(|(_, score)| *score = 0.0);
        }
        scores.retain(|(_, score)| score.is_finite());
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;
    use crate::testing::{ask, chain, pool, store};
    use waypost_config::{Busy, Scorer};

    #[test]
    fn the_order_is_that_of_picks_and_nothing_is_booked() {
        for strategy in [Strategy::Kv, Strategy::Ttft] {
            let pool = pool(4, strategy, |_| {});
            for (index, blocks) in [(1, 8), (3, 5), (0, 2)] {
                store(&pool, index, Tier::Device, 1, blocks);
            }
            let chain = chain(1, 10);
            let ask = ask(&chain);
            let first = pool.pick(&ask, 0).unwrap();
            assert_eq!(first.index, 1);
            let after = Ask { tried: &[first.index], ..ask };
            assert_eq!(pool.next_best(&after, 9, 0), [3, 0, 2], "{strategy:?}");
            assert_eq!(pool.next_best(&after, 1, 0), [3]);
            assert_eq!(pool.next_best(&Ask { only: Some(&[2, 0, 1]), ..after }, 9, 0), [0, 2]);
            let picked: Vec<_> = [&[1][..], &[1, 3], &[1, 3, 0]]
                .map(|tried| pool.pick(&Ask { tried, ..ask }, 0).unwrap().index)
                .into();
            assert_eq!(picked, [3, 0, 2]);
            assert_eq!(pool.endpoints().iter().map(|e| e.in_flight()).sum::<u32>(), 1);
        }
    }

    #[test]
    fn turns_are_not_used_up_by_looking() {
        let pool = pool(3, Strategy::RoundRobin, |_| {});
        for first in [0, 1, 2, 0] {
            let pick = pool.pick(&Ask::default(), 0).unwrap();
            assert_eq!(pick.index, first);
            let tried = [first];
            let next = pool.next_best(&Ask::any(&tried, false), 9, 0);
            assert_eq!(next, [(first + 1) % 3, (first + 2) % 3]);
        }
    }

    #[test]
    fn the_busy_and_those_aside_are_no_fallback() {
        let pool = pool(4, Strategy::LeastLoad, |p| p.busy = Busy { requests: Some(1), ..Busy::default() });
        let only = |index: usize| pool.pick(&Ask { only: Some(&[index]), ..Ask::default() }, 0).unwrap();
        let held = [only(0), only(1)];
        pool.failed(2, crate::Failure::Hold { for_ms: 1000 }, 0);
        assert_eq!(pool.next_best(&Ask::any(&[0], false), 9, 0), [3]);
        drop(held);
        assert_eq!(pool.next_best(&Ask::any(&[0], false), 9, 0).len(), 2);
    }

    #[test]
    fn scores_are_what_the_strategy_compared() {
        let chain = chain(1, 10);
        let ask = ask(&chain);
        let scores = |strategy, change: fn(&mut waypost_config::Picking)| {
            let pool = pool(2, strategy, change);
            let _one = pool.pick(&Ask { only: Some(&[0]), ..ask }, 0).unwrap();
            if pool.index().is_some() {
                store(&pool, 1, Tier::Device, 1, 4);
            }
            let pick = pool.pick(&ask, 0).unwrap();
            let scores = pool.scores(&pick, &ask, 0);
            let best = scores.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
            assert_eq!(scores[pick.index].1, best, "{strategy:?}");
            assert_eq!(scores.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
            [scores[0].1, scores[1].1]
        };
        // The first one has 10 blocks to read and 10 in use for another, which are this one's, too; here 4 are cached.
        assert_eq!(scores(Strategy::Kv, |_| {}), [-30.0, -16.0]);
        // By requests in flight, before this one was booked, whether or not the pool looks further.
        let bound: fn(&mut waypost_config::Picking) = |p| p.busy.requests = Some(9);
        for change in [bound, |_| {}] {
            assert_eq!(scores(Strategy::LeastLoad, change), [-1.0, 0.0]);
            assert_eq!(scores(Strategy::PowerOfTwo, change), [-1.0, 0.0]);
            assert_eq!(scores(Strategy::RoundRobin, change), [0.0, 0.0]);
            assert_eq!(scores(Strategy::Random, change), [0.0, 0.0]);
        }
        let by_share = |p: &mut waypost_config::Picking| p.scorers = [(Scorer::Prefix, 2.0)].into();
        assert_eq!(scores(Strategy::Scorers, by_share), [0.0, 0.8]);
    }

    #[test]
    fn those_that_could_not_be_taken_have_no_score() {
        let pool = pool(3, Strategy::LeastLoad, |_| {});
        pool.failed(2, crate::Failure::Hold { for_ms: 1000 }, 0);
        let ask = Ask { only: Some(&[1, 2]), ..Ask::default() };
        let pick = pool.pick(&ask, 0).unwrap();
        assert_eq!(pool.scores(&pick, &ask, 0), [(1, 0.0)]);
    }
}
