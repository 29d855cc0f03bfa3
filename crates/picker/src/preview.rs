//! Looking without booking: what would be chosen, and whether there is room at all.
//!
//! Nothing is booked, counted or remembered. Called by the router, for recommendations and for requests in line.

use crate::choice::Choice;
use crate::cost::Side;
use crate::survey::Survey;
use crate::{Ask, Millis, NoPick, Pool};

impl Pool {
    /// What [`Pool::pick`] would choose now, as far as ties and chance let that be known; `None` where it only compares
    /// requests in flight.
    ///
    /// # Errors
    /// As [`Pool::pick`].
    pub fn preview(&self, ask: &Ask<'_>, now: Millis) -> Result<Option<Box<Choice>>, NoPick> {
        if !self.inner.looks {
            return Ok(None);
        }
        Survey::with(|survey| {
            survey.look_up(&self.inner, ask);
            let mut book = self.inner.shared.book.lock();
            book.expire(now);
            survey.fill(&self.inner, &book, ask, now);
            survey.judge(&self.inner, ask, now);
            let chosen = self.inner.choose(survey, Side::Whole, ask, now);
            let (index, explored) = chosen.ok_or_else(|| self.inner.no_pick(survey, now))?;
            Ok(Some(self.inner.explain(survey, index, explored, ask)))
        })
    }

    /// True when an endpoint in rotation is below every bound.
    #[must_use]
    pub fn has_room(&self, now: Millis) -> bool {
        let ask = Ask::default();
        Survey::with(|survey| {
            survey.look_up(&self.inner, &ask);
            let mut book = self.inner.shared.book.lock();
            // Else a booking that was lost would keep everybody waiting.
            book.expire(now);
            survey.fill(&self.inner, &book, &ask, now);
            survey.judge(&self.inner, &ask, now);
            survey.eligible().next().is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use waypost_config::{Busy, Endpoint, Picking, Strategy};

    #[test]
    fn a_preview_says_what_a_pick_does_and_changes_nothing() {
        let picking = Picking {
            strategy: Strategy::Kv,
            busy: Busy { requests: Some(2), ..Busy::default() },
            ..Picking::default()
        };
        let pool = Pool::new(Arc::new(picking), &[Endpoint::at("http://a"), Endpoint::at("http://b")], None);
        let chain: Vec<u64> = (1..=8).collect();
        let ask = Ask { chain: &chain, prompt_tokens: 128, exact: true, ..Ask::default() };
        let held = pool.pick(&ask, 0).unwrap();
        for _ in 0..10 {
            let choice = pool.preview(&ask, 1).unwrap().unwrap();
            assert_eq!(choice.candidates.iter().filter(|c| c.chosen).count(), 1);
            assert_eq!(choice.candidates[held.index].requests, 1);
        }
        assert!(pool.endpoints().iter().map(|e| e.in_flight()).sum::<u32>() == 1);
        let rest: Vec<_> = (0..3).map(|_| pool.pick(&ask, 2).unwrap()).collect();
        assert!(!pool.has_room(3));
        assert!(matches!(pool.preview(&ask, 3), Err(NoPick::Busy(_))));
        assert!(matches!(pool.pick(&ask, 3), Err(NoPick::Busy(_))), "two on each of two are all");
        drop(rest);
        assert!(pool.has_room(4));
    }
}
