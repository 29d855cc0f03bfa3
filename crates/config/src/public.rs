//! Looking names up in a [`Snapshot`], and the redacted view of it behind `GET /config`.
//!
//! The view has v1's shape (its demo app reads it) for policies of either form. Never holds a key.

use std::path::Path;

use serde_json::{Value, json};

use crate::snapshot::{
    AutoSource, Classifier, EmbeddingKind, Model, ModelIndex, Policy, PolicyIndex, Snapshot,
};

/// What stands in place of every key, as in v1.
const REDACTED: &str = "[REDACTED]";

impl Snapshot {
    /// The model of this name.
    pub fn model(&self, name: &str) -> Option<ModelIndex> {
        self.models.iter().position(|model| &*model.name == name)
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<PolicyIndex> {
        self.policies.iter().position(|policy| &*policy.name == name)
    }

    /// The folders and files that are read beside the configuration: trained ones that policies name, CLIP models,
    /// tokenizers, and files of endpoints.
    /// One that two policies name comes twice.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let trained = self.policies.iter().filter_map(|policy| match &policy.classifier {
            Classifier::Trained { folder } => Some(&**folder),
            Classifier::Auto(auto) => match &auto.source {
                AutoSource::Outcomes { folder } => Some(&**folder),
                AutoSource::Network { file, .. } => Some(&**file),
            },
            _ => None,
        });
        let models = self.embeddings.iter().filter_map(|embedding| match &embedding.kind {
            EmbeddingKind::Folder(folder) => Some(&**folder),
            _ => None,
        });
        let tokenizers = self.models.iter().filter_map(|model| model.picking.tokenizer.as_deref());
        let endpoints = self.models.iter().filter_map(|model| model.endpoints_file.as_deref());
        trained.chain(models).chain(tokenizers).chain(endpoints)
    }

    /// The configuration as `GET /config` shows it: v1's `policies`, and `models`; keys redacted.
    pub fn public_json(&self) -> Value {
        json!({
            "policies": self.policies.iter().map(|p| self.public_policy(p)).collect::<Vec<_>>(),
            "models": self.models.iter().map(public_model).collect::<Vec<_>>(),
        })
    }

    fn public_policy(&self, policy: &Policy) -> Value {
        let llms = policy.routes.iter().filter_map(|route| {
            let model = self.models.get(route.model)?;
            Some(json!({
                "name": &*route.label,
                "api_base": model.endpoints.first().map(|endpoint| &*endpoint.base),
                "api_key": REDACTED,
                "model": &*model.upstream_id,
            }))
        });
        json!({
            "name": &*policy.name,
            "url": policy.classifier.shown(),
            "llms": llms.collect::<Vec<_>>(),
        })
    }
}

fn public_model(model: &Model) -> Value {
    let endpoints: Vec<_> = model.endpoints.iter().map(|e| &*e.base).collect();
    json!({
        "name": &*model.name,
        "model": &*model.upstream_id,
        "endpoints": endpoints,
        "api_key": REDACTED,
        "price": model.price.map(|p| json!({ "input": p.input, "output": p.output, "cached_input": p.cached_input })),
        "context_length": model.context_length,
    })
}
