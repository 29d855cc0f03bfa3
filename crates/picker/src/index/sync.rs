//! The atomics of the table: those of the standard library, or loom's, which tries out every order.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering, fence};
