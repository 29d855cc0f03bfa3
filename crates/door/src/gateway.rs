//! What all requests share: the brain, the metrics, the decision log, and how far a shutdown has come.
//!
//! The brain is swapped whole on reload; everything else outlives it. It never touches a socket. Held by
//! each door, and handed to every request.

use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use waypost_config::{LogFile, Shutdown, Snapshot};
use waypost_ledger::{DecisionFile, DecisionLog, Metrics};
use waypost_router::{Asked, Brain, Decision, Escalation, Loaded};

/// See the module.
pub struct Gateway {
    brain: ArcSwap<Brain>,
    pub(crate) metrics: Metrics,
    pub(crate) log: DecisionLog<Decision>,
    file: Option<DecisionFile>,
    /// As the configuration had it when the file was opened.
    file_settings: Option<LogFile>,
    /// Records of requests that have ended, not yet written.
    pub(crate) records_waiting: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    not_ready: AtomicBool,
    closing: AtomicBool,
    log_lines_dropped: LogLinesDropped,
    /// Writes the figures of those who feed the picker.
    also: OnceLock<Box<Also>>,
}

/// Figures kept outside of this crate, as Prometheus text.
pub type Also = dyn Fn(&Brain) -> Result<String, String> + Send + Sync;

/// Asks the log how many lines it has thrown away so far.
#[derive(Clone)]
pub struct LogLinesDropped(Arc<dyn Fn() -> usize + Send + Sync>);

impl LogLinesDropped {
    /// Wraps the question.
    pub fn new(ask: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl std::fmt::Debug for LogLinesDropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLinesDropped").field(&(self.0)()).finish()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway that decides with `brain`.
    ///
    /// # Errors
    /// When the metrics cannot be registered, or the decision file not be opened.
    pub fn new(brain: Brain, log_lines_dropped: LogLinesDropped) -> Result<Arc<Self>, String> {
        let brain_file = brain.snapshot().log.file.clone();
        let file = brain_file.as_ref().map(|file| {
            DecisionFile::open(&file.path).map_err(|e| format!("log.file {}: {e}", file.path.display()))
        });
        let file = file.transpose()?;
        let metrics = Metrics::new().map_err(|e| e.to_string())?;
        let log = DecisionLog::new(brain.snapshot().limits.decisions_kept, fastrand::u32(..));
        let gateway = Self {
            brain: ArcSwap::from_pointee(brain),
            metrics,
            log,
            file,
            file_settings: brain_file,
            records_waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            not_ready: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            log_lines_dropped,
            also: OnceLock::new(),
        };
        gateway.note_applied();
        Ok(Arc::new(gateway))
    }

    /// The brain as of now; a request keeps the one it began with.
    #[must_use]
    pub fn brain(&self) -> Arc<Brain> {
        self.brain.load_full()
    }

    /// Takes over a new configuration and what was loaded for it. Endpoints it shares with the old one keep their
    /// state.
    pub fn apply(&self, snapshot: Snapshot, loaded: Loaded) {
        let old = self.brain();
        self.brain.store(Arc::new(Brain::new(snapshot, loaded, Some(&old))));
        self.metrics.config_reloads.with_label_values(&["applied"]).inc();
        self.note_applied();
    }

    /// A new configuration was refused; the old one stays.
    pub fn note_refused(&self) {
        self.metrics.config_reloads.with_label_values(&["refused"]).inc();
    }

    fn note_applied(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.metrics.config_applied.set(now.map_or(0.0, |d| d.as_secs_f64()));
    }

    /// The decision file as it was opened; a change takes a restart.
    #[must_use]
    pub fn decision_file_settings(&self) -> Option<&LogFile> {
        self.file_settings.as_ref()
    }

    /// Whether the decision file is to hold requests.
    pub(crate) fn keeps_prompts(&self) -> bool {
        self.file_settings.as_ref().is_some_and(|file| file.prompts)
    }

    /// Where whole decisions go, too.
    pub(crate) fn decision_file(&self) -> Option<&DecisionFile> {
        self.file.as_ref()
    }

    /// Counters and histograms of everything that happens.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The decision of a request that has ended, while it is kept.
    #[must_use]
    pub fn decision(&self, id: &str) -> Option<Arc<Decision>> {
        self.log.get(id)
    }

    /// Waits until the decisions so far are in their file.
    pub fn flush_decisions(&self) {
        if let Some(file) = &self.file {
            file.flush();
        }
    }

    /// `/metrics` ends with what `also` writes from now on; only the first call counts.
    pub fn also_tell(&self, also: Box<Also>) {
        // A second one is a defect of the caller's without consequence.
        let _ = self.also.set(also);
    }

    /// All metrics as Prometheus text.
    ///
    /// # Errors
    /// When they cannot be written as such.
    pub fn metrics_text(&self) -> Result<Vec<u8>, String> {
        self.metrics.log_lines_dropped.set((self.log_lines_dropped.0)() as i64);
        self.metrics.encoder_queue_depth.set(self.brain().classifiers().encoder_queue_depth() as i64);
        self.metrics.conversations.set(self.brain().conversations_kept() as i64);
        let dropped = self.file.as_ref().map_or(0, DecisionFile::dropped);
        self.metrics.decision_lines_dropped.set(dropped as i64);
        let mut text = self.metrics.encode().map_err(|e| e.to_string())?;
        if let Some(also) = self.also.get() {
            text.extend_from_slice(also(&self.brain())?.as_bytes());
        }
        Ok(text)
    }

    /// Tier 0 of this classifier wanted the encoder.
    pub fn note_escalation(&self, classifier: &str, escalation: &Escalation) {
        let (because, asked) = (escalation.because.name(), escalation.asked.as_str());
        self.metrics.encoder.with_label_values(&[classifier, because, asked]).inc();
        if escalation.asked == Asked::Answered {
            self.metrics.encoder_seconds.observe(escalation.ms / 1e3);
        }
    }

    /// From now on readiness is false; requests are still served.
    fn set_not_ready(&self) {
        self.not_ready.store(true, Relaxed);
    }

    /// From now on new requests are refused; those in flight go on.
    fn set_closing(&self) {
        self.closing.store(true, Relaxed);
    }

    /// The end of the process, in order: not ready, and after the delay closing (which calls `closing`, too); then waits for
    /// requests and records until none is left or the grace period is over.
    pub async fn wind_down(&self, shutdown: Shutdown, closing: impl FnOnce()) {
        // Readiness is false at once; what still comes is served until the delay is over.
        self.set_not_ready();
        tracing::info!(in_flight = self.requests_in_flight(), "stopping");
        sleep(shutdown.delay).await;
        self.set_closing();
        closing();
        let end = Instant::now() + shutdown.grace;
        while (self.requests_in_flight() > 0 || self.records_waiting() > 0) && Instant::now() < end {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether new requests are welcome: a shutdown first makes this false.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.not_ready.load(Relaxed)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Requests that have ended and whose records wait for their shadows.
    #[must_use]
    pub fn records_waiting(&self) -> usize {
        self.records_waiting.load(Relaxed)
    }

    /// Requests in flight now.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }
}
