//! A prompt that is token ids already.
//!
//! Such a prompt is exact whatever is known of the model. Called by the router.

use crate::tokenizer::{CompletionRequest, Prompt};

/// The ids that a completion request gives as its prompt; `None` where it gives text. Of several prompts the first counts.
#[must_use]
pub fn given_ids(body: &[u8]) -> Option<Vec<u32>> {
    match serde_json::from_slice::<CompletionRequest<'_>>(body).ok()?.prompt {
        Prompt::Ids(ids) => Some(ids),
        Prompt::ManyIds(many) => many.into_iter().next(),
        Prompt::Text(_) | Prompt::Texts(_) => None,
    }
}
