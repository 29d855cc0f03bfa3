//! The choice of an endpoint, booked in the same step: two requests that arrive at once see each other.
//!
//! Pools that only compare requests in flight look at nothing else. The others survey their endpoints under the pool's
//! lock; only the engines' index is read before it is taken. Called by the proxy for every attempt.

use crate::ask::{Ask, NoPick, WhyNot};
use crate::book::{BOOKING_BLOCKS_MAX, Book, Weight};
use crate::booking::{Booking, Pick};
use crate::choice::{Choice, Considered, Scored};
use crate::cost::{Prompt, Side, at_temperature, cost};
use crate::pool::{Inner, Pool};
use crate::remote::BookingEvent;
use crate::survey::Survey;
use crate::sync::Ordering::Relaxed;
use crate::ttft::{self, Waits};
use crate::{Millis, affinity, scorers};
use smallvec::SmallVec;
use std::sync::Arc;
use waypost_config::Strategy;

impl Pool {
    /// Picks an endpoint and books the request on it.
    ///
    /// # Errors
    ///
    /// Says why there is none; nothing is booked then.
    pub fn pick(&self, ask: &Ask<'_>, now: Millis) -> Result<Pick, NoPick> {
        if !self.inner.looks {
            return self.pick_by_requests(ask, now);
        }
        let (pick, choice) = Survey::with(|survey| {
            survey.look_up(&self.inner, ask);
            let mut book = self.inner.shared.book.lock();
            book.expire(now);
            survey.fill(&self.inner, &book, ask, now);
            survey.judge(&self.inner, ask, now);
            let chosen = self.inner.choose(survey, Side::Whole, ask, now);
            let (index, explored) = chosen.ok_or_else(|| self.inner.no_pick(survey, now))?;
            let cached = survey.rows[index].cached_tokens;
            let pick = self.book(&mut book, index, Side::Whole, ask, cached, now);
            drop(book);
            Ok((pick, self.inner.explain(survey, index, explored, ask)))
        })?;
        self.report(&pick, Side::Whole, ask);
        Ok(Pick { choice: Some(choice), ..pick })
    }

    /// The choice of pools that compare nothing but requests in flight.
    fn pick_by_requests(&self, ask: &Ask<'_>, now: Millis) -> Result<Pick, NoPick> {
        let inner = &*self.inner;
        let reported = inner.shared.reported.load(Relaxed);
        let mut book = inner.shared.book.lock();
        if reported || book.len() > 0 {
            book.expire(now);
        }
        let free = (0..inner.endpoints.len()).filter(|index| inner.barred(*index, ask, now).is_none());
        let Some(index) = inner.by_requests(free.map(|i| (i, inner.endpoints[i].requests()))) else {
            let barred = (0..inner.endpoints.len()).filter_map(|index| inner.barred(index, ask, now));
            return Err(inner.refusal(barred, now));
        };
        if reported {
            let pick = self.book(&mut book, index, Side::Whole, ask, 0, now);
            drop(book);
            self.report(&pick, Side::Whole, ask);
            return Ok(pick);
        }
        inner.turn.store(index + 1, Relaxed);
        let probe = inner.endpoints[index].begin_probe();
        inner.endpoints[index].book();
        let booking = Booking { pool: Arc::clone(&self.inner), index, id: 0, probe };
        Ok(Pick { index, booking, cached_tokens: 0, choice: None })
    }

    /// Books the request, and takes note of where its prompt will be cached.
    pub(crate) fn book(
        &self,
        book: &mut Book,
        index: usize,
        side: Side,
        ask: &Ask<'_>,
        cached_tokens: u32,
        now: Millis,
    ) -> Pick {
        let inner = &*self.inner;
        let endpoint = &inner.endpoints[index];
        inner.turn.store(index + 1, Relaxed);
        let probe = endpoint.begin_probe();
        let weight = inner.weight(side, ask, cached_tokens);
        let id = book.add(endpoint, weight, (now, now.saturating_add(inner.lease())));
        if let Some(prefixes) = &inner.prefixes {
            prefixes.note(endpoint.worker(), ask.chain, now);
        }
        if let (Some(sessions), Some(session)) = (&inner.sessions, ask.session) {
            sessions.lock().note(session, endpoint.worker(), now);
        }
        let booking = Booking { pool: Arc::clone(&self.inner), index, id, probe };
        Pick { index, booking, cached_tokens, choice: None }
    }

    pub(crate) fn report(&self, pick: &Pick, side: Side, ask: &Ask<'_>) {
        self.inner.shared.report(pick.booking.id, || {
            let (chain, blocks) = self.inner.named(side, ask);
            let prefill_tokens = match side {
                Side::Decode => 0,
                _ => ask.prompt_tokens.saturating_sub(pick.cached_tokens),
            };
            let endpoint = Arc::clone(pick.booking.endpoint().id());
            BookingEvent::Add { endpoint, chain: chain.into(), blocks, prefill_tokens }
        });
    }
}

impl Inner {
    /// The blocks that a booking names, and the number of those it does not.
    fn named<'a>(&self, side: Side, ask: &Ask<'a>) -> (&'a [u64], u32) {
        let chain = &ask.chain[..ask.chain.len().min(BOOKING_BLOCKS_MAX)];
        match side {
            Side::Whole => (chain, self.blocks(ask) - chain.len() as u32),
            // Its blocks are handed over at once.
            Side::Prefill => (&[], 0),
            // Each request brings its own.
            Side::Decode => (&[], self.blocks(ask)),
        }
    }

    fn weight(&self, side: Side, ask: &Ask<'_>, cached_tokens: u32) -> Weight {
        let (chain, unnamed) = self.named(side, ask);
        let prefilling = side != Side::Decode;
        Weight {
            chain: chain.into(),
            unnamed,
            prompt_tokens: if prefilling { ask.prompt_tokens } else { 0 },
            prefill_tokens: if prefilling { ask.prompt_tokens.saturating_sub(cached_tokens) } else { 0 },
            cached_blocks: cached_tokens / self.picking.block_size.max(1),
            prefilling,
        }
    }

    /// The best of the eligible rows, and whether it was taken to explore.
    pub(crate) fn choose(
        &self,
        survey: &mut Survey,
        side: Side,
        ask: &Ask<'_>,
        now: Millis,
    ) -> Option<(usize, bool)> {
        match self.picking.strategy {
            Strategy::Kv => self.by_cost(survey, side, ask).map(|index| (index, false)),
            Strategy::Scorers => {
                let blocks = ask.chain.len() as u32;
                let affinity = self.picking.affinity.as_ref().filter(|_| side != Side::Decode);
                let explored = affinity.is_some_and(|a| affinity::filter(a, survey, blocks, fastrand::f64()));
                let session = self.sessions.as_ref().zip(ask.session);
                let session = session.and_then(|(sessions, name)| sessions.lock().find(name, now));
                let session = session.and_then(|worker| self.position(worker));
                scorers::score(&self.picking.scorers, side, survey, blocks, session);
                let scores = survey.eligible().map(|(index, row)| ((-row.value.unwrap_or(0.0), 0), index));
                least(scores).map(|index| (index, explored))
            }
            Strategy::Ttft => self.by_ttft(survey, side, ask).map(|index| (index, false)),
            _ => {
                for row in survey.rows.iter_mut().filter(|row| row.why_not.is_none()) {
                    row.value = Some(f64::from(row.terms.requests));
                }
                let requests = survey.eligible().map(|(index, row)| (index, row.terms.requests));
                self.by_requests(requests).map(|index| (index, false))
            }
        }
    }

    fn by_cost(&self, survey: &mut Survey, side: Side, ask: &Ask<'_>) -> Option<usize> {
        let kv = &self.picking.kv;
        let prompt = Prompt {
            tokens: f64::from(ask.prompt_tokens),
            blocks: self.blocks(ask),
            block_size: f64::from(self.picking.block_size.max(1)),
        };
        let idlest = survey.eligible().map(|(_, row)| row.terms.prefill_tokens).min()?;
        for row in survey.rows.iter_mut().filter(|row| row.why_not.is_none()) {
            row.value = Some(cost(kv, side, prompt, &row.terms, idlest));
        }
        let costs = survey.eligible().map(|(index, row)| (index, row.value.unwrap_or(f64::MAX)));
        if kv.temperature > 0.0 {
            return at_temperature(costs, kv.temperature, fastrand::f64());
        }
        // Of equal costs the one with fewer requests: a prompt that was just sent costs as much beside itself as on an
        // idle endpoint, and would pile up by chance.
        let costs =
            survey.eligible().map(|(i, row)| ((row.value.unwrap_or(f64::MAX), row.terms.requests), i));
        least(costs)
    }

    fn by_ttft(&self, survey: &mut Survey, side: Side, ask: &Ask<'_>) -> Option<usize> {
        // Whoever only writes answers reads nothing: what counts there is room.
        if side == Side::Decode {
            return self.by_cost(survey, side, ask);
        }
        let blocks = self.blocks(ask);
        for row in survey.rows.iter_mut().filter(|row| row.why_not.is_none()) {
            let wanted = row.terms.decode_blocks as f64 + f64::from(blocks.saturating_sub(row.terms.active));
            let over = row.figures.room.map_or(0.0, |room| (wanted - room).max(0.0));
            row.value = Some(ttft::cost(&Waits {
                backlog: (row.terms.prefill_tokens as f64 - row.progress).max(0.0),
                uncached: f64::from(ask.prompt_tokens.saturating_sub(row.cached_tokens)),
                pending: f64::from(row.pending_tokens),
                over: over * f64::from(self.picking.block_size),
                requests: row.terms.requests,
                pace: row.pace,
            }));
        }
        least(survey.eligible().map(|(i, row)| ((row.value.unwrap_or(f64::MAX), row.terms.requests), i)))
    }

    /// The strategies that compare requests in flight, or nothing.
    fn by_requests(&self, free: impl Iterator<Item = (usize, u32)>) -> Option<usize> {
        match self.picking.strategy {
            Strategy::RoundRobin => {
                let turn = self.turn.load(Relaxed);
                let (mut first, mut next) = (None, None);
                for (index, _) in free {
                    first = first.or(Some(index));
                    next = next.or(Some(index).filter(|index| *index >= turn));
                }
                next.or(first)
            }
            Strategy::Random => least(free.map(|(index, _)| ((), index))),
            Strategy::PowerOfTwo => {
                let mut two = SmallVec::<[(u32, usize); 2]>::new();
                for (seen, (index, requests)) in free.enumerate() {
                    match two.get_mut(fastrand::usize(0..=seen)) {
                        _ if seen < 2 => two.push((requests, index)),
                        Some(taken) => *taken = (requests, index),
                        None => {}
                    }
                }
                least(two.into_iter())
            }
            _ => least(free.map(|(index, requests)| (requests, index))),
        }
    }

    pub(crate) fn no_pick(&self, survey: &Survey, now: Millis) -> NoPick {
        self.refusal(survey.rows.iter().filter_map(|row| row.why_not), now)
    }

    /// Why there is none: the reason of those that came closest.
    fn refusal(&self, barred: impl Iterator<Item = WhyNot>, now: Millis) -> NoPick {
        let closeness = |why: &WhyNot| match why {
            WhyNot::Busy(_) => 5,
            WhyNot::Aside => 4,
            WhyNot::Held => 3,
            WhyNot::Tried => 2,
            WhyNot::NotInSubset => 1,
            WhyNot::Role | WhyNot::FilteredAffinity => 0,
        };
        // Of equals the first; `max_by_key` would take the last.
        match barred.reduce(|best, why| if closeness(&why) > closeness(&best) { why } else { best }) {
            None | Some(WhyNot::Aside) => NoPick::Unhealthy,
            Some(WhyNot::Busy(threshold)) => NoPick::Busy(threshold),
            Some(WhyNot::Tried) => NoPick::Tried,
            Some(WhyNot::NotInSubset) => NoPick::NotInSubset,
            Some(WhyNot::Role | WhyNot::FilteredAffinity) => NoPick::NoRole,
            Some(WhyNot::Held) => {
                let held = self.endpoints.iter().map(|e| e.held_ms(now)).filter(|ms| *ms > 0);
                NoPick::Held { ms: held.min().unwrap_or(0) }
            }
        }
    }

    /// The survey, for the Decision.
    pub(crate) fn explain(
        &self,
        survey: &Survey,
        chosen: usize,
        explored: bool,
        ask: &Ask<'_>,
    ) -> Box<Choice> {
        let scored = self.picking.strategy == Strategy::Scorers;
        let candidates = self.endpoints.iter().zip(&survey.rows).enumerate().map(|(index, (e, row))| {
            let cached = row.terms.cached;
            let scores = self.picking.scorers.iter().zip(&row.scores);
            let scores = scores.map(|((s, _), score)| Scored { scorer: s.as_str(), score: *score });
            Considered {
                endpoint: Arc::clone(e.id()),
                chosen: index == chosen,
                why_not: row.why_not,
                device_blocks: cached.device,
                host_blocks: cached.host,
                disk_blocks: cached.disk,
                matched_tokens: cached.blocks().saturating_mul(self.picking.block_size),
                kv_state: e.kv_state().as_str(),
                requests: row.terms.requests,
                prefill_tokens: row.terms.prefill_tokens,
                decode_blocks: row.terms.decode_blocks,
                figures_age_ms: row.figures.age,
                stale: row.figures.stale,
                cost: row.value.filter(|_| !scored),
                score: row.value.filter(|_| scored),
                scores: scores.collect(),
            }
        });
        let best = survey.best_cached();
        Box::new(Choice {
            strategy: self.picking.strategy.as_str(),
            exact: ask.exact,
            prompt_tokens: ask.prompt_tokens,
            blocks: self.blocks(ask),
            candidates: candidates.collect(),
            best_cached_blocks: best,
            regret_blocks: best.saturating_sub(survey.rows[chosen].terms.cached.blocks()),
            explored,
        })
    }
}

/// The index with the least value; each of several equals with the same probability.
fn least<T: PartialOrd>(values: impl Iterator<Item = (T, usize)>) -> Option<usize> {
    let mut best: Option<(T, usize)> = None;
    let mut equals = 0;
    for (value, index) in values {
        let better = best.as_ref().is_none_or(|(least, _)| value < *least);
        if !better && best.as_ref().is_some_and(|(least, _)| value > *least) {
            continue;
        }
        equals = if better { 1 } else { equals + 1 };
        // Reservoir sampling.
        if better || fastrand::u32(0..equals) == 0 {
            best = Some((value, index));
        }
    }
    best.map(|(_, index)| index)
}

#[cfg(test)]
mod tests;
