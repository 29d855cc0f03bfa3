//! Whether any endpoint would take one more request: for those who wait for that.
//!
//! Books nothing. Called by the router for requests in line.

use crate::pick::SURVEY;
use crate::{Ask, Millis, Pool};

impl Pool {
    /// True when an endpoint in rotation is below every bound.
    #[must_use]
    pub fn has_room(&self, now: Millis) -> bool {
        let ask = Ask::default();
        SURVEY.with_borrow_mut(|survey| {
            survey.look_up(&self.inner, &ask);
            let book = self.inner.shared.book.lock();
            survey.fill(&self.inner, &book, &ask, now);
            survey.judge(&self.inner, &ask, now);
            survey.eligible().next().is_some()
        })
    }
}
