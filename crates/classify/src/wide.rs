//! Plain loops over numbers, written by the compiler for the widest registers of the machine it runs on.
//!
//! The binary itself is made for any machine. A loop gains only where it is inlined here, so its closure says so. Called by
//! `table`, `head` and the encoder.

use rten_simd::{Isa, SimdOp};

/// Does `work` with the machine's widest registers.
#[inline]
pub(crate) fn wide(work: impl FnOnce()) {
    Wide(work).dispatch();
}

struct Wide<F>(F);

impl<F: FnOnce()> SimdOp for Wide<F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        (self.0)();
    }
}
