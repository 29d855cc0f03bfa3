//! One fault: what goes wrong, for which requests, how often; and its two spellings, `status=503,n=3` and JSON.
//!
//! Both spellings go through the same fields, so they cannot drift apart. It changes nothing by itself: `faults`
//! decides whom it strikes, `body` and `routes` make it happen.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// The longest time a fault may take, in milliseconds: ten minutes.
pub(crate) const MAX_FAULT_MS: u64 = 600_000;

/// Longest text that may be put into an engine's mouth, in bytes.
const MAX_SAY_BYTES: usize = 128 * 1024;

/// Something that goes wrong on purpose. Fields combine: `slow_headers=200,cut=3` is late and then cut off.
///
/// Events are SSE events. An answer that is not streamed counts as two, its halves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Answer with this status (300 to 599) and an error in OpenAI's shape instead of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// With `status`: the `retry-after` header, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Chat completions: answer with this text, as if the model had written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
    /// Milliseconds before the headers are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_headers: Option<u64>,
    /// Fall silent after this many events, with the connection open; 0 is right after the headers.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "events")]
    pub stall: Option<u64>,
    /// Close the connection after this many events, without an end to the body; 0 is right after the headers.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "events")]
    pub cut: Option<u64>,
    /// Close the connection before the first byte of the response.
    #[serde(skip_serializing_if = "is_false")]
    pub drop: bool,
    /// With `cut` or `drop`: close with a TCP reset instead of an orderly end.
    #[serde(skip_serializing_if = "is_false")]
    pub rst: bool,
    /// Spoil one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malformed: Option<Malformed>,
    /// With `malformed`: how many good events come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Write the body in pieces of this many bytes, each flushed on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<usize>,
    /// Close the listener for this many milliseconds; takes effect at once and fits with no other field but `hang_up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<u64>,
    /// With `refuse`: close the open connections too, as if the process had died.
    #[serde(skip_serializing_if = "is_false")]
    pub hang_up: bool,
    /// Strike this many requests, then be gone; every request if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Strike with this probability, 0 to 1; the dice are seeded, so a run repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// Strike requests whose path begins so; if absent, every POST of the OpenAI API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Strike requests whose body has this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub having: Option<String>,
}

/// How an event is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Malformed {
    /// Its JSON breaks off in the middle.
    Json,
    /// It becomes a line of bytes that is neither SSE nor UTF-8.
    Garbage,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A number of events; `true`, or the bare word in a spec, means none.
fn events<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Events {
        Count(u64),
        Switch(bool),
    }
    Ok(match Option::<Events>::deserialize(from)? {
        Some(Events::Count(count)) => Some(count),
        Some(Events::Switch(true)) => Some(0),
        Some(Events::Switch(false)) | None => None,
    })
}

impl Fault {
    /// Reads the JSON spelling and checks it.
    pub(crate) fn from_json(value: Value) -> Result<Self, Error> {
        let spec = value.to_string();
        let wrong = |why: String| Error::Fault { spec: spec.clone(), why };
        let fault: Fault = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        fault.check().map_err(|why| wrong(why.to_owned()))?;
        Ok(fault)
    }

    /// Says what makes no sense in it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let acts = self.status.is_some()
            || self.say.is_some()
            || self.slow_headers.is_some()
            || self.stall.is_some()
            || self.cut.is_some()
            || self.drop
            || self.malformed.is_some()
            || self.split.is_some();
        let late = self.slow_headers.max(self.refuse).unwrap_or(0);
        let rules = [
            (acts || self.refuse.is_some(), "it does nothing"),
            (!(acts && self.refuse.is_some()), "refuse fits with no other fault"),
            (self.status.is_none_or(|s| (300..=599).contains(&s)), "status must be 300 to 599"),
            (self.retry_after.is_none() || self.status.is_some(), "retry_after needs status"),
            (self.say.is_none() || self.status.is_none(), "say needs an answer: no status"),
            (self.say.as_ref().is_none_or(|text| text.len() <= MAX_SAY_BYTES), "say is longer than 128 KiB"),
            (!self.rst || self.cut.is_some() || self.drop, "rst needs cut or drop"),
            (self.after.is_none() || self.malformed.is_some(), "after needs malformed"),
            (!self.hang_up || self.refuse.is_some(), "hang_up needs refuse"),
            (self.split != Some(0), "split must be at least 1"),
            (self.n != Some(0), "n must be at least 1"),
            (self.p.is_none_or(|p| (0.0..=1.0).contains(&p)), "p must be 0 to 1"),
            (late <= MAX_FAULT_MS, "times are at most 600000 ms"),
        ];
        match rules.iter().find(|(good, _)| !good) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }
}

impl FromStr for Fault {
    type Err = Error;

    /// Reads `key=value` pairs between commas; a key alone means `true`.
    fn from_str(spec: &str) -> Result<Self, Error> {
        let mut fields = Map::new();
        for pair in spec.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let value = match serde_json::from_str::<Value>(value) {
                Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
                _ => Value::from(value),
            };
            if fields.insert(key.to_owned(), value).is_some() {
                return Err(Error::Fault { spec: spec.to_owned(), why: format!("{key} stands twice") });
            }
        }
        Fault::from_json(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_mean_the_same() {
        let spelt: Fault = "status=503,retry_after=7,n=3,p=0.5,path=/v1/chat,having=tools".parse().unwrap();
        let json = json!({"status":503,"retry_after":7,"n":3,"p":0.5,"path":"/v1/chat","having":"tools"});
        assert_eq!(spelt, Fault::from_json(json.clone()).unwrap());
        assert_eq!(serde_json::to_value(&spelt).unwrap(), json);
    }

    #[test]
    fn a_bare_word_switches_on() {
        let stall: Fault = "stall".parse().unwrap();
        assert_eq!(stall.stall, Some(0));
        let cut: Fault = "cut=3,rst".parse().unwrap();
        assert_eq!((cut.cut, cut.rst), (Some(3), true));
        let odd: Fault = "malformed=garbage,after=2".parse().unwrap();
        assert_eq!((odd.malformed, odd.after), (Some(Malformed::Garbage), Some(2)));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let bad = [
            "",
            "n=3",
            "stauts=503",
            "status=99",
            "status=x",
            "stall=-1",
            "p=2,drop",
            "rst",
            "split=0",
            "refuse=5,cut",
            "slow_headers=9999999",
            "cut,cut",
            "retry_after=1,drop",
            "say=hello,status=500",
            "having=tools",
        ];
        for spec in bad {
            let error = spec.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains("fault"), "{spec}: {error}");
        }
    }
}
