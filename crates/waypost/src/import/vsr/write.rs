//! vSR's settings as a configuration of Waypost.
//!
//! Pure. Called by `import`.

use super::super::quoted;
use super::Vsr;
use super::decisions::{Decision, Policy};
use super::models::{Model, Switch};
use super::signals::{Signal, What, When};
use std::fmt::Write;

const HEAD: &str = "# Made by `waypost import vsr`. What is left out was told on standard error.

# vSR's port: Envoy's filter stays as it is.
ext_proc:
  listen: 0.0.0.0:50051

# vSR's port of metrics, health and the management API, for this machine alone.
admin:
  listen: 127.0.0.1:8080
";
const GUARD: &str = "
guard:
  refuse: [jailbreak, injection]
  explicit_models: true # vSR did not look at the prompts of requests that name their model: false
";

/// The configuration.
pub(in crate::import) fn config(vsr: &Vsr) -> String {
    let mut out = String::from(HEAD);
    // Writing to a string cannot fail.
    if let Some(names) = &vsr.auto_names {
        let _ = writeln!(out, "\nauto_names: {}", list(names));
    }
    if vsr.guard {
        out.push_str(GUARD);
    }
    out.push_str("\nmodels:\n");
    vsr.models.iter().for_each(|one| model(one, &mut out));
    out.push_str("\npolicies:\n");
    vsr.policies.iter().for_each(|one| policy(one, &mut out));
    out
}

fn model(model: &Model, out: &mut String) {
    let _ = writeln!(out, "  - name: {}", quoted(&model.name));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(out, "    {key}: {value}");
    };
    if let Some(id) = &model.sent_as {
        line("model", &quoted(id));
    }
    match model.endpoints.as_slice() {
        [] => {}
        [one] => line("endpoint", &address(one)),
        several => line(
            "endpoints",
            &format!("[{}]", several.iter().map(|one| address(one)).collect::<Vec<_>>().join(", ")),
        ),
    }
    if let Some(base) = &model.adapter_of {
        line("adapter_of", &quoted(base));
    }
    if let Some(key) = &model.key {
        line("api_key", key);
    }
    if let Some(price) = &model.price {
        let cached = price.cached_input.map_or(String::new(), |cached| format!(", cached_input: {cached}"));
        line("price", &format!("{{input: {}, output: {}{cached}}}", price.input, price.output));
    }
    if let Some(tokens) = model.context_length {
        line("context_length", &tokens.to_string());
    }
    if let Some(reasoning) = &model.reasoning {
        let how = match reasoning.how {
            Switch::ChatTemplate => "chat_template",
            Switch::ChatTemplateEffort => "chat_template_effort",
            Switch::Effort => "effort",
        };
        line("reasoning", &format!("{{{how}: {}}}", quoted(&reasoning.parameter)));
    }
}

/// An address keeps its references to variables.
fn address(url: &str) -> String {
    format!("\"{url}\"")
}

fn policy(policy: &Policy, out: &mut String) {
    let order = if policy.by_confidence { "confidence" } else { "priority" };
    let _ = write!(
        out,
        "  - name: {}\n    classifier:\n      decisions:\n        signals:\n",
        quoted(&policy.name)
    );
    for one in &policy.signals {
        let _ = writeln!(out, "          - {{name: {}, {}}}", quoted(&one.name), signal(one));
    }
    out.push_str("        decide:\n");
    for one in &policy.decide {
        let when = one.when.as_ref().map_or(String::new(), |when| format!(", when: {}", condition(when)));
        let _ =
            writeln!(out, "          - {{name: {}, priority: {}{when}}}", quoted(&one.name), one.priority);
    }
    let _ = writeln!(out, "        order: {order}");
    pairs("routes", policy.decide.iter().map(|one| (one, &*one.model)), out);
    pairs("reasoning", policy.decide.iter().filter_map(|one| Some((one, one.reasoning?))), out);
    if let Some(default) = &policy.default {
        let _ = writeln!(out, "    default: {}", quoted(default));
    }
}

fn pairs<'a>(key: &str, pairs: impl Iterator<Item = (&'a Decision, &'a str)>, out: &mut String) {
    for (at, (decision, value)) in pairs.enumerate() {
        if at == 0 {
            let _ = writeln!(out, "    {key}:");
        }
        let _ = writeln!(out, "      {}: {}", quoted(&decision.name), quoted(value));
    }
}

fn signal(signal: &Signal) -> String {
    match &signal.what {
        What::Domain(labels) => format!("domain: {}", list(labels)),
        What::Keywords { words, matching, case_sensitive } => {
            let matching = if *matching == "any" { String::new() } else { format!(", match: {matching}") };
            let case = if *case_sensitive { ", case_sensitive: true" } else { "" };
            format!("keywords: {}{matching}{case}", list(words))
        }
        What::Regex(expression) => format!("regex: {}", quoted(expression)),
        What::Examples(texts) => format!("examples: {}", list(texts)),
        What::Safety => "safety: [jailbreak, injection]".to_owned(),
        What::Pii => "pii: true".to_owned(),
    }
}

fn condition(when: &When) -> String {
    let several = |conditions: &[When]| conditions.iter().map(condition).collect::<Vec<_>>().join(", ");
    match when {
        When::Signal(name) => quoted(name),
        When::All(conditions) => format!("{{all: [{}]}}", several(conditions)),
        When::Any(conditions) => format!("{{any: [{}]}}", several(conditions)),
        When::Not(condition_) => format!("{{not: {}}}", condition(condition_)),
    }
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}
