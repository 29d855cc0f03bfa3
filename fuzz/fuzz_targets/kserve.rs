//! KServe messages from both sides: whatever arrives, nothing panics, and scores that are read are a
//! probability distribution whose best class has no rival.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_wire::kserve::{InferRequest, MAX_CLASSES, read_scores, request_body};

/// Sums of up to [`MAX_CLASSES`] single-precision numbers are this exact.
const SUM_TOLERANCE: f32 = 1e-3;
/// The batch size v1's models are configured for.
const MAX_TEXTS: usize = 8;

fuzz_target!(|body: &[u8]| {
    if let Ok(scores) = read_scores(body) {
        let all = &scores.probabilities;
        assert!((1..=MAX_CLASSES).contains(&all.len()));
        assert!(all.iter().all(|p| (0.0..=1.0).contains(p)), "{all:?}");
        let sum: f32 = all.iter().sum();
        assert!((sum - 1.0).abs() < SUM_TOLERANCE, "probabilities sum to {sum}");
        assert!(all.iter().all(|p| *p <= all[scores.best]), "{} is not the best of {all:?}", scores.best);
    }
    if let Ok(request) = InferRequest::parse(body) {
        assert!((1..=MAX_TEXTS).contains(&request.texts.len()));
        assert!(request.one_hot || request.probabilities);
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let request = InferRequest::parse(request_body(text).as_bytes()).expect("our own request");
        assert_eq!(request.texts, [text]);
    }
});
