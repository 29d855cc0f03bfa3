//! The bytes an index may take, and those it takes.

/// No room left under the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A sixteenth stays free for copying a segment into a smaller one.
const RESERVE_SHARE: usize = 16;

/// The cap, and what is taken of it.
#[derive(Debug)]
pub(crate) struct Room {
    max_bytes: usize,
    used_bytes: usize,
    /// Most bytes ever taken.
    peak_bytes: usize,
}

impl Room {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, used_bytes: 0, peak_bytes: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used_bytes
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak_bytes
    }

    /// Takes bytes for something new.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Full> {
        self.take(bytes, self.max_bytes - self.max_bytes / RESERVE_SHARE)
    }

    /// Takes bytes, of the reserve as well: for what is about to give back more.
    pub(crate) fn charge_reserve(&mut self, bytes: usize) -> Result<(), Full> {
        self.take(bytes, self.max_bytes)
    }

    pub(crate) fn refund(&mut self, bytes: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    fn take(&mut self, bytes: usize, max: usize) -> Result<(), Full> {
        let used = self.used_bytes.checked_add(bytes).filter(|used| *used <= max).ok_or(Full)?;
        self.used_bytes = used;
        self.peak_bytes = self.peak_bytes.max(used);
        Ok(())
    }
}
