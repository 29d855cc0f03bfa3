//! Files written for NVIDIA LLM Router v1 load unchanged, and mean what their authors meant.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;

use serde_json::json;
use waypost_config::{Classifier, Policy, Snapshot, load_str};
use waypost_wire::labels::{COMPLEXITY_LABELS, TASK_LABELS};

fn fixture(name: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(dir.join("tests/fixtures").join(name)).expect("fixture")
}

fn load(text: &str, variables: &[(&str, &str)]) -> Snapshot {
    let env = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    load_str(text, "config.yml", &env).unwrap_or_else(|error| panic!("{error}"))
}

fn upstream<'a>(snapshot: &'a Snapshot, policy: &Policy, label: &str) -> Option<&'a str> {
    let route = policy.routes.iter().find(|route| &*route.label == label)?;
    Some(&snapshot.models[route.model].upstream_id)
}

#[test]
fn the_default_file_loads_without_a_warning() {
    let snapshot = load(&fixture("v1-default.yml"), &[("NVIDIA_API_KEY", "nvapi-1")]);
    assert_eq!(snapshot.warnings, []);
    assert_eq!(snapshot.listen.unwrap().port(), 8084);
    assert_eq!(snapshot.default_policy, Some(0));
    assert_eq!(snapshot.models.len(), 4, "one model per distinct address, key and id");
    for model in &snapshot.models {
        assert_eq!(model.name, model.upstream_id);
        assert_eq!(model.api_key.expose(), "nvapi-1");
        assert_eq!(&*model.endpoints[0].base, "https://integrate.api.nvidia.com");
    }
    let expected: [&[&str]; 2] = [&TASK_LABELS, &COMPLEXITY_LABELS];
    for (policy, expected) in snapshot.policies.iter().zip(expected) {
        let Classifier::Kserve { url, labels } = &policy.classifier else {
            panic!("v1 policies with a url use it");
        };
        assert!(url.starts_with("http://router-server:8000/v2/models/"));
        assert_eq!(labels.iter().map(|l| &**l).collect::<Vec<_>>(), expected);
        assert_eq!(policy.routes.len(), expected.len());
        assert!(!policy.compat_v1);
    }
    let task = &snapshot.policies[0];
    let code = upstream(&snapshot, task, "Code Generation");
    assert_eq!(code, Some("nvidia/llama-3.3-nemotron-super-49b-v1"));
}

#[test]
fn the_dynamo_guide_loads_with_an_empty_key_and_goes_by_name() {
    let snapshot = load(&fixture("dynamo-guide.yml"), &[("DYNAMO_API_KEY", "")]);
    for model in &snapshot.models {
        assert!(model.api_key.is_empty());
        assert_eq!(&*model.endpoints[0].base, "http://vllm-frontend-frontend.dynamo-kubernetes:8000");
    }
    let task = &snapshot.policies[0];
    let rewrite = upstream(&snapshot, task, "Rewrite");
    assert_eq!(rewrite, Some("meta-llama/Llama-3.1-8B-Instruct"));
    assert_eq!(upstream(&snapshot, task, "Unknown"), None);

    let messages: Vec<_> = snapshot.warnings.iter().map(|w| w.message.as_str()).collect();
    insta::assert_snapshot!(messages.join("\n"), @r#"
    `llms` is not in the classifier's order: output 2 is `Classification`, but `Code Generation` stands there, so v1 sent Classification prompts to `meta-llama/Llama-3.1-70B-Instruct`; Waypost goes by name and sends them to `meta-llama/Llama-3.1-8B-Instruct`
    policy `task_router` has no model for `Other`, `Unknown`: prompts so classified get an error; set `default`
    "#);
    assert_eq!(snapshot.warnings[0].line, Some(14), "the first entry out of order");
}

#[test]
fn a_key_may_be_null_absent_or_an_unset_variable() {
    let text = "
policies:
  - name: p
    url: http://t:8000/v2/models/m/infer
    llms:
      - {name: a, api_base: http://h, model: m, api_key: }
      - {name: b, api_base: http://h, model: m}
      - {name: c, api_base: http://h, model: m, api_key: ${UNSET}}
";
    let snapshot = load(text, &[]);
    assert_eq!(snapshot.models.len(), 1);
    assert!(snapshot.models[0].api_key.is_empty());
    assert_eq!(snapshot.warnings.len(), 1, "{:?}", snapshot.warnings);
    assert_eq!(snapshot.warnings[0].line, Some(8));
    assert!(snapshot.warnings[0].message.contains("`UNSET` is not set"));
}

#[test]
fn labels_we_do_not_know_are_bound_by_position() {
    let text = "
policies:
  - name: ' bank '
    url: http://t/v2/models/intent_router_ensemble/infer
    llms:
      - {name: billing, api_base: http://h, model: m}
      - {name: account_management, api_base: http://h, model: n}
";
    let snapshot = load(text, &[]);
    assert_eq!(snapshot.policy("bank"), Some(0), "names are trimmed, as in v1");
    let Classifier::Kserve { labels, .. } = &snapshot.policies[0].classifier else {
        panic!("kserve");
    };
    assert_eq!(labels.iter().map(|l| &**l).collect::<Vec<_>>(), ["billing", "account_management"]);
    assert_eq!(snapshot.warnings, []);
}

#[test]
fn a_slip_in_a_known_label_is_pointed_out() {
    let text = fixture("v1-default.yml").replace("Text Generation", "Text Generaton");
    let snapshot = load(&text, &[("NVIDIA_API_KEY", "k")]);
    assert_eq!(snapshot.warnings.len(), 1);
    assert!(snapshot.warnings[0].message.contains("looks like `Text Generation`"));
}

#[test]
fn one_id_at_two_addresses_gives_two_models() {
    let text = "
models:
  - {name: taken, endpoint: http://x}
policies:
  - name: p
    llms:
      - {name: Open QA, api_base: http://a:1, model: m}
      - {name: Chatbot, api_base: http://b:2/v1, model: m}
      - {name: Rewrite, api_base: http://b:2, model: m, api_key: k}
      - {name: Other, api_base: http://b:2, model: taken}
      - {name: Unknown, api_base: http://x, model: taken}
    default: m@b:2
";
    let snapshot = load(text, &[]);
    let names: Vec<_> = snapshot.models.iter().map(|m| &*m.name).collect();
    assert_eq!(names, ["taken", "m", "m@b:2", "m@b:2#2", "taken@b:2"]);
    let policy = &snapshot.policies[0];
    assert!(matches!(policy.classifier, Classifier::Task), "no url: built in, by label set");
    assert_eq!(policy.default, Some(2));
    assert_eq!(snapshot.warnings.len(), 3, "one per renamed model: {:?}", snapshot.warnings);
}

#[test]
fn config_is_shown_in_v1s_shape_without_keys() {
    let text = "
models:
  - {name: small, model: meta/small, endpoints: [http://a:1, http://b:1], api_key: s3cret, price: {input: 0.5, output: 1}}
policies:
  - {name: own, classifier: task, routes: {Open QA: small}, default: small}
  - name: old
    url: http://t/infer
    llms: [{name: x, api_base: http://h/v1, api_key: s3cret, model: m}]
";
    let shown = load(text, &[]).public_json();
    assert_eq!(
        shown,
        json!({
            "policies": [
                {"name": "own", "url": "embedded:task", "llms": [
                    {"name": "Open QA", "api_base": "http://a:1", "api_key": "[REDACTED]", "model": "meta/small"}
                ]},
                {"name": "old", "url": "http://t/infer", "llms": [
                    {"name": "x", "api_base": "http://h", "api_key": "[REDACTED]", "model": "m"}
                ]},
            ],
            "models": [
                {"name": "small", "model": "meta/small", "endpoints": ["http://a:1", "http://b:1"],
                 "api_key": "[REDACTED]", "price": {"input": 0.5, "output": 1.0, "cached_input": 0.125}, "context_length": null},
                {"name": "m", "model": "m", "endpoints": ["http://h"],
                 "api_key": "[REDACTED]", "price": null, "context_length": null},
            ],
        })
    );
}
