use crate::testing::{ask, chain, pool, specs, store};
use crate::*;
use std::sync::Arc;
use std::time::Duration;
use waypost_config::{Affinity, Picking, Role, Scorer, Strategy};

fn spread(pool: &Pool) -> Vec<u32> {
    pool.endpoints().iter().map(|e| e.in_flight()).collect()
}

#[test]
fn load_spreads_evenly_and_bookings_are_released_once() {
    let pool = pool(4, Strategy::LeastLoad, |_| ());
    let picks: Vec<_> = (0..40).map(|_| pool.pick(&Ask::default(), 0).unwrap()).collect();
    assert_eq!(spread(&pool), [10; 4]);
    assert!(picks.iter().all(|p| p.choice.is_none() && p.booking.id() == 0));
    assert_eq!(pool.stats().bookings, 0, "nothing is written down");
    drop(picks);
    assert_eq!(spread(&pool), [0; 4]);
}

#[test]
fn ties_are_random() {
    for strategy in [Strategy::LeastLoad, Strategy::Kv, Strategy::Scorers, Strategy::Random] {
        let pool = pool(3, strategy, |p| p.scorers = vec![(Scorer::Queue, 1.0)]);
        let mut seen = [0; 3];
        (0..300).for_each(|_| seen[pool.pick(&Ask::default(), 0).unwrap().index] += 1);
        assert!(seen.iter().all(|n| *n > 50), "{strategy:?} {seen:?}");
    }
}

#[test]
fn round_robin_takes_turns_past_those_it_cannot_take() {
    let pool = pool(4, Strategy::RoundRobin, |_| ());
    let taken = |tried: &[usize]| pool.pick(&Ask::any(tried, false), 0).unwrap().index;
    assert_eq!([taken(&[]), taken(&[]), taken(&[2]), taken(&[]), taken(&[])], [0, 1, 3, 0, 1]);
}

#[test]
fn the_less_busy_of_two_is_never_the_busiest() {
    let pool = pool(3, Strategy::PowerOfTwo, |_| ());
    let _busy: Vec<_> = (0..2).map(|_| pool.pick(&Ask::any(&[1, 2], false), 0).unwrap()).collect();
    let mut seen = [0; 3];
    (0..300).for_each(|_| seen[pool.pick(&Ask::default(), 0).unwrap().index] += 1);
    assert!(seen[0] == 0 && seen[1] > 100 && seen[2] > 100, "{seen:?}");
}

#[test]
fn kv_weighs_what_is_cached_against_what_is_loaded() {
    let pool = pool(3, Strategy::Kv, |_| ());
    store(&pool, 1, Tier::Device, 7, 6);
    store(&pool, 2, Tier::Host, 7, 6);
    let prompt = chain(7, 10);
    let first = pool.pick(&ask(&prompt), 0).unwrap();
    let choice = first.choice.as_ref().unwrap();
    let costs: Vec<_> = choice.candidates.iter().map(|c| c.cost.unwrap()).collect();
    // 10 to compute and 10 to add; 6 less; 0.75 * 6 less
    assert_eq!(costs, [20.0, 14.0, 15.5]);
    assert_eq!((first.index, first.cached_tokens, choice.regret_blocks), (1, 96, 0));
    assert_eq!(pool.load(1), Load { prefilling: 1, prefill_tokens: 64, decode_blocks: 10 });
    // The same again: 4 + 10 - 6 + 10 + 0 on 1.
    let second = pool.pick(&ask(&prompt), 0).unwrap();
    let choice = second.choice.as_ref().unwrap();
    let costs: Vec<_> = choice.candidates.iter().map(|c| c.cost.unwrap()).collect();
    assert_eq!(costs, [20.0, 18.0, 15.5]);
    assert_eq!((second.index, second.cached_tokens), (2, 72));
    assert!(choice.candidates[2].chosen && choice.candidates[1].requests == 1);
    first.booking.prefill_done(0);
    assert_eq!(pool.load(1), Load { prefilling: 0, prefill_tokens: 0, decode_blocks: 10 });
}

#[test]
fn blocks_shared_by_requests_count_once_and_partial_ones_each_time() {
    let pool = pool(1, Strategy::Kv, |_| ());
    let (long, short) = (chain(7, 10), chain(7, 4));
    let a = pool.pick(&Ask { prompt_tokens: 165, ..ask(&long) }, 0).unwrap();
    assert_eq!(pool.load(0).decode_blocks, 11);
    let b = pool.pick(&Ask { prompt_tokens: 65, ..ask(&short) }, 0).unwrap();
    assert_eq!(pool.load(0).decode_blocks, 12);
    drop(a);
    assert_eq!(pool.load(0).decode_blocks, 5);
    drop(b);
    assert_eq!(pool.load(0), Load::default());
}

#[test]
fn a_blind_endpoint_is_not_believed_but_what_was_just_sent_there_is() {
    let pool = pool(2, Strategy::Kv, |p| p.predicted = Duration::from_secs(2));
    store(&pool, 0, Tier::Device, 7, 8);
    pool.endpoints()[0].set_kv_state(KvState::Blind);
    let prompt = chain(7, 8);
    let first = pool.pick(&Ask { tried: &[1], ..ask(&prompt) }, 0).unwrap();
    assert_eq!(first.cached_tokens, 0);
    let second = pool.pick(&Ask { tried: &[1], ..ask(&prompt) }, 1).unwrap();
    assert_eq!(second.cached_tokens, 128);
    let late = pool.pick(&Ask { tried: &[1], ..ask(&prompt) }, 2_001).unwrap();
    assert_eq!(late.cached_tokens, 0, "the guess was renewed at 1 and is over at 2,001");
    pool.endpoints()[0].set_kv_state(KvState::Live);
    assert_eq!(pool.pick(&Ask { tried: &[1], ..ask(&prompt) }, 9_000).unwrap().cached_tokens, 128);
}

#[test]
fn fifty_equal_requests_at_once_spread_evenly() {
    let predicted = |p: &mut Picking| p.predicted = Duration::from_secs(2);
    for (endpoints, blocks) in [(4, 100), (8, 209), (7, 1)] {
        for (strategy, partial) in [Strategy::Kv, Strategy::Ttft].into_iter().flat_map(|s| [(s, 0), (s, 5)]) {
            let pool = pool(endpoints, strategy, predicted);
            let prompt = chain(1, blocks);
            let ask = Ask { prompt_tokens: blocks as u32 * 16 + partial, ..ask(&prompt) };
            let picks: Vec<_> = (0..50).map(|_| pool.pick(&ask, 0).unwrap()).collect();
            even(&pool, 50);
            drop(picks);
            let start = std::sync::Barrier::new(50);
            let picks: Vec<_> = std::thread::scope(|scope| {
                let one = || {
                    start.wait();
                    pool.pick(&ask, 0).unwrap()
                };
                let threads: Vec<_> = (0..50).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            even(&pool, 50);
            drop(picks);
            assert!((0..endpoints).all(|i| pool.load(i) == Load::default()));
        }
    }
}

fn even(pool: &Pool, requests: u32) {
    let spread = spread(pool);
    let n = spread.len() as u32;
    assert!(spread.iter().all(|s| *s == requests / n || *s == requests.div_ceil(n)), "{spread:?}");
}

#[test]
fn temperature_lets_dearer_endpoints_have_some() {
    let pool = pool(2, Strategy::Kv, |p| p.kv.temperature = 1.0);
    store(&pool, 0, Tier::Device, 7, 8);
    let prompt = chain(7, 10);
    let mut seen = [0_u32; 2];
    (0..4_000).for_each(|_| seen[pool.pick(&ask(&prompt), 0).unwrap().index] += 1);
    // 1 against e^-1: 73 % and 27 %, within six standard deviations.
    assert!((900..1_250).contains(&seen[1]), "{seen:?}");
}

#[test]
fn the_default_of_llm_d_prefers_the_prefix_until_the_queue_says_no() {
    let scorers = vec![(Scorer::Queue, 2.0), (Scorer::KvUtilization, 2.0), (Scorer::Prefix, 3.0)];
    let pool = pool(2, Strategy::Scorers, |p| p.scorers = scorers);
    let observed = |waiting, usage| Observed {
        waiting: Some(waiting),
        kv_usage: Some(usage),
        at: 1_000,
        ..Observed::default()
    };
    store(&pool, 0, Tier::Device, 7, 5);
    pool.observe(0, observed(0, 0.5));
    pool.observe(1, observed(0, 0.0));
    let prompt = chain(7, 10);
    let pick = pool.pick(&ask(&prompt), 1_000).unwrap();
    let choice = pick.choice.unwrap();
    let scores: Vec<_> = choice.candidates.iter().map(|c| c.score.unwrap()).collect();
    // 2*1 + 2*0.5 + 3*0.5 and 2*1 + 2*1 + 0
    assert_eq!((pick.index, scores), (0, vec![4.5, 4.0]));
    assert_eq!(choice.candidates[0].scores[2], Scored { scorer: "prefix", score: 0.5 });
    drop(pick.booking);
    pool.observe(0, observed(3, 0.5));
    assert_eq!(pool.pick(&ask(&prompt), 1_000).unwrap().index, 1);
    // Old figures are not used: no queue is known, the usage is the other's.
    pool.observe(1, Observed { at: 6_500, ..observed(0, 0.0) });
    let pick = pool.pick(&ask(&prompt), 6_500).unwrap();
    let choice = pick.choice.unwrap();
    assert_eq!((pick.index, choice.candidates[0].stale, choice.candidates[1].stale), (0, true, false));
    assert_eq!(choice.candidates[0].figures_age_ms, Some(5_500));
    assert_eq!(choice.candidates[0].score, Some(5.5));
}

#[test]
fn the_affinity_filter_says_whom_it_left_out() {
    let pool = pool(3, Strategy::Scorers, |p| {
        p.scorers = vec![(Scorer::TokenLoad, 1.0)];
        p.affinity = Some(Affinity {
            threshold: 0.8,
            max_ttft_penalty: Duration::from_secs(18),
            prefill_tokens_per_second: 10.0,
            exploration: 0.0,
        });
    });
    store(&pool, 2, Tier::Device, 7, 9);
    let prompt = chain(7, 10);
    let picks: Vec<_> = (0..13).map(|_| pool.pick(&ask(&prompt), 0).unwrap()).collect();
    // Each puts 16 tokens on it; with 192 ahead the bound of 180 is passed.
    assert!(picks[..12].iter().all(|p| p.index == 2), "{picks:?}");
    assert_ne!(picks[12].index, 2);
    let why: Vec<_> = picks[0].choice.as_ref().unwrap().candidates.iter().map(|c| c.why_not).collect();
    assert_eq!(why, [Some(WhyNot::FilteredAffinity), Some(WhyNot::FilteredAffinity), None]);
}

#[test]
fn a_session_comes_back() {
    let pool = pool(5, Strategy::Scorers, |p| p.scorers = vec![(Scorer::SessionAffinity, 1.0)]);
    let ask = Ask { session: Some("s"), ..Ask::default() };
    let first = pool.pick(&ask, 0).unwrap().index;
    assert!((0..50).all(|_| pool.pick(&ask, 0).unwrap().index == first));
}

#[test]
fn every_bound_is_obeyed_and_named() {
    let prompt = chain(7, 10);
    let observed = Observed { kv_usage: Some(0.9), waiting: Some(4), at: 0, ..Observed::default() };
    for (strategy, threshold, set) in [
        (
            Strategy::Kv,
            Threshold::PrefillTokens,
            (|b| b.prefill_tokens = Some(159)) as fn(&mut waypost_config::Busy),
        ),
        (Strategy::LeastLoad, Threshold::Requests, |b| b.requests = Some(1)),
        (Strategy::LeastLoad, Threshold::Waiting, |b| b.waiting = Some(3)),
        (Strategy::RoundRobin, Threshold::KvShare, |b| b.kv_share = Some(0.89)),
    ] {
        let pool = pool(2, strategy, |p| set(&mut p.busy));
        let picks: Vec<_> = (0..2).map(|_| pool.pick(&ask(&prompt), 0).unwrap()).collect();
        (0..2).for_each(|i| pool.observe(i, observed.clone()));
        let refused = pool.pick(&Ask { desperate: true, ..ask(&prompt) }, 0).unwrap_err();
        assert_eq!(refused, NoPick::Busy(threshold));
        let idle = |i| pool.observe(i, Observed::default());
        drop(picks);
        (0..2).for_each(idle);
        assert!(pool.pick(&ask(&prompt), 0).is_ok(), "{threshold:?}");
    }
}

#[test]
fn a_share_is_above_its_bound_only_beyond_it_and_our_own_blocks_count() {
    let pool = pool(1, Strategy::Kv, |p| p.busy.kv_share = Some(0.5));
    // 40 blocks of 8 tokens are 20 of ours.
    let observed =
        Observed { total_blocks: Some(40), block_size: Some(8), kv_usage: Some(0.1), ..Observed::default() };
    pool.observe(0, observed);
    let prompt = chain(1, 10);
    let _ten = pool.pick(&ask(&prompt), 0).unwrap();
    let other = chain(2, 1);
    let _eleven = pool.pick(&ask(&other), 0).expect("10 of 20 is not above one half");
    let refused = pool.pick(&ask(&other), 0).unwrap_err();
    assert_eq!((refused, refused.as_str()), (NoPick::Busy(Threshold::KvShare), "busy_kv"));
}

#[test]
fn it_says_why_there_is_none() {
    let mut specs = specs(2);
    specs[0].role = Role::Prefill;
    specs[1].role = Role::Decode;
    let pool = Pool::new(Arc::new(Picking::default()), &specs, None);
    let no = |ask: Ask<'_>| pool.pick(&ask, 0).map(|p| p.index);
    assert_eq!(no(Ask::default()), Ok(1));
    assert_eq!(no(Ask { want: Want::Prefill, ..Ask::default() }), Ok(0));
    assert_eq!(no(Ask { only: Some(&[0]), ..Ask::default() }), Err(NoPick::NotInSubset));
    assert_eq!(no(Ask::any(&[1], false)), Err(NoPick::Tried));
    pool.failed(1, Failure::Hold { for_ms: 70 }, 0);
    assert_eq!(no(Ask::default()), Err(NoPick::Held { ms: 70 }));
    pool.failed(0, Failure::Broken, 0);
    assert_eq!(no(Ask { want: Want::Prefill, ..Ask::default() }), Err(NoPick::Unhealthy));
    let decoders = Pool::new(Arc::new(Picking::default()), &specs[1..], None);
    let refused = decoders.pick(&Ask { want: Want::Prefill, ..Ask::default() }, 0).unwrap_err();
    assert_eq!(refused, NoPick::NoRole);
    let empty = Pool::new(Arc::new(Picking::default()), &[], None);
    assert_eq!(empty.pick(&Ask::default(), 0).unwrap_err(), NoPick::Unhealthy);
    assert_eq!(empty.saturation(0), 1.0);
}

#[test]
fn a_choice_reads_well() {
    let pool = pool(2, Strategy::Kv, |_| ());
    store(&pool, 0, Tier::Device, 7, 2);
    pool.endpoints()[0].set_kv_state(KvState::Live);
    let prompt = chain(7, 4);
    let pick = pool.pick(&Ask { tried: &[0], ..ask(&prompt) }, 0).unwrap();
    let told = serde_json::to_value(pick.choice).unwrap();
    assert_eq!(told["strategy"], "kv");
    assert_eq!(told["regret_blocks"], 0, "what was tried cannot be regretted");
    assert_eq!(told["candidates"][0]["why_not"], "tried");
    assert_eq!(told["candidates"][0]["matched_tokens"], 32);
    assert_eq!(told["candidates"][0]["kv_state"], "live");
    assert_eq!(told["candidates"][1]["cost"], 8.0);
    assert_eq!(told["candidates"][1]["chosen"], true);
}
