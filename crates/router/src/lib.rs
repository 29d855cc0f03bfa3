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
mod prompt;

pub use ask::{Ask, Via};
pub use brain::Brain;
pub use classifying::{Classified, Classifiers};
pub use decision::{Attempt, Considered, Decision, Outcome, Tier, millis, round};
pub use prompt::PromptText;
