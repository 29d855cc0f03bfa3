//! The reader of engines' metrics: whatever a page holds and however it is cut, it says the same, within bounds.
//!
//! An input is the form and two chunk sizes, used in turn, and the page. The reader is taken in by its file, so that
//! the network stack of its crate is not built here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_config::MetricsForm;

#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/feeds/src/scrape/parse/mod.rs"]
mod parse;

use parse::{MAX_ADAPTERS, Names, Page, Reader};

fuzz_target!(|input: &[u8]| {
    let Some(([form, sizes @ ..], page)) = input.split_first_chunk::<3>() else { return };
    let forms = [MetricsForm::Vllm, MetricsForm::Sglang, MetricsForm::TrtLlm, MetricsForm::Triton];
    let names = Names::of(&forms[usize::from(*form) % forms.len()]).expect("built-in names");
    let whole = read(&names, page, |_| page.len());
    let cut = read(&names, page, |turn| usize::from(sizes[turn % sizes.len()]) + 1);
    assert_eq!((whole.skipped(), whole.is_empty()), (cut.skipped(), cut.is_empty()));
    for rank in [None, Some(0), Some(1)] {
        let observed = whole.observed(rank, 7);
        assert_eq!(observed, cut.observed(rank, 7));
        assert!(observed.kv_usage.is_none_or(|share| (0.0..=1.0).contains(&share)), "{observed:?}");
        assert!(observed.block_size != Some(0) && observed.total_blocks != Some(0), "{observed:?}");
        assert!(observed.adapters.is_none_or(|a| a.running.len().max(a.waiting.len()) <= MAX_ADAPTERS));
    }
});

fn read(names: &Names, mut page: &[u8], size: impl Fn(usize) -> usize) -> Page {
    let mut reader = Reader::new(names);
    for turn in 0.. {
        let (chunk, rest) = page.split_at(size(turn).min(page.len()));
        reader.push(chunk);
        if rest.is_empty() {
            break;
        }
        page = rest;
    }
    reader.finish()
}
