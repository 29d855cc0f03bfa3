//! vSR's plugins of a decision: what they did that Waypost does not do.
//!
//! Called by `decisions`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::NO_COUNTERPART;

/// What the plugins of a decision mean for the rest.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    /// vSR answers by itself: `fast_response`.
    pub(super) answers: bool,
    /// vSR refuses attacks: `jailbreak`, up to v0.2.
    pub(super) refuses_attacks: bool,
}

const CACHE: &str = "Waypost keeps no answers: every request reaches a model";
/// What is missing without them.
const EFFECTS: [(&str, &str); 17] = [
    ("system_prompt", "Waypost adds no system prompt: let the client or the engine do it"),
    ("response_cache", CACHE),
    ("response-cache", CACHE),
    ("semantic_cache", CACHE),
    ("semantic-cache", CACHE),
    (
        "pii",
        "left out: prompts with personal data are not stopped here; a `pii: true` signal and a decision send them elsewhere",
    ),
    ("header_mutation", "Waypost changes no headers for a decision: let Envoy's route do it"),
    ("request_params", "Waypost neither bounds nor removes parameters of requests"),
    ("tools", "Waypost neither adds nor removes tools"),
    ("tool_selection", "Waypost neither adds nor removes tools"),
    ("context_compression", "Waypost sends contexts as they are"),
    ("memory", "Waypost remembers nothing of conversations but their model"),
    ("rag", "Waypost retrieves nothing"),
    ("router_replay", "left out: `log.file` keeps decisions, and `waypost replay` decides them again"),
    ("hallucination", "Waypost does not judge answers"),
    ("response_jailbreak", "Waypost does not judge answers"),
    ("image_gen", "Waypost makes no images"),
];

/// Reads the plugins of a decision at `place`.
///
/// # Errors
/// When something is not what it should be, with its place.
pub(super) fn read(node: &Node, place: &str, notes: &mut Notes) -> Result<Plugins, String> {
    let mut plugins = Plugins::default();
    for (at, plugin) in node.list(place, "plugins")?.iter().enumerate() {
        let here = format!("{place}.plugins[{at}]");
        plugin.entries(&format!("`{here}`"))?;
        let Some(kind) = plugin.text(&here, "type")? else { return Err(format!("`{here}` has no `type`")) };
        let configuration = plugin.get("configuration").unwrap_or(&Node::Null);
        let place = format!("{place}.plugins.{kind}");
        if configuration.flag(&place, "enabled")? == Some(false) {
            notes.at(kind, "plugins that are switched off in the file are left out");
            continue;
        }
        match kind {
            "fast_response" => plugins.answers = true,
            "jailbreak" => {
                plugins.refuses_attacks = true;
                notes.at(
                    place,
                    "becomes `guard`, which looks at every request, not only at those of this decision",
                );
            }
            kind => {
                let effect = EFFECTS
                    .iter()
                    .find(|(name, _)| *name == kind)
                    .map_or(NO_COUNTERPART, |(_, effect)| effect);
                notes.at(place, effect);
            }
        }
    }
    Ok(plugins)
}
