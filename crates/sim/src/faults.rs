//! The faults in force on one engine: a bounded list, who is struck next, and whether connections are taken at all.
//!
//! The first fault on the list that fits a request strikes it. `routes` asks per request, `server` watches the gate,
//! tests and `POST /sim/faults` fill the list.

use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::text::Dice;
use crate::{Error, Fault};

/// Faults kept at once.
const MAX_FAULTS: usize = 64;

/// The faults of a running engine; see [`crate::Engine::faults`].
pub struct Faults {
    list: Mutex<List>,
    gate: watch::Sender<Gate>,
    /// What the accept loop has made of the gate: true while the listener is open.
    listening: watch::Sender<bool>,
}

struct List {
    armed: Vec<Armed>,
    dice: Dice,
}

/// A fault on the list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Armed {
    #[serde(flatten)]
    fault: Fault,
    applied: u64,
}

/// Whether the listener is to be open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    Open,
    Closed {
        /// When to open again by itself.
        until: Option<Instant>,
        /// Whether open connections are closed as well.
        hang_up: bool,
    },
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Faults {
            list: Mutex::new(List { armed: Vec::new(), dice: Dice::new(seed) }),
            gate: watch::Sender::new(Gate::Open),
            listening: watch::Sender::new(true),
        }
    }

    /// Puts a fault at the end of the list; one that says `refuse` closes the listener instead.
    ///
    /// # Errors
    /// If the fault makes no sense or the list is full.
    pub fn add(&self, fault: Fault) -> Result<(), Error> {
        fault.check().map_err(|why| Error::Fault {
            spec: serde_json::to_string(&fault).unwrap_or_default(),
            why: why.to_owned(),
        })?;
        if let Some(ms) = fault.refuse {
            self.shut(Some(Duration::from_millis(ms)), fault.hang_up);
            return Ok(());
        }
        let mut list = self.list.lock();
        if list.armed.len() >= MAX_FAULTS {
            return Err(Error::TooManyFaults { max: MAX_FAULTS });
        }
        list.armed.push(Armed { fault, applied: 0 });
        Ok(())
    }

    /// Forgets all faults and takes connections again.
    pub fn clear(&self) {
        self.list.lock().armed.clear();
        self.gate.send_replace(Gate::Open);
    }

    /// Closes the listener, for a while or until [`Faults::accept`], and returns when it is closed.
    /// With `hang_up` the open connections go too.
    pub async fn refuse(&self, period: Option<Duration>, hang_up: bool) {
        self.shut(period, hang_up);
        self.until_listening(false).await;
    }

    /// Opens the listener again and returns when it is open; if another process has taken the port, that is when it
    /// lets go.
    pub async fn accept(&self) {
        self.gate.send_replace(Gate::Open);
        self.until_listening(true).await;
    }

    fn shut(&self, period: Option<Duration>, hang_up: bool) {
        let until = period.and_then(|period| Instant::now().checked_add(period));
        self.gate.send_replace(Gate::Closed { until, hang_up });
    }

    async fn until_listening(&self, wanted: bool) {
        // It fails only without a sender, and we are the sender.
        let _ = self.listening.subscribe().wait_for(|is| *is == wanted).await;
    }

    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Opens the gate if its time has come; a gate shut anew in the meantime stays shut.
    pub(crate) fn open_if_due(&self) {
        self.gate.send_if_modified(|gate| match *gate {
            Gate::Closed { until: Some(at), .. } if at <= Instant::now() => {
                *gate = Gate::Open;
                true
            }
            _ => false,
        });
    }

    pub(crate) fn set_listening(&self, listening: bool) {
        self.listening.send_replace(listening);
    }

    pub(crate) fn list(&self) -> Vec<Armed> {
        self.list.lock().armed.clone()
    }

    /// The fault that strikes this request, if any; counts it.
    pub(crate) fn strike(&self, method: &Method, path: &str, body: &[u8]) -> Option<Fault> {
        let List { armed, dice } = &mut *self.list.lock();
        let at = armed.iter().position(|a| {
            let fits = match &a.fault.path {
                Some(prefix) => path.starts_with(prefix.as_str()),
                None => method == Method::POST,
            };
            let fits = fits && a.fault.having.as_ref().is_none_or(|key| has_key(body, key));
            fits && a.fault.p.is_none_or(|p| dice.fraction() < p)
        })?;
        let struck = &mut armed[at];
        struck.applied += 1;
        let fault = struck.fault.clone();
        if let Some(left) = &mut struck.fault.n {
            *left -= 1;
            if *left == 0 {
                armed.remove(at);
            }
        }
        Some(fault)
    }
}

/// Whether this key stands in a body, at the top or not: quotes inside JSON strings are escaped.
fn has_key(body: &[u8], key: &str) -> bool {
    let key = format!("\"{key}\"");
    body.windows(key.len()).any(|window| window == key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(specs: &[&str]) -> Faults {
        let faults = Faults::new(1);
        for spec in specs {
            faults.add(spec.parse().unwrap()).unwrap();
        }
        faults
    }

    fn post(faults: &Faults, path: &str) -> Option<u16> {
        faults.strike(&Method::POST, path, b"{\"a\": 1}").and_then(|f| f.status)
    }

    #[test]
    fn the_next_three_then_no_more() {
        let faults = with(&["status=503,n=3"]);
        let seen: Vec<_> = (0..5).map(|_| post(&faults, "/v1/chat/completions")).collect();
        assert_eq!(seen, [Some(503), Some(503), Some(503), None, None]);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_first_that_fits_strikes() {
        let faults = with(&["status=500,path=/metrics", "status=429"]);
        assert_eq!(post(&faults, "/v1/chat/completions"), Some(429));
        assert!(faults.strike(&Method::GET, "/v1/models", b"").is_none());
        assert_eq!(faults.strike(&Method::GET, "/metrics", b"").unwrap().status, Some(500));
    }

    #[test]
    fn only_bodies_with_the_key_are_struck() {
        let faults = with(&["status=400,having=b", "status=422,having=a"]);
        assert_eq!(post(&faults, "/v1/chat/completions"), Some(422));
    }

    #[test]
    fn a_probability_strikes_about_that_often_and_repeats() {
        let count = || {
            let faults = with(&["status=500,p=0.3"]);
            (0..1000).filter(|_| post(&faults, "/v1/x").is_some()).count()
        };
        assert!((250..350).contains(&count()), "{}", count());
        assert_eq!(count(), count());
    }

    #[test]
    fn the_list_is_bounded() {
        let faults = Faults::new(1);
        for _ in 0..MAX_FAULTS {
            faults.add("drop".parse().unwrap()).unwrap();
        }
        assert!(faults.add("drop".parse().unwrap()).is_err());
    }
}
