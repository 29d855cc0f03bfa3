//! The brain: classify, plan, pick, and the Decision record that explains all three.
//!
//! Both doors ask it the same questions and get the same answers. It reads a request view and a
//! snapshot of the configuration; the only I/O it does is to ask a KServe classifier. Called by the
//! proxy, and later by the Envoy door.

mod ask;
mod brain;
mod classifying;
pub mod client;
mod decision;
mod encoding;
mod error;
mod hold;
mod intent;
mod kserve;
mod personal;
mod prompt;
mod ready;

pub use ask::{Ask, Via};
pub use brain::Brain;
pub use classifying::{Classified, Classifiers};
pub use decision::{
    Asked, Attempt, Considered, Decision, Dimensions, Escalation, Outcome, Probabilities, Tier, millis, round,
};
pub use error::Error;
pub use hold::retry_after;
pub use intent::IntentRecord;
pub use kserve::ask as ask_kserve;
pub use personal::Personal;
pub use prompt::PromptText;
pub use ready::read_model;

#[cfg(test)]
mod tests;
