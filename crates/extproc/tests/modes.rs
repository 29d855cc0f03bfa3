//! Each body mode as Envoy speaks it, over a real socket.

mod common;
use common::*;
use waypost_extproc::Options;

const ALL: [i32; 5] = [N, S, B, BP, FD];

fn judged(reply: &ProcessingResponse) {
    assert_eq!(set(reply, "x-model").as_deref(), Some("m"));
    assert_eq!(set(reply, "x-gateway-destination-endpoint").as_deref(), Some("10.0.0.1:80"));
    assert!(removed(reply).contains(&"x-gone".to_owned()));
    assert!(common(reply).clear_route_cache);
    let metadata = format!("{:?}", reply.dynamic_metadata);
    assert!(
        metadata.contains("envoy.lb")
            && metadata.contains("10.0.0.1:80")
            && metadata.contains("endpoint-scores"),
        "{metadata}"
    );
}

#[tokio::test]
async fn full_duplex_holds_everything_until_the_body_is_whole() {
    let door = door().await;
    let mut talk = door.talk().await;
    let steering = [("x-gateway-destination-endpoint", "evil:1"), ("x-steer-a", "1"), ("x-mine", "1")];
    talk.say(head((FD, FD), "", false, &steering)).say(body("abc", false));
    talk.silence().await;
    talk.say(body("", true));
    let first = talk.reply().await;
    judged(&first);
    let gone = removed(&first);
    assert!(gone.contains(&"x-steer-a".into()) && gone.len() == 2, "{gone:?}");
    assert_eq!(set(&first, "content-length"), None);
    assert_eq!(streamed(talk.reply().await), ("abc".into(), true));
    talk.say(response("200", false)).say(data("data: 1\n\n", false)).say(data("", true));
    assert_eq!(set(&talk.reply().await, "x-seen").as_deref(), Some("200"));
    assert_eq!(streamed(talk.reply().await), ("data: 1\n\n".into(), false));
    assert_eq!(streamed(talk.reply().await), ("".into(), true));
    assert!(talk.hear().await.unwrap().is_none(), "closed after the last piece");
    door.settled().await;
    let saw = [
        "open POST /v1/chat/completions ends=false None",
        "whole 3",
        "head 200 1 None",
        "data 9",
        "end Complete",
        "drop",
    ];
    assert_eq!(door.seen.events(), saw);
}

#[tokio::test]
async fn full_duplex_gives_large_bodies_back_in_chunks() {
    let door = door().await;
    let whole: Vec<u8> = (0..1_500_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    for (does, length) in [("", whole.len()), ("edit", whole.len() + 2)] {
        let mut talk = door.talk().await;
        talk.say(head((FD, N), does, false, &[("content-length", "1500000")]));
        for piece in whole.chunks(333_333) {
            talk.say(body(piece.to_vec(), false));
        }
        talk.say(body("", true));
        let first = talk.reply().await;
        assert_eq!(set(&first, "content-length"), None);
        let (back, sizes) = talk.streamed_body().await;
        assert_eq!(back.len(), length);
        assert!(sizes.iter().all(|size| *size <= 62_000), "{sizes:?}");
        // What was put in before and after is sent by itself rather than with a copy of the rest.
        let apart = if does == "edit" { 2 } else { 0 };
        assert_eq!(sizes.len(), whole.len().div_ceil(62_000) + apart, "{sizes:?}");
        let inner = if does == "edit" { &back[1..=whole.len()] } else { &back[..] };
        assert!(inner == whole);
        drop(talk);
    }
    door.settled().await;
}

#[tokio::test]
async fn a_body_of_the_full_limit_comes_back_too() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[]));
    for _ in 0..LIMIT >> 20 {
        talk.say(body(vec![b'x'; 1 << 20], false));
    }
    talk.say(body("", true));
    judged(&talk.reply().await);
    assert_eq!(talk.streamed_body().await.0.len(), LIMIT);
    talk.finish().await;
    door.settled().await;
}

#[tokio::test]
async fn full_duplex_answers_trailers_and_an_empty_end() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[])).say(body("abc", false)).say(trailers());
    judged(&talk.reply().await);
    assert_eq!(streamed(talk.reply().await), ("abc".into(), false));
    assert!(matches!(talk.reply().await.response, Some(Say::RequestTrailers(_))));
    drop(talk);
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[])).say(body("", true));
    judged(&talk.reply().await);
    assert_eq!(streamed(talk.reply().await), ("".into(), true));
    talk.silence().await;
    drop(talk);
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "", false, &[])).say(trailers());
    judged(&talk.reply().await);
    assert!(matches!(talk.reply().await.response, Some(Say::RequestTrailers(_))));
    talk.silence().await;
    drop(talk);
    door.settled().await;
}

#[tokio::test]
async fn without_a_body_headers_are_judged_at_once_in_every_mode() {
    let door = door().await;
    for mode in ALL {
        let mut talk = door.talk().await;
        talk.say(head((mode, mode), "", true, &[(":method", "GET")]));
        judged(&talk.reply().await);
        talk.say(response("204", true));
        assert_eq!(set(&talk.reply().await, "x-seen").as_deref(), Some("204"));
        assert!(talk.finish().await.is_empty());
    }
    door.settled().await;
    let ends = door.seen.events().iter().filter(|event| *event == "end Complete").count();
    assert_eq!(ends, ALL.len());
}

#[tokio::test]
async fn buffered_modes_change_the_request_with_the_reply_to_the_body() {
    let door = door().await;
    let known = [("content-length", "3"), ("x-steer-a", "1")];
    for (mode, does, more, length) in [
        (B, "", &known[..], None),
        (B, "edit", &known[..], Some("5")),
        (B, "edit", &known[1..], None),
        (BP, "edit", &known[..], None),
    ] {
        let mut talk = door.talk().await;
        talk.say(head((mode, N), does, false, more));
        let first = talk.reply().await;
        assert_eq!(removed(&first), ["x-steer-a"]);
        assert!(!common(&first).clear_route_cache);
        talk.say(body("abc", true));
        let second = talk.reply().await;
        judged(&second);
        assert_eq!(set(&second, "content-length").as_deref(), length);
        let edited = common(&second).body_mutation.map(|mutation| mutation.mutation.unwrap());
        let expected = (does == "edit").then(|| Mutation::Body("<abc>".into()));
        assert_eq!(edited, expected);
        talk.silence().await;
    }
    door.settled().await;
}

#[tokio::test]
async fn buffered_bodies_before_trailers_are_whole_but_partial_ones_may_not_be() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(head((B, N), "edit", false, &[])).say(body("abc", false)).say(trailers());
    assert!(is_untouched(&talk.reply().await));
    let second = talk.reply().await;
    judged(&second);
    assert!(common(&second).body_mutation.is_some());
    assert!(matches!(talk.reply().await.response, Some(Say::RequestTrailers(_))));
    drop(talk);
    let mut talk = door.talk().await;
    talk.say(head((BP, N), "edit", false, &[])).say(body(vec![b'x'; 130_000], false));
    talk.reply().await;
    let second = talk.reply().await;
    judged(&second);
    assert_eq!(common(&second).body_mutation, None);
    drop(talk);
    // Envoy had not read the end yet: all that was announced is there.
    let mut talk = door.talk().await;
    talk.say(head((BP, N), "edit", false, &[("content-length", "3")])).say(body("abc", false));
    talk.reply().await;
    let second = talk.reply().await;
    judged(&second);
    assert!(common(&second).body_mutation.is_some());
    drop(talk);
    door.settled().await;
    let blind = door.seen.events().iter().filter(|event| *event == "blind Partial").count();
    assert_eq!(blind, 1);
}

#[tokio::test]
async fn streamed_and_none_are_judged_from_the_headers() {
    let door = door().await;
    for mode in [S, N] {
        let mut talk = door.talk().await;
        talk.say(head((mode, mode), "edit", false, &[("content-length", "99999999999")]));
        judged(&talk.reply().await);
        if mode == S {
            talk.say(body("abc", false)).say(body("", true));
            assert!(is_untouched(&talk.reply().await) && is_untouched(&talk.reply().await));
        }
        talk.say(response("200", false));
        assert_eq!(set(&talk.reply().await, "x-seen").as_deref(), Some("200"));
        if mode == S {
            talk.say(data("x", false)).say(response_trailers());
            assert!(is_untouched(&talk.reply().await));
            assert!(matches!(talk.reply().await.response, Some(Say::ResponseTrailers(_))));
        }
        assert!(talk.finish().await.is_empty());
    }
    door.settled().await;
    let events = door.seen.events();
    assert!(events.contains(&"end Complete".into()) && events.contains(&"end Unseen".into()), "{events:?}");
}

#[tokio::test]
async fn bodies_that_come_while_headers_are_judged_wait_their_turn() {
    let door = door().await;
    for (mode, does) in [(S, "slow"), (FD, "slow")] {
        let mut talk = door.talk().await;
        let upgrade = [("upgrade", "websocket")];
        talk.say(head((mode, N), does, false, if mode == FD { &upgrade } else { &[] }));
        for _ in 0..200 {
            talk.say(body(vec![7; 10_000], false));
        }
        talk.say(body("z", true));
        judged(&talk.reply().await);
        if mode == FD {
            let (back, _) = talk.streamed_body().await;
            assert_eq!((back.len(), back.last()), (2_000_001, Some(&b'z')));
        } else {
            for _ in 0..201 {
                assert!(is_untouched(&talk.reply().await));
            }
        }
        talk.silence().await;
    }
    door.settled().await;
}

#[tokio::test]
async fn tunnels_and_unneeded_bodies_pass_as_they_come() {
    let door = door().await;
    let upgrade = [("upgrade", "websocket")];
    for (does, more) in [("", &upgrade[..]), ("", &[(":method", "CONNECT")][..]), ("unneeded", &[][..])] {
        let mut talk = door.talk().await;
        talk.say(head((FD, FD), does, false, more));
        judged(&talk.reply().await);
        talk.say(response("101", false));
        talk.reply().await;
        talk.say(body("ping", false)).say(data("pong", false));
        assert_eq!(streamed(talk.reply().await), ("ping".into(), false));
        assert_eq!(streamed(talk.reply().await), ("pong".into(), false));
        drop(talk);
    }
    door.settled().await;
}

#[tokio::test]
async fn requests_of_nobody_pass_without_their_control_headers() {
    let door = door().await;
    let more = [(":path", "/other"), ("x-steer-a", "1"), ("x-gateway-destination-endpoint-served", "x")];
    for mode in ALL {
        let mut talk = door.talk().await;
        talk.say(head((mode, mode), "", false, &more));
        let first = talk.reply().await;
        let mut gone = removed(&first);
        gone.sort();
        assert_eq!(gone, ["x-gateway-destination-endpoint-served", "x-steer-a"]);
        assert_eq!(common(&first).header_mutation.unwrap().set_headers, []);
        talk.say(body("abc", true)).say(response("200", false)).say(data("d", true));
        let replies = [talk.reply().await, talk.reply().await, talk.reply().await];
        if mode == FD {
            assert_eq!(streamed(replies[0].clone()), ("abc".into(), true));
            assert_eq!(streamed(replies[2].clone()), ("d".into(), true));
        } else {
            assert!(replies.iter().all(is_untouched));
        }
    }
    door.settled().await;
}

#[tokio::test]
async fn better_modes_are_asked_for_where_envoy_allows_it() {
    let door = door_with(Options { mode_override: true, ..Options::default() }, None).await;
    for (modes, request, response_mode) in [((N, N), B, S), ((S, B), B, S), ((B, N), B, S), ((BP, BP), BP, S)]
    {
        let mut talk = door.talk().await;
        talk.say(head(modes, "edit", false, &[("content-length", "3")]));
        let asked = talk.reply().await.mode_override.unwrap();
        assert_eq!((asked.request_body_mode, asked.response_body_mode), (request, response_mode));
        talk.say(body("abc", true));
        let second = talk.reply().await;
        judged(&second);
        assert!(common(&second).body_mutation.is_some());
        talk.say(response("200", false)).say(data("x", false)).say(data("", true));
        talk.reply().await;
        assert!(is_untouched(&talk.reply().await) && is_untouched(&talk.reply().await));
    }
    for (does, path, response_mode) in [("unneeded", "/v1/files", S), ("", "/other", N)] {
        let mut talk = door.talk().await;
        talk.say(head((B, B), does, false, &[(":path", path)]));
        let asked = talk.reply().await.mode_override.unwrap();
        assert_eq!((asked.request_body_mode, asked.response_body_mode), (N, response_mode));
    }
    let mut talk = door.talk().await;
    talk.say(head((FD, N), "", true, &[]));
    assert_eq!(talk.reply().await.mode_override, None);
    talk.say(response("200", false));
    talk.reply().await;
    drop(talk);
    // Asked for, and not followed: what was not shown is not called complete.
    let mut talk = door.talk().await;
    talk.say(head((N, N), "", true, &[])).say(response("200", false));
    assert!(talk.reply().await.mode_override.is_some());
    talk.reply().await;
    talk.finish().await;
    door.settled().await;
    let events = door.seen.events();
    assert_eq!(events.iter().filter(|event| *event == "end Unseen").count(), 2, "{events:?}");
}

#[tokio::test]
async fn hints_and_the_served_endpoint_reach_the_case() {
    let door = door().await;
    let mut talk = door.talk().await;
    let mut first = head((N, N), "", true, &[]);
    let subset = record([("x-gateway-destination-endpoint-subset", text("1.1.1.1:80,2.2.2.2:80"))]);
    let filter_metadata = [("envoy.lb.subset_hint".to_owned(), subset)].into();
    first.metadata_context = Some(core::Metadata { filter_metadata });
    let mut second = response("200", true);
    let served = record([("upstream.address", text("9.9.9.9:80"))]);
    second.attributes.insert("envoy.filters.http.ext_proc".into(), served);
    talk.say(first).say(second);
    talk.reply().await;
    talk.reply().await;
    assert!(talk.hear().await.unwrap().is_none());
    let events = door.seen.events();
    assert!(events[0].ends_with(r#"Some(["1.1.1.1:80", "2.2.2.2:80"])"#), "{events:?}");
    assert!(events[2].ends_with(r#"Some("9.9.9.9:80")"#), "{events:?}");
}

#[tokio::test]
async fn an_observer_says_nothing() {
    let door = door().await;
    let mut talk = door.talk().await;
    let observed = |message| ProcessingRequest { observability_mode: true, ..message };
    talk.say(observed(head((S, S), "", false, &[]))).say(observed(body("abc", true)));
    talk.say(observed(response("200", true)));
    talk.silence().await;
    assert!(talk.finish().await.is_empty());
    assert!(door.seen.events().is_empty());
    door.settled().await;
}
