//! Prompts that workers use, each block counted once however many prompts share it: a compressed trie.
//!
//! A chain hash names a block and all before it, so where two prompts agree in one place they agree in every
//! earlier one: a bisection finds where they part, and a run of blocks that the same prompts share is one node.
//! Adding, removing and comparing a prompt takes a few steps, not one per block. Kept by the book of requests
//! in flight and by the prediction of what was just sent.

use crate::Worker;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    /// By the first hash of their run, which names the way there too.
    nodes: HashMap<u64, Node, RandomState>,
}

/// A run of blocks that exactly the same prompts go through.
#[derive(Debug)]
struct Node {
    run: Vec<u64>,
    users: Users,
}

/// Who goes through a node, by worker, and with how many prompts.
type Users = SmallVec<[(Worker, u32); 2]>;

impl Trie {
    /// One more prompt on `worker`; returns how many of its blocks are new there.
    pub(crate) fn add(&mut self, worker: Worker, chain: &[u64]) -> u64 {
        let (mut rest, mut new, mut before) = (chain, 0, None);
        while let Some(first) = rest.first() {
            let Some(node) = self.nodes.get_mut(first) else {
                self.nodes
                    .insert(*first, Node { run: rest.to_vec(), users: Users::from_iter([(worker, 1)]) });
                return new + rest.len() as u64;
            };
            let shared = shared(&node.run, rest);
            let tail = (shared < node.run.len()).then(|| node.split_off(shared));
            match node.place_of(worker) {
                Ok(at) => node.users[at].1 += 1,
                Err(at) => {
                    node.users.insert(at, (worker, 1));
                    new += shared as u64;
                }
            }
            if let Some(tail) = tail {
                self.nodes.insert(tail.run[0], tail);
            }
            before = Some(self.merge(before, *first));
            rest = &rest[shared..];
        }
        new
    }

    /// Takes back a prompt that was added; returns how many of its blocks nobody on `worker` uses any more.
    pub(crate) fn remove(&mut self, worker: Worker, chain: &[u64]) -> u64 {
        let (mut rest, mut gone, mut before) = (chain, 0, None);
        while let Some(first) = rest.first() {
            let Some(node) = self.nodes.get_mut(first) else { break };
            let length = node.run.len();
            if let Ok(at) = node.place_of(worker) {
                node.users[at].1 -= 1;
                if node.users[at].1 == 0 {
                    node.users.remove(at);
                    gone += length as u64;
                }
            }
            if node.users.is_empty() {
                self.nodes.remove(first);
            } else {
                before = Some(self.merge(before, *first));
            }
            // A prompt ends where a node ends.
            rest = rest.get(length..).unwrap_or_default();
        }
        gone
    }

    /// Calls `seen(worker, n)` so that the largest `n` of each worker is how many blocks of the prompt it uses.
    pub(crate) fn depths(&self, chain: &[u64], seen: &mut impl FnMut(Worker, u32)) {
        let mut at = 0;
        while let Some(node) = chain.get(at).and_then(|first| self.nodes.get(first)) {
            let shared = shared(&node.run, &chain[at..]);
            at += shared;
            node.users.iter().for_each(|(worker, _)| seen(*worker, at as u32));
            if shared < node.run.len() {
                break;
            }
        }
    }

    /// Makes a node one with the node before it, if the same prompts go through both; returns the first hash of
    /// the node that its run is in. Prompts that went separate ways have ended, and the next walk finds it.
    fn merge(&mut self, before: Option<u64>, first: u64) -> u64 {
        let Some(before) = before else { return first };
        let users = |first| self.nodes.get(first).map(|node| &node.users);
        if users(&before) == users(&first)
            && let Some(node) = self.nodes.remove(&first)
            && let Some(to) = self.nodes.get_mut(&before)
        {
            to.run.extend(node.run);
            return before;
        }
        first
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Node {
    fn place_of(&self, worker: Worker) -> Result<usize, usize> {
        self.users.binary_search_by_key(&worker, |(user, _)| *user)
    }

    /// Keeps the first `at` blocks and returns the rest.
    fn split_off(&mut self, at: usize) -> Self {
        let tail = Self { run: self.run[at..].to_vec(), users: self.users.clone() };
        self.run.truncate(at);
        self.run.shrink_to_fit();
        tail
    }
}

/// Blocks in which two prompts agree from their first on; they agree in that.
fn shared(a: &[u64], b: &[u64]) -> usize {
    let most = a.len().min(b.len());
    if most == 0 || a[most - 1] == b[most - 1] {
        return most;
    }
    let (mut same, mut other) = (0, most - 1);
    while other - same > 1 {
        let middle = same.midpoint(other);
        if a[middle] == b[middle] { same = middle } else { other = middle }
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn depths(trie: &Trie, chain: &[u64]) -> [u32; 3] {
        let mut out = [0; 3];
        trie.depths(chain, &mut |w, n| out[w.0 as usize] = out[w.0 as usize].max(n));
        out
    }

    #[test]
    fn a_shared_block_counts_once_until_its_last_prompt_ends() {
        let mut trie = Trie::default();
        let (a, b) = (Worker(0), Worker(1));
        assert_eq!(trie.add(a, &[1, 2, 3]), 3);
        assert_eq!(trie.add(a, &[1, 2, 4]), 1);
        assert_eq!(trie.add(b, &[1]), 1);
        assert_eq!(trie.remove(a, &[1, 2, 3]), 1);
        assert_eq!(trie.remove(a, &[1, 2, 4]), 3);
        assert_eq!(trie.remove(b, &[1]), 1);
        assert!(trie.is_empty());
    }

    #[test]
    fn runs_grow_together_again_when_prompts_that_parted_them_are_gone() {
        let mut trie = Trie::default();
        let long = crate::hash::chain(&(0..100).collect::<Vec<_>>());
        trie.add(Worker(0), &long);
        for end in 1..100 {
            trie.add(Worker(1), &long[..end]);
        }
        assert_eq!(trie.nodes.len(), 100);
        for end in 1..100 {
            trie.remove(Worker(1), &long[..end]);
        }
        trie.add(Worker(0), &long);
        assert_eq!(trie.nodes.len(), 1);
        assert_eq!(depths(&trie, &long), [100, 0, 0]);
    }

    proptest! {
        #[test]
        fn it_counts_as_a_count_of_each_block_would(
            steps in prop::collection::vec((0u16..3, prop::collection::vec(0u64..2, 0..7), any::<bool>()), 1..60),
        ) {
            let (mut trie, mut held) = (Trie::default(), Vec::<(u16, Vec<u64>)>::new());
            for (worker, local, end) in steps {
                let used = |held: &[(u16, Vec<u64>)], worker, hash| {
                    held.iter().any(|(w, c)| *w == worker && c.contains(&hash))
                };
                if end && !held.is_empty() {
                    let (worker, chain) = held.swap_remove(local.len() % held.len());
                    let gone = chain.iter().filter(|hash| !used(&held, worker, **hash)).count();
                    prop_assert_eq!(trie.remove(Worker(worker), &chain), gone as u64);
                } else {
                    let chain = crate::hash::chain(&local);
                    let new = chain.iter().filter(|hash| !used(&held, worker, **hash)).count();
                    prop_assert_eq!(trie.add(Worker(worker), &chain), new as u64);
                    held.push((worker, chain));
                }
                for (_, chain) in &held {
                    let walk = [0, 1, 2].map(|w| chain.iter().take_while(|h| used(&held, w, **h)).count() as u32);
                    prop_assert_eq!(depths(&trie, chain), walk);
                }
            }
            held.iter().for_each(|(worker, chain)| _ = trie.remove(Worker(*worker), chain));
            prop_assert!(trie.is_empty());
        }
    }
}
