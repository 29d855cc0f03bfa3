//! A simulated engine: a block cache, one prompt read at a time, answers written side by side.
//!
//! Times are seconds of virtual time that come in; nothing waits. It knows nothing of how requests are given to
//! engines. Driven by the replay.

use lru::LruCache;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Prompt tokens an engine reads in a second; what is cached costs nothing.
pub(crate) const PREFILL_TOKENS_PER_S: f64 = 16_000.0;
/// Time between two tokens of an answer that is written alone, in seconds.
const TOKEN_S: f64 = 0.010;
/// How much each further request makes that longer.
const TOKEN_PER_REQUEST: f64 = 0.01;

/// A request, as an engine sees it.
pub(crate) struct Job {
    /// Chain hashes of its full blocks.
    pub(crate) chain: Vec<u64>,
    /// The ids that these were made of.
    pub(crate) local: Vec<u64>,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    /// Blocks that are nobody else's: the partial last one and those of the answer.
    pub(crate) own_blocks: usize,
}

/// What became of the cache when a request was let in.
#[derive(Default)]
pub(crate) struct Admitted {
    pub(crate) job: usize,
    /// Full blocks of its prompt that were there.
    pub(crate) hits: usize,
    pub(crate) cached_tokens: u32,
    /// When its first token comes.
    pub(crate) first_token: f64,
    /// Blocks that had to go.
    pub(crate) evicted: Vec<u64>,
}

pub(crate) struct Engine {
    capacity: usize,
    block_tokens: u32,
    /// Neither in use nor cached.
    free: usize,
    /// Requests that use a block; 0: only cached.
    users: HashMap<u64, u32>,
    /// Cached blocks that nobody uses; the first to go is the least recently used.
    unused: LruCache<u64, ()>,
    waiting: VecDeque<usize>,
    reading: Option<usize>,
    /// Requests that write, by the reading of `clock` at which they are done.
    writing: BinaryHeap<Reverse<(u64, usize)>>,
    /// Tokens that a request present from the start would have written, in thousandths.
    clock: f64,
    clock_at: f64,
    pub(crate) read_s: f64,
}

impl Engine {
    pub(crate) fn new(capacity: usize, block_tokens: u32) -> Self {
        Self {
            capacity,
            block_tokens,
            free: capacity,
            users: HashMap::new(),
            unused: LruCache::unbounded(),
            waiting: VecDeque::new(),
            reading: None,
            writing: BinaryHeap::new(),
            clock: 0.0,
            clock_at: 0.0,
            read_s: 0.0,
        }
    }

    pub(crate) fn queue(&mut self, job: usize) {
        self.waiting.push_back(job);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn running(&self) -> usize {
        self.writing.len() + usize::from(self.reading.is_some())
    }

    pub(crate) fn usage(&self) -> f64 {
        (self.capacity - self.free - self.unused.len()) as f64 / self.capacity as f64
    }

    /// Full blocks of the prompt that are there.
    pub(crate) fn hits(&self, chain: &[u64]) -> usize {
        chain.iter().take_while(|hash| self.users.contains_key(hash)).count()
    }

    /// Lets the first waiting request in, if no prompt is being read and there is room.
    pub(crate) fn admit(&mut self, jobs: &[Job], now: f64) -> Option<Admitted> {
        let number = *self.waiting.front().filter(|_| self.reading.is_none())?;
        let job = &jobs[number];
        let hits = self.hits(&job.chain);
        let (held, new) = job.chain.split_at(hits);
        let needed = new.len() + job.own_blocks;
        let idle = held.iter().filter(|hash| self.unused.contains(hash)).count();
        if needed > self.free + self.unused.len() - idle {
            return None;
        }
        self.waiting.pop_front();
        for hash in held {
            self.unused.pop(hash);
            *self.users.entry(*hash).or_default() += 1;
        }
        let mut evicted = Vec::new();
        while self.free < needed {
            let Some((hash, ())) = self.unused.pop_lru() else { break };
            self.users.remove(&hash);
            self.free += 1;
            evicted.push(hash);
        }
        self.free -= needed;
        self.users.extend(new.iter().map(|hash| (*hash, 1)));
        self.advance(now);
        self.reading = Some(number);
        // The last token is computed in any case: its logits are wanted.
        let cached_tokens = (hits as u32 * self.block_tokens).min(job.prompt_tokens - 1);
        let takes = f64::from(job.prompt_tokens - cached_tokens) / PREFILL_TOKENS_PER_S;
        self.read_s += takes;
        Some(Admitted { job: number, hits, cached_tokens, first_token: now + takes, evicted })
    }

    /// The prompt that was being read is: its request writes now.
    pub(crate) fn first_token(&mut self, jobs: &[Job], now: f64) -> Option<usize> {
        self.advance(now);
        let job = self.reading.take()?;
        let left = f64::from(jobs[job].output_tokens.saturating_sub(1)) * 1000.0;
        self.writing.push(Reverse(((self.clock + left) as u64, job)));
        Some(job)
    }

    /// When the next answer is complete, if nothing else happens before.
    pub(crate) fn next_end(&self) -> Option<f64> {
        let Reverse((at, _)) = self.writing.peek()?;
        Some(self.clock_at + ((*at as f64 - self.clock) / 1000.0).max(0.0) * self.token_s())
    }

    /// Takes out an answer that is complete.
    pub(crate) fn end(&mut self, jobs: &[Job], now: f64) -> Option<usize> {
        self.advance(now);
        let Reverse((at, job)) = *self.writing.peek()?;
        // Rounding may leave it a thousandth of a token short.
        if at as f64 > self.clock + 2.0 {
            return None;
        }
        self.writing.pop();
        self.free += jobs[job].own_blocks;
        // From the end, so that the start of a prompt is the last of it to go.
        for hash in jobs[job].chain.iter().rev() {
            let Some(users) = self.users.get_mut(hash) else { continue };
            *users -= 1;
            if *users == 0 {
                self.unused.put(*hash, ());
            }
        }
        Some(job)
    }

    fn advance(&mut self, now: f64) {
        self.clock += (now - self.clock_at) / self.token_s() * 1000.0;
        self.clock_at = now;
    }

    fn token_s(&self) -> f64 {
        TOKEN_S * (1.0 + TOKEN_PER_REQUEST * (self.running().max(1) - 1) as f64)
    }
}
