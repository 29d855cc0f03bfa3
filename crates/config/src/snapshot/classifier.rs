//! What labels a prompt: one variant for each kind of classifier.
//!
//! Pure data, with the names by which it is shown. What it takes to ask one is the router's.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::{Auto, AutoSource, Decisions, Split};
use crate::intent::Intent;
use crate::labels::Known;

/// What labels a prompt.
#[derive(Debug, Clone)]
pub enum Classifier {
    /// The built-in classifier with 12 tasks.
    Task,
    /// The built-in classifier with 7 dimensions of complexity.
    Complexity,
    /// The built-in classifier with 14 domains.
    Domain,
    /// The built-in classifier of attacks.
    Safety {
        /// Share of harmless prompts that may be flagged; absent, the likeliest label is taken.
        false_alarms: Option<f32>,
    },
    /// The built-in detector of personal data: `pii` where a prompt identifies somebody or holds a secret, else `none`.
    Pii,
    /// A folder that `waypost train` wrote; its labels are known when it is read.
    Trained {
        /// Where it is; relative to the working directory, or absolute.
        folder: Arc<Path>,
    },
    /// Similarity to example texts.
    Examples {
        /// Labels in the order of the file, each with at least one text.
        texts: Arc<[Labelled]>,
    },
    /// A KServe v2 server, over HTTP.
    Kserve {
        /// Used as written, e.g. `http://triton:8000/v2/models/task_router_ensemble/infer`.
        url: Arc<str>,
        /// Label of each output index. Known label orders (task, complexity) are bound by name;
        /// for other classifiers this is the order of the routes.
        labels: Vec<Arc<str>>,
    },
    /// Rules of the user's over signals in the prompt.
    Decisions(Arc<Decisions>),
    /// A model that names one of the routes described to it.
    Intent(Arc<Intent>),
    /// No labels: learned quality, price and latency choose.
    Auto(Arc<Auto>),
    /// No labels: other policies share the traffic.
    Split(Arc<Split>),
}

/// A label with the texts that stand for it.
pub type Labelled = (String, Vec<String>);

impl Classifier {
    /// What may be shown of where it is: without the query of a URL, which may hold a key.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Trained { folder } => folder.to_string_lossy(),
            Self::Examples { .. } => "examples".into(),
            Self::Decisions(_) => "decisions".into(),
            Self::Intent(_) => "intent".into(),
            Self::Kserve { url, .. } => url.split('?').next().unwrap_or_default().into(),
            Self::Auto(auto) => match &auto.source {
                AutoSource::Outcomes { folder } => folder.to_string_lossy(),
                AutoSource::Network { file, .. } => file.to_string_lossy(),
            },
            Self::Split(_) => "split".into(),
            builtin => format!("embedded:{}", builtin.name()).into(),
        }
    }

    /// Its name in Decisions and metrics; a trained folder goes by its own.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Task => "task".into(),
            Self::Complexity => "complexity".into(),
            Self::Domain => "domain".into(),
            Self::Safety { .. } => "safety".into(),
            Self::Pii => "pii".into(),
            Self::Trained { folder } => {
                folder.file_name().map_or("trained".into(), |name| name.to_string_lossy())
            }
            Self::Examples { .. } => "examples".into(),
            Self::Kserve { .. } => "kserve".into(),
            Self::Decisions(_) => "decisions".into(),
            Self::Intent(_) => "intent".into(),
            Self::Auto(_) => "auto".into(),
            Self::Split(_) => "split".into(),
        }
    }

    /// Its labels in order; none for a trained folder, which only tells when it is read.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        match self {
            Self::Task => Known::Task.labels().to_vec(),
            Self::Complexity => Known::Complexity.labels().to_vec(),
            Self::Domain => Known::Domain.labels().to_vec(),
            Self::Safety { .. } => Known::Safety.labels().to_vec(),
            Self::Pii => Known::Pii.labels().to_vec(),
            Self::Trained { .. } | Self::Auto(_) | Self::Split(_) => Vec::new(),
            Self::Examples { texts } => texts.iter().map(|(label, _)| label.as_str()).collect(),
            Self::Kserve { labels, .. } => labels.iter().map(|label| &**label).collect(),
            Self::Decisions(decisions) => decisions.decide.iter().map(|decide| &*decide.name).collect(),
            Self::Intent(intent) => intent.labels(),
        }
    }
}
