//! Step 6 of a request's way: an endpoint with the load booked on it, or a pair of them, or a wait for one.
//!
//! The choice itself is the picker's; here are the prompt it looks at, the queue in front of it, and the record of both for
//! the Decision. Called by both doors.

use crate::brain::Brain;
use crate::decision::{Placement, PrefillRecord, millis};
use crate::others::{Others, Wish};
use crate::reading::{Prompt, Reading};
use crate::waiting::{Guest, WaitingRoom, Woken};
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;
use waypost_config::{Model, ModelIndex, Queue as QueueSettings};
use waypost_picker::{Ask, Booking, Choice, Endpoint, NoPick, Pick, Pool};
use waypost_wire::RequestView;

/// After this many seconds a refused client may try again.
pub const RETRY_AFTER_BUSY_S: u64 = 1;

/// Load booked on an endpoint; when it is dropped, the next request in line is woken.
#[derive(Debug)]
pub struct Held {
    // Before the line: whoever is woken has to find it free.
    booking: Booking,
    line: Option<Line>,
    /// Zero of the picker's clock.
    started: Instant,
}

/// Those who wait for what is held here; woken when this is dropped.
#[derive(Debug)]
struct Line {
    room: Arc<WaitingRoom>,
    pool: Arc<Pool>,
    /// Zero of the picker's clock.
    started: Instant,
}

impl Held {
    /// Where it is booked.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.booking.endpoint()
    }

    /// That endpoint's position in the model's pool.
    #[must_use]
    pub fn index(&self) -> usize {
        self.booking.index()
    }

    /// The request was served by the endpoint of `pool` at this `ip:port` instead: the load is there now. False, and nothing
    /// changes, where it is the one booked or none of the pool's.
    pub fn moved_to(&mut self, pool: &Pool, place: &str, now: u64) -> bool {
        // Nearly always it is the one booked: the others are looked through only when it is not.
        if self.endpoint().spec().is_at(place) {
            return false;
        }
        let Some(index) = pool.located(&[place.into()]).first().copied() else { return false };
        self.booking.move_to(index, now);
        true
    }

    /// The prompt has been read: it is load no longer.
    pub fn prefill_done(&self) {
        self.booking.prefill_done(self.started.elapsed().as_millis() as u64);
        if let Some(line) = &self.line {
            line.wake();
        }
    }
}

impl Line {
    fn wake(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        if self.room.has_line() && self.pool.has_room(now) {
            self.room.call(now);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wake();
    }
}

/// Where a request is sent to.
#[derive(Debug)]
pub struct Place {
    /// Writes the answer.
    pub held: Held,
    /// Reads the prompt before.
    pub prefill: Option<Held>,
    /// What was wished for beside it.
    pub others: Others,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The picker's reason.
    Pick(NoPick),
    /// As many wait as may.
    QueueFull,
    /// The wait took too long.
    QueueDeadline,
    /// The pool is full, and the request is of those that give way.
    Shed,
}

impl serde::Serialize for NoPlace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl NoPlace {
    /// Its word in Decisions, headers and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pick(reason) => reason.as_str(),
            Self::QueueFull => "queue_full",
            Self::QueueDeadline => "queue_deadline",
            Self::Shed => "shed",
        }
    }

    /// Whether it is a matter of load: waiting, or other models, may help.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Pick(reason) => matches!(reason, NoPick::Busy(_)),
            Self::QueueFull | Self::QueueDeadline | Self::Shed => true,
        }
    }
}

/// A request as placing sees it.
#[derive(Debug, Clone, Copy)]
pub struct Placing<'a> {
    /// Its scanned body.
    pub view: &'a RequestView<'a>,
    /// The body.
    pub body: &'a Bytes,
    /// Its headers, as the client sent them.
    pub headers: &'a HeaderMap,
    /// The only places where it may go, as `ip:port` or `ip`.
    pub only: Option<&'a [String]>,
    /// What else is to be told.
    pub wish: Wish,
    /// What models that take any name are asked for, see [`Brain::free_name`].
    pub name: Option<&'a str>,
}

impl Brain {
    /// The prompt as this model's pool sees it; `None` where the choice does not look at prompts.
    pub async fn read_prompt(&self, model: ModelIndex, placing: &Placing<'_>) -> Option<Prompt> {
        if !self.pool(model).reads_prompts() {
            return None;
        }
        let settings = &self.snapshot().models[model];
        Some(self.tokenizers().read(model, settings, placing).await)
    }

    /// An endpoint of `model` that is not in `tried`, booked; waits in the model's queue while all are busy.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn place(
        &self,
        model: ModelIndex,
        placing: &Placing<'_>,
        prompt: Option<&Prompt>,
        (tried, desperate): (&[usize], bool),
    ) -> Result<(Place, Option<Box<Placement>>), NoPlace> {
        let settings = &self.snapshot().models[model];
        let only = placing.only.map(|places| self.pool(model).located(places));
        let ask = Ask { only: only.as_deref(), ..ask(settings, placing, prompt, (tried, desperate)) };
        let room = self.waiting_room(model);
        let (picked, queued_ms) = match (room, &settings.picking.queue) {
            (Some(room), Some(queue)) => self.place_in_line(model, room, queue, placing, &ask).await?,
            _ => (self.pick(model, &ask).map_err(NoPlace::Pick)?, None),
        };
        let others = self.others(model, placing.wish, &ask, &picked);
        let (place, placement) = self.placed(model, picked, prompt, queued_ms);
        Ok((Place { others, ..place }, placement))
    }

    /// Any endpoint of `model`, booked, for a request that has no prompt.
    ///
    /// # Errors
    /// Why there is none.
    pub fn place_any(
        &self,
        model: ModelIndex,
        only: Option<&[String]>,
        wish: Wish,
    ) -> Result<Place, NoPlace> {
        let only = only.map(|places| self.pool(model).located(places));
        let ask = Ask { only: only.as_deref(), ..Ask::default() };
        let decode = self.pool(model).pick(&ask, self.now()).map_err(NoPlace::Pick)?;
        let picked = Picked { decode, prefill: None, why: None };
        let others = self.others(model, wish, &ask, &picked);
        Ok(Place { others, ..self.placed(model, picked, None, None).0 })
    }

    /// How an endpoint of `model` would be chosen now; nothing is booked. `None` where only requests in flight count.
    pub async fn preview(&self, model: ModelIndex, placing: &Placing<'_>) -> Option<Box<Placement>> {
        let prompt = self.read_prompt(model, placing).await;
        let settings = &self.snapshot().models[model];
        let only = placing.only.map(|places| self.pool(model).located(places));
        let ask = Ask { only: only.as_deref(), ..ask(settings, placing, prompt.as_ref(), (&[], false)) };
        let choice = self.pool(model).preview(&ask, self.now());
        let choice = choice.ok().flatten()?;
        let chosen = choice.candidates.iter().find(|candidate| candidate.chosen)?;
        let chosen = (Arc::clone(&chosen.endpoint), chosen.matched_tokens);
        Some(Box::new(self.shown(model, chosen, prompt.as_ref(), Some(choice))))
    }

    /// Tries at once if nobody waits, else waits for a turn.
    async fn place_in_line(
        &self,
        model: ModelIndex,
        room: &Arc<WaitingRoom>,
        queue: &QueueSettings,
        placing: &Placing<'_>,
        ask: &Ask<'_>,
    ) -> Result<(Picked, Option<f64>), NoPlace> {
        let pool = self.pool(model);
        if !room.has_line() {
            match self.pick(model, ask) {
                Err(NoPick::Busy(_)) => {}
                other => return other.map(|picked| (picked, None)).map_err(NoPlace::Pick),
            }
        }
        let (caller, priority) = caller(queue, placing.headers);
        if pool.sheds(priority, self.now()) {
            return Err(NoPlace::Shed);
        }
        let start = Instant::now();
        let deadline = self.now() + queue.deadline.as_millis() as u64;
        let (now, has_room) = (|| self.now(), || pool.has_room(self.now()));
        let refused = |woken| match woken {
            Woken::Late => NoPlace::QueueDeadline,
            Woken::Full | Woken::Turn => NoPlace::QueueFull,
        };
        let guest = Guest { caller, priority, deadline, now: &now, has_room: &has_room };
        let mut waiting = room.enter(guest).map_err(refused)?;
        loop {
            waiting.turn().await.map_err(refused)?;
            match self.pick(model, ask) {
                Err(NoPick::Busy(_)) => waiting.back(),
                Err(no_pick) => return Err(NoPlace::Pick(no_pick)),
                Ok(picked) => return Ok((picked, Some(millis(start.elapsed())))),
            }
        }
    }

    fn pick(&self, model: ModelIndex, ask: &Ask<'_>) -> Result<Picked, NoPick> {
        let pool = self.pool(model);
        if pool.picking().disaggregation.is_none() {
            return pool.pick(ask, self.now()).map(|decode| Picked { decode, prefill: None, why: None });
        }
        let pair = pool.pick_pair(ask, self.now())?;
        Ok(Picked { decode: pair.decode, prefill: pair.prefill, why: Some(pair.why.as_str()) })
    }

    fn placed(
        &self,
        model: ModelIndex,
        picked: Picked,
        prompt: Option<&Prompt>,
        queued_ms: Option<f64>,
    ) -> (Place, Option<Box<Placement>>) {
        let Pick { booking, choice, cached_tokens, .. } = picked.decode;
        let told = choice.is_some() || prompt.is_some() || queued_ms.is_some() || picked.why.is_some();
        let (prefill, record) = match picked.prefill {
            Some(Pick { booking, choice, .. }) => {
                let record = PrefillRecord::at(Arc::clone(booking.endpoint().id()), choice);
                (Some(self.held(model, booking)), Some(record))
            }
            None => (None, None),
        };
        let placement = told.then(|| {
            let chosen = (Arc::clone(booking.endpoint().id()), cached_tokens);
            let shown = self.shown(model, chosen, prompt, choice);
            Box::new(Placement { queued_ms, pair: picked.why, prefill: record, ..shown })
        });
        (Place { held: self.held(model, booking), prefill, others: Others::default() }, placement)
    }

    /// What a placement and its preview have in common.
    fn shown(
        &self,
        model: ModelIndex,
        (endpoint, cached_tokens): (Arc<str>, u32),
        prompt: Option<&Prompt>,
        choice: Option<Box<Choice>>,
    ) -> Placement {
        let settings: &Model = &self.snapshot().models[model];
        Placement {
            model: Arc::clone(&settings.name),
            endpoint,
            reading: prompt.map(|p| p.reading),
            read_ms: prompt.map(|p| p.ms),
            block_size: settings.picking.block_size,
            cached_tokens,
            choice,
            ..Placement::default()
        }
    }

    fn held(&self, model: ModelIndex, booking: Booking) -> Held {
        let started = self.started();
        let line = self.waiting_room(model).map(|room| Line {
            room: Arc::clone(room),
            pool: Arc::clone(self.pool(model)),
            started,
        });
        Held { booking, line, started }
    }
}

/// The question that is put to the picker.
fn ask<'a>(
    settings: &'a Model,
    placing: &Placing<'a>,
    prompt: Option<&'a Prompt>,
    (tried, desperate): (&'a [usize], bool),
) -> Ask<'a> {
    let session = placing.headers.get(&*settings.picking.session_header);
    Ask {
        chain: prompt.map_or(&[], |p| &p.chain),
        prompt_tokens: prompt.map_or(0, |p| p.tokens),
        exact: prompt.is_some_and(|p| matches!(p.reading, Reading::Exact | Reading::ExactBeforeMedia)),
        adapter: settings.adapter(placing.name),
        session: session.and_then(|value| value.to_str().ok()),
        tried,
        desperate,
        ..Ask::default()
    }
}

/// What the picker said.
pub(crate) struct Picked {
    pub(crate) decode: Pick,
    pub(crate) prefill: Option<Pick>,
    why: Option<&'static str>,
}

/// Who asks, and how urgently. What is not said or not known is nobody in particular, and 0.
fn caller(queue: &QueueSettings, headers: &HeaderMap) -> (u64, i32) {
    let first = |names: &[Arc<str>]| names.iter().find_map(|name| headers.get(&**name));
    let caller = first(&queue.fairness_headers);
    let caller = caller.map_or(0, |value| xxhash_rust::xxh3::xxh3_64(value.as_bytes()));
    let priority = first(&queue.priority_headers).and_then(|value| value.to_str().ok()).and_then(|text| {
        let text = text.trim();
        let named = queue.priorities.iter().find(|(name, _)| **name == *text);
        named.map(|(_, priority)| *priority).or_else(|| text.parse().ok())
    });
    (caller, priority.unwrap_or(0))
}
