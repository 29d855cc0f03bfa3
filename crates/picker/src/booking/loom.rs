//! Every order of the steps in which requests book, move and end at once, tried by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p waypost-picker --release loom`.
//!
//! Threads meet at the locks and atomics of `sync`. A booking has one owner, so what it can meet is the end of its own
//! lease, other bookings, what other processes tell, and choices.

use loom::sync::Mutex;
use loom::thread::{JoinHandle, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use waypost_config::{Picking, Strategy};

use crate::endpoint::ASIDE_FIRST_MS;
use crate::testing::{ask, pool};
use crate::{
    Ask, Booking, BookingEvent, Failure, Load, Millis, NoPick, Pick, Pool, Queue, Reporter, Threshold,
};

/// A prompt's blocks: all requests bring the same.
const CHAIN: [u64; 2] = [11, 12];
/// When a booking of moment 0 is over.
const LEASE_MS: Millis = 1_000;

/// How often ties are broken anew, by chance; those who do not see each other take the same endpoint in half of them.
const SEEDS: u64 = 8;

/// Every order of what `act` does with what `made` makes.
fn model<M>(made: impl Fn() -> M + Send + Sync + 'static, act: impl Fn(M) + Send + Sync + 'static) {
    let (made, act) = (Arc::new(made), Arc::new(act));
    for seed in 0..SEEDS {
        let (made, act) = (Arc::clone(&made), Arc::clone(&act));
        loom::model(move || {
            // The same chance in every order.
            fastrand::seed(seed);
            act(made());
        });
    }
}

fn pooled(endpoints: usize, strategy: Strategy, change: fn(&mut Picking)) -> Arc<Pool> {
    Arc::new(pool(endpoints, strategy, |picking| {
        picking.lease = Duration::from_millis(LEASE_MS);
        change(picking);
    }))
}

/// Picks for a prompt of [`CHAIN`].
fn pick(pool: &Pool, now: Millis) -> Result<Pick, NoPick> {
    pool.pick(&ask(&CHAIN), now)
}

/// Books such a request on endpoint `index` of two.
fn booked(pool: &Pool, index: usize) -> Booking {
    pool.pick(&Ask { tried: &[1 - index], ..ask(&CHAIN) }, 0).unwrap().booking
}

fn beside<T: 'static>(pool: &Arc<Pool>, act: impl FnOnce(&Pool) -> T + 'static) -> JoinHandle<T> {
    let pool = Arc::clone(pool);
    spawn(move || act(&pool))
}

/// The load of `requests` before their first token, all of [`CHAIN`], nothing of which is cached.
fn load(requests: u32) -> Load {
    let blocks = if requests > 0 { CHAIN.len() as u64 } else { 0 };
    Load { prefilling: requests, prefill_tokens: u64::from(requests) * 32, decode_blocks: blocks }
}

/// At any moment the lock is free: what an endpoint counts is what the book has on it.
fn adds_up(pool: &Pool) {
    let book = pool.inner.shared.book.lock();
    for endpoint in pool.endpoints() {
        assert_eq!(book.load(endpoint.worker()), load(endpoint.requests()));
    }
    let requests: u32 = pool.endpoints().iter().map(|e| e.requests()).sum();
    assert_eq!(requests as usize, book.len());
}

/// Nothing is left of any booking.
fn idle(pool: &Pool) {
    let book = pool.inner.shared.book.lock();
    for endpoint in pool.endpoints() {
        assert_eq!((endpoint.in_flight(), endpoint.requests()), (0, 0));
        assert_eq!(book.load(endpoint.worker()), Load::default());
        let reading = book.reading(endpoint.worker());
        assert!(reading.is_none_or(|reading| reading.computed(&CHAIN, 2) == 2), "still being read");
    }
    assert_eq!((book.len(), book.others_len()), (0, 0));
    assert!(book.active.is_empty());
}

/// How often others were told of an end.
#[derive(Debug, Default)]
struct Told(AtomicU32);

impl Reporter for Told {
    fn report(&self, _: u64, event: BookingEvent) {
        if event == BookingEvent::Free {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

fn told(pool: &Pool) -> Arc<Told> {
    let told = Arc::new(Told::default());
    pool.set_reporter(Some(Arc::clone(&told) as Arc<dyn Reporter>));
    told
}

/// Two picks at once, and then their two ends at once.
fn two_picks_take_two_endpoints(strategy: Strategy, reported: bool) {
    let made = move || {
        let pool = pooled(2, strategy, |_| ());
        let told = reported.then(|| told(&pool));
        (pool, told)
    };
    model(made, |(pool, told)| {
        let theirs = beside(&pool, |pool| pick(pool, 0).unwrap());
        let mine = pick(&pool, 0).unwrap();
        let theirs = theirs.join().unwrap();
        assert_ne!(mine.index, theirs.index);
        let end = spawn(move || drop(theirs));
        drop(mine);
        end.join().unwrap();
        idle(&pool);
        assert!(told.is_none_or(|told| told.0.load(Relaxed) == 2));
    });
}

#[test]
fn loom_two_picks_by_requests_see_each_other() {
    two_picks_take_two_endpoints(Strategy::LeastLoad, false);
}

#[test]
fn loom_two_picks_that_others_are_told_of_see_each_other() {
    two_picks_take_two_endpoints(Strategy::LeastLoad, true);
}

#[test]
fn loom_two_picks_by_cost_see_each_other() {
    two_picks_take_two_endpoints(Strategy::Kv, false);
}

#[test]
fn loom_one_place_is_given_to_one() {
    model(
        || pooled(1, Strategy::LeastLoad, |picking| picking.busy.requests = Some(1)),
        |pool| {
            let theirs = beside(&pool, |pool| pick(pool, 0));
            let mine = pick(&pool, 0);
            let theirs = theirs.join().unwrap();
            adds_up(&pool);
            let no = [&mine, &theirs].into_iter().find_map(|pick| pick.as_ref().err());
            assert_eq!(no, Some(&NoPick::Busy(Threshold::Requests)));
            assert!(mine.is_ok() != theirs.is_ok());
            drop((mine, theirs));
            idle(&pool);
        },
    );
}

/// A booking whose request does what `act` says and ends, while a choice ends its lease: it is freed by one of both.
fn freed_once(act: fn(&mut Booking)) {
    let made = || {
        let pool = pooled(2, Strategy::Kv, |_| ());
        (told(&pool), booked(&pool, 0), pool)
    };
    model(made, move |(told, mut booking, pool)| {
        let request = spawn(move || {
            act(&mut booking);
            drop(booking);
        });
        let late = pick(&pool, LEASE_MS).unwrap();
        request.join().unwrap();
        adds_up(&pool);
        assert_eq!(pool.load(late.index), load(1), "only the newcomer is left");
        let expired = pool.stats().expired;
        assert_eq!(u64::from(told.0.load(Relaxed)) + expired, 1);
        drop(late);
        idle(&pool);
        assert_eq!((told.0.load(Relaxed), pool.stats().expired), (2 - expired as u32, expired));
    });
}

#[test]
fn loom_an_end_beside_the_end_of_the_lease() {
    freed_once(|_| ());
}

#[test]
fn loom_a_first_token_beside_the_end_of_the_lease() {
    freed_once(|booking| booking.prefill_done(LEASE_MS));
}

#[test]
fn loom_a_move_beside_the_end_of_the_lease() {
    freed_once(|booking| booking.move_to(1, LEASE_MS));
}

#[test]
fn loom_a_move_beside_a_release() {
    let made = || {
        let pool = pooled(2, Strategy::Kv, |_| ());
        (booked(&pool, 0), booked(&pool, 0), pool)
    };
    model(made, |(mut moved, ended, pool)| {
        let request = spawn(move || {
            moved.move_to(1, 0);
            moved
        });
        let end = spawn(move || drop(ended));
        adds_up(&pool);
        let moved = request.join().unwrap();
        end.join().unwrap();
        assert_eq!([pool.load(0), pool.load(1)], [load(0), load(1)]);
        assert_eq!(moved.endpoint().in_flight(), 1);
        drop(moved);
        idle(&pool);
    });
}

#[test]
fn loom_a_move_that_is_only_counted_beside_a_release_and_a_pick() {
    let made = || {
        let pool = pooled(2, Strategy::LeastLoad, |_| ());
        (booked(&pool, 0), booked(&pool, 0), pool)
    };
    model(made, |(mut moved, ended, pool)| {
        let request = spawn(move || {
            moved.move_to(1, 0);
            moved
        });
        let end = spawn(move || drop(ended));
        let mine = pick(&pool, 0).unwrap();
        let moved = request.join().unwrap();
        end.join().unwrap();
        let counted: Vec<_> = pool.endpoints().iter().map(|e| e.in_flight()).collect();
        assert_eq!(
            (counted[mine.index], counted.iter().sum()),
            if mine.index == 1 { (2, 2) } else { (1, 2) }
        );
        drop((mine, moved));
        idle(&pool);
    });
}

/// Another process books and ends, while it is given up or its lease ends.
fn others_are_freed_once(act: fn(&Pool)) {
    model(
        || pooled(1, Strategy::Kv, |_| ()),
        move |pool| {
            let feed = beside(&pool, |pool| {
                let (replica, endpoint) = (Arc::<str>::from("r"), Arc::clone(pool.endpoints()[0].id()));
                let chain = CHAIN.into();
                let add = BookingEvent::Add { endpoint, chain, blocks: 0, prefill_tokens: 32 };
                assert!(pool.remote(Arc::clone(&replica), 1, add, 0));
                pool.remote(replica, 1, BookingEvent::Free, 0);
            });
            act(&pool);
            adds_up(&pool);
            feed.join().unwrap();
            idle(&pool);
        },
    );
}

#[test]
fn loom_the_end_of_anothers_booking_beside_the_end_of_the_process() {
    others_are_freed_once(|pool| pool.remote_gone("r"));
}

#[test]
fn loom_the_end_of_anothers_booking_beside_the_end_of_its_lease() {
    others_are_freed_once(|pool| assert!(pool.has_room(LEASE_MS)));
}

/// An endpoint that is due for its probe.
fn due() -> (Arc<Pool>, Millis) {
    let pool = pooled(1, Strategy::LeastLoad, |_| ());
    pool.failed(0, Failure::Broken, 0);
    (pool, 2 * ASIDE_FIRST_MS)
}

#[test]
fn loom_two_requests_at_once_probe_once() {
    model(due, |(pool, now)| {
        let theirs = beside(&pool, move |pool| pick(pool, now).ok());
        let mine = pick(&pool, now).ok();
        assert!(mine.is_some() != theirs.join().unwrap().is_some());
    });
}

#[test]
fn loom_a_probe_given_up_beside_a_pick_is_neither_lost_nor_doubled() {
    let made = || {
        let (pool, now) = due();
        (pick(&pool, now).unwrap(), pool, now)
    };
    model(made, |(probe, pool, now)| {
        let end = spawn(move || drop(probe));
        let mine = pick(&pool, now).ok();
        end.join().unwrap();
        assert_eq!(pick(&pool, now).is_ok(), mine.is_none());
        drop(mine);
        idle(&pool);
    });
}

/// The queue is its owner's to lock: here it hands the one place over to ticket 1, whose client leaves just then.
#[test]
fn loom_a_place_handed_over_beside_a_cancel_goes_to_the_next() {
    let made = || {
        let pool = pooled(1, Strategy::LeastLoad, |picking| picking.busy.requests = Some(1));
        let mut queue = Queue::new(2);
        (1..=2).for_each(|ticket| assert_eq!(queue.push(ticket, 0, Millis::MAX, ticket), Ok(None)));
        (pick(&pool, 0).unwrap(), pool, Arc::new(Mutex::new(queue)))
    };
    model(made, |(held, pool, queue)| {
        let next = |queue: &Mutex<Queue>| queue.lock().unwrap().pop(0, &mut Vec::new());
        let call = {
            let queue = Arc::clone(&queue);
            beside(&pool, move |pool| {
                drop(held);
                pool.has_room(0).then(|| next(&queue)).flatten()
            })
        };
        // Who leaves without having waited had the turn, and passes it on.
        let passed_on = if queue.lock().unwrap().remove(1) { None } else { next(&queue) };
        let called = call.join().unwrap();
        assert!([(Some(2), None), (Some(1), Some(2))].contains(&(called, passed_on)));
        assert!(queue.lock().unwrap().is_empty());
        drop(pick(&pool, 0).unwrap());
        idle(&pool);
    });
}
