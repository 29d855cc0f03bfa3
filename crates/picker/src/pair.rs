//! Two endpoints for one request: one reads the prompt, the other writes the answer.
//!
//! Both are chosen and booked in one step. Short prompts, and those that the decode endpoint holds anyway, are not
//! split. Called by the proxy for pools with a disaggregation.

use crate::ask::{Ask, NoPick, Want};
use crate::booking::Pick;
use crate::cost::Side;
use crate::survey::Survey;
use crate::{Millis, Pool};

/// Both endpoints of a request.
#[derive(Debug)]
pub struct Pair {
    /// Writes the answer; without `prefill` it reads the prompt, too.
    pub decode: Pick,
    /// Reads the prompt.
    pub prefill: Option<Pick>,
    /// Why it was split, or not.
    pub why: WhyPair,
}

/// Why a request was split between two endpoints, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyPair {
    /// It was split.
    Split,
    /// Not worth it: the prompt is short.
    Short,
    /// Not worth it: the decode endpoint holds nearly all of it.
    Cached,
    /// No other endpoint is free to read prompts.
    NoPrefillEndpoint,
}

impl WhyPair {
    /// Its word in Decisions and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Short => "short",
            Self::Cached => "cached",
            Self::NoPrefillEndpoint => "no_prefill_endpoint",
        }
    }
}

impl serde::Serialize for WhyPair {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Pool {
    /// Picks a decode endpoint by its decode load alone, and a prefill endpoint by cost without decode blocks, unless
    /// fewer than `min_uncached_tokens` would be left to read. `ask.want` is not looked at; `ask.tried` bars an
    /// endpoint from both sides. A pool without a disaggregation splits whatever it can.
    ///
    /// # Errors
    ///
    /// Says why there is no decode endpoint; nothing is booked then.
    pub fn pick_pair(&self, ask: &Ask<'_>, now: Millis) -> Result<Pair, NoPick> {
        let inner = &*self.inner;
        let least = inner.picking.disaggregation.map_or(0, |d| d.min_uncached_tokens);
        let ask = &Ask { want: Want::Decode, ..*ask };
        let pair = Survey::with(|survey| {
            survey.look_up(inner, ask);
            let mut book = inner.shared.book.lock();
            book.expire(now);
            survey.fill(inner, &book, ask, now);
            survey.judge(inner, ask, now);
            let decode = inner.choose(survey, Side::Decode, ask, now);
            let (decode, _) = decode.ok_or_else(|| inner.no_pick(survey, now))?;
            let cached = survey.rows[decode].cached_tokens;
            let decode_choice = inner.explain(survey, decode, false, ask);

            let short = if ask.prompt_tokens < least {
                Some(WhyPair::Short)
            } else {
                (ask.prompt_tokens - cached < least).then_some(WhyPair::Cached)
            };
            let prefill = if short.is_some() {
                None
            } else {
                survey.judge(inner, &Ask { want: Want::Prefill, ..*ask }, now);
                survey.rows[decode].why_not = Some(crate::WhyNot::Tried);
                inner.choose(survey, Side::Prefill, ask, now)
            };
            let why = match prefill {
                Some(_) => WhyPair::Split,
                None => short.unwrap_or(WhyPair::NoPrefillEndpoint),
            };
            let side = if prefill.is_some() { Side::Decode } else { Side::Whole };
            let decode = self.book(&mut book, decode, side, ask, cached, now);
            let prefill = prefill.map(|(index, explored)| {
                let cached = survey.rows[index].cached_tokens;
                let pick = self.book(&mut book, index, Side::Prefill, ask, cached, now);
                Pick { choice: Some(inner.explain(survey, index, explored, ask)), ..pick }
            });
            Ok(Pair { decode: Pick { choice: Some(decode_choice), ..decode }, prefill, why })
        })?;
        let side = if pair.prefill.is_some() { Side::Decode } else { Side::Whole };
        self.report(&pair.decode, side, ask);
        if let Some(prefill) = &pair.prefill {
            self.report(prefill, Side::Prefill, ask);
        }
        Ok(pair)
    }
}

#[cfg(test)]
mod tests;
