//! What the client asked for: a policy, a label, or a model, and in which of the four ways.
//!
//! v1's body object, the header `x-waypost-policy`, a virtual model name, or a real model name. Pure;
//! every "no" is an error in OpenAI's shape, with v1's words where v1 had some. Called by the brain.

use crate::brain::{Brain, Name};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use waypost_config::{ModelIndex, PolicyIndex};
use waypost_wire::{ApiError, Code, NimRouter, RequestView, Strategy};

/// v1's sentence for every misuse of its body object, word for word: clients match on it.
const V1_MISSING: &str = "Missing required 'nim-llm-router' parameters in request body. Expected format: \
    { 'nim-llm-router': { 'policy': 'string', 'routing_strategy': 'manual|triton', 'model': 'string' (for manual strategy) } }";

/// Longest piece of a client's own value repeated in an error message, in characters.
const MAX_ECHO_CHARS: usize = 128;

/// How the model was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// v1's body object.
    BodyObject,
    /// The header `x-waypost-policy`.
    Header,
    /// A policy's name, or one such as `auto`, as the model.
    VirtualModel,
    /// A real model's name.
    #[default]
    Model,
}

impl Via {
    /// The word used in records and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BodyObject => "body_object",
            Self::Header => "header",
            Self::VirtualModel => "virtual_model",
            Self::Model => "model",
        }
    }
}

/// What is to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Classify under this policy.
    Classify(PolicyIndex),
    /// The client chose this model of the policy; the label, when it named one.
    Manual(PolicyIndex, ModelIndex, Option<Arc<str>>),
    /// The client chose this model.
    Named(ModelIndex),
}

impl Brain {
    /// Reads what the client asked for. The body object goes before the header, the header before the
    /// model name.
    ///
    /// # Errors
    /// 400 or 404, naming what is missing or unknown.
    pub fn ask(&self, view: &RequestView<'_>, policy_header: Option<&str>) -> Result<(Ask, Via), ApiError> {
        if let Some(nim) = &view.nim {
            return self.ask_v1(nim).map(|ask| (ask, Via::BodyObject));
        }
        if let Some(name) = policy_header {
            let policy = self.policy_named(name.trim())?;
            return Ok((Ask::Classify(policy), Via::Header));
        }
        let model = view.model.map(|m| m.decode()).unwrap_or_default();
        match self.name(&model) {
            Some(Name::Model(index)) => Ok((Ask::Named(index), Via::Model)),
            Some(Name::Policy(index)) => Ok((Ask::Classify(index), Via::VirtualModel)),
            None if model.is_empty() => Err(missing("")),
            None if let Some(index) = self.any_name() => Ok((Ask::Named(index), Via::Model)),
            None => Err(ApiError::new(
                Code::ModelNotFound,
                format!(
                    "The model '{}' does not exist here. GET /v1/models lists the models and policies.",
                    echo(&model)
                ),
            )
            .param("model")),
        }
    }

    /// The client's name for a model where nothing here has it: what a model that takes any name is asked for.
    #[must_use]
    pub fn free_name<'a>(&self, view: &RequestView<'a>) -> Option<Cow<'a, str>> {
        self.any_name()?;
        view.model.map(|model| model.decode()).filter(|name| !name.is_empty() && self.name(name).is_none())
    }

    fn any_name(&self) -> Option<ModelIndex> {
        self.snapshot().models.iter().position(|model| model.any_name)
    }

    fn ask_v1(&self, nim: &NimRouter<'_>) -> Result<Ask, ApiError> {
        if let Some(problem) = &nim.problem {
            return Err(missing(problem));
        }
        let index = self.policy_named(nim.policy.as_deref().unwrap_or_default())?;
        match nim.strategy {
            None => Err(missing("'routing_strategy' is required: 'triton' or 'manual'")),
            Some(Strategy::Triton) => Ok(Ask::Classify(index)),
            Some(Strategy::Manual) => {
                let wanted = nim.model.as_deref().unwrap_or_default();
                if wanted.is_empty() {
                    return Err(missing("'model' is required when 'routing_strategy' is 'manual'"));
                }
                self.manual(index, wanted)
            }
        }
    }

    /// A label of the policy first, as v1 has it, then one of its models by name or upstream id.
    fn manual(&self, index: PolicyIndex, wanted: &str) -> Result<Ask, ApiError> {
        let snapshot = self.snapshot();
        let policy = &snapshot.policies[index];
        if let Some(route) = policy.routes.iter().find(|route| *route.label == *wanted) {
            return Ok(Ask::Manual(index, route.model, Some(Arc::clone(&route.label))));
        }
        policy
            .models()
            .into_iter()
            .find(|m| *snapshot.models[*m].name == *wanted || *snapshot.models[*m].upstream_id == *wanted)
            .map(|model| Ask::Manual(index, model, None))
            .ok_or_else(|| {
                ApiError::new(Code::ModelNotFound, format!("Model not found: {}", echo(wanted)))
                    .param("nim-llm-router.model")
            })
    }

    fn policy_named(&self, name: &str) -> Result<PolicyIndex, ApiError> {
        match self.name(name) {
            Some(Name::Policy(index)) => Ok(index),
            _ => Err(ApiError::new(Code::PolicyNotFound, format!("Policy '{}' not found", echo(name)))
                .param("policy")),
        }
    }
}

fn missing(detail: &str) -> ApiError {
    let message =
        if detail.is_empty() { V1_MISSING.to_owned() } else { format!("{V1_MISSING}. Problem: {detail}.") };
    ApiError::new(Code::MissingParameter, message).param("nim-llm-router")
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO_CHARS).collect()
}
