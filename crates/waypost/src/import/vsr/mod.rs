//! vLLM Semantic Router's configuration, read as its code reads it: v0.1 and v0.2, flat or as its command line wrote them,
//! and v0.3 with recipes and entry points.
//!
//! What it sets and Waypost has no place for is named. Never guesses: what cannot be is an error with its place. Called by
//! `import`.

mod backends;
mod choices;
mod decisions;
mod models;
mod plugins;
mod profiles;
mod signals;
mod write;

use super::node::Node;
use super::notes::Notes;
use decisions::Policy;
use models::Model;

pub(super) use write::config;

/// What the file says, in Waypost's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Vsr {
    models: Vec<Model>,
    /// The default one first.
    policies: Vec<Policy>,
    /// Names of the default policy, where they are not the usual ones.
    auto_names: Option<Vec<String>>,
    /// Whether attacks are refused.
    guard: bool,
}

const NO_COUNTERPART: &str = "has no counterpart in Waypost and is left out";
/// Keys of which one at least stands in every such file.
const SIGNS: [&str; 7] =
    ["providers", "routing", "recipes", "decisions", "categories", "vllm_endpoints", "model_config"];
/// Keys at the top that are read, or that say nothing which Waypost would have to be told.
const TOP: [&str; 25] = [
    "version",
    "providers",
    "routing",
    "entrypoints",
    "recipes",
    "global",
    "signals",
    "decisions",
    "strategy",
    "categories",
    "keyword_rules",
    "embedding_rules",
    "jailbreak_rules",
    "pii_rules",
    "default_model",
    "default_reasoning_effort",
    "reasoning_families",
    "vllm_endpoints",
    "model_config",
    "auto_model_name",
    "auto_model_names",
    "prompt_guard",
    "classifier",
    "clear_route_cache",
    "include_config_models_in_list",
];

/// Reads the file; what a person should know is added to `notes`, also where it fails.
///
/// # Errors
/// When it is no YAML, not vSR's, or has a value that cannot be what it should be.
pub(super) fn read(text: &str, notes: &mut Notes) -> Result<Vsr, String> {
    // `no` and `on` are words here, for they may be keywords; and no line of the file is repeated, for it may hold a key.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let root: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    root.entries("the file")?;
    if !SIGNS.iter().any(|key| root.get(key).is_some()) {
        return Err(format!(
            "is not vLLM Semantic Router's: none of {} stands in it",
            SIGNS.map(|key| format!("`{key}`")).join(", ")
        ));
    }
    for key in ["providers", "routing", "model_config"] {
        root.get(key).unwrap_or(&Node::Null).entries(&format!("`{key}`"))?;
    }
    let cards = root.get("routing").unwrap_or(&root);
    let mut models = models::read(&root, cards, notes)?;
    let profiles = profiles::read(&root, notes)?;
    default_model(&models, notes)?;
    let mut guard = guards_by_itself(&root)?;
    let mut policies = Vec::new();
    for (at, profile) in profiles.list.iter().enumerate() {
        match decisions::read(profile, &mut models, &mut guard, notes)? {
            None if at == 0 => {
                return Err(format!("`{}` has no decision that Waypost could keep", profile.name));
            }
            policy => policies.extend(policy),
        }
        let projections = within(&profile.place, "projections");
        if profile.node.get("projections").is_some() {
            notes.at(projections, "Waypost has no projections: conditions on them are left out");
        }
    }
    rest(&root, notes)?;
    models.settle(notes);
    Ok(Vsr { models: models.list, policies, auto_names: profiles.auto_names, guard })
}

fn default_model(models: &models::Models, notes: &mut Notes) -> Result<(), String> {
    match &models.default {
        Some(name) if models.foreign.contains(name) => {
            notes.at(
                name,
                "Waypost cannot ask the default model: prompts to which no decision applies are refused",
            );
            Ok(())
        }
        Some(name) if models.get(name).is_none() => {
            Err(format!("the default model `{name}` is not a model of this file"))
        }
        _ => Ok(()),
    }
}

/// v0.1 refused attacks by `prompt_guard` alone; later a decision has to say so.
fn guards_by_itself(root: &Node) -> Result<bool, String> {
    let guard = root.get("prompt_guard").unwrap_or(&Node::Null);
    let enabled = guard.flag("prompt_guard", "enabled")?.unwrap_or(false);
    Ok(enabled && root.get("decisions").is_none())
}

/// Names the settings outside models and routing that have no counterpart.
fn rest(root: &Node, notes: &mut Notes) -> Result<(), String> {
    for (key, value) in root.entries("the file")? {
        if !TOP.contains(&key.as_str()) && !key.ends_with("_rules") && !off(value) {
            notes.at(key, effect(key));
        }
    }
    let threshold = "belongs to vSR's classifier and is left out: Waypost's own has its own";
    let classifier = root.get("classifier").unwrap_or(&Node::Null);
    for part in ["category_model", "pii_model"] {
        if classifier.get(part).is_some_and(|model| model.get("threshold").is_some()) {
            notes.at(format!("classifier.{part}.threshold"), threshold);
        }
    }
    if classifier.get("mcp_category_model").is_some_and(|model| !off(model)) {
        notes.at("classifier.mcp_category_model", NO_COUNTERPART);
    }
    for (section, settings) in root.get("global").unwrap_or(&Node::Null).entries("`global`")? {
        let place = format!("global.{section}");
        for (key, value) in settings.entries(&format!("`{place}`"))? {
            let told = section == "router"
                && [
                    "auto_model_name",
                    "auto_model_names",
                    "clear_route_cache",
                    "include_config_models_in_list",
                ]
                .contains(&key.as_str());
            if !told && !off(value) {
                notes.at(format!("{place}.{key}"), effect(key));
            }
        }
    }
    Ok(())
}

/// Whether a section is switched off, or all that is in it.
fn off(value: &Node) -> bool {
    match value {
        Node::Null | Node::Flag(false) => true,
        Node::List(items) => items.is_empty(),
        Node::Map(entries) => match value.get("enabled") {
            Some(enabled) => *enabled == Node::Flag(false),
            None => entries.iter().all(|(_, value)| off(value)),
        },
        _ => false,
    }
}

/// What the absence of a section means.
fn effect(key: &str) -> &'static str {
    match key {
        "semantic_cache" | "response_cache" => "Waypost keeps no answers: every request reaches a model",
        "memory" | "vector_store" => {
            "Waypost remembers nothing of conversations but their model, and retrieves nothing"
        }
        "listeners" => "left out: they were Envoy's, with their keys and timeouts",
        "observability" => "left out: Waypost has metrics and decisions of its own",
        "api" => "left out: Waypost's classifiers have bounds of their own, under `encoder`",
        "ratelimit" => "Waypost limits no client: let Envoy do it",
        "authz" => "Waypost does not ask who a client is: let Envoy do it",
        "model_catalog"
        | "mom_registry"
        | "embeddings"
        | "modules"
        | "bert_model"
        | "embedding_models"
        | "classifiers"
        | "feedback_detector"
        | "hallucination_mitigation" => "left out: Waypost's classifiers are built in",
        "tools" => "Waypost neither adds nor removes tools",
        "looper" => "Waypost sends a request to one model",
        _ => NO_COUNTERPART,
    }
}

/// Names the keys of a mapping that are not known.
fn left_out(node: &Node, place: &str, known: &[&str], notes: &mut Notes) -> Result<(), String> {
    for (key, value) in node.entries(&format!("`{place}`"))? {
        if !known.contains(&key.as_str()) && *value != Node::Null {
            notes.at(format!("{place}.{key}"), NO_COUNTERPART);
        }
    }
    Ok(())
}

/// Says of those keys that stand in a mapping that they have no counterpart.
fn unused(node: &Node, place: &str, keys: &[&str], notes: &mut Notes) {
    for key in keys.iter().filter(|key| node.get(key).is_some()) {
        notes.at(format!("{place}.{key}"), NO_COUNTERPART);
    }
}

/// The `name` of a piece of the file.
fn name(node: &Node, place: &str) -> Result<String, String> {
    node.entries(&format!("`{place}`"))?;
    match node.text(place, "name")?.map(str::trim) {
        None | Some("") => Err(format!("`{place}` has no `name`")),
        Some(name) => Ok(name.to_owned()),
    }
}

/// The place of a key within a mapping; the file itself has no name.
fn within(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

#[cfg(test)]
mod tests;
