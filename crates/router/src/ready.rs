//! What a policy's classifier needs before the first request: folders read, examples encoded, rules compiled.
//!
//! A trained folder is read whole and bounded, once for all policies that name it; examples that did not change are kept
//! over a reload. Called by `classifying` when a configuration is loaded.

use crate::embedding::Embedder;
use crate::error::Error;
use crate::intent::Asker;
use crate::outlook::{Oracle, read_outcomes};
use crate::signals::Signals;

use bytes::Bytes;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use waypost_classify::encoder::{Branch, Encoding, Session};
use waypost_classify::examples::ExampleModel;
use waypost_classify::outcomes::OutcomeModel;
use waypost_classify::pii::Detector;
use waypost_classify::rules::{Rule, Rules};
use waypost_classify::{Base, Builtin, Engine, FILE_NAME, Model, Reading, Verdict};
use waypost_config::{Auto, AutoSource, Classifier, Embedding, Labelled, Policy, Snapshot};
use waypost_vision::Network;

/// Largest trained model that is read, in bytes.
const MAX_MODEL_BYTES: u64 = 256 * 1024 * 1024;

/// A policy's way to a label.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The classifier's name in Decisions and metrics.
    pub(crate) name: Arc<str>,
    pub(crate) labels: Arc<[Arc<str>]>,
    pub(crate) rules: Option<Rules>,
    /// Absent for a KServe server, which needs no preparation, and for personal data.
    pub(crate) judge: Option<Judge>,
    /// For a policy by personal data.
    pub(crate) detector: Option<Detector>,
    /// For an auto policy.
    pub(crate) oracle: Option<Oracle>,
    /// For a policy by intent.
    pub(crate) asker: Option<Asker>,
    /// For a policy by decisions.
    pub(crate) signals: Option<Signals>,
}

impl Ready {
    /// The layers of the encoder that it may want.
    pub(crate) fn branch(&self, engine: &Engine) -> Option<Branch> {
        match (&self.oracle, &self.signals) {
            (Some(Oracle::Outcomes { model, .. }), _) => model.branch(),
            (_, Some(signals)) => signals.branch(engine),
            _ => self.judge.as_ref().and_then(Judge::branch),
        }
    }

    /// The texts that it compares prompts with, and what was made of them.
    pub(crate) fn examples(&self) -> Option<(&Arc<[Labelled]>, &Arc<ExampleModel>)> {
        match &self.judge {
            Some(Judge::Examples { texts, model }) => Some((texts, model)),
            _ => self.signals.as_ref()?.examples(),
        }
    }
}

/// A classifier in this process.
#[derive(Debug, Clone)]
pub(crate) enum Judge {
    /// Built in or trained.
    Model { model: Arc<Model>, false_alarms: Option<f32> },
    /// Similarity to texts.
    Examples { texts: Arc<[Labelled]>, model: Arc<ExampleModel> },
}

impl Judge {
    /// Tier 0's verdict.
    pub(crate) fn first(&self, reading: &Reading<'_>) -> Verdict {
        match self {
            Self::Model { model, false_alarms } => alarmed(model.judge(reading), model, *false_alarms),
            Self::Examples { model, .. } => model.judge(reading),
        }
    }

    /// Both tiers' verdict.
    pub(crate) fn second(&self, reading: &Reading<'_>, encoding: &Encoding) -> Verdict {
        match self {
            Self::Model { model, false_alarms } => {
                alarmed(model.judge_with(reading, encoding), model, *false_alarms)
            }
            Self::Examples { model, .. } => model.judge_with(reading, encoding),
        }
    }

    /// The layers of the encoder that it may want; `None` for a model without tier 1.
    pub(crate) fn branch(&self) -> Option<Branch> {
        match self {
            Self::Model { model, .. } => model.branch(),
            Self::Examples { .. } => Some(Branch::Sentence),
        }
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        match self {
            Self::Model { model, .. } => model.labels().into(),
            Self::Examples { model, .. } => model.labels().into(),
        }
    }
}

fn alarmed(verdict: Verdict, model: &Model, rate: Option<f32>) -> Verdict {
    match rate {
        Some(rate) => verdict.at_rate(rate, model.gates()),
        None => verdict,
    }
}

/// Makes policies ready, one after another.
#[derive(Debug)]
pub(crate) struct Preparing<'a> {
    pub(crate) engine: &'a Engine,
    /// Those in force, whose examples may be kept.
    pub(crate) previous: &'a [Ready],
    /// What is read already.
    folders: Vec<(Arc<Path>, Arc<Model>)>,
    outcomes: Vec<(Arc<Path>, Arc<OutcomeModel>)>,
    embedders: Vec<Arc<Embedder>>,
}

impl<'a> Preparing<'a> {
    pub(crate) fn new(engine: &'a Engine, previous: &'a [Ready]) -> Self {
        Self { engine, previous, folders: Vec::new(), outcomes: Vec::new(), embedders: Vec::new() }
    }

    pub(crate) fn policy(&mut self, snapshot: &Snapshot, policy: &Policy) -> Result<Ready, Error> {
        let fail = |source| Error::Classifier { policy: Arc::clone(&policy.name), source };
        let judge = self.judge(&policy.classifier).map_err(fail)?;
        let labels = match (&judge, &policy.classifier) {
            (Some(judge), _) => judge.labels(),
            (None, classifier) => classifier.labels().into_iter().map(Arc::from).collect(),
        };
        if let Classifier::Trained { folder } = &policy.classifier {
            let known: Vec<&str> = labels.iter().map(|label| &**label).collect();
            policy.check_labels(&known).map_err(|problem| Error::Label {
                policy: Arc::clone(&policy.name),
                folder: folder.display().to_string(),
                problem,
            })?;
        }
        let rules = (!policy.rules.is_empty()).then(|| rules(policy)).transpose().map_err(fail)?;
        let detector = matches!(policy.classifier, Classifier::Pii).then(Detector::embedded);
        let detector = detector.transpose().map_err(fail)?;
        let oracle = match &policy.classifier {
            Classifier::Auto(auto) => Some(self.oracle(snapshot, policy, auto)?),
            _ => None,
        };
        let asker = match &policy.classifier {
            Classifier::Intent(intent) => Some(Asker::new(intent)),
            _ => None,
        };
        let signals = match &policy.classifier {
            Classifier::Decisions(decisions) => Some(Signals::load(self, decisions).map_err(fail)?),
            _ => None,
        };
        Ok(Ready {
            name: policy.classifier.name().into(),
            labels,
            rules,
            judge,
            detector,
            oracle,
            asker,
            signals,
        })
    }

    fn oracle(&mut self, snapshot: &Snapshot, policy: &Policy, auto: &Auto) -> Result<Oracle, Error> {
        let named = |problem| Error::Auto { policy: Arc::clone(&policy.name), problem };
        match &auto.source {
            AutoSource::Outcomes { folder } => {
                let model = self
                    .outcomes(folder)
                    .map_err(|source| Error::Classifier { policy: Arc::clone(&policy.name), source })?;
                Oracle::outcomes(model, auto).map_err(named)
            }
            AutoSource::Network { file, embeddings } => {
                let network = Network::open(file).map_err(|error| named(error.to_string()))?;
                let embedder = self.embedder(&snapshot.embeddings[*embeddings]);
                let embedder = embedder.map_err(|error| named(error.to_string()))?;
                Oracle::network(Arc::new(network), embedder, auto).map_err(named)
            }
        }
    }

    fn outcomes(&mut self, folder: &Arc<Path>) -> Result<Arc<OutcomeModel>, waypost_classify::Error> {
        if let Some((_, model)) = self.outcomes.iter().find(|(known, _)| known == folder) {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(read_outcomes(self.engine, folder)?);
        self.outcomes.push((Arc::clone(folder), Arc::clone(&model)));
        Ok(model)
    }

    /// One for all policies that name it, and kept over a reload: a CLIP model takes seconds to load.
    fn embedder(&mut self, settings: &Embedding) -> Result<Arc<Embedder>, waypost_vision::Error> {
        let before = self.previous.iter().filter_map(|ready| match &ready.oracle {
            Some(Oracle::Network { embedder, .. }) => Some(embedder),
            _ => None,
        });
        if let Some(known) = self.embedders.iter().chain(before).find(|known| known.serves(settings)) {
            return Ok(Arc::clone(known));
        }
        let embedder = Arc::new(Embedder::load(settings)?);
        self.embedders.push(Arc::clone(&embedder));
        Ok(embedder)
    }

    fn judge(&mut self, classifier: &Classifier) -> Result<Option<Judge>, waypost_classify::Error> {
        let builtin = |builtin, false_alarms| {
            let model = Arc::clone(self.engine.builtin(builtin));
            Ok(Some(Judge::Model { model, false_alarms }))
        };
        match classifier {
            Classifier::Task => builtin(Builtin::Task, None),
            Classifier::Complexity => builtin(Builtin::Complexity, None),
            Classifier::Domain => builtin(Builtin::Domain, None),
            Classifier::Safety { false_alarms } => {
                if false_alarms.is_some() && self.engine.builtin(Builtin::Safety).gates().alarms.is_empty() {
                    let reason = "was never measured for a rate of false alarms".to_owned();
                    return Err(waypost_classify::Error::Model {
                        file: "safety.safetensors".to_owned(),
                        reason,
                    });
                }
                builtin(Builtin::Safety, *false_alarms)
            }
            Classifier::Trained { folder } => {
                let model = self.trained(folder)?;
                Ok(Some(Judge::Model { model, false_alarms: None }))
            }
            Classifier::Examples { texts } => {
                let model = self.examples(texts, false)?;
                Ok(Some(Judge::Examples { texts: Arc::clone(texts), model }))
            }
            Classifier::Kserve { .. }
            | Classifier::Decisions(_)
            | Classifier::Pii
            | Classifier::Intent(_)
            | Classifier::Auto(_)
            | Classifier::Split(_) => Ok(None),
        }
    }

    fn trained(&mut self, folder: &Arc<Path>) -> Result<Arc<Model>, waypost_classify::Error> {
        if let Some((_, model)) = self.folders.iter().find(|(known, _)| known == folder) {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(read_model(self.engine, folder)?);
        self.folders.push((Arc::clone(folder), Arc::clone(&model)));
        Ok(model)
    }

    /// What texts are compared by, unless it was made before; for `signals`, a text may stand under many labels.
    pub(crate) fn examples(
        &self,
        texts: &Arc<[Labelled]>,
        signals: bool,
    ) -> Result<Arc<ExampleModel>, waypost_classify::Error> {
        let alike = |ready: &&Ready| ready.signals.is_some() == signals;
        let mut before = self.previous.iter().filter(alike).filter_map(Ready::examples);
        if let Some((_, kept)) = before.find(|(known, _)| *known == texts) {
            return Ok(Arc::clone(kept));
        }
        // A session takes its thread over for the kernels, and this one is the caller's.
        let built = std::thread::scope(|scope| {
            let build = || {
                let mut session = Session::new(Arc::clone(self.engine.encoder()))?;
                let make = if signals { ExampleModel::independent } else { ExampleModel::build };
                make(self.engine, &mut session, texts)
            };
            scope.spawn(build).join()
        });
        let broke = |_| Err(waypost_classify::Error::Kernel("broke on the examples".to_owned()));
        built.unwrap_or_else(broke).map(Arc::new)
    }
}

fn rules(policy: &Policy) -> Result<Rules, waypost_classify::Error> {
    let rule = |rule: &waypost_config::Rule| Rule {
        label: rule.label.to_string(),
        keywords: rule.keywords.clone(),
        regex: rule.regex.clone(),
    };
    Rules::build(&policy.rules.iter().map(rule).collect::<Vec<_>>())
}

/// Reads the classifier that `waypost train` wrote into `folder`; the file itself may be named too.
///
/// # Errors
/// When the file cannot be read, is larger than 256 MiB, damaged, foreign or made for another encoder; the
/// error names it.
pub fn read_model(base: &Base, folder: &Path) -> Result<Model, waypost_classify::Error> {
    let (shown, bytes) = read_bounded(folder, FILE_NAME)?;
    base.model(&shown, &bytes)
}

/// The bytes of a trained folder's file, and how errors name it; `folder` may be the file itself.
pub(crate) fn read_bounded(folder: &Path, file: &str) -> Result<(String, Bytes), waypost_classify::Error> {
    let path = if folder.is_file() { folder.to_owned() } else { folder.join(file) };
    let shown = path.display().to_string();
    let failed = |source| waypost_classify::Error::Io { path: shown.clone(), source };
    let mut bytes = Vec::new();
    // One byte over the limit tells "too large" from "just fits" without trusting file metadata.
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        let reason = format!("larger than {MAX_MODEL_BYTES} bytes");
        return Err(waypost_classify::Error::Model { file: shown, reason });
    }
    Ok((shown, bytes.into()))
}
