//! vSR's decisions: which conditions lead to which model.
//!
//! A decision never applies to more prompts than it did. Where Waypost has no signal for a condition, the condition is
//! left out of an OR, and an AND or a NOT cannot do without it: then the branch is left out, and at the top the decision.
//! Called by `vsr`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::choices::{Choice, scores};
use super::models::Models;
use super::plugins;
use super::profiles::Profile;
use super::signals::{Signal, Signals, What, When};
use super::{left_out, name, within};

/// A policy by decisions.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Policy {
    pub(in crate::import) name: String,
    pub(in crate::import) signals: Vec<Signal>,
    pub(in crate::import) decide: Vec<Decision>,
    /// The highest confidence first, not the highest priority.
    pub(in crate::import) by_confidence: bool,
    pub(in crate::import) default: Option<String>,
}

/// A decision that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Decision {
    pub(in crate::import) name: String,
    pub(in crate::import) priority: i64,
    /// Nothing: always.
    pub(in crate::import) when: Option<When>,
    pub(in crate::import) model: String,
    /// `off`, `on`, `low`, `medium` or `high`.
    pub(in crate::import) reasoning: Option<&'static str>,
}

/// How deep rules are followed; Waypost's own conditions nest less.
const MAX_DEPTH: usize = 16;
/// What nobody would look for.
const DEFAULT_IS_ASKED: &str = "where the model of a decision cannot answer, Waypost goes on to the policy's `default`, and vSR does not: if prompts must never reach that model, replace `default` by a decision without `when`, of the lowest priority";
/// The signal of a policy that has no other: policies by decisions have one at least.
const ANY_TEXT: &str = "any_text";

/// What is read, and what of it is said.
pub(super) struct Reading<'a, 'b> {
    pub(super) signals: Signals<'a>,
    pub(super) models: &'b mut Models,
    pub(super) notes: &'b mut Notes,
    /// Whether attacks are to be refused.
    guard: &'b mut bool,
    pub(super) assignments: Option<&'a Node>,
    decide: Vec<Decision>,
}

/// Reads a profile's decisions, or its categories where it has none; nothing where none can be kept.
///
/// # Errors
/// When something is not what it should be, with its place.
pub(super) fn read(
    profile: &Profile<'_>,
    models: &mut Models,
    guard: &mut bool,
    notes: &mut Notes,
) -> Result<Option<Policy>, String> {
    let place = &profile.place;
    let signals = Signals::read(profile.node, place)?;
    let assignments = profile.assignments;
    let mut reading = Reading { signals, models, notes, guard, assignments, decide: Vec::new() };
    let decisions = profile.node.list(place, "decisions")?;
    if decisions.is_empty() {
        reading.categories()?;
    }
    let mut seen: Vec<String> = Vec::new();
    for (at, node) in decisions.iter().enumerate() {
        let name = name(node, &within(place, &format!("decisions[{at}]")))?;
        let place = within(place, &format!("decisions.{name}"));
        if seen.contains(&name) {
            return Err(format!("`{place}` stands twice"));
        }
        reading.decision(&name, node, &place)?;
        seen.push(name);
    }
    let by_confidence = match profile.node.text(place, "strategy")? {
        None | Some("" | "priority") => false,
        Some("confidence") => true,
        Some(_) => {
            return Err(format!("`{}` is neither `priority` nor `confidence`", within(place, "strategy")));
        }
    };
    let Reading { signals, models, notes, mut decide, .. } = reading;
    if decide.is_empty() {
        notes.at(&profile.name, "has no decision that Waypost could keep");
        return Ok(None);
    }
    let mut signals = signals.finish(notes);
    // Those of decisions that are left out.
    signals.retain(|signal| {
        decide.iter().any(|one| one.when.as_ref().is_some_and(|when| when.asks(&signal.name)))
    });
    if signals.is_empty() {
        signals.push(Signal { name: ANY_TEXT.to_owned(), what: What::Regex("(?s).*".to_owned()) });
        decide.iter_mut().for_each(|decision| decision.when = Some(When::Signal(ANY_TEXT.to_owned())));
    }
    let default = models.default.clone().filter(|name| models.get(name).is_some());
    if let Some(default) = &default
        && decide.iter().any(|decision| decision.model != *default)
    {
        notes.at(&profile.name, DEFAULT_IS_ASKED);
    }
    Ok(Some(Policy { name: profile.name.clone(), signals, decide, by_confidence, default }))
}

impl<'a> Reading<'a, '_> {
    fn decision(&mut self, name: &str, node: &Node, place: &str) -> Result<(), String> {
        let known = [
            "name",
            "description",
            "annotations",
            "priority",
            "rules",
            "modelRefs",
            "plugins",
            "algorithm",
            "tier",
        ];
        left_out(node, place, &known, self.notes)?;
        if node.number_at(place, "tier")?.is_some_and(|tier| tier > 0.0) {
            self.notes.at(format!("{place}.tier"), "Waypost orders by priority or by confidence alone: tiers are left out, so look at the order of decisions that can apply together");
        }
        let rules = node.get("rules").unwrap_or(&Node::Null);
        let rules_place = format!("{place}.rules");
        let plugins = plugins::read(node, place, self.notes)?;
        if plugins.refuses_attacks {
            *self.guard = true;
        }
        if plugins.answers {
            return self.canned(rules, place, &rules_place);
        }
        let Some(choice) = self.choice(name, node, place)? else { return Ok(()) };
        let when = match rules {
            Node::Null => Some(When::All(Vec::new())),
            rules => self.rules(rules, &rules_place, 0)?,
        };
        let Some(when) = when else {
            self.notes.at(place, "its condition cannot be kept without what Waypost does not have, so the decision is left out: its prompts go to the next decision that applies, or to the default model");
            return Ok(());
        };
        let when = Some(when).filter(|when| *when != When::All(Vec::new()));
        let priority = node.number_at(place, "priority")?.unwrap_or(0.0).round();
        self.keep(name, priority as i64, when, choice, place);
        Ok(())
    }

    fn keep(&mut self, name: &str, priority: i64, when: Option<When>, choice: Choice, place: &str) {
        let reasoning = self.reasoning(&choice, place);
        self.decide.push(Decision { name: name.to_owned(), priority, when, model: choice.model, reasoning });
    }

    /// The condition of rules; nothing where it cannot be kept.
    fn rules(&mut self, node: &Node, place: &str, depth: usize) -> Result<Option<When>, String> {
        node.entries(&format!("`{place}`"))?;
        if depth > MAX_DEPTH {
            return Err(format!("`{place}` nests deeper than {MAX_DEPTH}"));
        }
        if let Some(kind) = node.text(place, "type")? {
            let Some(name) = node.text(place, "name")? else {
                return Err(format!("`{place}` has no `name`"));
            };
            return self.signals.condition(kind, name, place, self.notes);
        }
        let children = node.list(place, "conditions")?;
        let place_of = |at: usize| format!("{place}.conditions[{at}]");
        let operator = node.text(place, "operator")?.unwrap_or("AND").to_ascii_uppercase();
        let mut kept = Vec::new();
        for (at, child) in children.iter().enumerate() {
            kept.push(self.rules(child, &place_of(at), depth + 1)?);
        }
        let whole = || kept.iter().cloned().collect::<Option<Vec<_>>>();
        Ok(match operator.as_str() {
            "AND" => whole().map(|kept| one_or(kept, When::All)),
            "OR" => {
                let some: Vec<_> = kept.iter().flatten().cloned().collect();
                Some(some).filter(|some| !some.is_empty()).map(|some| one_or(some, When::Any))
            }
            "NOT" if children.len() != 1 => {
                return Err(format!("`{place}` is a NOT without exactly one condition"));
            }
            // What is denied must not lose a condition: the denial would hold for more prompts.
            "NOT" if children.iter().any(|child| self.lacks(child)) => None,
            "NOT" => whole().and_then(|mut kept| kept.pop()).map(|kept| When::Not(Box::new(kept))),
            _ => return Err(format!("`{place}.operator` is none of AND, OR and NOT")),
        })
    }

    /// Whether a condition anywhere in these rules, which have been read, has no counterpart.
    fn lacks(&self, node: &Node) -> bool {
        match (node.get("type"), node.get("name"), node.get("conditions")) {
            (Some(Node::Text(kind)), Some(Node::Text(name)), _) => self.signals.lacks(kind, name),
            (_, _, Some(Node::List(children))) => children.iter().any(|child| self.lacks(child)),
            _ => false,
        }
    }

    /// A decision that vSR answers itself. Of those only the refusal of attacks has a counterpart.
    fn canned(&mut self, rules: &Node, place: &str, rules_place: &str) -> Result<(), String> {
        self.rules(rules, rules_place, 0)?;
        let (mut attacks, mut others) = (false, false);
        for node in disjuncts(rules) {
            let attack = node.get("type") == Some(&Node::Text("jailbreak".to_owned())) && !self.lacks(node);
            attacks |= attack;
            others |= !attack;
        }
        if attacks {
            *self.guard = true;
            self.notes.at(place, "becomes `guard`: Waypost refuses such prompts with an error of its own, not with the message that stands here");
        }
        if others {
            self.notes.at(place, "vSR answers these prompts itself, Waypost does not: they are NOT stopped, but go to the next decision that applies, or to the default model");
        }
        Ok(())
    }

    /// v0.1: every category leads to its best model.
    fn categories(&mut self) -> Result<(), String> {
        let categories: Vec<_> = self
            .signals
            .of("domain")
            .map(|(name, node, place)| (name.to_owned(), node, place.to_owned()))
            .collect();
        for (name, node, place) in categories {
            let known = [
                "name",
                "description",
                "mmlu_categories",
                "model_scores",
                "use_reasoning",
                "reasoning_description",
                "reasoning_effort",
            ];
            left_out(node, &place, &known, self.notes)?;
            let scores = scores(node, &place)?;
            let Some((model, think)) = self.best_scored(&scores, &place)? else { continue };
            let think = think.or(node.flag(&place, "use_reasoning")?);
            let effort = node.text(&place, "reasoning_effort")?.map(str::to_owned);
            let choice = Choice { model, think, effort };
            if let Some(when) = self.signals.condition("domain", &name, &place, self.notes)? {
                self.keep(&name, 0, Some(when), choice, &place);
            }
        }
        Ok(())
    }
}

/// The conditions of which one suffices.
fn disjuncts(node: &Node) -> Vec<&Node> {
    let Some(Node::List(children)) = node.get("conditions") else { return vec![node] };
    // It has been read before: it is a word, if it is there.
    let operator = node.text("", "operator").ok().flatten().unwrap_or("AND");
    match children.as_slice() {
        children if operator.eq_ignore_ascii_case("OR") => children.iter().flat_map(disjuncts).collect(),
        [child] if operator.eq_ignore_ascii_case("AND") => disjuncts(child),
        _ => vec![node],
    }
}

/// A condition of several, or the only one itself.
fn one_or(mut conditions: Vec<When>, several: fn(Vec<When>) -> When) -> When {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => several(conditions),
    }
}
