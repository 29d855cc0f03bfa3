//! LLM Router v2's `config.yml`, read as its code reads it.
//!
//! What it sets and Waypost has no place for is named, one note each. Called by `import`.

use super::node::Node;

/// v2's function that asks a small model for a route.
pub(super) const INTENT: &str = "hf_intent_objective_fn";
/// v2's function over the network.
pub(super) const NETWORK: &str = "nn_objective_fn";
/// v2's function that serves the path, and chooses between the two.
const ROUTER: &str = "sfc_router_fn";
/// Its type.
const ROUTER_TYPE: &str = "sfc_router";

/// What the file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct V2 {
    /// The objective function in force.
    pub(super) objective: String,
    /// Model to probability, in the order of the file.
    pub(super) thresholds: Vec<(String, f64)>,
    /// Model to relative cost, in the order of the file.
    pub(super) costs: Vec<(String, f64)>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// What the path's function chooses.
    pub(super) by_path: Option<String>,
    /// The name of the network's function.
    pub(super) network: Option<String>,
}

/// Reads the file.
///
/// # Errors
/// When it is no YAML, not v2's, or has a value that cannot be what it should be.
pub(super) fn read(text: &str) -> Result<V2, String> {
    let root: Node = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let (functions, workflow) = (root.get("functions"), root.get("workflow"));
    if functions.is_none() && workflow.is_none() {
        return Err("is not LLM Router v2's: neither `functions` nor `workflow` stands in it".to_owned());
    }
    let mut v2 = V2::default();
    for (key, value) in root.entries("the file")? {
        match key.as_str() {
            "functions" | "workflow" => {}
            "general" => v2.general(value)?,
            _ => v2.note(format!("`{key}` has no counterpart in Waypost and is left out")),
        }
    }
    for (name, function) in functions.unwrap_or(&Node::Null).entries("`functions`")? {
        v2.function(name, function)?;
    }
    v2.choose(workflow.unwrap_or(&Node::Null))?;
    Ok(v2)
}

impl V2 {
    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn general(&mut self, general: &Node) -> Result<(), String> {
        for (key, _) in general.entries("`general`")? {
            self.note(match key.as_str() {
                "front_end" => {
                    "`general.front_end` is left out: Waypost has v2's paths by itself, and one `listen`"
                        .to_owned()
                }
                _ => format!("`general.{key}` has no counterpart in Waypost and is left out"),
            });
        }
        Ok(())
    }

    fn function(&mut self, name: &str, function: &Node) -> Result<(), String> {
        // v2 goes by the type; the name is what paths and `objective_fn` call it.
        let place = format!("functions.{name}");
        let entries = function.entries(&format!("`{place}`"))?;
        let kind = match (function.text(&place, "_type")?, name) {
            (Some(kind), _) => kind,
            (None, ROUTER) => ROUTER_TYPE,
            (None, name) => name,
        };
        let known: &[&str] = match kind {
            NETWORK => &["model_thresholds", "model_costs"],
            ROUTER_TYPE if name == ROUTER => &["objective_fn"],
            INTENT | "healthcheck" => &[],
            _ => {
                self.note(format!(
                    "`functions.{name}` of the type `{kind}` has no counterpart in Waypost and is left out"
                ));
                return Ok(());
            }
        };
        for (key, _) in entries {
            if key != "_type" && !known.contains(&key.as_str()) {
                self.note(format!("`functions.{name}.{key}` has no counterpart in Waypost and is left out"));
            }
        }
        if kind == ROUTER_TYPE {
            self.by_path = function.text(&place, "objective_fn")?.map(str::to_owned);
        }
        if kind == NETWORK {
            if let Some(other) = self.network.replace(name.to_owned()) {
                return Err(format!(
                    "`functions.{other}` and `{place}` are both of the type `{NETWORK}`: keep one"
                ));
            }
            self.thresholds = numbers(name, "model_thresholds", function)?;
            self.costs = numbers(name, "model_costs", function)?;
            if let Some((model, threshold)) = self.thresholds.iter().find(|(_, t)| *t > 1.0) {
                let note = format!("the threshold {threshold} of `{model}` is above 1: it is never met");
                self.note(note);
            }
        }
        Ok(())
    }

    /// The path's function decides; the workflow is what the command line runs.
    fn choose(&mut self, workflow: &Node) -> Result<(), String> {
        for (key, _) in workflow.entries("`workflow`")? {
            if key != "_type" && key != "objective_fn" {
                self.note(format!("`workflow.{key}` has no counterpart in Waypost and is left out"));
            }
        }
        let by_workflow = workflow.text("workflow", "objective_fn")?.map(str::to_owned);
        let by_path = self.by_path.take();
        if let (Some(path), Some(workflow)) = (&by_path, &by_workflow)
            && path != workflow
        {
            self.note(format!(
                "`functions.{ROUTER}` chooses `{path}` and `workflow` chooses `{workflow}`; the former serves v2's path and is taken"
            ));
        }
        self.objective = by_path.or(by_workflow).unwrap_or_else(|| {
            self.notes.push(format!("no `objective_fn` is chosen; `{INTENT}` is taken, as shipped"));
            INTENT.to_owned()
        });
        if self.objective != INTENT && self.objective != NETWORK {
            return Err(format!(
                "`objective_fn: {}` is neither `{INTENT}` nor `{NETWORK}`; write a policy for it by hand",
                self.objective
            ));
        }
        Ok(())
    }
}

fn numbers(function: &str, key: &str, node: &Node) -> Result<Vec<(String, f64)>, String> {
    let entries = node.get(key).unwrap_or(&Node::Null).entries(&format!("`functions.{function}.{key}`"))?;
    let number = |(model, value): &(String, Node)| match value.number() {
        Some(number) if number.is_finite() && number >= 0.0 => Ok((model.clone(), number)),
        _ => Err(format!("`functions.{function}.{key}.{model}` is not a number from 0")),
    };
    entries.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = "
general:
  front_end: {_type: fastapi, port: 8001}
  telemetry: {}
functions:
  healthcheck_fn: {_type: healthcheck}
  hf_intent_objective_fn: {_type: hf_intent_objective_fn}
  nn_objective_fn:
    _type: nn_objective_fn
    model_thresholds: {gpt-5-chat: 0.5, 'nvidia/nemotron-nano-12b-v2-vl': 0.65}
    model_costs: {gpt-5-chat: 1.0}
    temperature: 2
  sfc_router_fn: {_type: sfc_router, objective_fn: hf_intent_objective_fn}
llms: {}
workflow: {_type: sfc_router, objective_fn: nn_objective_fn}
";

    #[test]
    fn what_is_known_is_read_and_everything_else_is_named() {
        let v2 = read(SHIPPED).unwrap();
        assert_eq!(v2.objective, INTENT);
        assert_eq!(
            v2.thresholds,
            [("gpt-5-chat".into(), 0.5), ("nvidia/nemotron-nano-12b-v2-vl".into(), 0.65)]
        );
        assert_eq!(v2.costs, [("gpt-5-chat".into(), 1.0)]);
        let named = ["front_end", "general.telemetry", "`llms`", "nn_objective_fn.temperature", "is taken"];
        assert_eq!(v2.notes.len(), named.len(), "{:?}", v2.notes);
        for word in named {
            assert!(v2.notes.iter().any(|note| note.contains(word)), "{word}: {:?}", v2.notes);
        }
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        for (text, wanted) in [
            ("policies: []", "neither `functions` nor `workflow`"),
            ("workflow: {objective_fn: mine}", "neither `hf_intent"),
            ("functions: {nn_objective_fn: {model_costs: {m: cheap}}}", "model_costs.m` is not a number"),
            ("functions: {nn_objective_fn: {model_thresholds: {m: -1}}}", "not a number from 0"),
            ("functions: [", ""),
            ("functions: []", "`functions` is not a mapping"),
            ("workflow: x", "`workflow` is not a mapping"),
            ("functions: {f: {_type: [x]}}", "`functions.f._type` is not text"),
            ("functions: {nn_objective_fn: 5}", "`functions.nn_objective_fn` is not a mapping"),
            (
                "functions: {nn_objective_fn: {model_thresholds: [1, 2]}}",
                "model_thresholds` is not a mapping",
            ),
            (
                "functions: {sfc_router_fn: {objective_fn: 7}}",
                "`functions.sfc_router_fn.objective_fn` is not text",
            ),
            ("workflow: {objective_fn: {}}", "`workflow.objective_fn` is not text"),
            ("{general: on, workflow: {}}", "`general` is not a mapping"),
            ("functions: {a: {_type: nn_objective_fn}, b: {_type: nn_objective_fn}}", "keep one"),
            ("[1]", "neither `functions`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_function_without_a_type_is_what_its_name_says() {
        let v2 =
            read("functions: {sfc_router_fn: {objective_fn: nn_objective_fn}, nn_objective_fn: }").unwrap();
        assert_eq!((&*v2.objective, &v2.notes[..]), (NETWORK, &[][..]));
        let v2 = read("functions: {mine: {_type: sfc_router, objective_fn: nn_objective_fn}}").unwrap();
        assert!(v2.objective == INTENT && v2.notes[0].contains("`functions.mine`"), "{:?}", v2.notes);
    }
}
