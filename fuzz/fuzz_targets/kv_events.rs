//! KV events of engines and of Dynamo: whatever arrives, nothing panics, blocks are named only as far as
//! they are certain, and an endpoint that leaves takes all its blocks with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use waypost_picker::{Endpoint, KvState, PrefixIndex, Worker};

/// The pure files of the crate, without what it takes to listen.
#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/feeds/src/events"]
mod events {
    #[path = "apply.rs"]
    pub mod apply;
    #[path = "decode.rs"]
    pub mod decode;
    #[path = "dynamo.rs"]
    pub mod dynamo;
    #[path = "msgpack.rs"]
    mod msgpack;
    #[path = "slots.rs"]
    mod slots;
    #[path = "stats.rs"]
    mod stats;
    #[path = "taint.rs"]
    mod taint;
}

use events::apply::{Share, Target};
use events::decode::{Batch, Decoder, Event};
use events::dynamo;

fuzz_target!(|message: &[u8]| {
    let endpoint = Arc::new(Endpoint::new(waypost_config::Endpoint::at("http://e"), Worker(0)));
    let index = Arc::new(PrefixIndex::new(1 << 16));
    let share = Share::new(Target { endpoint: Arc::clone(&endpoint), index: Arc::clone(&index), block_size: 2 });
    if let Ok(mut batch) = Batch::parse(message) {
        let mut decoder = Decoder::default();
        while let Some(event) = decoder.next(&mut batch) {
            if let Event::Stored(stored) = &event {
                assert!(stored.certain <= stored.hashes.len());
            }
            share.apply(&event);
        }
    }
    let _ = dynamo::read(message, |_| {});
    share.close();
    assert_eq!(index.stats().pairs, 0);
    assert_eq!(endpoint.kv_state(), KvState::Off);
});
