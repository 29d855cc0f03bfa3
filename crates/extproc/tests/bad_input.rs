//! What should not come, and streams that break off: one answer or one error, one settled case, nothing left.

mod common;
use common::*;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tonic::Code;
use waypost_extproc::Options;

#[tokio::test]
async fn messages_in_a_wrong_order_end_the_stream_with_an_error() {
    let door = door().await;
    let head = || head((FD, FD), "", false, &[]);
    let unknown = || ProcessingRequest::default();
    let wrong: Vec<Vec<ProcessingRequest>> = vec![
        vec![body("abc", true)],
        vec![trailers()],
        vec![data("abc", true)],
        vec![response_trailers()],
        vec![unknown()],
        vec![head(), head()],
        vec![head(), body("a", true), head()],
        vec![head(), data("x", false)],
        vec![head(), body("a", true), response("200", false), response("200", false)],
        vec![response("200", false), unknown()],
    ];
    let count = wrong.len() as u64;
    for messages in wrong {
        let shown = format!("{messages:?}");
        let talk = door.talk().await;
        for message in messages {
            talk.say(message);
        }
        assert_eq!(talk.error().await.code(), Code::InvalidArgument, "{shown}");
    }
    door.settled().await;
    assert_eq!(door.counts.protocol_errors.load(Relaxed), count);
}

#[tokio::test]
async fn modes_that_are_not_served_are_an_error() {
    let door = door().await;
    for modes in [(5, 0), (0, 5), (-1, 0), (99, 99)] {
        let talk = door.talk().await;
        talk.say(head(modes, "", false, &[]));
        assert_eq!(talk.error().await.code(), Code::Unimplemented);
    }
    door.settled().await;
    assert!(door.seen.events().is_empty());
}

#[tokio::test]
async fn an_envoy_that_does_not_tell_its_modes_is_taken_at_the_configured_ones() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(ProcessingRequest { protocol_config: None, ..head((N, N), "", false, &[]) });
    talk.silence().await;
    talk.say(body("abc", true));
    talk.reply().await;
    assert_eq!(streamed(talk.reply().await), ("abc".into(), true));
}

#[tokio::test]
async fn what_comes_after_the_end_is_ignored() {
    let door = door().await;
    for does in ["", "slow"] {
        let mut talk = door.talk().await;
        talk.say(head((FD, FD), does, false, &[])).say(body("abc", true));
        // Also while the judge is still at it.
        talk.say(body("abc", true)).say(body("more", false)).say(trailers());
        talk.reply().await;
        assert_eq!(streamed(talk.reply().await), ("abc".into(), true));
        talk.say(body("abc", true)).say(trailers());
        talk.silence().await;
        talk.say(response("200", false));
        talk.reply().await;
        assert!(talk.finish().await.is_empty());
    }
    let mut talk = door.talk().await;
    talk.say(head((B, S), "", false, &[])).say(body("abc", true)).say(body("abc", true));
    talk.reply().await;
    talk.reply().await;
    talk.silence().await;
    drop(talk);
    // The response's half ends while the request's goes on.
    let mut talk = door.talk().await;
    talk.say(head((S, S), "", false, &[])).say(response("200", false)).say(data("x", true));
    talk.say(data("x", true)).say(response_trailers()).say(response("200", true)).say(body("late", true));
    for _ in 0..3 {
        talk.reply().await;
    }
    assert!(is_untouched(&talk.reply().await));
    assert!(talk.hear().await.unwrap().is_none());
    door.settled().await;
    assert_eq!(door.counts.ignored.load(Relaxed), 5 + 5 + 1 + 3);
    let complete = door.seen.events().iter().filter(|event| *event == "end Complete").count();
    assert_eq!(complete, 1);
}

#[tokio::test]
async fn streams_that_end_early_are_closed_and_settled() {
    let door = door().await;
    let start = || head((FD, FD), "", false, &[]);
    let stuck = || head((FD, FD), "stuck", false, &[]);
    let phases: Vec<(&str, Vec<ProcessingRequest>, usize)> = vec![
        ("nothing", vec![], 0),
        ("headers only", vec![start()], 0),
        ("half a body", vec![start(), body("abc", false)], 0),
        ("deciding", vec![stuck(), body("abc", true)], 0),
        ("deciding blind", vec![head((N, N), "stuck", false, &[])], 0),
        ("awaiting the body", vec![head((B, B), "", false, &[])], 1),
        ("deciding at the body", vec![head((B, B), "stuck", false, &[]), body("abc", true)], 1),
        ("sent on", vec![start(), body("abc", true)], 2),
        ("response begun", vec![start(), body("abc", true), response("200", false)], 3),
        ("response half", vec![start(), body("abc", true), response("200", false), data("x", false)], 4),
    ];
    let cases = phases.len() - 1;
    for hard in [false, true] {
        for (phase, messages, replies) in &phases {
            let mut talk = door.talk().await;
            for message in messages {
                talk.say(message.clone());
            }
            for _ in 0..*replies {
                talk.reply().await;
            }
            if hard {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(talk);
            } else {
                assert_eq!(talk.finish().await, [], "{phase}");
            }
            door.settled().await;
        }
    }
    let events = door.seen.events();
    assert_eq!(events.iter().filter(|event| *event == "drop").count(), 2 * cases);
    assert!(!events.iter().any(|event| event.starts_with("end")), "{events:?}");
}

#[tokio::test]
async fn a_client_that_takes_no_replies_and_resets_leaves_nothing() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[]));
    for _ in 0..10 {
        talk.say(body(vec![1; 1 << 20], false));
    }
    talk.say(body("", true));
    talk.reply().await;
    // The window is full, and the body is held until it has been taken.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(door.counts.held_bytes.load(Relaxed), 10 << 20);
    drop(talk);
    door.settled().await;
    assert_eq!(door.seen.events().last().map(String::as_str), Some("drop"));
}

#[tokio::test]
async fn a_connection_that_breaks_settles_all_of_its_streams() {
    let door = door().await;
    let client = door.client().await;
    let mut talks = Vec::new();
    for does in ["", "stuck", "slow"].repeat(20) {
        let talk = client.talk().await.unwrap();
        talk.say(head((FD, FD), does, false, &[])).say(body(vec![1; 50_000], does == "stuck"));
        talks.push(talk);
    }
    while door.counts.held_bytes.load(Relaxed) < 60 * 50_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((client, talks));
    door.settled().await;
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_with_413() {
    let door = door().await;
    let piece = vec![b'x'; 1 << 20];
    // Counted piece by piece.
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[]));
    for _ in 0..21 {
        talk.say(body(piece.clone(), false));
    }
    talk.say(body("", true));
    assert_eq!(immediate(talk.reply().await), 413);
    assert!(talk.hear().await.unwrap().is_none());
    // Announced.
    for mode in [FD, B, BP] {
        let mut talk = door.talk().await;
        talk.say(head((mode, N), "", false, &[("content-length", "22020096")]));
        assert_eq!(immediate(talk.reply().await), 413);
    }
    // In one message, a little too long and longer than any message may be.
    for extra in [1, 1 << 20] {
        let mut talk = door.talk().await;
        talk.say(head((B, N), "", false, &[])).say(body(vec![b'x'; LIMIT + extra], true));
        assert!(is_untouched(&talk.reply().await));
        assert_eq!(immediate(talk.reply().await), 413);
    }
    // And one of just the limit is not.
    let mut talk = door.talk().await;
    talk.say(head((B, N), "", false, &[])).say(body(vec![b'x'; LIMIT], true));
    talk.reply().await;
    assert_eq!(set(&talk.reply().await, "x-model").as_deref(), Some("m"));
    drop(talk);
    door.settled().await;
    assert_eq!(door.counts.faults.load(Relaxed), 6);
}

#[tokio::test]
async fn memory_for_bodies_is_shared_and_bounded() {
    let door = door_with(Options { held_bytes: 100_000, ..Options::default() }, None).await;
    let mut first = door.talk().await;
    first.say(head((FD, N), "stuck", false, &[])).say(body(vec![1; 80_000], true));
    first.silence().await;
    let mut second = door.talk().await;
    second.say(head((FD, N), "", false, &[])).say(body(vec![1; 30_000], false));
    assert_eq!(immediate(second.reply().await), 503);
    drop(first);
    door.settled().await;
    let mut third = door.talk().await;
    third.say(head((FD, N), "", false, &[])).say(body(vec![1; 30_000], true));
    third.reply().await;
    assert_eq!(third.streamed_body().await.0.len(), 30_000);
}

#[tokio::test]
async fn trailers_in_place_of_the_body_are_refused_where_nothing_can_be_changed_any_more() {
    let door = door().await;
    for mode in [B, BP] {
        let mut talk = door.talk().await;
        talk.say(head((mode, N), "", false, &[])).say(trailers());
        talk.reply().await;
        assert_eq!(immediate(talk.reply().await), 400);
    }
    door.settled().await;
}

#[tokio::test]
async fn refusals_are_answered_in_place_of_the_upstream() {
    let door = door().await;
    for (mode, ends) in [(FD, false), (FD, true), (B, false), (BP, false), (S, false), (N, false), (N, true)]
    {
        let mut talk = door.talk().await;
        talk.say(head((mode, FD), "refuse", ends, &[]));
        if mode == FD || mode == B || mode == BP {
            talk.say(body("abc", true));
        }
        if mode == B || mode == BP {
            talk.reply().await;
        }
        let reply = talk.reply().await;
        let Some(Say::ImmediateResponse(answer)) = &reply.response else { panic!("{reply:?}") };
        let header = answer.headers.clone().unwrap().set_headers.remove(0).header.unwrap();
        assert_eq!((&header.key[..], &header.raw_value[..]), ("x-why", &b"no"[..]));
        assert_eq!((&answer.body[..], &answer.details[..]), (&b"no"[..], "said_no"));
        assert_eq!(immediate(reply), 429);
    }
    door.settled().await;
    assert!(!door.seen.events().iter().any(|event| event.starts_with("end")));
}

#[tokio::test]
async fn an_answer_by_envoy_itself_ends_the_wait_for_body_and_verdict() {
    let door = door().await;
    let waits: [Vec<ProcessingRequest>; 3] = [
        vec![head((FD, FD), "", false, &[]), body("abc", false)],
        vec![head((FD, FD), "stuck", false, &[]), body("abc", true)],
        vec![head((FD, FD), "stuck", false, &[("upgrade", "x")]), body("abc", false)],
    ];
    for messages in waits {
        let mut talk = door.talk().await;
        for message in messages {
            talk.say(message);
        }
        talk.silence().await;
        talk.say(response("504", false)).say(body("more", false)).say(data("late", true));
        assert_eq!(set(&talk.reply().await, "x-seen").as_deref(), Some("504"));
        assert_eq!(streamed(talk.reply().await), ("late".into(), true));
        assert!(talk.hear().await.unwrap().is_none());
        door.settled().await;
    }
    assert_eq!(door.counts.overtaken.load(Relaxed), 3);
    assert_eq!(door.seen.events().iter().filter(|event| *event == "end Complete").count(), 3);
}

#[tokio::test]
async fn a_response_without_a_request_passes() {
    let door = door().await;
    let mut talk = door.talk().await;
    let first = ProcessingRequest {
        protocol_config: head((FD, FD), "", false, &[]).protocol_config,
        ..response("403", false)
    };
    talk.say(first).say(data("no", true));
    assert!(is_untouched(&talk.reply().await));
    assert_eq!(streamed(talk.reply().await), ("no".into(), true));
    assert!(talk.finish().await.is_empty());
    door.settled().await;
}

#[tokio::test]
async fn a_judge_that_panics_fails_its_stream_alone() {
    let door = door().await;
    let client = door.client().await;
    for mode in [FD, N] {
        let talk = client.talk().await.unwrap();
        talk.say(head((mode, FD), "panic", true, &[]));
        assert_eq!(talk.error().await.code(), Code::Internal);
    }
    let mut talk = client.talk().await.unwrap();
    talk.say(head((FD, FD), "", true, &[]));
    talk.reply().await;
    drop(talk);
    door.settled().await;
    assert_eq!(door.counts.panics.load(Relaxed), 2);
}

/// Any messages in any order: each stream ends by itself once its client has nothing more to say.
#[tokio::test]
async fn no_order_of_messages_hangs_or_leaks() {
    let door = door().await;
    let client = door.client().await;
    let mut random = fastrand::Rng::with_seed(6);
    for round in 0..1_500 {
        let talk = client.talk().await.unwrap();
        let modes = (random.i32(-1..6), random.i32(0..5));
        let does = ["", "edit", "refuse", "plain", "unneeded", "slow", "stuck"][random.usize(..7)];
        for at in 0..random.usize(..9) {
            let ends = random.bool();
            let bytes = vec![0; [0, 1, 70_000][random.usize(..3)]];
            let kind = if at == 0 && random.u8(..8) > 0 { 0 } else { random.u8(..9) };
            talk.say(match kind {
                0 => head(modes, does, ends, &[]),
                1..=3 => body(bytes, ends),
                4 => trailers(),
                5 => response("200", ends),
                6 => data(bytes, ends),
                7 => response_trailers(),
                _ => ProcessingRequest { observability_mode: random.u8(..4) == 0, ..Default::default() },
            });
        }
        if round % 3 == 0 {
            drop(talk);
        } else {
            talk.finish().await;
        }
    }
    drop(client);
    door.settled().await;
    assert_eq!(door.counts.panics.load(Relaxed), 0);
}
