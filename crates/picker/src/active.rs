//! Blocks that requests in flight use, per worker, each counted once however many requests share it.
//!
//! A block is named by its chain hash and every request brings its blocks from the first one on, so what a worker
//! uses of a prompt is always a start of it: one bisection over the prompt finds that start for all workers at once.

use crate::Worker;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Who uses a block, and for how many requests.
type Users = SmallVec<[(Worker, u32); 2]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Active {
    blocks: HashMap<u64, Users, RandomState>,
}

impl Active {
    /// One more request on `worker` uses these blocks; returns how many of them are new there.
    pub(crate) fn add(&mut self, worker: Worker, chain: &[u64]) -> u64 {
        let mut new = 0;
        for hash in chain {
            let users = self.blocks.entry(*hash).or_default();
            match users.iter_mut().find(|(user, _)| *user == worker) {
                Some((_, requests)) => *requests += 1,
                None => {
                    users.push((worker, 1));
                    new += 1;
                }
            }
        }
        new
    }

    /// The request is over; returns how many blocks nobody on `worker` uses any more.
    pub(crate) fn remove(&mut self, worker: Worker, chain: &[u64]) -> u64 {
        let mut gone = 0;
        for hash in chain {
            let Entry::Occupied(mut entry) = self.blocks.entry(*hash) else { continue };
            let users = entry.get_mut();
            let Some(at) = users.iter().position(|(user, _)| *user == worker) else { continue };
            users[at].1 -= 1;
            if users[at].1 == 0 {
                users.swap_remove(at);
                gone += 1;
            }
            if users.is_empty() {
                entry.remove();
            }
        }
        gone
    }

    /// Calls `seen(worker, n)` so that the largest `n` of each worker is how many blocks of the prompt it uses.
    ///
    /// Two places of the prompt with as many users have the same users, and so has all that lies between.
    pub(crate) fn depths(&self, chain: &[u64], seen: &mut impl FnMut(Worker, u32)) {
        if chain.is_empty() {
            return;
        }
        let first = self.look(chain, 0, seen);
        let last = self.look(chain, chain.len() - 1, seen);
        self.bisect(chain, (0, first), (chain.len() - 1, last), seen);
    }

    fn bisect(
        &self,
        chain: &[u64],
        low: (usize, usize),
        high: (usize, usize),
        seen: &mut impl FnMut(Worker, u32),
    ) {
        if low.1 == high.1 || high.0 - low.0 < 2 {
            return;
        }
        let at = low.0.midpoint(high.0);
        let middle = (at, self.look(chain, at, seen));
        self.bisect(chain, low, middle, seen);
        self.bisect(chain, middle, high, seen);
    }

    fn look(&self, chain: &[u64], at: usize, seen: &mut impl FnMut(Worker, u32)) -> usize {
        let Some(users) = self.blocks.get(&chain[at]) else { return 0 };
        users.iter().for_each(|(worker, _)| seen(*worker, at as u32 + 1));
        users.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depths(active: &Active, chain: &[u64]) -> [u32; 3] {
        let mut out = [0; 3];
        active.depths(chain, &mut |w, n| out[w.0 as usize] = out[w.0 as usize].max(n));
        out
    }

    #[test]
    fn a_shared_block_counts_once_until_its_last_request_ends() {
        let mut active = Active::default();
        let (a, b) = (Worker(0), Worker(1));
        assert_eq!(active.add(a, &[1, 2, 3]), 3);
        assert_eq!(active.add(a, &[1, 2, 4]), 1);
        assert_eq!(active.add(b, &[1]), 1);
        assert_eq!(active.remove(a, &[1, 2, 3]), 1);
        assert_eq!(active.remove(a, &[1, 2, 4]), 3);
        assert_eq!(active.remove(b, &[1]), 1);
        assert!(active.is_empty());
    }

    #[test]
    fn depths_are_those_of_a_walk_for_every_length() {
        let chain: Vec<u64> = (0..40).collect();
        for n in 0..=40 {
            for m in 0..=40 {
                let mut active = Active::default();
                active.add(Worker(0), &chain[..n]);
                active.add(Worker(1), &chain[..m]);
                assert_eq!(depths(&active, &chain), [n as u32, m as u32, 0]);
            }
        }
        assert_eq!(depths(&Active::default(), &[]), [0; 3]);
    }
}
