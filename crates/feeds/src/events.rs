//! KV events: which blocks each engine holds, as it says so itself, kept in the pool's prefix index.
//!
//! One task per address that is listened to. Nothing here chooses an endpoint. [`EventFeeds`] is what
//! the binary holds, one per pool; `/metrics` reads its [`EventStats`].

pub mod decode;
