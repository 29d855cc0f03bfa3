use super::*;
use crate::{BodyMode, Modes};
use flate2::{Compression, write::GzEncoder};
use http::Method;
use std::io::Write;

const BODY: &str = r#"{ "seed": 9007199254740993, "messages": [{"content": "<&> \u00e9 é"}], "nvext": {"annotations": ["a"], "agent_hints": {"priority": 3}, "decode_worker_id": 1, "dp_rank": 4} }"#;

fn head(headers: &[(&'static str, &str)]) -> Head {
    let headers = headers.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    Head {
        method: Method::POST,
        path: "/v1/chat/completions".into(),
        authority: String::new(),
        headers: map,
        ends: false,
        subset: None,
        modes: Modes { request: BodyMode::Buffered, response: BodyMode::None },
    }
}

type Headers<'a> = &'a [(&'static str, &'a str)];
type Seeing<'a> = Result<&'a [u8], Blind>;

struct Seen {
    verdict: Verdict,
    outcome: &'static str,
}

impl Seen {
    /// The body that goes on.
    fn body(&self) -> String {
        let Verdict::Go(Go { body: Some(pieces), .. }) = &self.verdict else { panic!("{:?}", self.verdict) };
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn status(&self) -> u16 {
        let Verdict::No(refusal) = &self.verdict else { panic!("{:?}", self.verdict) };
        refusal.status
    }

    fn untouched(&self) -> bool {
        matches!(&self.verdict, Verdict::Go(Go { body: None, set, remove, .. }) if set.is_empty() && remove.is_empty())
    }
}

fn judge(on_error: OnError, headers: Headers<'_>, body: Seeing<'_>) -> Seen {
    let judge = Transforming::new(1 << 20, on_error);
    let mut case = judge.open(head(headers)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let verdict = runtime.block_on(async {
        match body {
            Ok(body) => case.decide(Bytes::copy_from_slice(body)).await,
            Err(why) => case.decide_blind(why).await,
        }
    });
    let counted: Vec<_> = judge.outcomes().each().filter(|(_, n)| *n > 0).collect();
    let [(outcome, 1)] = counted[..] else { panic!("{counted:?}") };
    Seen { verdict, outcome: outcome.as_str() }
}

fn transformed(headers: &[(&'static str, &str)], body: &str) -> Seen {
    judge(OnError::Refuse, headers, Ok(body.as_bytes()))
}

#[test]
fn defect_1_a_clients_own_nvext_is_merged_and_not_replaced() {
    let out: serde_json::Value =
        serde_json::from_str(&transformed(&[("x-worker-instance-id", "42")], BODY).body()).unwrap();
    let expected =
        serde_json::json!({"annotations": ["a"], "agent_hints": {"priority": 3}, "backend_instance_id": 42});
    assert_eq!(out["nvext"], expected, "all but the client's own pins");
}

#[test]
fn defect_2_ids_are_unsigned() {
    let body = transformed(&[("x-worker-instance-id", "11431130917446755266")], "{}").body();
    assert_eq!(body, r#"{"nvext":{"backend_instance_id":11431130917446755266}}"#);
    let most = u64::MAX.to_string();
    let headers = [
        ("x-worker-instance-id", &*most),
        ("x-prefiller-host-port", "9223372036854775808"),
        ("x-dynamo-routing-mode", "disaggregated"),
    ];
    let body = transformed(&headers, "{}").body();
    assert_eq!(
        body,
        r#"{"nvext":{"prefill_worker_id":9223372036854775808,"decode_worker_id":18446744073709551615}}"#
    );
}

#[test]
fn defect_3_every_other_byte_is_the_clients() {
    let body = transformed(&[("x-worker-instance-id", "42")], BODY).body();
    let (before, after) = BODY.split_once(r#""nvext": {"#).unwrap();
    assert!(body.starts_with(before), "{body}");
    assert!(body.contains(r#""agent_hints": {"priority": 3}"#) && body.ends_with("} }"), "{body}");
    assert!(!after.contains("backend_instance_id") && body.contains(r#""backend_instance_id":42"#));
}

#[test]
fn defect_6_names_in_any_case_and_of_both_generations() {
    // Names reach a judge in lower case: `attributes.rs` makes them so.
    for (worker, prefill) in [
        ("x-worker-instance-id", "x-prefiller-host-port"),
        ("x-dynamo-worker-instance-id", "x-dynamo-prefill-instance-id"),
        ("x-worker-instance-id", "x-prefill-instance-id"),
    ] {
        let seen =
            transformed(&[(worker, " 7 "), (prefill, "8"), ("x-dynamo-routing-mode", "Disaggregated")], "{}");
        assert_eq!(seen.body(), r#"{"nvext":{"prefill_worker_id":8,"decode_worker_id":7}}"#);
        assert_eq!(seen.outcome, "disaggregated");
    }
    let both = [("x-worker-instance-id", "1"), ("x-dynamo-worker-instance-id", "2")];
    assert_eq!(transformed(&both, "{}").body(), r#"{"nvext":{"backend_instance_id":2}}"#);
}

#[test]
fn a_request_that_cannot_be_split_is_pinned_to_its_one_worker() {
    // llm-d puts a real host and port there.
    for prefill in ["10.0.0.1:8000", "-1", ""] {
        let headers = [
            ("x-worker-instance-id", "7"),
            ("x-prefiller-host-port", prefill),
            ("x-dynamo-routing-mode", "disaggregated"),
        ];
        let seen = transformed(&headers, "{}");
        assert_eq!(seen.body(), r#"{"nvext":{"backend_instance_id":7}}"#);
        assert_eq!(seen.outcome, "unsplit");
    }
    let aggregated = [("x-worker-instance-id", "7"), ("x-prefiller-host-port", "8")];
    let seen = transformed(&aggregated, "{}");
    assert_eq!(
        (seen.body(), seen.outcome),
        (r#"{"nvext":{"backend_instance_id":7}}"#.to_owned(), "aggregated")
    );
}

#[test]
fn without_a_worker_nobody_looks() {
    let judge = Transforming::new(1 << 20, OnError::Refuse);
    assert!(judge.open(head(&[("x-prefill-instance-id", "8")])).is_none());
    assert!(judge.open(head(&[("x-worker-instance-id", "")])).is_none());
    let counted: Vec<_> = judge.outcomes().each().filter(|(_, n)| *n > 0).collect();
    assert_eq!(counted, [(Outcome::NoWorker, 2)]);
    assert!(!judge.picks() && !judge.steers(&HeaderName::from_static("x-worker-instance-id")));
}

#[test]
fn what_cannot_be_pinned_is_refused_or_passes_as_it_came() {
    let good = [("x-worker-instance-id", "7")];
    let twice = [("x-worker-instance-id", "7"), ("x-worker-instance-id", "8")];
    let packed = [("x-worker-instance-id", "7"), ("content-encoding", "br")];
    let worker = |text| [("x-worker-instance-id", text)];
    let cases: [(Headers<'_>, Seeing<'_>, u16, &str); 11] = [
        (&worker("-7"), Ok(b"{}"), 500, "bad_worker"),
        (&worker("18446744073709551616"), Ok(b"{}"), 500, "bad_worker"),
        (&worker("+7"), Err(Blind::NotNeeded), 500, "bad_worker"),
        (&worker(r#"7,"x":1"#), Err(Blind::Mode), 500, "bad_worker"),
        (&twice, Ok(b"{}"), 500, "bad_worker"),
        (&good, Ok(b"not json"), 400, "bad_body"),
        (&good, Ok(b"{} trailing"), 400, "bad_body"),
        (&good, Ok(b"\xff"), 400, "bad_body"),
        (&packed, Ok(b"{}"), 415, "bad_body"),
        (&good, Err(Blind::Mode), 500, "unseen"),
        (&good, Err(Blind::Partial), 413, "unseen"),
    ];
    for (headers, body, status, outcome) in cases {
        let refused = judge(OnError::Refuse, headers, body);
        assert_eq!((refused.status(), refused.outcome), (status, outcome), "{headers:?}");
        let passed = judge(OnError::Pass, headers, body);
        assert!(passed.untouched() && passed.outcome == outcome, "{headers:?}");
    }
    for no_body in [Ok(&b""[..]), Err(Blind::Upgrade)] {
        let seen = judge(OnError::Refuse, &good, no_body);
        assert!(seen.untouched() && seen.outcome == "no_body");
    }
}

#[test]
fn gzip_is_undone() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"{}").unwrap();
    let packed = encoder.finish().unwrap();
    let headers = [("x-worker-instance-id", "7"), ("content-encoding", "gzip")];
    let seen = judge(OnError::Refuse, &headers, Ok(&packed));
    assert_eq!(seen.body(), r#"{"nvext":{"backend_instance_id":7}}"#);
    let Verdict::Go(go) = seen.verdict else { panic!() };
    assert_eq!(go.remove, [CONTENT_ENCODING]);
}
