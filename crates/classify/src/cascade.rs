//! Both tiers in turn on the calling thread: what the command line, evaluation and tests want.
//!
//! The gateway does the same with the encoder on threads of its own, a bounded queue and a deadline (`router`).

use crate::encoder::{Encoding, Session};
use crate::engine::{Base, Reading};
use crate::error::Error;
use crate::model::Model;
use crate::prompt::{Prompt, Verdict};

/// A base with an encoder session for one thread.
#[derive(Debug)]
pub struct Cascade<'b> {
    base: &'b Base,
    session: Option<Session>,
}

impl<'b> Cascade<'b> {
    /// A cascade for the calling thread; the encoder is unpacked when it is first needed.
    pub fn new(base: &'b Base) -> Self {
        Self { base, session: None }
    }

    /// Tier 0's verdict, or both tiers' where tier 0 is in doubt.
    ///
    /// # Errors
    /// Only if the encoder's kernels fail.
    pub fn classify(&mut self, model: &Model, prompt: &Prompt<'_>) -> Result<Verdict, Error> {
        let Self { base, session } = self;
        base.read(prompt, |reading| judge(base, session, &mut None, model, prompt, &reading))
    }

    /// The same for several models, in their order, over one reading and one encoding a branch at most.
    ///
    /// # Errors
    /// As [`Cascade::classify`].
    pub fn classify_all(&mut self, models: &[&Model], prompt: &Prompt<'_>) -> Result<Vec<Verdict>, Error> {
        let Self { base, session } = self;
        let mut encoded = None;
        base.read(prompt, |reading| {
            models.iter().map(|model| judge(base, session, &mut encoded, model, prompt, &reading)).collect()
        })
    }
}

/// One model's verdict; `encoded` is kept for the next one that wants the same branch.
fn judge(
    base: &Base,
    session: &mut Option<Session>,
    encoded: &mut Option<Encoding>,
    model: &Model,
    prompt: &Prompt<'_>,
    reading: &Reading<'_>,
) -> Result<Verdict, Error> {
    let verdict = model.judge(reading);
    let Some(branch) = model.branch().filter(|_| verdict.doubt.is_some()) else { return Ok(verdict) };
    let encoding = match encoded.take().filter(|kept| kept.branch() == branch) {
        Some(kept) => kept,
        None => {
            let session = match session {
                Some(session) => session,
                None => session.insert(Session::new(base.encoder().clone())?),
            };
            session.encode(prompt.focus, branch)?
        }
    };
    let verdict = model.judge_with(reading, &encoding);
    *encoded = Some(encoding);
    Ok(verdict)
}
