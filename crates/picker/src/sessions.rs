//! Where each session was served last, for session affinity.
//!
//! Bounded: the session unused for longest is forgotten first, and each after [`SESSION_MS`]. Kept by the pool.

use crate::{Millis, Worker};
use lru::LruCache;
use std::num::NonZeroUsize;
use xxhash_rust::xxh3::xxh3_64;

/// Most sessions that are remembered, per pool.
const SESSIONS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// How long after its last request a session is remembered, in milliseconds (llm-d's).
pub(crate) const SESSION_MS: Millis = 300_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sessions {
    last: LruCache<u64, (Worker, Millis)>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { last: LruCache::new(SESSIONS_MAX) }
    }
}

impl Sessions {
    pub(crate) fn find(&self, session: &str, now: Millis) -> Option<Worker> {
        let (worker, at) = self.last.peek(&xxh3_64(session.as_bytes()))?;
        (now < at.saturating_add(SESSION_MS)).then_some(*worker)
    }

    pub(crate) fn note(&mut self, session: &str, worker: Worker, now: Millis) {
        self.last.put(xxh3_64(session.as_bytes()), (worker, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_for_its_time() {
        let mut sessions = Sessions::default();
        sessions.note("a", Worker(3), 10);
        assert_eq!(sessions.find("a", SESSION_MS + 9), Some(Worker(3)));
        assert_eq!(sessions.find("a", SESSION_MS + 10), None);
        assert_eq!(sessions.find("b", 10), None);
        sessions.note("a", Worker(4), 20);
        assert_eq!(sessions.find("a", 20), Some(Worker(4)));
    }
}
