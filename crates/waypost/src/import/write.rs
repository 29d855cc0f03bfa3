//! LLM Router v2's settings as a configuration of Waypost, with comments on what needs a hand.
//!
//! Pure. The routes' names and models are v2's; their descriptions are our own words. Called by `import`.

use super::quoted;
use super::v2::{INTENT, NETWORK, V2};
use std::fmt::Write;
use std::path::Path;

const GPT: &str = "gpt-5-chat";
const NANO: &str = "nvidia/nvidia-nemotron-nano-9b-v2";
const VL: &str = "nvidia/nemotron-nano-12b-v2-vl";
/// What v2's shipped network calls the model that its configuration calls [`VL`].
const VL_IN_NETWORK: &str = "Qwen/Qwen3-VL-8B-Instruct";
/// What a user of v2's defaults would otherwise find out by a refused key.
pub(super) const AZURE_NOTE: &str = "`gpt-5-chat` is written with OpenAI's endpoint; v2's demo application called it on Azure unless it was told otherwise. If your OPENAI_API_KEY is Azure's, take the Azure lines that stand at the model instead";
/// The file that `scripts/nn_router_to_safetensors.py` is told to write.
const NETWORK_FILE: &str = "nn_router.safetensors";
const BUILD: &str = "https://integrate.api.nvidia.com/v1";

/// v2's routes, the model of each, and when each is right.
const ROUTES: [(&str, &str, &str); 5] = [
    (
        "hard_question",
        GPT,
        "Needs careful thought: several steps of reasoning, a difficult problem, or the user asks to think hard.",
    ),
    ("chit_chat", NANO, "Greetings, thanks, small talk and other conversation without a task."),
    ("try_again", GPT, "The user says that the answer before was wrong or left something out."),
    ("image_understanding", VL, "Asks about the content of a picture that is part of the conversation."),
    (
        "image_question",
        VL,
        "Can only be answered by seeing the user or what is around them, such as how they look or where they are.",
    ),
];
/// The route of what fits no other.
const OTHER: (&str, &str) = ("other", NANO);

/// The configuration.
pub(super) fn config(v2: &V2, network: Option<&Path>) -> String {
    let models = models(v2);
    // Writing to a string cannot fail.
    let mut out = String::from(
        "# Made by `waypost import nvidia-v2`. What needs a hand:\n#   * the keys: NVIDIA_API_KEY and OPENAI_API_KEY in the environment;\n#   * the endpoints below, where your models run elsewhere.\n# Unlike v2, Waypost also forwards requests: clients send them to /v1/chat/completions with `model: auto`.\n# v2's own paths are answered, too, with the model's name.\nlisten: 0.0.0.0:8001 # v2's port\n\nmodels:\n",
    );
    models.iter().for_each(|name| model(name, &mut out));
    out.push_str(
        "  # Reads the conversation and names a route; v2 ran it with vLLM on port 8011.\n  - name: intent-router\n    model: ${ROUTER_MODEL_NAME:-Qwen/Qwen3-1.7B}\n    endpoint: ${ROUTER_MODEL_URL:-http://localhost:8011}\n\n",
    );
    let with_network = network.is_some() || v2.objective == NETWORK;
    let (mut embeddings, mut policy) = (String::new(), String::new());
    self::embeddings(&mut embeddings);
    auto_policy(v2, network, &mut policy);
    if with_network {
        let _ = writeln!(out, "{embeddings}");
    }
    out.push_str("policies:\n");
    intent_policy(&mut out);
    if with_network {
        out.push_str(&policy);
        let _ = write!(out, "\ndefault_policy: {}\n", v2.objective);
    } else {
        let _ = write!(out, "\ndefault_policy: {}\n\n", v2.objective);
        out.push_str("# v2's network was not in force. To have it, too, move these lines to their places:\n");
        for line in embeddings.lines().chain(["policies:"]).chain(policy.lines()) {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
        }
    }
    out
}

/// v2's own three, and whatever else has a threshold or a cost.
fn models(v2: &V2) -> Vec<&str> {
    let mut models = contestants(v2);
    for name in [GPT, NANO, VL] {
        if !models.contains(&name) {
            models.push(name);
        }
    }
    models
}

/// The models of the thresholds, then those that only have a cost.
fn contestants(v2: &V2) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in v2.thresholds.iter().chain(&v2.costs) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() { vec![GPT, VL, NANO] } else { names }
}

fn model(name: &str, out: &mut String) {
    let (endpoint, key, more) = match name {
        GPT => (
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            "    # v2's demo called it on Azure by default (AZURE_OPENAI_ENDPOINT), and OPENAI_API_KEY was Azure's key then.\n    # With such a key, write these two lines instead of the endpoint above; the key is sent as a bearer token:\n    # endpoint: https://RESOURCE.openai.azure.com/openai/v1\n    # model: DEPLOYMENT # the deployment's name, where it is another\n",
        ),
        NANO => (BUILD, "NVIDIA_API_KEY", "    accepts: [tools, json_schema] # it takes no images\n"),
        VL => (BUILD, "NVIDIA_API_KEY", "    accepts: [images, tools, json_schema]\n"),
        // The Build API's ids have an owner in front.
        name if name.contains('/') => {
            (BUILD, "NVIDIA_API_KEY", "    # accepts: [tools, json_schema] if it takes no images\n")
        }
        _ => (
            "http://localhost:8000",
            "",
            "    # where it runs is not in v2's file: correct the endpoint, and add an api_key\n",
        ),
    };
    let _ = write!(out, "  - name: {}\n    endpoint: {endpoint}\n", quoted(name));
    if !key.is_empty() {
        let _ = writeln!(out, "    api_key: ${{{key}}}");
    }
    out.push_str(more);
}

fn intent_policy(out: &mut String) {
    let _ = write!(
        out,
        "  # v2's five routes stood in its code. They are yours to change here.\n  - name: {INTENT}\n    classifier:\n      intent:\n        model: intent-router\n        routes:\n"
    );
    for (name, _, description) in ROUTES {
        let _ = write!(out, "          - name: {name}\n            description: {}\n", quoted(description));
    }
    out.push_str("    routes:\n");
    for (name, model) in ROUTES.iter().map(|(name, model, _)| (*name, *model)).chain([OTHER]) {
        let _ = writeln!(out, "      {name}: {model}");
    }
    let _ = write!(
        out,
        "    default: {NANO} # where v2 answered 500: no answer, or none that is a route\n    classify_timeout: 3s\n"
    );
}

fn embeddings(out: &mut String) {
    out.push_str(
        "embeddings:\n  # v2 spoke gRPC to its CLIP server (CLIP_SERVER). The same server also has HTTP: `protocol: http` in its flow.\n  # The network takes the vectors of the model it was trained with and of no other.\n  - name: clip\n    jina: ${CLIP_SERVER_HTTP:-http://localhost:51000}\n",
    );
}

fn auto_policy(v2: &V2, network: Option<&Path>, out: &mut String) {
    let contestants = contestants(v2);
    let shown: Vec<String> = contestants.iter().map(|name| quoted(name)).collect();
    let file = network.map_or_else(|| NETWORK_FILE.to_owned(), |path| path.display().to_string());
    let _ = write!(
        out,
        "  # v2's network, made from its nn_router.pth by scripts/nn_router_to_safetensors.py.\n  - name: {NETWORK}\n    classifier:\n      auto:\n        models: [{}]\n        network: {}\n        embeddings: clip\n",
        shown.join(", "),
        quoted(&file)
    );
    if contestants.contains(&VL) && !contestants.contains(&VL_IN_NETWORK) {
        let _ = write!(
            out,
            "        # The network as shipped calls its third model so, and v2 never found it. Remove this if you trained your own.\n        names: {{{VL_IN_NETWORK}: {VL}}}\n"
        );
    }
    // What has no threshold always qualifies, as in v2.
    let threshold =
        |name: &str| v2.thresholds.iter().find(|(known, _)| known == name).map_or(0.0, |(_, t)| *t);
    let thresholds: Vec<_> = contestants.iter().map(|name| (*name, threshold(name))).collect();
    out.push_str("        # the cheapest model at or above its threshold; none is: the likeliest\n");
    pairs("thresholds", thresholds.iter().copied(), out);
    if !v2.costs.is_empty() {
        pairs("costs", v2.costs.iter().map(|(name, cost)| (name.as_str(), *cost)), out);
    }
    let _ = write!(out, "    default: {NANO}\n    classify_timeout: 3s\n");
}

fn pairs<'a>(key: &str, pairs: impl Iterator<Item = (&'a str, f64)>, out: &mut String) {
    let _ = writeln!(out, "        {key}:");
    for (name, number) in pairs {
        let _ = writeln!(out, "          {}: {number}", quoted(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_config::{AutoRule, Classifier, Snapshot};

    fn load(text: &str) -> Snapshot {
        waypost_config::load_str(text, "made", &|_| None).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn v2(objective: &str) -> V2 {
        let pair = |name: &str, value| (name.to_owned(), value);
        V2 {
            objective: objective.to_owned(),
            thresholds: vec![pair(GPT, 0.5), pair(VL, 0.65), pair(NANO, 0.6)],
            costs: vec![pair(GPT, 1.0), pair(VL, 0.5), pair("my model", 0.25)],
            ..V2::default()
        }
    }

    #[test]
    fn what_is_written_loads_and_means_what_v2_meant() {
        let snapshot = load(&config(&v2(NETWORK), None));
        let policy = |name: &str| &snapshot.policies[snapshot.policy(name).unwrap()];
        assert_eq!(snapshot.default_policy, snapshot.policy(NETWORK));
        let name = |index: usize| &*snapshot.models[index].name;
        let Classifier::Auto(auto) = &policy(NETWORK).classifier else { panic!("an auto policy") };
        assert_eq!(
            auto.contestants.iter().map(|c| name(c.model)).collect::<Vec<_>>(),
            [GPT, VL, NANO, "my model"]
        );
        assert_eq!(&*auto.contestants[1].known_as, VL_IN_NETWORK);
        let costs = Some(vec![1.0, 0.5, f64::INFINITY, 0.25]);
        assert_eq!(auto.rule, AutoRule::Thresholds { thresholds: vec![0.5, 0.65, 0.6, 0.0], costs });
        let intent = policy(INTENT);
        let routes: Vec<_> = intent.routes.iter().map(|route| (&*route.label, name(route.model))).collect();
        let mut expected: Vec<_> = ROUTES.iter().map(|(label, model, _)| (*label, *model)).collect();
        expected.push(OTHER);
        assert_eq!(routes, expected);
        assert_eq!(intent.default.map(name), Some(NANO));
        let images = |model: &str| snapshot.models[snapshot.model(model).unwrap()].accepts.images;
        assert!(images(VL) && images(GPT) && !images(NANO));
    }

    #[test]
    fn a_network_that_is_not_in_force_is_commented_out_and_loads_when_it_is_not() {
        let text = config(&v2(INTENT), None);
        assert_eq!(load(&text).policies.len(), 1);
        let (kept, commented) = text.split_once("move these lines to their places:\n").unwrap();
        let commented: Vec<_> = commented.lines().map(|line| line.strip_prefix("# ").unwrap_or("")).collect();
        let (embeddings, policy) =
            commented.split_at(commented.iter().position(|line| *line == "policies:").unwrap());
        let whole = kept.replace(
            "policies:\n",
            &format!("{}\npolicies:\n{}\n", embeddings.join("\n"), policy[1..].join("\n")),
        );
        assert_eq!(load(&whole).policies.len(), 2);
        assert_eq!(load(&config(&v2(INTENT), Some(Path::new("a b.safetensors")))).policies.len(), 2);
    }

    #[test]
    fn odd_names_stay_text() {
        let odd = ["null", "1.5", "a: b", "${HOME}", "x y", "- z", "0x-1"];
        let mut v2 = v2(NETWORK);
        v2.thresholds = odd.iter().map(|name| ((*name).to_owned(), 0.5)).collect();
        v2.costs.clear();
        let snapshot = load(&config(&v2, None));
        assert!(odd.iter().all(|name| snapshot.model(name).is_some()));
    }
}
