use crate::endpoint::{ASIDE_FIRST_MS, ASIDE_MOST_MS};
use crate::testing::{ask, chain, pool, specs, store};
use crate::*;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use waypost_config::{Picking, Prefixes, Role, Strategy};

fn any(pool: &Pool, now: Millis, tried: &[usize], desperate: bool) -> Option<Pick> {
    pool.pick(&Ask::any(tried, desperate), now).ok()
}

#[test]
fn one_probe_at_a_time_comes_back() {
    let pool = pool(1, Strategy::LeastLoad, |_| ());
    pool.failed(0, Failure::Broken, 0);
    assert!(any(&pool, 1, &[], false).is_none(), "nothing healthy is left");
    assert!(any(&pool, 1, &[], true).is_some(), "desperation takes it");
    let later = ASIDE_FIRST_MS * 2;
    let probe = any(&pool, later, &[], false).unwrap();
    assert!(any(&pool, later, &[], false).is_none(), "one probe at a time");
    drop(probe);
    let probe = any(&pool, later, &[], false).unwrap();
    probe.booking.endpoint().succeeded();
    assert!(!pool.endpoints()[0].is_aside());
}

#[test]
fn a_request_that_has_nowhere_else_to_go_does_not_end_the_probe_of_another() {
    let pool = pool(2, Strategy::LeastLoad, |_| ());
    (0..2).for_each(|index| pool.failed(index, Failure::Broken, 0));
    let later = ASIDE_FIRST_MS * 2;
    let probes = [0, 1].map(|_| any(&pool, later, &[], false).unwrap());
    let mut desperate = any(&pool, later, &[], true).unwrap();
    desperate.booking.move_to(1 - desperate.index, later);
    drop(desperate);
    assert!(any(&pool, later, &[], false).is_none(), "both probes are under way");
    drop(probes);
    assert!(any(&pool, later, &[], false).is_some());
}

#[test]
fn time_aside_doubles_up_to_its_bound() {
    let pool = pool(1, Strategy::LeastLoad, |_| ());
    let mut now = 0;
    for round in 0..10 {
        pool.failed(0, Failure::Broken, now);
        assert!(any(&pool, now, &[], false).is_none());
        assert!(any(&pool, now, &[], true).is_some(), "desperation takes it");
        let most = (ASIDE_FIRST_MS << round).min(ASIDE_MOST_MS) * 12 / 10;
        now += most + 1;
        assert!(any(&pool, now, &[], false).is_some(), "round {round}");
    }
}

#[test]
fn at_most_half_of_a_pool_is_put_aside_while_anything_works() {
    for (endpoints, most) in [(2, 1), (3, 1), (4, 2), (7, 3)] {
        let pool = pool(endpoints, Strategy::Kv, |_| ());
        let aside = || pool.endpoints().iter().filter(|e| e.is_aside()).count();
        (0..2).for_each(|_| (0..endpoints - 1).for_each(|i| pool.failed(i, Failure::Broken, 0)));
        assert_eq!(aside(), most);
        assert_eq!(pool.stats().kept_in_rotation, 2 * (endpoints - 1 - most) as u64);
        assert!(any(&pool, 1, &[], false).is_some());
        // The last one that worked fails, too: the model yields.
        pool.failed(endpoints - 1, Failure::Broken, 1);
        assert_eq!(aside(), endpoints);
        assert!(any(&pool, 1, &[], false).is_none());
        assert!(any(&pool, 1, &[], true).is_some(), "desperation takes it");
        pool.endpoints()[0].succeeded();
        assert_eq!(any(&pool, 1, &[], false).unwrap().index, 0);
    }
}

#[test]
fn a_hold_is_obeyed_even_in_desperation() {
    let pool = pool(2, Strategy::LeastLoad, |_| ());
    pool.failed(0, Failure::Hold { for_ms: 7_000 }, 0);
    assert!((0..50).all(|_| any(&pool, 6_999, &[], true).unwrap().index == 1));
    assert_eq!(pool.all_held_ms(10), None);
    pool.failed(1, Failure::Hold { for_ms: 3_000 }, 0);
    assert_eq!(pool.all_held_ms(1_000), Some(2_000));
    let refused = pool.pick(&Ask::any(&[], true), 1_000).unwrap_err();
    assert_eq!(refused, NoPick::Held { ms: 2_000 });
    assert!(any(&pool, 7_000, &[1], false).is_some());
}

#[test]
fn a_moved_booking_loads_where_it_went_and_only_there() {
    let pool = pool(3, Strategy::Kv, |_| ());
    store(&pool, 2, Tier::Device, 7, 6);
    let prompt = chain(7, 10);
    let mut pick = pool.pick(&Ask { tried: &[1, 2], ..ask(&prompt) }, 0).unwrap();
    assert_eq!(pool.load(0), Load { prefilling: 1, prefill_tokens: 160, decode_blocks: 10 });
    pick.booking.move_to(2, 0);
    pick.booking.move_to(99, 0);
    assert_eq!((pool.load(0), pool.endpoints()[0].in_flight()), (Load::default(), 0));
    assert_eq!(pool.load(2), Load { prefilling: 1, prefill_tokens: 64, decode_blocks: 10 });
    pick.booking.prefill_done(0);
    pick.booking.prefill_done(0);
    pick.booking.move_to(1, 0);
    assert_eq!(pool.load(1), Load { prefilling: 0, prefill_tokens: 0, decode_blocks: 10 });
    assert_eq!(**pick.booking.endpoint().id(), *"http://e1");
    drop(pick);
    assert_eq!((pool.load(1), pool.endpoints()[1].in_flight()), (Load::default(), 0));
}

#[test]
fn a_booking_that_only_counts_moves_too() {
    let pool = pool(2, Strategy::LeastLoad, |_| ());
    let mut pick = any(&pool, 0, &[1], false).unwrap();
    pick.booking.move_to(1, 0);
    let in_flight = || [pool.endpoints()[0].in_flight(), pool.endpoints()[1].in_flight()];
    assert_eq!(in_flight(), [0, 1]);
    drop(pick);
    assert_eq!(in_flight(), [0, 0]);
}

#[test]
fn a_lease_ends_and_is_counted_and_the_drop_frees_nothing_more() {
    let pool = pool(1, Strategy::Kv, |p| p.lease = Duration::from_secs(1));
    let prompt = chain(7, 10);
    let old = pool.pick(&ask(&prompt), 0).unwrap();
    let new = pool.pick(&ask(&prompt), 500).unwrap();
    assert_eq!(pool.inner.shared.book.lock().expire(999), 0);
    assert_eq!(pool.inner.shared.book.lock().expire(1_000), 1);
    assert_eq!((pool.endpoints()[0].in_flight(), pool.load(0).decode_blocks), (1, 10));
    old.booking.prefill_done(0);
    drop(old);
    assert_eq!((pool.endpoints()[0].in_flight(), pool.load(0).decode_blocks), (1, 10));
    // A choice ends leases, too.
    drop(pool.pick(&ask(&prompt), 1_500).unwrap());
    assert_eq!(
        (pool.stats().expired, pool.load(0), pool.endpoints()[0].in_flight()),
        (2, Load::default(), 0)
    );
    drop(new);
    assert_eq!(pool.endpoints()[0].in_flight(), 0);
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn report(&self, id: u64, event: BookingEvent) {
        self.0.lock().push(match event {
            BookingEvent::Add { endpoint, chain, blocks, prefill_tokens } => {
                format!("{id} {endpoint} {}+{blocks} {prefill_tokens}", chain.len())
            }
            BookingEvent::PrefillDone => format!("{id} done"),
            BookingEvent::Free => format!("{id} freed"),
        });
    }
}

#[test]
fn bookings_are_reported_once_whatever_the_strategy() {
    for (strategy, unnamed) in [(Strategy::Kv, 1), (Strategy::LeastLoad, 1)] {
        let pool = pool(2, strategy, |_| ());
        let told = Arc::new(Told::default());
        pool.set_reporter(Some(told.clone()));
        let prompt = chain(7, 2);
        let ask = Ask { prompt_tokens: 40, tried: &[1], ..ask(&prompt) };
        let mut pick = pool.pick(&ask, 0).unwrap();
        pick.booking.move_to(1, 0);
        pick.booking.prefill_done(0);
        pick.booking.prefill_done(0);
        drop(pick);
        let first = format!("1 http://e0 2+{unnamed} 40");
        assert_eq!(*told.0.lock(), [&first, "1 http://e1 2+1 40", "1 done", "1 freed"]);
        pool.set_reporter(None);
        drop(pool.pick(&ask, 0));
        assert_eq!(told.0.lock().len(), 4);
    }
}

fn add(blocks: u64) -> BookingEvent {
    BookingEvent::Add {
        endpoint: "http://e0".into(),
        chain: chain(7, blocks).into(),
        blocks: 1,
        prefill_tokens: 100,
    }
}

#[test]
fn bookings_of_others_count_until_they_end() {
    for strategy in [Strategy::Kv, Strategy::LeastLoad] {
        let pool = pool(2, strategy, |p| p.lease = Duration::from_secs(1));
        let remote = |id, event| pool.remote("r".into(), id, event, 0);
        assert!(remote(5, add(4)));
        assert!(remote(5, add(4)), "said twice, booked once");
        assert_eq!(pool.load(0), Load { prefilling: 1, prefill_tokens: 100, decode_blocks: 5 });
        let endpoint = &pool.endpoints()[0];
        assert_eq!((endpoint.requests(), endpoint.in_flight()), (1, 0));
        assert!((0..20).all(|_| any(&pool, 0, &[], false).unwrap().index == 1));
        assert!(remote(5, BookingEvent::PrefillDone));
        assert!(!pool.remote("q".into(), 5, BookingEvent::PrefillDone, 0));
        assert_eq!(pool.load(0), Load { prefilling: 0, prefill_tokens: 0, decode_blocks: 5 });
        assert!(remote(5, BookingEvent::Free));
        assert!(!remote(5, BookingEvent::Free));
        assert_eq!((pool.load(0), endpoint.requests()), (Load::default(), 0));
        assert!(pool.remote("r".into(), 6, add(1), 10));
        drop(any(&pool, 1_010, &[], false));
        assert_eq!((pool.load(0), endpoint.requests(), pool.stats().expired), (Load::default(), 0, 1));
    }
}

#[test]
fn others_cannot_book_without_end() {
    let pool = pool(1, Strategy::LeastLoad, |_| ());
    let most = crate::book::OTHERS_BOOKINGS_MAX as u64;
    (0..most + 3).for_each(|id| assert_eq!(pool.remote("r".into(), id, add(0), 0), id < most));
    assert_eq!((pool.stats().others as u64, pool.stats().others_dropped), (most, 3));
    let endpoint = "http://gone".into();
    let stranger = BookingEvent::Add { endpoint, chain: [].into(), blocks: 0, prefill_tokens: 0 };
    assert!(!pool.remote("r".into(), 0, stranger, 0));
}

#[test]
fn saturation_is_the_mean_of_the_fuller_of_queue_and_cache() {
    let pool = pool(3, Strategy::Kv, |_| ());
    let observed =
        |waiting, usage| Observed { waiting: Some(waiting), kv_usage: Some(usage), ..Observed::default() };
    pool.observe(0, observed(10, 0.4));
    pool.observe(1, observed(0, 0.4));
    // (2 + 0.5 + 0) / 3
    assert!((pool.saturation(0) - 2.5 / 3.0).abs() < 1e-9);
    let prompt = chain(7, 8);
    let _booked = pool.pick(&Ask { tried: &[0, 1], ..ask(&prompt) }, 0).unwrap();
    pool.observe(2, Observed { total_blocks: Some(10), ..Observed::default() });
    // 8 of 10 blocks are 1; one request before its first token only 0.2
    assert!((pool.saturation(0) - 3.5 / 3.0).abs() < 1e-9);
    // All figures are old: nothing is booked on the first two.
    assert!((pool.saturation(60_000) - 1.0 / 3.0).abs() < 1e-9);
    pool.failed(0, Failure::Broken, 0);
    assert!((pool.saturation(0) - 1.5 / 2.0).abs() < 1e-9);
}

#[test]
fn a_reload_keeps_what_still_agrees() {
    let before = pool(3, Strategy::Kv, |p| p.predicted = Duration::from_secs(60));
    store(&before, 1, Tier::Device, 7, 6);
    store(&before, 2, Tier::Device, 7, 6);
    let prompt = chain(7, 10);
    let mut held = before.pick(&Ask { tried: &[0, 2], ..ask(&prompt) }, 0).unwrap();
    let gone = before.pick(&Ask { tried: &[0, 1], ..ask(&prompt) }, 0).unwrap();
    before.failed(0, Failure::Broken, 0);

    let mut specs = specs(5);
    specs.remove(2);
    specs[1].role = Role::Decode;
    let after = Pool::new(Arc::clone(before.picking()), &specs, Some(&before));
    let workers: Vec<_> = after.endpoints().iter().map(|e| e.worker()).collect();
    assert_eq!(workers[..2], [Worker(0), Worker(1)]);
    assert_eq!(workers.iter().chain([&Worker(2)]).collect::<HashSet<_>>().len(), 5, "2 is still booked");
    assert!(after.endpoints()[0].is_aside());
    assert_eq!((after.endpoints()[1].in_flight(), after.endpoints()[1].spec().role), (1, Role::Decode));
    assert_eq!(after.load(1), before.load(1));
    let mut out = Vec::new();
    after.index().unwrap().matches(&prompt, &mut out);
    assert_eq!(out.iter().map(|h| h.worker).collect::<Vec<_>>(), [Worker(1)], "the gone one is forgotten");
    assert_eq!(after.pick(&Ask { only: Some(&[1]), ..ask(&prompt) }, 0).unwrap().cached_tokens, 160);

    held.booking.prefill_done(0);
    assert_eq!(after.load(1).prefill_tokens, 0);
    held.booking.move_to(0, 0);
    assert_eq!((after.endpoints()[0].in_flight(), after.endpoints()[1].in_flight()), (1, 0));
    drop((held, gone));
    assert_eq!(after.stats().bookings, 0);

    let other = Picking { block_size: 32, ..(**after.picking()).clone() };
    let resized = Pool::new(Arc::new(other), &specs, Some(&after));
    resized.index().unwrap().matches(&prompt, &mut out);
    assert!(out.is_empty());
    let plain = Pool::new(Arc::new(Picking::default()), &specs, Some(&resized));
    assert!(plain.index().is_none() && !plain.reads_prompts());
}

#[test]
fn without_events_a_prompt_counts_as_cached_where_it_was_sent() {
    let pool = pool(2, Strategy::Kv, |p| {
        p.prefixes = Prefixes::Approximate { ttl: Duration::from_secs(120) };
    });
    assert!(pool.index().is_none());
    let prompt = chain(7, 10);
    let to_first = Ask { only: Some(&[0]), ..ask(&prompt) };
    drop(pool.pick(&to_first, 0).unwrap());
    assert_eq!(pool.pick(&to_first, 119_999).unwrap().cached_tokens, 160);
    // It tells that it holds 8 blocks of 16 tokens.
    pool.observe(0, Observed { total_blocks: Some(16), block_size: Some(8), ..Observed::default() });
    drop(pool.pick(&to_first, 120_000).unwrap());
    assert_eq!(pool.pick(&to_first, 900_000).unwrap().cached_tokens, 128);
}

/// What a request puts on an endpoint, written down without any cleverness.
struct Naive {
    endpoint: usize,
    chain: Vec<u64>,
    unnamed: u64,
    prefill: Option<u64>,
    at: Millis,
    gone: bool,
}

const LEASE_MS: Millis = 40;

fn naive(all: &[Naive], endpoint: usize) -> (u32, Load) {
    let here: Vec<_> = all.iter().filter(|n| !n.gone && n.endpoint == endpoint).collect();
    let blocks: HashSet<_> = here.iter().flat_map(|n| &n.chain).collect();
    let load = Load {
        prefilling: here.iter().filter(|n| n.prefill.is_some()).count() as u32,
        prefill_tokens: here.iter().filter_map(|n| n.prefill).sum(),
        decode_blocks: blocks.len() as u64 + here.iter().map(|n| n.unnamed).sum::<u64>(),
    };
    (here.len() as u32, load)
}

proptest! {
    /// Whatever happens to bookings, the loads are those of a naive count, and zero in the end.
    #[test]
    fn loads_are_those_of_a_naive_count(
        steps in prop::collection::vec((0..6_u8, 0..12_usize, 0..3_u64, 0..9_u64, 0..20_u32), 1..80)
    ) {
        let pool = pool(3, Strategy::Kv, |p| p.lease = Duration::from_millis(LEASE_MS));
        (0..3).for_each(|i| store(&pool, i, Tier::Device, i as u64, 3));
        let cached = |endpoint: usize, seed: u64, blocks: u64| {
            if endpoint as u64 == seed { 16 * blocks.min(3) } else { 0 }
        };
        let (mut now, mut live, mut all) = (0, Vec::<(usize, u64, u64, Pick)>::new(), Vec::<Naive>::new());
        for (what, which, seed, blocks, more) in steps {
            let at = which.checked_rem(live.len()).unwrap_or(0);
            match what {
                0 | 1 => {
                    let chain = chain(seed, blocks);
                    let prompt_tokens = blocks as u32 * 16 + more;
                    let ask = Ask { prompt_tokens, ..ask(&chain) };
                    let pick = pool.pick(&ask, now).unwrap();
                    all.iter_mut().for_each(|n| n.gone |= n.at + LEASE_MS <= now);
                    let prefill = u64::from(prompt_tokens) - cached(pick.index, seed, blocks);
                    let unnamed = u64::from(prompt_tokens.div_ceil(16)) - blocks;
                    let (endpoint, prefill) = (pick.index, Some(prefill));
                    live.push((all.len(), seed, blocks, pick));
                    all.push(Naive { endpoint, chain, unnamed, prefill, at: now, gone: false });
                }
                2 if !live.is_empty() => {
                    all[live[at].0].prefill = None;
                    live[at].3.booking.prefill_done(0);
                }
                3 if !live.is_empty() => {
                    let (n, .., pick) = live.swap_remove(at);
                    all[n].gone = true;
                    drop(pick);
                }
                4 if !live.is_empty() => {
                    let (n, seed, blocks, pick) = &mut live[at];
                    let (to, n) = (more as usize % 3, &mut all[*n]);
                    if to != n.endpoint {
                        n.endpoint = to;
                        // The partial block: what the first endpoint had to compute and had cached, less what this has.
                        let full = n.prefill.map(|p| p + cached(pick.index, *seed, *blocks));
                        n.prefill = full.map(|full| full - cached(to, *seed, *blocks));
                        pick.index = to;
                    }
                    pick.booking.move_to(to, now);
                }
                5 => {
                    now += Millis::from(more);
                    pool.inner.shared.book.lock().expire(now);
                    all.iter_mut().for_each(|n| n.gone |= n.at + LEASE_MS <= now);
                }
                _ => {}
            }
            for endpoint in 0..3 {
                let (requests, load) = naive(&all, endpoint);
                prop_assert_eq!(pool.load(endpoint), load);
                prop_assert_eq!(pool.endpoints()[endpoint].in_flight(), requests);
            }
        }
        drop(live);
        prop_assert_eq!(pool.stats().bookings, 0);
        prop_assert!((0..3).all(|i| pool.load(i) == Load::default() && pool.endpoints()[i].in_flight() == 0));
        prop_assert!(pool.inner.shared.book.lock().active.is_empty());
    }
}

#[test]
fn threads_leave_no_load_behind() {
    let pool = pool(4, Strategy::Kv, |p| {
        p.predicted = Duration::from_secs(1);
        p.lease = Duration::from_millis(30);
    });
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..300 {
                    let prompt = chain(fastrand::u64(0..5), fastrand::u64(0..20));
                    let mut pick = pool.pick(&ask(&prompt), round).unwrap();
                    match fastrand::u8(0..4) {
                        0 => pick.booking.prefill_done(0),
                        1 => pick.booking.move_to(fastrand::usize(0..4), round),
                        2 => kept.push(pick),
                        _ => {}
                    }
                    if round % 50 == thread {
                        kept.clear();
                    }
                }
            });
        }
    });
    assert_eq!(pool.stats().bookings, 0);
    assert!((0..4).all(|i| pool.load(i) == Load::default() && pool.endpoints()[i].in_flight() == 0));
    assert!(pool.inner.shared.book.lock().active.is_empty());
}
