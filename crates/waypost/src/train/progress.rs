//! How far a long command has come, on standard error.
//!
//! At a terminal one line that is written over; elsewhere a plain line now and then, for logs. Never touches standard
//! output. Called by `train`, from several threads at once.

use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines at a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(10);
/// Clears the rest of a terminal's line.
const CLEAR: &str = "\r\x1b[K";

/// One phase after another, each with its own count.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: String,
    steps: usize,
    begun: Instant,
    told: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        let state = State { phase: String::new(), steps: 0, begun: now, told: now };
        Self { terminal: std::io::stderr().is_terminal(), begun: now, state: Mutex::new(state) }
    }

    /// Begins a phase of `steps` steps.
    pub(crate) fn phase(&self, phase: impl Into<String>, steps: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *state = State { phase: phase.into(), steps, begun: now, told: now };
        self.tell(&state.phase);
    }

    /// `done` steps of the phase are finished.
    pub(crate) fn at(&self, done: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = if self.terminal { REDRAW } else { PLAIN };
        if state.told.elapsed() >= pause && done <= state.steps {
            state.told = Instant::now();
            self.tell(&line(&state.phase, done, state.steps, state.begun.elapsed()));
        }
    }

    /// Says something that stays.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "{}{text}", if self.terminal { CLEAR } else { "" });
    }

    /// The last word.
    pub(crate) fn finish(&self, text: &str) {
        self.note(&format!("{text} ({:.1} s)", self.begun.elapsed().as_secs_f64()));
    }

    fn tell(&self, text: &str) {
        let mut stderr = std::io::stderr();
        let _ = if self.terminal {
            write!(stderr, "{CLEAR}{text}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{text}")
        };
    }
}

/// `encoding: 42 % (5,460 of 13,000), 12 s left`.
fn line(phase: &str, done: usize, steps: usize, elapsed: Duration) -> String {
    let share = done as f64 / steps.max(1) as f64;
    let mut line = format!("{phase}: {:.0} % ({done} of {steps})", share * 100.0);
    if share > 0.0 {
        let left = elapsed.as_secs_f64() * (1.0 / share - 1.0);
        line.push_str(&if left < 90.0 {
            format!(", {left:.0} s left")
        } else {
            format!(", {:.0} min left", left / 60.0)
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        assert_eq!(
            line("encoding", 25, 100, Duration::from_secs(10)),
            "encoding: 25 % (25 of 100), 30 s left"
        );
        assert_eq!(line("x", 1, 100, Duration::from_secs(10)), "x: 1 % (1 of 100), 16 min left");
        assert_eq!(line("x", 0, 0, Duration::ZERO), "x: 0 % (0 of 0)");
    }
}
