//! The index against a plain map over random events, and its bounds.

use super::*;
use crate::hash::extend;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

const MIB: usize = 1 << 20;

/// What the index should hold, the slow way.
#[derive(Default)]
struct Plain(HashMap<(u16, usize, u64), (u64, u8)>);

impl Plain {
    fn chain(&self, worker: u16, engine: u64) -> Option<u64> {
        (0..3).find_map(|tier| self.0.get(&(worker, tier, engine))).map(|(chain, _)| *chain)
    }

    fn add(&mut self, worker: u16, tier: usize, engine: u64, chain: u64) -> bool {
        let (known, count) = self.0.entry((worker, tier, engine)).or_insert((chain, 0));
        if *known == chain {
            *count = count.saturating_add(1);
        }
        *known == chain
    }

    fn store(&mut self, worker: u16, tier: usize, parent: Option<u64>, blocks: &[Block]) -> u32 {
        let mut last = parent.map(|engine| self.chain(worker, engine));
        if last == Some(None) {
            return 0;
        }
        let mut applied = 0;
        for block in blocks {
            let chain = extend(last.flatten(), block.local);
            if !self.add(worker, tier, block.engine, chain) {
                break;
            }
            (last, applied) = (Some(Some(chain)), applied + 1);
        }
        applied
    }

    fn remove(&mut self, worker: u16, tier: usize, engine: u64) -> bool {
        let Some((_, count)) = self.0.get_mut(&(worker, tier, engine)) else { return false };
        *count -= 1;
        if *count == 0 {
            self.0.remove(&(worker, tier, engine));
        }
        true
    }

    fn matches(&self, chain: &[u64]) -> Vec<Held> {
        let mut workers: Vec<u16> = self.0.keys().map(|(worker, ..)| *worker).collect();
        workers.sort_unstable();
        workers.dedup();
        let run = |worker, tier, from: u32| {
            let has = |hash| self.0.iter().any(|(k, v)| (k.0, k.1, v.0) == (worker, tier, hash));
            chain.iter().skip(from as usize).take_while(|hash| has(**hash)).count() as u32
        };
        let held = workers.into_iter().map(|worker| {
            let device = run(worker, 0, 0);
            let host = run(worker, 1, device);
            Held { worker: Worker(worker), device, host, disk: run(worker, 2, device + host) }
        });
        held.filter(|h| h.device + h.host + h.disk > 0).collect()
    }
}

#[derive(Debug, Clone)]
enum Event {
    Store(u16, usize, Option<u64>, Vec<Block>),
    Known(u16, usize, u64),
    Remove(u16, usize, u64),
    Clear(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let worker = || prop::sample::select(vec![0u16, 1, 63, 64, 200]);
    // Few names and hashes: repeats, aliases, contradictions and self-references are all likely.
    let block = (0u64..12, 0u64..3).prop_map(|(engine, local)| Block { engine, local });
    let blocks = prop::collection::vec(block, 0..6);
    let event = prop_oneof![
        6 => (worker(), 0usize..3, prop::option::of(0u64..12), blocks).prop_map(|(w, t, p, b)| Event::Store(w, t, p, b)),
        2 => (worker(), 0usize..3, 0u64..12).prop_map(|(w, t, e)| Event::Known(w, t, e)),
        5 => (worker(), 0usize..3, 0u64..12).prop_map(|(w, t, e)| Event::Remove(w, t, e)),
        1 => worker().prop_map(Event::Clear),
    ];
    prop::collection::vec(event, 1..80)
}

proptest! {
    #[test]
    fn random_events_leave_what_a_plain_map_holds(
        events in events(),
        prompts in prop::collection::vec(prop::collection::vec(0u64..3, 0..6), 8),
    ) {
        let (index, mut plain) = (PrefixIndex::new(MIB), Plain::default());
        let (mut unknown_removes, mut out) = (0, Vec::new());
        for event in events {
            match event {
                Event::Store(w, t, parent, blocks) => {
                    let stored = index.store(Worker(w), TIERS[t], parent, &blocks);
                    prop_assert_eq!(stored.applied, plain.store(w, t, parent, &blocks));
                    prop_assert_eq!(stored.applied + stored.dropped, blocks.len() as u32);
                }
                Event::Known(w, t, engine) => {
                    let chain = plain.chain(w, engine);
                    let done = chain.is_some_and(|chain| plain.add(w, t, engine, chain));
                    prop_assert_eq!(index.store_known(Worker(w), TIERS[t], &[engine]).applied, u32::from(done));
                }
                Event::Remove(w, t, engine) => {
                    index.remove(Worker(w), TIERS[t], &[engine]);
                    unknown_removes += u64::from(!plain.remove(w, t, engine));
                }
                Event::Clear(w) => {
                    index.clear(Worker(w));
                    plain.0.retain(|(of, ..), _| *of != w);
                }
            }
            for prompt in &prompts {
                let chain = crate::hash::chain(prompt);
                index.matches(&chain, &mut out);
                prop_assert_eq!(&out, &plain.matches(&chain));
            }
        }
        prop_assert_eq!(index.stats().pairs, plain.0.len() as u64);
        prop_assert_eq!(index.stats().unknown_removes, unknown_removes);
    }

    #[test]
    fn the_cap_holds_whatever_comes(max_bytes in 0usize..400_000, seed in any::<u64>()) {
        let index = PrefixIndex::new(max_bytes);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..400 {
            let worker = Worker(random.u16(0..70));
            let blocks: Vec<Block> =
                (0..random.u64(1..40)).map(|_| Block { engine: random.u64(..), local: random.u64(..) }).collect();
            index.store(worker, TIERS[random.usize(0..3)], None, &blocks);
            if random.u8(0..20) == 0 {
                index.clear(worker);
            }
        }
        let stats = index.stats();
        let fixed = size_of::<PrefixIndex>() + Coverage::BASE_BYTES;
        prop_assert!(stats.peak_bytes <= max_bytes.max(fixed), "{:?}", stats);
    }
}

fn prompt(blocks: u64, salt: u64) -> (Vec<Block>, Vec<u64>) {
    let blocks: Vec<Block> =
        (0..blocks).map(|n| Block { engine: extend(Some(salt), n), local: extend(Some(n), salt) }).collect();
    let local: Vec<u64> = blocks.iter().map(|b| b.local).collect();
    (blocks, crate::hash::chain(&local))
}

fn device(index: &PrefixIndex, chain: &[u64]) -> Vec<(u16, u32)> {
    let mut out = Vec::new();
    index.matches(chain, &mut out);
    out.iter().map(|held| (held.worker.0, held.device)).collect()
}

#[test]
fn without_its_head_a_prompt_is_not_held() {
    let index = PrefixIndex::new(MIB);
    let (blocks, chain) = prompt(50, 1);
    index.store(Worker(3), Tier::Device, None, &blocks);
    assert_eq!(device(&index, &chain), [(3, 50)]);
    index.remove(Worker(3), Tier::Device, &[blocks[20].engine]);
    assert_eq!(device(&index, &chain), [(3, 20)]);
    index.remove(Worker(3), Tier::Device, &[blocks[0].engine]);
    assert_eq!(device(&index, &chain), []);
}

#[test]
fn repeats_are_counted_up_to_a_bound() {
    let index = PrefixIndex::new(MIB);
    let (blocks, chain) = prompt(1, 1);
    for _ in 0..300 {
        assert_eq!(index.store(Worker(0), Tier::Host, None, &blocks).applied, 1);
    }
    let mut out = Vec::new();
    for left in (0..63u32).rev() {
        index.remove(Worker(0), Tier::Host, &[blocks[0].engine]);
        index.matches(&chain, &mut out);
        assert_eq!(out.len(), usize::from(left > 0));
    }
}

#[test]
fn a_full_index_gives_up_tails_before_heads() {
    let index = PrefixIndex::new(2 * MIB);
    let prompts: Vec<_> = (1..=2000).map(|salt| prompt(50, salt)).collect();
    for (blocks, _) in &prompts {
        index.store(Worker(0), Tier::Device, None, blocks);
    }
    let stats = index.stats();
    assert!(stats.evicted > 10_000 && stats.peak_bytes <= 2 * MIB, "{stats:?}");
    let held: u64 =
        prompts.iter().flat_map(|(_, chain)| device(&index, chain)).map(|(_, n)| u64::from(n)).sum();
    // Nearly all that is left can be reached from the heads.
    assert!(held * 100 >= stats.pairs * 95, "{held} of {stats:?}");
    assert!(stats.pairs > 20_000, "{stats:?}");
}

#[test]
fn one_greedy_worker_does_not_starve_the_others() {
    let index = PrefixIndex::new(2 * MIB);
    for salt in 1..=2000 {
        index.store(Worker(0), Tier::Device, None, &prompt(50, salt).0);
    }
    let (blocks, chain) = prompt(200, 9999);
    assert_eq!(index.store(Worker(1), Tier::Device, None, &blocks).applied, 200);
    assert_eq!(device(&index, &chain), [(1, 200)]);
}

#[test]
fn clearing_gives_the_bytes_back_and_spares_others() {
    let index = PrefixIndex::new(64 * MIB);
    let (blocks, chain) = prompt(300, 7);
    index.store(Worker(1), Tier::Device, None, &blocks);
    let before = index.stats();
    for salt in 10..500 {
        index.store(Worker(2), Tier::Device, None, &prompt(100, salt).0);
    }
    index.clear(Worker(2));
    let after = index.stats();
    assert_eq!((after.pairs, after.blocks), (before.pairs, before.blocks));
    assert!(after.bytes < before.bytes + 20_000, "{before:?} {after:?}");
    assert_eq!(device(&index, &chain), [(1, 300)]);
}

#[test]
fn readers_beside_a_writer_never_see_a_foreign_worker_or_lose_a_held_block() {
    let index = PrefixIndex::new(64 * MIB);
    let (kept, chain) = prompt(200, 1);
    index.store(Worker(5), Tier::Device, None, &kept);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(device(&index, &chain), [(5, 200)]);
                reads += 1;
            }
            reads
        });
        for round in 0..20 {
            for salt in 0..200 {
                index.store(Worker(9), Tier::Device, None, &prompt(20, 1000 + salt + round).0);
            }
            index.clear(Worker(9));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

/// Clears worker 1 while another thread stores on it, looks at what is left, and clears that, too.
fn clear_beside_stores(index: &PrefixIndex, round: u64, old: &(Vec<Block>, Vec<u64>)) {
    const AGAIN: usize = 20;
    let others = index.stats();
    let worker = Worker(1);
    let new: Vec<_> = (0..500).map(|n| prompt(10, 1_000_000 + round * 1_000 + n)).collect();
    assert_eq!(index.store(worker, Tier::Device, None, &old.0).applied as usize, old.0.len());
    // Numbers of the new prompts: up to which they are being stored, and up to which they are.
    let (begun, ended, cleared) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut more = 3;
            for (number, (blocks, _)) in new.iter().enumerate() {
                begun.store(number + 1, SeqCst);
                // Also what the clear takes: the same blocks under the same names.
                index.store(worker, Tier::Device, None, &old.0[..AGAIN]);
                assert_eq!(index.store(worker, Tier::Device, None, blocks).applied, 10);
                ended.store(number + 1, SeqCst);
                more -= usize::from(cleared.load(SeqCst));
                if more == 0 {
                    break;
                }
            }
        });
        scope.spawn(|| {
            let mut gone = false;
            while !(gone && cleared.load(SeqCst)) {
                let seen = device(index, &old.1).first().map_or(0, |(_, blocks)| *blocks as usize);
                assert!(seen <= AGAIN || !gone, "{seen} blocks are back");
                gone |= seen <= AGAIN;
            }
        });
        while ended.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        let before = ended.load(SeqCst);
        index.clear(worker);
        let after = begun.load(SeqCst);
        cleared.store(true, SeqCst);
        (before, after)
    });
    let held: Vec<_> = new.iter().map(|(_, chain)| device(index, chain)).collect();
    let end = ended.load(SeqCst);
    assert!(held[..before].iter().chain(&held[end..]).all(Vec::is_empty), "stored before the clear");
    assert!(held[after..end].iter().all(|held| *held == [(1, 10)]), "stored after the clear");
    let first = held.iter().position(|held| !held.is_empty()).unwrap_or(end);
    assert!(held[first..end].iter().all(|held| *held == [(1, 10)]), "the clear cut a store in two");
    let old_held = device(index, &old.1);
    assert!(after >= end || old_held == [(1, AGAIN as u32)], "{old_held:?}");
    let pairs = (end - first) * 10 + old_held.first().map_or(0, |(_, blocks)| *blocks as usize);
    let stats = index.stats();
    assert_eq!(stats.pairs, others.pairs + pairs as u64);
    assert_eq!(stats.blocks, stats.pairs);
    index.clear(worker);
    let stats = index.stats();
    assert_eq!((stats.pairs, stats.blocks), (others.pairs, others.blocks));
}

#[test]
fn a_clear_beside_stores_of_its_worker_takes_what_was_before_it_and_no_more() {
    const ROUNDS: u64 = 100;
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let index = PrefixIndex::new(64 * MIB);
        let (blocks, chain) = prompt(300, 1);
        index.store(Worker(2), Tier::Device, None, &blocks);
        let old = prompt(3 * SWEEP_BLOCKS as u64, 2);
        let emptied = || {
            index.store(Worker(1), Tier::Device, None, &old.0);
            index.clear(Worker(1));
            index.stats().bytes
        };
        let bytes = emptied();
        (0..ROUNDS).for_each(|round| clear_beside_stores(&index, round, &old));
        // Less than any clear could have lost or given back twice.
        assert!(emptied().abs_diff(bytes) < 20 * ROUNDS as usize, "{bytes} {:?}", index.stats());
        assert_eq!(device(&index, &chain), [(2, 300)]);
        done.send(()).unwrap();
    });
    assert_eq!(wait.recv_timeout(std::time::Duration::from_secs(60)), Ok(()), "it failed, or hangs");
}

#[test]
fn names_akin_to_the_hashes_of_their_blocks_are_swept_as_fast_as_others() {
    let index = PrefixIndex::new(64 * MIB);
    for salt in 0..1000 {
        let (mut blocks, chain) = prompt(200, salt);
        blocks.iter_mut().zip(&chain).for_each(|(block, hash)| block.engine = !hash);
        index.store(Worker(0), Tier::Device, None, &blocks);
    }
    assert_eq!(index.stats().pairs, 200_000);
    let start = std::time::Instant::now();
    index.clear(Worker(0));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert_eq!((index.stats().pairs, index.stats().blocks), (0, 0));
}

#[test]
fn the_largest_worker_number_has_a_place() {
    let index = PrefixIndex::new(8 * MIB);
    let (blocks, chain) = prompt(3, 1);
    index.store(Worker(u16::MAX), Tier::Device, None, &blocks);
    assert_eq!(device(&index, &chain), [(u16::MAX, 3)]);
}
