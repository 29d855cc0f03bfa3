//! Which of its models a decision sends to, and how much that is to think.
//!
//! Called by `decisions`.

use super::super::node::Node;
use super::decisions::Reading;
use super::models::Switch;

/// A model that a decision may send to.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) model: String,
    pub(super) think: Option<bool>,
    pub(super) effort: Option<String>,
}

/// How much a model thinks that is to think, where the file does not say.
const DEFAULT_EFFORT: &str = "medium";

impl<'a> Reading<'a, '_> {
    /// The model that `static` takes, or the first; nothing where the decision has none that Waypost can ask.
    pub(super) fn choice(
        &mut self,
        decision: &str,
        node: &Node,
        place: &str,
    ) -> Result<Option<Choice>, String> {
        let (refs, at) = self.refs(decision, node, place)?;
        let algorithm =
            node.get("algorithm").unwrap_or(&Node::Null).text(&format!("{place}.algorithm"), "type")?;
        let mut choices = Vec::new();
        for (number, node) in refs.iter().enumerate() {
            let place = format!("{at}[{number}]");
            choices.extend(self.reference(node, &place)?);
        }
        if refs.is_empty() {
            let known = |name: &String| self.models.get(name).is_some();
            let Some(model) = self.models.default.clone().filter(known) else {
                self.notes.at(place, "has no model, and there is no default model: the decision is left out");
                return Ok(None);
            };
            choices.push(Choice { model, ..Choice::default() });
        }
        let fixed = matches!(algorithm, None | Some("static"));
        let best = if fixed { self.best(decision, &choices)? } else { 0 };
        match (choices.len(), fixed) {
            (0, _) => {
                self.notes.at(place, "Waypost can ask none of its models: the decision is left out, and its prompts go to the next decision that applies, or to the default model");
            }
            _ if refs.len() < 2 => {}
            (_, true) => self.notes.at(place, "of its models vSR's `static` always takes the same one: it is taken, the others are left out"),
            (_, false) => {
                let algorithm = algorithm.unwrap_or_default();
                self.notes.at(place, format!("Waypost does not choose among its models by `{algorithm}`: the first is taken, the others are left out"));
            }
        }
        Ok(choices.into_iter().nth(best))
    }

    /// The models of a decision, its own or those that the entry point assigns, and where they stand.
    fn refs<'n>(&self, decision: &str, node: &'n Node, place: &str) -> Result<(&'n [Node], String), String>
    where
        'a: 'n,
    {
        let own = node.list(place, "modelRefs")?;
        match self.assignments.and_then(|assignments| assignments.get(decision)) {
            Some(assigned) if own.is_empty() => {
                let place = format!("assignments.{decision}");
                Ok((assigned.list(&place, "models")?, format!("{place}.models")))
            }
            _ => Ok((own, format!("{place}.modelRefs"))),
        }
    }

    fn reference(&mut self, node: &Node, place: &str) -> Result<Option<Choice>, String> {
        node.entries(&format!("`{place}`"))?;
        let Some(base) = node.text(place, "model")? else { return Err(format!("`{place}` has no `model`")) };
        if self.models.foreign.iter().any(|name| name == base) {
            return Ok(None);
        }
        let Some(found) = self.models.get(base) else {
            return Err(format!("`{place}.model` names `{base}`, which is not a model of this file"));
        };
        let reasoning = found.reasoning.clone();
        let model = match node.text(place, "lora_name")?.filter(|name| !name.is_empty()) {
            Some(adapter) => {
                self.models.adapter(adapter, base, reasoning);
                adapter
            }
            None => base,
        };
        let think = node.flag(place, "use_reasoning")?;
        let effort = node.text(place, "reasoning_effort")?.map(str::to_owned);
        Ok(Some(Choice { model: model.to_owned(), think, effort }))
    }

    /// vSR's `static`: the best score of the domain that has the decision's name, 1 where none stands; then the first.
    fn best(&self, decision: &str, choices: &[Choice]) -> Result<usize, String> {
        let Some((_, node, place)) = self.signals.of("domain").find(|(name, ..)| *name == decision) else {
            return Ok(0);
        };
        let scores = scores(node, place)?;
        let score = |choice: &Choice| {
            scores.iter().find(|(model, ..)| *model == choice.model).map_or(1.0, |(_, score, _)| *score)
        };
        let highest = choices.iter().map(score).fold(f64::MIN, f64::max);
        // Exactly as there: a best score of 1 means the first model, whatever its own.
        let best = choices
            .iter()
            .position(|choice| score(choice) >= highest && (highest - 1.0).abs() > f64::EPSILON);
        Ok(best.unwrap_or(0))
    }

    /// The model of the best score that Waypost can ask, and whether it is to think.
    pub(super) fn best_scored(
        &mut self,
        scores: &[(String, f64, Option<bool>)],
        place: &str,
    ) -> Result<Option<(String, Option<bool>)>, String> {
        let mut best: Option<&(String, f64, Option<bool>)> = None;
        for one in scores {
            let (model, score, _) = one;
            match self.models.get(model) {
                Some(_) if best.is_none_or(|(_, highest, _)| score > highest) => best = Some(one),
                None if !self.models.foreign.contains(model) => {
                    return Err(format!(
                        "`{place}.model_scores` names `{model}`, which is not a model of this file"
                    ));
                }
                _ => {}
            }
        }
        if scores.len() > 1 {
            self.notes.at(
                format!("{place}.model_scores"),
                "the model with the best score is taken, the others are left out",
            );
        }
        Ok(best.map(|(model, _, think)| (model.clone(), *think)))
    }

    /// How much the model is to think, where it can be told.
    pub(super) fn reasoning(&mut self, choice: &Choice, place: &str) -> Option<&'static str> {
        let think = choice.think.unwrap_or(false);
        let Some(how) =
            self.models.get(&choice.model).and_then(|model| model.reasoning.as_ref()).map(|told| told.how)
        else {
            if think {
                self.notes.at(
                    place,
                    "`use_reasoning` has no effect here, nor in vSR: its model has no reasoning family",
                );
            }
            return None;
        };
        match (how, think) {
            (Switch::ChatTemplate, true) => Some("on"),
            (Switch::ChatTemplate, false) => Some("off"),
            // vSR leaves the client's effort alone here.
            (_, false) => None,
            (_, true) => {
                let effort =
                    choice.effort.as_deref().or(self.models.effort.as_deref()).unwrap_or(DEFAULT_EFFORT);
                let known = ["low", "medium", "high"].into_iter().find(|known| *known == effort);
                if known.is_none() {
                    self.notes
                        .at(place, "Waypost knows the efforts low, medium and high: another is left out");
                }
                known
            }
        }
    }
}

/// `model_scores` of a domain: model, score, and whether it is to think.
pub(super) fn scores(node: &Node, place: &str) -> Result<Vec<(String, f64, Option<bool>)>, String> {
    let mut scores = Vec::new();
    for (at, node) in node.list(place, "model_scores")?.iter().enumerate() {
        let place = format!("{place}.model_scores[{at}]");
        let Some(model) = node.text(&place, "model")? else {
            return Err(format!("`{place}` has no `model`"));
        };
        let score = node.number_at(&place, "score")?.unwrap_or(0.0);
        scores.push((model.to_owned(), score, node.flag(&place, "use_reasoning")?));
    }
    Ok(scores)
}
