//! Replays a trace on simulated engines behind a pool, in virtual time, and measures what its requests saw.
//!
//! The pool is the real one; it gets the engines' KV events and metrics as late as it would outside. Called by `trace`.

use crate::engine::{Admitted, Engine, Job};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use waypost_config::{Endpoint, Picking, Prefixes};
use waypost_picker::{Ask, Block, Booking, Millis, Observed, Pool, Tier};

/// From a change of a cache to its entry in the index, in seconds.
const EVENT_DELAY_S: f64 = 0.050;
/// Between two reads of the engines' metrics.
const SCRAPE_S: f64 = 0.200;

/// What is simulated, apart from the strategy.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) engines: usize,
    /// Blocks in each engine's cache.
    pub(crate) capacity: usize,
    pub(crate) block_tokens: u32,
}

/// What the requests saw. Times are in seconds, one per request that was served.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) ttft: Vec<f64>,
    pub(crate) e2e: Vec<f64>,
    pub(crate) refused: usize,
    pub(crate) cached_tokens: u64,
    pub(crate) prompt_tokens: u64,
    /// Blocks that the best engine held and the chosen one lacked, and all blocks.
    pub(crate) regret_blocks: u64,
    pub(crate) blocks: u64,
    /// Seconds that each engine read prompts.
    pub(crate) read_s: Vec<f64>,
    pub(crate) pick_ns: u64,
}

enum What {
    Arrives(usize),
    FirstToken(usize),
    /// Of that engine; the number tells whether something happened in between.
    Ends(usize, u64),
    Scrape,
    Told,
}

enum Told {
    Stored(usize, Option<u64>, Vec<Block>),
    Removed(usize, Vec<u64>),
}

struct Replay<'a> {
    jobs: &'a [Job],
    arrivals: &'a [f64],
    pool: Pool,
    block_tokens: u32,
    engines: Vec<Engine>,
    /// Counts what happened to each engine, so that an end that was foreseen before is not believed.
    versions: Vec<u64>,
    bookings: Vec<Option<Booking>>,
    hits: Vec<usize>,
    /// By time (nanoseconds), then by the order of entry.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    what: std::collections::HashMap<u64, What>,
    entered: u64,
    told: VecDeque<Told>,
    left: usize,
    seen: Seen,
}

/// Serves `jobs`, which come at `arrivals`, and returns when all are done.
pub(crate) fn replay(jobs: &[Job], arrivals: &[f64], setup: Setup, picking: Picking) -> Seen {
    let specs: Vec<_> = (0..setup.engines).map(|n| Endpoint::at(format!("http://engine{n}"))).collect();
    let picking = Picking { block_size: setup.block_tokens, ..picking };
    let mut replay = Replay {
        jobs,
        arrivals,
        pool: Pool::new(Arc::new(picking), &specs, None),
        block_tokens: setup.block_tokens,
        engines: specs.iter().map(|_| Engine::new(setup.capacity, setup.block_tokens)).collect(),
        versions: vec![0; setup.engines],
        bookings: jobs.iter().map(|_| None).collect(),
        hits: vec![0; jobs.len()],
        due: BinaryHeap::new(),
        what: std::collections::HashMap::new(),
        entered: 0,
        told: VecDeque::new(),
        left: jobs.len(),
        seen: Seen::default(),
    };
    replay.run();
    replay.seen.read_s = replay.engines.iter().map(|engine| engine.read_s).collect();
    replay.seen
}

impl Replay<'_> {
    fn run(&mut self) {
        self.enter(0.0, What::Scrape);
        for (job, at) in self.arrivals.iter().enumerate() {
            self.enter(*at, What::Arrives(job));
        }
        while self.left > 0 {
            let Some(Reverse((at, number))) = self.due.pop() else { return };
            let now = at as f64 / 1e9;
            match self.what.remove(&number) {
                Some(What::Arrives(job)) => self.arrives(job, now),
                Some(What::FirstToken(engine)) => self.first_token(engine, now),
                Some(What::Ends(engine, version)) if version == self.versions[engine] => {
                    self.ends(engine, now)
                }
                Some(What::Scrape) => self.scrape(now),
                Some(What::Told) => self.tell(),
                Some(What::Ends(..)) | None => {}
            }
        }
    }

    fn enter(&mut self, at: f64, what: What) {
        self.entered += 1;
        self.due.push(Reverse(((at * 1e9) as u64, self.entered)));
        self.what.insert(self.entered, what);
    }

    fn arrives(&mut self, number: usize, now: f64) {
        let job = &self.jobs[number];
        let ask = Ask { chain: &job.chain, prompt_tokens: job.prompt_tokens, exact: true, ..Ask::default() };
        let begin = std::time::Instant::now();
        let picked = self.pool.pick(&ask, millis(now));
        self.seen.pick_ns += begin.elapsed().as_nanos() as u64;
        let Ok(pick) = picked else {
            self.seen.refused += 1;
            self.left -= 1;
            return;
        };
        let best = self.engines.iter().map(|engine| engine.hits(&job.chain)).max().unwrap_or(0);
        self.seen.regret_blocks += (best - self.engines[pick.index].hits(&job.chain)) as u64;
        self.seen.blocks += job.chain.len() as u64;
        self.engines[pick.index].queue(number);
        let engine = pick.index;
        self.bookings[number] = Some(pick.booking);
        self.go_on(engine, now);
    }

    /// Lets the next one in where there is room, and foresees the next end anew.
    fn go_on(&mut self, engine: usize, now: f64) {
        if let Some(admitted) = self.engines[engine].admit(self.jobs, now) {
            self.admitted(engine, admitted, now);
        }
        self.versions[engine] += 1;
        if let Some(at) = self.engines[engine].next_end() {
            self.enter(at, What::Ends(engine, self.versions[engine]));
        }
    }

    fn admitted(&mut self, engine: usize, admitted: Admitted, now: f64) {
        self.hits[admitted.job] = admitted.hits;
        self.seen.cached_tokens += u64::from(admitted.cached_tokens);
        self.seen.prompt_tokens += u64::from(self.jobs[admitted.job].prompt_tokens);
        self.enter(admitted.first_token, What::FirstToken(engine));
        if !admitted.evicted.is_empty() {
            self.will_tell(Told::Removed(engine, admitted.evicted), now);
        }
    }

    fn first_token(&mut self, engine: usize, now: f64) {
        let Some(number) = self.engines[engine].first_token(self.jobs, now) else { return };
        if let Some(booking) = &self.bookings[number] {
            booking.prefill_done(millis(now));
        }
        self.seen.ttft.push(now - self.arrivals[number]);
        let (job, hits) = (&self.jobs[number], self.hits[number]);
        let named =
            job.chain.iter().zip(&job.local).map(|(chain, local)| Block { engine: *chain, local: *local });
        let blocks: Vec<Block> = named.skip(hits).collect();
        if !blocks.is_empty() {
            let parent = hits.checked_sub(1).map(|last| job.chain[last]);
            self.will_tell(Told::Stored(engine, parent, blocks), now);
        }
        self.go_on(engine, now);
    }

    fn ends(&mut self, engine: usize, now: f64) {
        if let Some(job) = self.engines[engine].end(self.jobs, now) {
            self.bookings[job] = None;
            self.seen.e2e.push(now - self.arrivals[job]);
            self.left -= 1;
        }
        self.go_on(engine, now);
    }

    fn scrape(&mut self, now: f64) {
        for (index, engine) in self.engines.iter().enumerate() {
            let observed = Observed {
                waiting: Some(engine.waiting() as u32),
                running: Some(engine.running() as u32),
                kv_usage: Some(engine.usage()),
                total_blocks: Some(engine.capacity() as u64),
                block_size: Some(self.block_tokens),
                adapters: None,
                at: millis(now),
            };
            self.pool.observe(index, observed);
        }
        self.enter(now + SCRAPE_S, What::Scrape);
    }

    fn will_tell(&mut self, told: Told, now: f64) {
        if self.pool.picking().prefixes == Prefixes::Events {
            self.told.push_back(told);
            self.enter(now + EVENT_DELAY_S, What::Told);
        }
    }

    fn tell(&mut self) {
        let (Some(told), Some(index)) = (self.told.pop_front(), self.pool.index()) else { return };
        match told {
            Told::Stored(engine, parent, blocks) => {
                let worker = self.pool.endpoints()[engine].worker();
                index.store(worker, Tier::Device, parent, &blocks);
            }
            Told::Removed(engine, names) => {
                index.remove(self.pool.endpoints()[engine].worker(), Tier::Device, &names);
            }
        }
    }
}

fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0) as Millis
}
