//! What engines tell of themselves: KV events, metrics, health, and where they are.
//!
//! It listens and writes down what it hears into the picker's index and endpoints; it never chooses an
//! endpoint and never touches a request. Started by the binary for each pool.

pub mod events;
