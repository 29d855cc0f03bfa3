//! What people would write first: standard maps behind a lock, and a nested concurrent map.

use dashmap::DashMap;
use std::collections::{HashMap, HashSet};
use std::sync::RwLock;
use waypost_picker::{Block, PrefixIndex, Tier, Worker, hash};

/// An index to measure; `touched` is how many workers hold something of the prompt.
pub(crate) trait Index: Sync {
    /// `parent`: the name of the block before these.
    fn store(&self, worker: Worker, parent: Option<u64>, blocks: &[Block]);
    fn remove(&self, worker: Worker, names: &[u64]);
    fn depths(&self, chain: &[u64], out: &mut Vec<(u16, u32)>);
}

impl Index for PrefixIndex {
    fn store(&self, worker: Worker, parent: Option<u64>, blocks: &[Block]) {
        Self::store(self, worker, Tier::Device, parent, blocks);
    }

    fn remove(&self, worker: Worker, names: &[u64]) {
        Self::remove(self, worker, Tier::Device, names);
    }

    fn depths(&self, chain: &[u64], out: &mut Vec<(u16, u32)>) {
        thread_local!(static HELD: std::cell::RefCell<Vec<waypost_picker::Held>> = const { std::cell::RefCell::new(Vec::new()) });
        HELD.with_borrow_mut(|held| {
            self.matches(chain, held);
            out.clear();
            out.extend(held.iter().map(|h| (h.worker.0, h.device)));
        });
    }
}

type Names = HashMap<(u16, u64), u64>;

/// `RwLock<HashMap>`: chain hash to a word of workers.
#[derive(Default)]
pub(crate) struct Locked(RwLock<(HashMap<u64, u64>, Names)>);

/// `DashMap` of sets: chain hash to workers.
#[derive(Default)]
pub(crate) struct Dash(DashMap<u64, HashSet<u16>>, DashMap<(u16, u64), u64>);

/// Names and chain hashes of blocks behind the block with the chain hash `last`.
fn chained(mut last: Option<u64>, blocks: &[Block]) -> impl Iterator<Item = (u64, u64)> {
    blocks.iter().map(move |block| {
        let chain = hash::extend(last, block.local);
        last = Some(chain);
        (block.engine, chain)
    })
}

impl Index for Locked {
    fn store(&self, worker: Worker, parent: Option<u64>, blocks: &[Block]) {
        let Ok(mut maps) = self.0.write() else { return };
        let last = parent.and_then(|parent| maps.1.get(&(worker.0, parent)).copied());
        for (engine, chain) in chained(last, blocks) {
            maps.1.insert((worker.0, engine), chain);
            *maps.0.entry(chain).or_default() |= 1 << worker.0;
        }
    }

    fn remove(&self, worker: Worker, names: &[u64]) {
        let Ok(mut maps) = self.0.write() else { return };
        for name in names {
            let Some(chain) = maps.1.remove(&(worker.0, *name)) else { continue };
            if let Some(workers) = maps.0.get_mut(&chain) {
                *workers &= !(1 << worker.0);
                if *workers == 0 {
                    maps.0.remove(&chain);
                }
            }
        }
    }

    fn depths(&self, chain: &[u64], out: &mut Vec<(u16, u32)>) {
        out.clear();
        let Ok(maps) = self.0.read() else { return };
        let mut active = u64::MAX;
        for (at, hash) in chain.iter().enumerate() {
            let held = maps.0.get(hash).copied().unwrap_or(0);
            ended(active & !held, at, out);
            active &= held;
            if active == 0 {
                return;
            }
        }
        ended(active, chain.len(), out);
    }
}

impl Index for Dash {
    fn store(&self, worker: Worker, parent: Option<u64>, blocks: &[Block]) {
        let last = parent.and_then(|parent| self.1.get(&(worker.0, parent)).map(|chain| *chain));
        for (engine, chain) in chained(last, blocks) {
            self.1.insert((worker.0, engine), chain);
            self.0.entry(chain).or_default().insert(worker.0);
        }
    }

    fn remove(&self, worker: Worker, names: &[u64]) {
        for name in names {
            let Some((_, chain)) = self.1.remove(&(worker.0, *name)) else { continue };
            let emptied = self.0.get_mut(&chain).is_some_and(|mut workers| {
                workers.remove(&worker.0);
                workers.is_empty()
            });
            if emptied {
                self.0.remove_if(&chain, |_, workers| workers.is_empty());
            }
        }
    }

    fn depths(&self, chain: &[u64], out: &mut Vec<(u16, u32)>) {
        out.clear();
        let mut active = u64::MAX;
        for (at, hash) in chain.iter().enumerate() {
            let held = self.0.get(hash).map_or(0, |workers| workers.iter().fold(0, |all, w| all | 1 << *w));
            ended(active & !held, at, out);
            active &= held;
            if active == 0 {
                return;
            }
        }
        ended(active, chain.len(), out);
    }
}

fn ended(mut workers: u64, at: usize, out: &mut Vec<(u16, u32)>) {
    while workers != 0 && at > 0 {
        out.push((workers.trailing_zeros() as u16, at as u32));
        workers &= workers - 1;
    }
}
