//! Locks, atomics and thread locals: parking_lot's and the standard library's, or loom's, which tries out every order.
//!
//! What bookings and the table of the index are made of. `Arc` and `ArcSwap` stay what they are under loom: no order of
//! ours depends on their insides, and loom's `Arc` cannot hold a `dyn`. So do the locks of the two indices' writers.

#[cfg(loom)]
pub(crate) use self::lock::Mutex;
#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    thread_local,
};

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    thread_local,
};

#[cfg(loom)]
mod lock {
    use loom::sync::MutexGuard;
    use std::sync::PoisonError;

    /// Loom's, in the shape of parking_lot's.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
