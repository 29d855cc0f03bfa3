//! Both tiers in turn on the calling thread: what the command line, evaluation and tests want.
//!
//! The gateway does the same with the encoder on threads of its own, a bounded queue and a deadline (`router`).

use crate::encoder::Session;
use crate::engine::Base;
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
        base.read(prompt, |reading| {
            let verdict = model.judge(&reading);
            let Some(branch) = model.branch().filter(|_| verdict.doubt.is_some()) else {
                return Ok(verdict);
            };
            let session = match session {
                Some(session) => session,
                None => session.insert(Session::new(base.encoder().clone())?),
            };
            Ok(model.judge_with(&reading, &session.encode(prompt.focus, branch)?))
        })
    }
}
