//! From a list of models to a default configuration: which one is small, large, creative, and the
//! label tables of the NVIDIA guide over them.
//!
//! Pure. Called by discover; the result is shown by `waypost serve --print-config`.

use std::collections::BTreeMap;
use std::fmt::Write;
use waypost_config::literal;

/// A model that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) endpoints: Vec<String>,
    /// Environment variable that holds its key.
    pub(crate) key_variable: Option<&'static str>,
    /// Known for well-known providers; told from the name otherwise.
    pub(crate) role: Option<Role>,
}

/// What a model is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Small,
    Large,
    Creative,
}

const TASKS: [(&str, Role); 12] = [
    ("Brainstorming", Role::Large),
    ("Chatbot", Role::Creative),
    ("Classification", Role::Small),
    ("Closed QA", Role::Small),
    ("Code Generation", Role::Large),
    ("Extraction", Role::Small),
    ("Open QA", Role::Large),
    ("Other", Role::Creative),
    ("Rewrite", Role::Small),
    ("Summarization", Role::Small),
    ("Text Generation", Role::Creative),
    ("Unknown", Role::Small),
];

const COMPLEXITIES: [(&str, Role); 7] = [
    ("Creativity", Role::Large),
    ("Reasoning", Role::Large),
    ("Contextual-Knowledge", Role::Small),
    ("Few-Shot", Role::Large),
    ("Domain-Knowledge", Role::Creative),
    ("No-Label-Reason", Role::Small),
    ("Constraint", Role::Small),
];

/// The YAML of a configuration with both policies over these models; at least one is needed.
pub(crate) fn config(models: &[Found], listen: &str) -> String {
    let mut out = format!("listen: {listen}\nmodels:\n");
    for model in models {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  - name: {}", quote(&model.id));
        let endpoints: Vec<_> = model.endpoints.iter().map(|e| quote(e)).collect();
        let _ = writeln!(out, "    endpoints: [{}]", endpoints.join(", "));
        if let Some(variable) = model.key_variable {
            let _ = writeln!(out, "    api_key: ${{{variable}}}");
        }
    }
    let roles = assign(models);
    out.push_str("policies:\n");
    policy("task_router", "task", &TASKS, &roles, &mut out);
    policy("complexity_router", "complexity", &COMPLEXITIES, &roles, &mut out);
    out.push_str("default_policy: task_router\n");
    out
}

fn policy(name: &str, classifier: &str, table: &[(&str, Role)], roles: &Roles<'_>, out: &mut String) {
    let _ = writeln!(out, "  - name: {name}\n    classifier: {classifier}\n    routes:");
    for (label, role) in table {
        let _ = writeln!(out, "      {label}: {}", quote(roles.of(*role)));
    }
    let _ = writeln!(out, "    default: {}", quote(roles.large));
    if roles.small != roles.large {
        let _ = writeln!(out, "    fallbacks: [{}]", quote(roles.small));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Roles<'a> {
    small: &'a str,
    large: &'a str,
    creative: &'a str,
}

impl Roles<'_> {
    fn of(&self, role: Role) -> &str {
        match role {
            Role::Small => self.small,
            Role::Large => self.large,
            Role::Creative => self.creative,
        }
    }
}

/// Known roles first; otherwise the smallest and the largest by the size in the name. A model whose
/// name tells nothing counts as middle-sized.
fn assign(models: &[Found]) -> Roles<'_> {
    let known = |role| models.iter().find(|m| m.role == Some(role)).map(|m| m.id.as_str());
    let mut by_size: BTreeMap<(u64, usize), &str> = BTreeMap::new();
    for (i, model) in models.iter().enumerate() {
        by_size.insert((size_in_millions(&model.id).unwrap_or(UNKNOWN_SIZE), i), &model.id);
    }
    let smallest = by_size.values().next().copied().unwrap_or_default();
    let largest = by_size.values().next_back().copied().unwrap_or_default();
    let large = known(Role::Large).unwrap_or(largest);
    Roles {
        small: known(Role::Small).unwrap_or(smallest),
        large,
        creative: known(Role::Creative).unwrap_or(large),
    }
}

/// Between "small" and "large", in millions of parameters.
const UNKNOWN_SIZE: u64 = 20_000;

/// `llama-3.1-8b` gives 8000, `qwen2.5:0.5b` gives 500, `mixtral-8x22b` gives 176000.
fn size_in_millions(id: &str) -> Option<u64> {
    let id = id.to_ascii_lowercase();
    let words = id.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    words
        .filter_map(|word| {
            let (number, unit) = word.split_at(word.len().checked_sub(1)?);
            let unit = match unit {
                "b" => 1000.0,
                "m" => 1.0,
                _ => return None,
            };
            let (experts, number) = number.split_once('x').unwrap_or(("1", number));
            let product: f64 = experts.parse::<f64>().ok()? * number.parse::<f64>().ok()?;
            Some((product * unit) as u64)
        })
        .max()
}

/// A YAML scalar that is text, whatever it holds; `$` is doubled so that nothing is substituted.
fn quote(text: &str) -> String {
    serde_json::Value::from(literal(text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str) -> Found {
        Found { id: id.to_owned(), endpoints: vec!["http://h:1".to_owned()], key_variable: None, role: None }
    }

    #[test]
    fn sizes_are_read_from_names() {
        for (id, size) in [
            ("meta-llama/Llama-3.1-8B-Instruct", Some(8_000)),
            ("qwen2.5:0.5b", Some(500)),
            ("mistralai/mixtral-8x22b-instruct-v0.1", Some(176_000)),
            ("smollm-360m", Some(360)),
            ("gpt-oss", None),
        ] {
            assert_eq!(size_in_millions(id), size, "{id}");
        }
    }

    #[test]
    fn any_set_of_models_makes_a_config_that_loads() {
        for ids in [vec!["only"], vec!["a-70b", "b-8b"], vec!["x: [", "y-1b", "${HOME}"]] {
            let models: Vec<_> = ids.iter().map(|id| found(id)).collect();
            let text = config(&models, "127.0.0.1:0");
            let snapshot =
                waypost_config::load_str(&text, "found", &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(snapshot.models.len(), ids.len());
            assert_eq!(*snapshot.models[0].name, *ids[0]);
            assert_eq!(snapshot.policies.len(), 2);
            assert_eq!(snapshot.policies[0].routes.len(), 12);
        }
        let models = [found("a-70b"), found("b-8b")];
        assert_eq!(assign(&models), Roles { small: "b-8b", large: "a-70b", creative: "a-70b" });
    }
}
