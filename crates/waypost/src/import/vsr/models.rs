//! vSR's models: where they run, what they cost, and how their reasoning is switched.
//!
//! Reads `providers.models` with `routing.modelCards`, and the flat form's `vllm_endpoints` with `model_config`. A key in
//! clear never leaves this module. Called by `vsr`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::backends::{self, Backends};
use super::{left_out, name};

/// A model of vSR's in Waypost's terms.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::import) struct Model {
    pub(in crate::import) name: String,
    /// What the engine calls it, where that is another name.
    pub(in crate::import) sent_as: Option<String>,
    /// Base URLs; an adapter has none.
    pub(in crate::import) endpoints: Vec<String>,
    /// A reference to a variable, never a key.
    pub(in crate::import) key: Option<String>,
    pub(in crate::import) price: Option<Price>,
    /// Tokens.
    pub(in crate::import) context_length: Option<u64>,
    pub(in crate::import) reasoning: Option<Reasoning>,
    /// The model of which it is a LoRA adapter.
    pub(in crate::import) adapter_of: Option<String>,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Price {
    pub(in crate::import) input: f64,
    pub(in crate::import) output: f64,
    pub(in crate::import) cached_input: Option<f64>,
}

/// Which field of the request switches a model's reasoning.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Reasoning {
    pub(in crate::import) how: Switch,
    pub(in crate::import) parameter: String,
}

/// Where the field stands, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Switch {
    /// True or false, in `chat_template_kwargs`.
    ChatTemplate,
    /// An effort, in `chat_template_kwargs`.
    ChatTemplateEffort,
    /// An effort, in the request itself.
    Effort,
}

/// The models of a file.
#[derive(Debug, Default)]
pub(super) struct Models {
    pub(super) list: Vec<Model>,
    /// Those that Waypost cannot ask.
    pub(super) foreign: Vec<String>,
    pub(super) default: Option<String>,
    /// `default_reasoning_effort`.
    pub(super) effort: Option<String>,
    families: Vec<(String, String, String)>,
}

/// Families that newer versions know without being told.
const FAMILIES: [(&str, &str, &str); 2] =
    [("qwen3", "chat_template_kwargs", "enable_thinking"), ("deepseek", "chat_template_kwargs", "thinking")];
/// Keys of a model that are read.
const HANDLED: [&str; 12] = [
    "name",
    "provider_model_id",
    "api_format",
    "backend_refs",
    "endpoints",
    "pricing",
    "reasoning_family",
    "reasoning",
    "preferred_endpoints",
    "access_key",
    "loras",
    "pii_policy",
];
/// What choosing among several models goes by, of which each algorithm has its own note.
const PROFILE: [&str; 4] = ["param_size", "description", "capabilities", "quality_score"];
/// Where a model is written that has no address in the file.
const NOWHERE: &str = "http://localhost:8000";

/// Reads the models; `cards` is the mapping that has `modelCards`.
///
/// # Errors
/// When a value cannot be what it should be, with its place.
pub(super) fn read(root: &Node, cards: &Node, notes: &mut Notes) -> Result<Models, String> {
    let nothing = Node::Null;
    let providers = root.get("providers").unwrap_or(&nothing);
    let defaults = providers.get("defaults").unwrap_or(&nothing);
    let mut models = Models::default();
    for (node, place) in [(root, "the file"), (providers, "providers"), (defaults, "providers.defaults")] {
        models.settings(node, place)?;
    }
    // The newest files say it shorter.
    models.default = models.default.or(defaults.text("providers.defaults", "model")?.map(str::to_owned));
    models.effort =
        models.effort.or(defaults.text("providers.defaults", "reasoning_effort")?.map(str::to_owned));
    for (at, item) in providers.list("providers", "models")?.iter().enumerate() {
        let name = name(item, &format!("providers.models[{at}]"))?;
        let place = format!("providers.models.{name}");
        let key = if item.get("backend_refs").is_some() { "backend_refs" } else { "endpoints" };
        let refs = item.list(&place, key)?;
        let refs = refs.iter().enumerate().map(|(at, node)| (node, format!("{place}.{key}[{at}]")));
        models.add(&name, item, &place, &refs.collect::<Vec<_>>(), notes)?;
    }
    models.flat(root, notes)?;
    for (at, card) in cards.list("routing", "modelCards")?.iter().enumerate() {
        models.card(card, &format!("routing.modelCards[{at}]"), notes)?;
    }
    match models.list.is_empty() {
        true => Err("has no model that Waypost could ask".to_owned()),
        false => Ok(models),
    }
}

impl Models {
    pub(super) fn get(&self, name: &str) -> Option<&Model> {
        self.list.iter().find(|model| model.name == name)
    }

    /// Default model, default effort and families, wherever this version has them.
    fn settings(&mut self, node: &Node, place: &str) -> Result<(), String> {
        let text = |key| node.text(place, key).map(|text| text.map(str::to_owned));
        self.default = self.default.take().or(text("default_model")?);
        self.effort = self.effort.take().or(text("default_reasoning_effort")?);
        let place = format!("{place}.reasoning_families");
        let families = node.get("reasoning_families").unwrap_or(&Node::Null);
        for (name, family) in families.entries(&format!("`{place}`"))? {
            let place = format!("{place}.{name}");
            let (kind, parameter) = (family.text(&place, "type")?, family.text(&place, "parameter")?);
            if let (Some(kind), Some(parameter)) = (kind, parameter) {
                self.families.push((name.clone(), kind.to_owned(), parameter.to_owned()));
            }
        }
        Ok(())
    }

    /// `vllm_endpoints` and `model_config`.
    fn flat(&mut self, root: &Node, notes: &mut Notes) -> Result<(), String> {
        let endpoints = root.list("the file", "vllm_endpoints")?;
        let mut named = Vec::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            let place = format!("vllm_endpoints[{at}]");
            named.push((name(endpoint, &place)?, endpoint, endpoint.texts(&place, "models")?));
        }
        let configured = root.get("model_config").unwrap_or(&Node::Null).entries("`model_config`")?;
        let nothing = Node::Null;
        let mut all: Vec<(&str, &Node)> =
            configured.iter().map(|(name, node)| (name.as_str(), node)).collect();
        for model in named.iter().flat_map(|(_, _, models)| models) {
            if !all.iter().any(|(name, _)| name == model) {
                all.push((model, &nothing));
            }
        }
        for (model, node) in all {
            let place = format!("model_config.{model}");
            let preferred = node.texts(&place, "preferred_endpoints")?;
            if let Some(unknown) =
                preferred.iter().find(|name| !named.iter().any(|(known, ..)| known == *name))
            {
                return Err(format!(
                    "`{place}.preferred_endpoints` names `{unknown}`, which is none of `vllm_endpoints`"
                ));
            }
            let listed = named.iter().any(|(.., models)| models.iter().any(|name| name == model));
            let serves =
                |(name, _, models): &&(String, &Node, Vec<String>)| match (preferred.is_empty(), listed) {
                    (false, _) => preferred.contains(name),
                    (true, true) => models.iter().any(|name| name == model),
                    (true, false) => true,
                };
            let refs =
                named.iter().filter(serves).map(|(name, node, _)| (*node, format!("vllm_endpoints.{name}")));
            self.add(model, node, &place, &refs.collect::<Vec<_>>(), notes)?;
        }
        Ok(())
    }

    /// A model with its settings and what serves it.
    fn add(
        &mut self,
        name: &str,
        node: &Node,
        place: &str,
        refs: &[(&Node, String)],
        notes: &mut Notes,
    ) -> Result<(), String> {
        node.entries(&format!("`{place}`"))?;
        if self.get(name).is_some() {
            return Err(format!("`{place}` stands twice"));
        }
        left_out(node, place, &[&HANDLED[..], &PROFILE].concat(), notes)?;
        profile_left_out(node, place, notes);
        let Backends { addresses, key, openai } = backends::read(name, node, place, refs, notes)?;
        if foreign(node, place, notes)? || (addresses.is_empty() && !refs.is_empty()) {
            self.foreign.push(name.to_owned());
            return Ok(());
        }
        if node
            .get("pii_policy")
            .is_some_and(|policy| policy.get("allow_by_default") == Some(&Node::Flag(false)))
        {
            notes.at(format!("{place}.pii_policy"), "left out: prompts with personal data can reach this model; a `pii: true` signal and a decision keep them away");
        }
        let model = Model {
            name: name.to_owned(),
            sent_as: node.text(place, "provider_model_id")?.filter(|id| *id != name).map(str::to_owned),
            endpoints: addresses,
            key,
            price: price(node, place, notes)?,
            reasoning: self.reasoning(node, place, openai, notes)?,
            ..Model::default()
        };
        self.list.push(model);
        self.adapters(name, node, place)
    }

    /// What a card adds: a context, adapters, or a model that stands nowhere else.
    fn card(&mut self, card: &Node, place: &str, notes: &mut Notes) -> Result<(), String> {
        let name = name(card, place)?;
        let place = format!("routing.modelCards.{name}");
        if self.get(&name).is_none() && !self.foreign.contains(&name) {
            self.list.push(Model { name: name.clone(), ..Model::default() });
        }
        let known = ["name", "context_window_size", "loras", "modality", "tags"];
        left_out(card, &place, &[&known[..], &PROFILE].concat(), notes)?;
        profile_left_out(card, &place, notes);
        let context = card.number_at(&place, "context_window_size")?.filter(|tokens| *tokens >= 1.0);
        if let Some(model) = self.list.iter_mut().find(|model| model.name == name) {
            model.context_length = context.map(|tokens| tokens as u64).or(model.context_length);
        }
        if card.text(&place, "modality")? == Some("diffusion") {
            notes.at(
                format!("{place}.modality"),
                "Waypost routes text: nothing is sent here because an image is asked for",
            );
        }
        match self.foreign.contains(&name) {
            true => Ok(()),
            false => self.adapters(&name, card, &place),
        }
    }

    /// LoRA adapters are models of their own, served where their base is.
    fn adapters(&mut self, base: &str, node: &Node, place: &str) -> Result<(), String> {
        let reasoning = self.get(base).and_then(|model| model.reasoning.clone());
        for (at, adapter) in node.list(place, "loras")?.iter().enumerate() {
            let name = name(adapter, &format!("{place}.loras[{at}]"))?;
            self.adapter(&name, base, reasoning.clone());
        }
        Ok(())
    }

    /// Sees to it that the adapter is there.
    pub(super) fn adapter(&mut self, name: &str, base: &str, reasoning: Option<Reasoning>) {
        if self.get(name).is_none() {
            let adapter_of = Some(base.to_owned());
            self.list.push(Model { name: name.to_owned(), reasoning, adapter_of, ..Model::default() });
        }
    }

    /// Gives those without an address one that has to be corrected.
    pub(super) fn settle(&mut self, notes: &mut Notes) {
        for model in &mut self.list {
            if model.endpoints.is_empty() && model.adapter_of.is_none() {
                model.endpoints.push(NOWHERE.to_owned());
                notes.at(
                    &model.name,
                    format!("where this model runs is not in the file: correct its endpoint, {NOWHERE}"),
                );
            }
        }
    }

    fn reasoning(
        &self,
        node: &Node,
        place: &str,
        openai: bool,
        notes: &mut Notes,
    ) -> Result<Option<Reasoning>, String> {
        let own = node.get("reasoning").unwrap_or(&Node::Null);
        let inside = format!("{place}.reasoning");
        own.entries(&format!("`{inside}`"))?;
        let family = match own.text(&inside, "family")? {
            None => node.text(place, "reasoning_family")?,
            family => family,
        };
        let known = |name: &str| {
            let told =
                self.families.iter().map(|(family, kind, parameter)| (&**family, &**kind, &**parameter));
            told.chain(FAMILIES)
                .find(|(family, ..)| *family == name)
                .map(|(_, kind, parameter)| (kind, parameter))
        };
        let (kind, parameter) = match (own.text(&inside, "type")?, own.text(&inside, "parameter")?, family) {
            (Some(kind), Some(parameter), _) => (kind, parameter),
            (_, _, None | Some("")) => return Ok(None),
            (_, _, Some(family)) => match known(family) {
                Some(found) => found,
                None => {
                    notes.at(place, format!("its reasoning family `{family}` is not among `reasoning_families`: its reasoning is not switched"));
                    return Ok(None);
                }
            },
        };
        let how = match kind {
            "chat_template_kwargs" => Switch::ChatTemplate,
            // vSR puts it into the template's arguments, save for OpenAI itself.
            "reasoning_effort" if !openai => Switch::ChatTemplateEffort,
            "reasoning_effort" | "top_level_reasoning_effort" => Switch::Effort,
            _ => {
                notes.at(
                    place,
                    format!(
                        "Waypost has no reasoning switch of the type `{kind}`: its reasoning is not switched"
                    ),
                );
                return Ok(None);
            }
        };
        Ok(Some(Reasoning { how, parameter: parameter.to_owned() }))
    }
}

/// Whether the model is asked in another form than OpenAI's.
fn foreign(node: &Node, place: &str, notes: &mut Notes) -> Result<bool, String> {
    let foreign = node.text(place, "api_format")?.is_some_and(|form| !form.is_empty() && form != "openai");
    if foreign {
        notes.at(
            format!("{place}.api_format"),
            "Waypost asks models in OpenAI's form only: the model is left out",
        );
    }
    Ok(foreign)
}

fn price(node: &Node, place: &str, notes: &mut Notes) -> Result<Option<Price>, String> {
    let Some(pricing) = node.get("pricing") else { return Ok(None) };
    let place = format!("{place}.pricing");
    let known = ["currency", "prompt_per_1m", "completion_per_1m", "cached_input_per_1m"];
    left_out(pricing, &place, &known, notes)?;
    if !pricing.text(&place, "currency")?.unwrap_or("USD").eq_ignore_ascii_case("usd") {
        notes.at(place, "Waypost counts in US dollars: the price is left out");
        return Ok(None);
    }
    let amount = |key| match pricing.number_at(&place, key)? {
        Some(amount) if amount < 0.0 => Err(format!("`{place}.{key}` is below 0")),
        amount => Ok(amount),
    };
    let (input, output) = (amount("prompt_per_1m")?, amount("completion_per_1m")?);
    let cached_input = amount("cached_input_per_1m")?;
    Ok(match (input, output) {
        (None, None) => None,
        (input, output) => {
            Some(Price { input: input.unwrap_or(0.0), output: output.unwrap_or(0.0), cached_input })
        }
    })
}

fn profile_left_out(node: &Node, place: &str, notes: &mut Notes) {
    if PROFILE.iter().any(|key| node.get(key).is_some()) {
        notes.at(place, "size, description, capabilities and score are left out: vSR chooses among several models by them");
    }
}
