//! Who is judged, and what it answered: one probability per label and the time it took, row by row.
//!
//! What runs in this process is timed warm, one prompt after the other on one core. A KServe server is asked by a few
//! connections at once. Called by `eval`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use waypost_classify::pii::{Detector, FAINTEST, MIN_CONFIDENCE, strongest};
use waypost_classify::{Alarm, Builtin, Cascade, Prompt, Tier};
use waypost_router::ask_kserve;

use crate::data::Row;
use crate::error::Error;
use crate::opened::Opened;

/// The finder of personal data, by its name and by the label of what it finds.
const PII: &str = "pii";
/// Rows classified before the clock counts.
const WARM_UP: usize = 50;
/// Connections to a server.
const CONNECTIONS: usize = 8;
/// A server that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Failed rows after which a server is given up.
const MAX_FAILURES: usize = 20;
/// Most labels a file may name: what a KServe answer may hold.
const MAX_LABELS: usize = waypost_wire::kserve::MAX_CLASSES;

/// Something that labels texts.
pub(super) struct Judge {
    name: String,
    kind: Kind,
}

enum Kind {
    Here(Opened),
    Pii(Box<Detector>),
    Kserve { url: String, labels: Vec<Arc<str>> },
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) probabilities: Vec<f32>,
    /// Index of the label given.
    pub(super) given: usize,
    pub(super) escalated: bool,
    pub(super) micros: f64,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) labels: Vec<Arc<str>>,
    /// One per row; `None` where a server failed.
    pub(super) answers: Vec<Option<Answer>>,
    /// What the server said when it failed, the first time.
    pub(super) failure: Option<String>,
    /// Measured thresholds, for `safety`.
    pub(super) alarms: Vec<Alarm>,
    /// The server names a label without saying how sure it is.
    pub(super) one_hot: bool,
    /// A server answered.
    pub(super) served: bool,
}

impl Judge {
    /// A built-in name, a trained folder, or a URL, whose outputs `labels` names.
    pub(super) fn named(name: &str, labels: Option<&str>) -> Result<Self, Error> {
        let kind = if is_url(name) {
            let Some(labels) = labels else {
                return Err(Error::Usage(format!(
                    "what do the outputs of {name} mean? Say --labels task, or a file with a label a line"
                )));
            };
            Kind::Kserve { url: name.to_owned(), labels: label_names(labels)? }
        } else if name == PII {
            Kind::Pii(Box::new(Detector::embedded()?))
        } else {
            Kind::Here(Opened::named(name)?)
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    /// Labels every row.
    pub(super) fn judge(self, rows: &[Row]) -> Result<Judged, Error> {
        match self.kind {
            Kind::Here(opened) => here(self.name, &opened, rows),
            Kind::Pii(detector) => Ok(personal(self.name, &detector, rows)),
            Kind::Kserve { url, labels } => {
                crate::serve::runtime()?.block_on(Box::pin(kserve(self.name, url, labels, rows)))
            }
        }
    }
}

/// Whether a classifier is a server.
pub(super) fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// The labels of a built-in classifier, or a file's: one a line.
fn label_names(name: &str) -> Result<Vec<Arc<str>>, Error> {
    if let Some(builtin) = Builtin::ALL.into_iter().find(|builtin| builtin.name() == name) {
        return Ok(builtin.labels().iter().map(|label| Arc::from(*label)).collect());
    }
    let text = std::fs::read_to_string(name).map_err(|source| Error::File { path: name.into(), source })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let labels: Vec<Arc<str>> = lines.map(Arc::from).collect();
    match labels.len() {
        0 | 1 => Err(Error::Data(format!("{name}: two labels or more are expected, one a line"))),
        n if n > MAX_LABELS => Err(Error::Data(format!("{name}: {n} labels, more than {MAX_LABELS}"))),
        _ => Ok(labels),
    }
}

fn here(name: String, opened: &Opened, rows: &[Row]) -> Result<Judged, Error> {
    let model = opened.model();
    let mut cascade = Cascade::new(opened.base());
    let mut classify = |row: &Row| {
        let begun = Instant::now();
        let verdict = cascade.classify(model, &Prompt { focus: &row.text, context: "" })?;
        let micros = begun.elapsed().as_secs_f64() * 1e6;
        let escalated = verdict.tier == Tier::Encoder;
        Ok(Answer { given: verdict.label, probabilities: verdict.probabilities, escalated, micros })
    };
    for row in rows.iter().take(WARM_UP) {
        classify(row).map(drop)?;
    }
    let answers = rows.iter().map(|row| classify(row).map(Some)).collect::<Result<_, Error>>()?;
    let (labels, alarms) = (model.labels().to_vec(), model.gates().alarms.clone());
    Ok(Judged { name, labels, answers, failure: None, alarms, one_hot: false, served: false })
}

/// `none` or `pii` for every text, as a policy labels it.
fn personal(name: String, detector: &Detector, rows: &[Row]) -> Judged {
    let classify = |row: &Row| {
        let begun = Instant::now();
        let pii = strongest(&detector.find_above(&row.text, FAINTEST));
        let micros = begun.elapsed().as_secs_f64() * 1e6;
        let (probabilities, given) = (vec![1.0 - pii, pii], usize::from(pii >= MIN_CONFIDENCE));
        Some(Answer { probabilities, given, escalated: false, micros })
    };
    rows.iter().take(WARM_UP).for_each(|row| drop(classify(row)));
    let answers = rows.iter().map(classify).collect();
    let labels = ["none", PII].map(Arc::from).to_vec();
    Judged { name, labels, answers, failure: None, alarms: Vec::new(), one_hot: false, served: false }
}

async fn kserve(name: String, url: String, labels: Vec<Arc<str>>, rows: &[Row]) -> Result<Judged, Error> {
    let texts: Arc<[String]> = rows.iter().map(|row| row.text.clone()).collect();
    let (next, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (texts, url) = (Arc::clone(&texts), url.clone());
        let (next, failed) = (Arc::clone(&next), Arc::clone(&failed));
        workers.spawn(async move {
            let mut answers = Vec::new();
            while let Some((at, text)) = take(&texts, &next) {
                let begun = Instant::now();
                let answer = ask_kserve(&url, text, TIMEOUT).await;
                let micros = begun.elapsed().as_secs_f64() * 1e6;
                let many = answer.is_err() && failed.fetch_add(1, Ordering::Relaxed) >= MAX_FAILURES;
                answers.push((at, answer.map_err(|error| error.message), micros));
                if many {
                    break;
                }
            }
            answers
        });
    }
    let mut judged = Judged {
        name,
        labels,
        answers: rows.iter().map(|_| None).collect(),
        failure: None,
        alarms: Vec::new(),
        one_hot: true,
        served: true,
    };
    while let Some(answers) = workers.join_next().await {
        for (at, answer, micros) in answers.map_err(|error| Error::Internal(error.to_string()))? {
            match answer {
                Ok(scores) => {
                    let outputs = scores.probabilities.len();
                    if outputs != judged.labels.len() {
                        let labels = judged.labels.len();
                        return Err(Error::Data(format!(
                            "{url} answered with {outputs} scores; --labels names {labels}"
                        )));
                    }
                    judged.one_hot &= scores.one_hot;
                    let (given, probabilities) = (scores.best, scores.probabilities);
                    judged.answers[at] = Some(Answer { probabilities, given, escalated: false, micros });
                }
                Err(message) => {
                    judged.failure.get_or_insert(message);
                }
            }
        }
    }
    let failed = failed.load(Ordering::Relaxed);
    match &judged.failure {
        Some(message) if failed > MAX_FAILURES || failed == rows.len() => {
            Err(Error::Data(format!("{url} failed {failed} times, the first time so: {message}")))
        }
        _ => Ok(judged),
    }
}

/// The next text nobody has taken.
fn take<'t>(texts: &'t [String], next: &AtomicUsize) -> Option<(usize, &'t str)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    texts.get(at).map(|text| (at, text.as_str()))
}
