//! Where one publisher's stream of numbered batches stands.
//!
//! Pure: tells what a batch's number means and changes only when told that a batch was taken. Called by
//! [`super::follow`].

/// What a batch's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one.
    Next,
    /// Heard before, or too late.
    Duplicate,
    /// The publisher counts from the start again.
    Restart,
    /// So many before it have not been heard.
    Gap(u64),
}

/// The last batch that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Last {
    pub(crate) seq: u64,
    /// When it was published, by the publisher's clock.
    pub(crate) at: f64,
    /// Hash of its bytes: the same number with other bytes is another life of the publisher.
    pub(crate) digest: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: Option<Last>,
    /// Nothing has come on this connection yet. A publisher never repeats itself of its own accord, so a
    /// smaller number can only be a new life then.
    fresh: bool,
}

impl Sequence {
    pub(crate) fn last(&self) -> Option<Last> {
        self.last
    }

    /// The number that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.seq.saturating_add(1))
    }

    /// Judges a batch of the live stream, published `at`.
    pub(crate) fn judge(&self, seq: u64, at: f64) -> Verdict {
        let next = self.next();
        match self.last {
            _ if seq == next => Verdict::Next,
            _ if seq > next => Verdict::Gap(seq - next),
            // On one connection a smaller number is late or repeated, unless it was published later.
            Some(last) if self.fresh || at > last.at => Verdict::Restart,
            _ => Verdict::Duplicate,
        }
    }

    /// The batch was taken, or given up.
    pub(crate) fn take(&mut self, last: Last) {
        self.last = Some(last);
        self.fresh = false;
    }

    /// All before `next` is given up.
    pub(crate) fn jump(&mut self, next: u64) {
        let at = self.last.map_or(0.0, |last| last.at);
        self.last = next.checked_sub(1).map(|seq| Last { seq, at, digest: 0 });
    }

    pub(crate) fn reconnected(&mut self) {
        self.fresh = true;
    }
}
