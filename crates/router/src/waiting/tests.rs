use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

const NEVER: Millis = Millis::MAX;

/// A clock, and places of which so many are free.
struct Engine {
    start: Instant,
    free: AtomicUsize,
}

impl Engine {
    fn with(free: usize) -> Self {
        Self { start: Instant::now(), free: AtomicUsize::new(free) }
    }

    fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as u64
    }

    fn take(&self) -> bool {
        self.free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).is_ok()
    }

    /// As a booking that ends does it.
    fn release(&self, room: &WaitingRoom) {
        self.free.fetch_add(1, SeqCst);
        if room.has_line() {
            room.call(self.now());
        }
    }
}

/// Somebody who never finds the room by itself: only others wake it.
fn guest<'a>(
    caller: u64,
    priority: i32,
    deadline: Millis,
    now: &'a (dyn Fn() -> Millis + Sync),
) -> Guest<'a> {
    Guest { caller, priority, deadline, now, has_room: &|| false }
}

/// Waits in line for one of the engine's places and takes it.
async fn served(room: &WaitingRoom, engine: &Engine, caller: u64, priority: i32) {
    let (now, has_room) = (|| engine.now(), || engine.free.load(SeqCst) > 0);
    let guest = Guest { has_room: &has_room, ..guest(caller, priority, NEVER, &now) };
    let mut waiting = room.enter(guest).ok().unwrap();
    loop {
        waiting.turn().await.unwrap();
        if engine.take() {
            return;
        }
        waiting.back();
    }
}

fn idle(room: &WaitingRoom) -> bool {
    let state = room.state.lock();
    state.queue.is_empty() && state.bells.is_empty() && !state.serving
}

#[tokio::test]
async fn the_most_urgent_is_called_first_then_callers_take_turns() {
    let room = WaitingRoom::new(8);
    let now = || 0;
    let order = Mutex::new(Vec::new());
    let guests = [("a1", 1, 0), ("a2", 1, 0), ("b1", 2, 0), ("low", 3, -1), ("high", 1, 7)];
    let all = guests.map(|(name, caller, priority)| {
        let mut waiting = room.enter(guest(caller, priority, NEVER, &now)).map_err(|_| name).unwrap();
        let (order, room) = (&order, &room);
        async move {
            waiting.turn().await.unwrap();
            order.lock().push(name);
            drop(waiting);
            room.call(0);
        }
    });
    room.call(0);
    let [a, b, c, d, e] = all;
    tokio::join!(a, b, c, d, e);
    assert_eq!(*order.lock(), ["high", "a1", "b1", "a2", "low"]);
    assert!(idle(&room));
}

#[tokio::test]
async fn one_at_a_time_has_the_turn_and_a_call_meanwhile_is_made_up_for() {
    let room = WaitingRoom::new(8);
    let free = AtomicBool::new(true);
    let (now, has_room) = (|| 0, || free.load(SeqCst));
    let some = Guest { has_room: &has_room, ..guest(0, 0, NEVER, &now) };
    let mut first = room.enter(some).ok().unwrap();
    let mut second = room.enter(some).ok().unwrap();
    first.turn().await.unwrap();
    room.call(0);
    assert!(timeout(TICK * 2, second.turn()).await.is_err(), "two at once");
    drop(first);
    second.turn().await.unwrap();
    free.store(false, SeqCst);
    drop(second);
    assert!(idle(&room));
}

#[tokio::test]
async fn who_has_to_give_way_hears_it_and_disturbs_nobodys_turn() {
    let room = WaitingRoom::new(2);
    let now = || 0;
    let mut served = room.enter(guest(0, 0, NEVER, &now)).ok().unwrap();
    room.call(0);
    served.turn().await.unwrap();
    let _waits = room.enter(guest(1, 0, NEVER, &now)).ok().unwrap();
    let mut newest = room.enter(guest(1, 0, NEVER, &now)).ok().unwrap();
    assert_eq!(room.enter(guest(1, 0, NEVER, &now)).err(), Some(Woken::Full));
    let _urgent = room.enter(guest(3, 5, NEVER, &now)).ok().unwrap();
    assert_eq!(newest.turn().await, Err(Woken::Full));
    drop(newest);
    assert!(room.state.lock().serving, "the turn is still the first one's");
    assert_eq!(room.refused[0].load(Relaxed), 2);
    drop(served);
    assert!(!room.state.lock().serving);
}

#[tokio::test]
async fn the_late_hear_it_when_their_time_is_over_not_at_the_next_tick() {
    let room = WaitingRoom::new(8);
    let engine = Engine::with(0);
    let now = || engine.now();
    let mut latest = 0;
    for wait in [1, 5, 22, 43] {
        let deadline = now() + wait;
        let mut waiting = room.enter(guest(0, 0, deadline, &now)).ok().unwrap();
        assert_eq!(waiting.turn().await, Err(Woken::Late));
        assert!(now() >= deadline);
        latest = latest.max(now() - deadline);
    }
    assert!(latest < 10, "{latest} ms");
    assert_eq!(room.refused[1].load(Relaxed), 4);
    assert!(idle(&room));
}

#[tokio::test]
async fn a_turn_that_nobody_took_goes_to_the_next() {
    let room = WaitingRoom::new(8);
    let (now, has_room) = (|| 0, || false);
    let free = AtomicBool::new(false);
    let sees = || free.load(SeqCst);
    let leaves = room.enter(Guest { has_room: &sees, ..guest(0, 0, NEVER, &now) }).ok().unwrap();
    let mut next = room.enter(Guest { has_room: &has_room, ..guest(0, 0, NEVER, &now) }).ok().unwrap();
    room.call(0);
    free.store(true, SeqCst);
    drop(leaves); // its client went away between the bell and the turn
    next.turn().await.unwrap();
    drop(next);
    assert!(idle(&room));
}

#[tokio::test]
async fn who_found_the_room_taken_keeps_its_place_and_who_does_not_fit_lets_others_pass() {
    let room = WaitingRoom::new(8);
    let free = AtomicBool::new(false);
    let (now, has_room) = (|| 0, || free.load(SeqCst));
    let some = Guest { has_room: &has_room, ..guest(0, 0, NEVER, &now) };
    let mut first = room.enter(some).ok().unwrap();
    let mut second = room.enter(some).ok().unwrap();
    room.call(0);
    first.turn().await.unwrap();
    first.back();
    room.call(0);
    first.turn().await.unwrap();
    free.store(true, SeqCst);
    first.back(); // perhaps somebody was faster: it is its turn again
    first.turn().await.unwrap();
    first.back(); // no: it cannot use that room
    second.turn().await.unwrap();
    free.store(false, SeqCst);
    drop((first, second));
    assert!(idle(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_comes_free_is_taken_at_once_not_at_the_next_tick() {
    const TURNS: u32 = 200;
    let room = Arc::new(WaitingRoom::new(8));
    let engine = Arc::new(Engine::with(1));
    let start = Instant::now();
    let tasks = [0, 1, 2].map(|caller| {
        let (room, engine) = (Arc::clone(&room), Arc::clone(&engine));
        tokio::spawn(async move {
            for _ in 0..TURNS {
                served(&room, &engine, caller, 0).await;
                tokio::task::yield_now().await;
                engine.release(&room);
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert!(start.elapsed() < TICK * TURNS / 4, "{:?}", start.elapsed());
    assert!(idle(&room));
}

/// Chance by a counter, so that it needs no crate.
fn dice(seed: u64) -> u64 {
    let x = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33
}

/// 2000 requests for 3 places; a third of them leaves at some point.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_all_who_stay_are_served_and_nothing_is_left() {
    let room = Arc::new(WaitingRoom::new(4096));
    let engine = Arc::new(Engine::with(3));
    let tasks: Vec<_> = (0..2000)
        .map(|i| {
            let (room, engine) = (Arc::clone(&room), Arc::clone(&engine));
            tokio::spawn(async move {
                let leaves = dice(i).is_multiple_of(3);
                let patience = Duration::from_micros(if leaves { dice(i) % 30_000 } else { 60_000_000 });
                let served = timeout(patience, served(&room, &engine, i % 7, (i % 3) as i32)).await.is_ok();
                if served {
                    tokio::time::sleep(Duration::from_micros(dice(i) % 300)).await;
                    engine.release(&room);
                }
                served || leaves
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(engine.free.load(SeqCst), 3);
    assert!(idle(&room));
}
