//! The brain: classify, plan, pick, and the Decision record that explains all three.
//!
//! Both doors ask it the same questions and get the same answers. It reads a request view and a
//! snapshot of the configuration; the only I/O it does is to ask classifiers and embeddings outside this process.
//! Called by the proxy, by commands that decide without sending, and later by the Envoy door.

mod advice;
mod ask;
mod brain;
mod classifying;
pub mod client;
mod context;
mod conversations;
mod decision;
mod embedding;
mod encoding;
mod error;
mod guard;
mod hold;
mod intent;
mod keeping;
mod kserve;
mod latency;
mod loaded;
mod offload;
mod others;
mod outlook;
mod personal;
mod placing;
mod prompt;
mod reach;
mod reading;
mod ready;
mod route;
mod signals;
mod waiting;

pub use ask::{Ask, Via};
pub use brain::Brain;
pub use classifying::{Classified, Classifiers};
pub use client::Outgoing;
pub use context::{Context, Given, Remote, session_headers};
pub use conversations::{Conversation, Recalled};
pub use decision::{
    Asked, Attempt, Considered, Decision, Dimensions, Escalation, Outcome, Placement, PrefillRecord,
    Probabilities, Shadowed, Tier, millis, round,
};
pub use error::Error;
pub use guard::{Checked, Guarded, ReadAs};
pub use hold::{pause, retry_after, trouble};
pub use intent::IntentRecord;
pub use kserve::ask as ask_kserve;
pub use latency::Latency;
pub use loaded::Loaded;
pub use others::{Others, Wish};
pub use outlook::{ANSWER_TOKENS, Candidate, read_outcomes};
pub use personal::Personal;
pub use placing::{Held, NoPlace, Place, Placing, RETRY_AFTER_BUSY_S};
pub use prompt::PromptText;
pub use reading::{Prompt, Reading, Tokenizers};
pub use ready::read_model;
pub use signals::{DecisionSeen, SignalSeen, Survey};

#[cfg(test)]
mod tests;
