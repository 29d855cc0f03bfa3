//! Which workers a request's headers name, in the words of both generations of Dynamo's endpoint picker.
//!
//! Reads only. Called once for each request.

use super::Outcome;
use http::HeaderMap;
use waypost_wire::{ApiError, Code};

/// Of today, then of the first generation: the first that is there counts.
const WORKER: [&str; 2] = ["x-dynamo-worker-instance-id", "x-worker-instance-id"];
/// The last one holds an id, whatever its name says.
const PREFILL: [&str; 3] = ["x-dynamo-prefill-instance-id", "x-prefill-instance-id", "x-prefiller-host-port"];
const MODE: &str = "x-dynamo-routing-mode";
const DISAGGREGATED: &str = "disaggregated";

/// The workers of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) worker: u64,
    /// Reads the prompt for it.
    pub(super) prefill: Option<u64>,
    /// It was to be split, and no worker to read the prompt is named, or not by an id.
    pub(super) unsplit: bool,
}

impl Named {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.prefill, self.unsplit) {
            (Some(_), _) => Outcome::Disaggregated,
            (None, true) => Outcome::Unsplit,
            (None, false) => Outcome::Aggregated,
        }
    }
}

/// `None` where no worker is named; an error where what stands there is no id, or there are several.
pub(super) fn named(headers: &HeaderMap) -> Option<Result<Named, ApiError>> {
    let worker = match id(headers, &WORKER)? {
        Ok(worker) => worker,
        Err(name) => {
            let message =
                format!("The header {name} does not hold one worker's id, a whole number of 64 bits.");
            return Some(Err(ApiError::new(Code::Internal, message).param(name)));
        }
    };
    let mode = headers.get(MODE).map_or(&b""[..], |mode| mode.as_bytes());
    let split = mode.trim_ascii().eq_ignore_ascii_case(DISAGGREGATED.as_bytes());
    let prefill = id(headers, &PREFILL).and_then(Result::ok).filter(|_| split);
    Some(Ok(Named { worker, prefill, unsplit: split && prefill.is_none() }))
}

/// The id in the first of these headers that holds anything, or the name of that header.
fn id(headers: &HeaderMap, names: &[&'static str]) -> Option<Result<u64, &'static str>> {
    let (name, text) = names.iter().find_map(|name| {
        let text = headers.get(*name)?.as_bytes().trim_ascii();
        (!text.is_empty()).then_some((*name, text))
    })?;
    // Of several nobody can tell which is the picker's.
    let one = headers.get_all(name).iter().count() == 1 && text.iter().all(u8::is_ascii_digit);
    let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    Some(id.filter(|_| one).ok_or(name))
}
