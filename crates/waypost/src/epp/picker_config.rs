//! An `EndpointPickerConfig` by its shape: plugins, profiles with their references, and gates, each with its line.
//!
//! What plugins do is not known here; `plugins` goes through them. Used by `epp`.

use super::Fault;
use super::tree::Tree;
use waypost_config::hint;

const KIND: &str = "EndpointPickerConfig";
/// llm-d's group, and that of the Gateway API before it.
const VERSIONS: [&str; 2] = ["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"];
const KEYS: [&str; 11] = [
    "apiVersion",
    "kind",
    "metadata",
    "featureGates",
    "plugins",
    "schedulingProfiles",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
];
/// What a picker takes that is given no configuration.
const DEFAULT: &str = "
plugins:
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: prefix-cache-scorer}
- {type: metrics-data-source}
- {type: core-metrics-extractor}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
";

/// See the module.
#[derive(Debug)]
pub(super) struct PickerConfig {
    pub(super) plugins: Vec<Plugin>,
    pub(super) profiles: Vec<Profile>,
    /// The gate `flowControl`.
    pub(super) flow_control: bool,
    /// Gates that are on, except that one.
    pub(super) gates: Vec<String>,
    /// All of it, for what has no shape of its own here.
    pub(super) tree: Tree,
}

#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) kind: String,
    /// Where its type stands.
    pub(super) line: u64,
    pub(super) parameters: Tree,
}

#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    /// Positions in `plugins`, with weights.
    pub(super) plugins: Vec<(usize, f64)>,
}

/// Reads a text; an empty one stands for the default.
pub(super) fn read(text: &str) -> Result<PickerConfig, Fault> {
    let text = if text.trim().is_empty() { DEFAULT } else { text };
    let tree = Tree::read(text)?;
    for (key, line, _) in tree.entries()? {
        if !KEYS.contains(&key) {
            let message = format!("`{key}` is no part of an {KIND}{}", hint(key, KEYS));
            return Err(Fault { line, message });
        }
    }
    expect(tree.get("kind"), &[KIND])?;
    expect(tree.get("apiVersion"), &VERSIONS)?;
    let plugins = plugins(tree.get("plugins"))?;
    let mut profiles = Vec::new();
    for profile in tree.get("schedulingProfiles").items()? {
        let name = profile.get("name").text()?.unwrap_or("default").to_owned();
        let refs = profile.get("plugins").items()?.iter().map(|entry| reference(&plugins, entry));
        profiles.push(Profile { name, plugins: refs.collect::<Result<_, _>>()? });
    }
    if profiles.is_empty() {
        let all = (0..plugins.len()).map(|index| (index, 1.0)).collect();
        profiles.push(Profile { name: "default".to_owned(), plugins: all });
    }
    let (mut flow_control, mut gates) = (false, Vec::new());
    for gate in tree.get("featureGates").items()? {
        let text = gate.text()?.unwrap_or_default();
        let (name, word) = text.split_once('=').unwrap_or((text, "true"));
        let on = super::flags::truth(word)
            .ok_or_else(|| gate.fault(format!("`{text}` is not a gate such as `flowControl=true`")))?;
        match name {
            "flowControl" => flow_control = on,
            _ if on => gates.push(name.to_owned()),
            _ => {}
        }
    }
    Ok(PickerConfig { plugins, profiles, flow_control, gates, tree })
}

fn expect(tree: &Tree, words: &[&str]) -> Result<(), Fault> {
    match tree.text()? {
        Some(word) if !words.contains(&word) => {
            Err(tree.fault(format!("`{word}` is not {}", words.join(" or "))))
        }
        _ => Ok(()),
    }
}

fn plugins(tree: &Tree) -> Result<Vec<Plugin>, Fault> {
    let mut plugins: Vec<Plugin> = Vec::new();
    for entry in tree.items()? {
        for (key, line, _) in entry.entries()? {
            if !["name", "type", "parameters"].contains(&key) {
                let message = format!("`{key}` is no part of a plugin: name, type and parameters are");
                return Err(Fault { line, message });
            }
        }
        let kind = entry.get("type");
        let Some(text) = kind.text()? else { return Err(entry.fault("this plugin has no `type`")) };
        let name = entry.get("name").text()?.unwrap_or(text).to_owned();
        if plugins.iter().any(|known| known.name == name) {
            return Err(entry.fault(format!("two plugins are called `{name}`")));
        }
        let parameters = entry.get("parameters").clone();
        plugins.push(Plugin { name, kind: text.to_owned(), line: kind.line(), parameters });
    }
    Ok(plugins)
}

fn reference(plugins: &[Plugin], entry: &Tree) -> Result<(usize, f64), Fault> {
    let name = entry.get("pluginRef");
    let Some(text) = name.text()? else { return Err(entry.fault("`pluginRef` is missing")) };
    let weight = entry.get("weight").number()?.unwrap_or(1.0);
    named(plugins, name, text).map(|index| (index, weight))
}

/// The position of the plugin that `name` refers to.
pub(super) fn named(plugins: &[Plugin], name: &Tree, text: &str) -> Result<usize, Fault> {
    plugins.iter().position(|plugin| plugin.name == text).ok_or_else(|| {
        let hint = hint(text, plugins.iter().map(|plugin| plugin.name.as_str()));
        name.fault(format!("no plugin is called `{text}`{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_profiles_and_gates_are_read() {
        for version in VERSIONS {
            let config = read(&format!(
                "apiVersion: {version}\nkind: EndpointPickerConfig\nfeatureGates: [flowControl, other, off=false]\n\
                 plugins:\n- type: queue-scorer\n- {{name: p, type: max-score-picker}}\n\
                 schedulingProfiles:\n- name: d\n  plugins:\n  - {{pluginRef: queue-scorer, weight: 2.5}}\n  - {{pluginRef: p}}\n"
            ))
            .unwrap();
            assert!(config.flow_control);
            assert_eq!(config.gates, ["other"]);
            let plugins: Vec<_> = config.plugins.iter().map(|p| (&*p.name, &*p.kind, p.line)).collect();
            assert_eq!(plugins, [("queue-scorer", "queue-scorer", 5), ("p", "max-score-picker", 6)]);
            assert_eq!(config.profiles[0].plugins, [(0, 2.5), (1, 1.0)]);
        }
    }

    #[test]
    fn without_profiles_all_plugins_are_in_one_and_without_a_text_it_is_the_default() {
        let config = read("plugins: [{type: a}, {type: b}]").unwrap();
        assert_eq!(config.profiles[0].plugins, [(0, 1.0), (1, 1.0)]);
        let config = read(" \n").unwrap();
        assert_eq!(config.profiles[0].plugins, [(0, 2.0), (1, 2.0), (2, 3.0)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, wanted) in [
            ("pluginz: []", 1, "`pluginz` is no part of an EndpointPickerConfig; did you mean `plugins`?"),
            ("kind: Deployment", 1, "`Deployment` is not EndpointPickerConfig"),
            ("apiVersion: v2", 1, "`v2` is not llm-d.ai/v1alpha1 or inference."),
            ("plugins:\n- name: a", 2, "this plugin has no `type`"),
            ("plugins:\n- type: a\n- type: a", 3, "two plugins are called `a`"),
            ("plugins:\n- type: a\n  parms: {}", 3, "`parms` is no part of a plugin"),
            ("plugins: {}\n", 1, "a list is expected here"),
            (
                "plugins:\n- type: a\nschedulingProfiles:\n- plugins:\n  - pluginRef: b",
                5,
                "no plugin is called `b`",
            ),
            (
                "plugins:\n- type: a\nschedulingProfiles:\n- plugins:\n  - weight: 1",
                5,
                "`pluginRef` is missing",
            ),
            (
                "plugins:\n- type: a\nschedulingProfiles:\n- plugins:\n  - {pluginRef: a, weight: -1}",
                5,
                "`-1` is not a number from 0",
            ),
            ("featureGates: [flowControl=maybe]", 1, "`flowControl=maybe` is not a gate"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.line == line && fault.message.contains(wanted), "{text}: {fault:?}");
        }
        assert!(read("plugins: [").is_err() && read("- a").is_err());
    }
}
