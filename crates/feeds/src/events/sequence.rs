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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seq: u64, at: f64) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.take(Last { seq, at, digest: 1 });
        sequence
    }

    #[test]
    fn a_stream_begins_at_zero() {
        assert_eq!(Sequence::default().judge(0, 1.0), Verdict::Next);
        assert_eq!(Sequence::default().judge(3, 1.0), Verdict::Gap(3));
    }

    #[test]
    fn numbers_are_judged() {
        let sequence = after(5, 10.0);
        assert_eq!(sequence.judge(6, 11.0), Verdict::Next);
        assert_eq!(sequence.judge(9, 11.0), Verdict::Gap(3));
        assert_eq!(sequence.judge(5, 10.0), Verdict::Duplicate);
        assert_eq!(sequence.judge(2, 7.0), Verdict::Duplicate);
        assert_eq!(sequence.judge(0, 12.0), Verdict::Restart, "published later under a smaller number");
        assert_eq!(sequence.judge(0, f64::NAN), Verdict::Duplicate);
    }

    #[test]
    fn on_a_new_connection_a_smaller_number_is_a_new_life() {
        let mut sequence = after(5, 10.0);
        sequence.reconnected();
        assert_eq!(sequence.judge(6, 11.0), Verdict::Next);
        assert_eq!(sequence.judge(1, 2.0), Verdict::Restart);
    }

    #[test]
    fn what_is_given_up_is_not_waited_for() {
        let mut sequence = after(5, 10.0);
        sequence.jump(9);
        assert_eq!(sequence.judge(9, 11.0), Verdict::Next);
        assert_eq!(sequence.judge(7, 9.0), Verdict::Duplicate);
        sequence.jump(u64::MAX);
        assert_eq!(sequence.judge(u64::MAX, 1.0), Verdict::Next);
    }
}
