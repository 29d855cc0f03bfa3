use super::decisions::Decision;
use super::signals::{What, When};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use waypost_config::Snapshot;

const GUIDE: &str = include_str!("../../../../../examples/vsr/config.yaml");

fn load(config: &str) -> Snapshot {
    waypost_config::load_str(config, "made", &|_| None).unwrap_or_else(|error| panic!("{error}\n{config}"))
}

fn noted(text: &str) -> (Result<Vsr, String>, Vec<String>) {
    let mut notes = Notes::default();
    let read = read(text, &mut notes);
    (read, notes.lines().collect())
}

/// What a file that must be good becomes, after it has been seen to load.
fn good(text: &str) -> (Vsr, Vec<String>) {
    let (vsr, notes) = noted(text);
    let vsr = vsr.unwrap_or_else(|error| panic!("{error}\n{text}"));
    load(&config(&vsr));
    (vsr, notes)
}

fn decision<'a>(vsr: &'a Vsr, name: &str) -> &'a Decision {
    vsr.policies[0]
        .decide
        .iter()
        .find(|decision| decision.name == name)
        .unwrap_or_else(|| panic!("{name}: {vsr:?}"))
}

fn said(notes: &[String], words: &[&str]) {
    for word in words {
        assert!(notes.iter().any(|note| note.contains(word)), "{word}: {notes:#?}");
    }
}

fn s(name: &str) -> When {
    When::Signal(name.to_owned())
}

#[test]
fn the_guides_file_sends_math_to_the_public_model_and_all_else_to_the_local_one() {
    let (vsr, notes) = good(GUIDE);
    let policy = &vsr.policies[0];
    assert_eq!(
        (&*policy.name, policy.default.as_deref(), policy.decide.len(), policy.signals.len()),
        ("vsr", Some("gpt-4o-mini"), 14, 14)
    );
    for one in &policy.decide {
        let (model, priority) = (
            if one.name == "math" { "gpt-4o-mini" } else { "llama3-8b" },
            if one.name == "other" { 5 } else { 10 },
        );
        assert_eq!((&*one.model, one.priority, one.reasoning), (model, priority, None), "{}", one.name);
    }
    assert_eq!(decision(&vsr, "computer-science").when, Some(s("computer science")));
    assert_eq!(vsr.models[0].endpoints, ["http://llama-8b:80"]);
    assert_eq!(vsr.models[1].endpoints, ["https://api.openai.com/v1"]);
    assert!(vsr.auto_names.is_none() && !vsr.guard);
    said(
        &notes,
        &[
            "switched off",
            "no key stands here",
            "`routing.decisions.chemistry`, `routing.decisions.physics`: `use_reasoning` has no effect here",
        ],
    );
    assert_eq!(notes.iter().filter(|note| note.contains("switched off")).count(), 1, "{notes:#?}");
}

#[test]
fn categories_without_decisions_lead_to_their_best_model() {
    let (vsr, notes) = good(
        "
vllm_endpoints:
  - {name: a, address: 10.0.0.1, port: 8000, weight: 1, models: [small, large]}
  - {name: b, address: 'fd00::2', port: 8000, weight: 2, models: [large]}
model_config:
  large: {reasoning_family: qwen3, preferred_endpoints: [a, b], pricing: {prompt_per_1m: 1, completion_per_1m: 2.5}, pii_policy: {allow_by_default: false}}
reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
classifier: {category_model: {threshold: 0.6}}
prompt_guard: {enabled: true}
categories:
  - {name: math, model_scores: [{model: small, score: 0.2}, {model: large, score: 0.9, use_reasoning: true}]}
  - {name: computer_science, model_scores: [{model: large, score: 0.5}, {model: small, score: 0.5}]}
  - {name: law}
  - {name: science, mmlu_categories: [physics, chemistry], model_scores: [{model: small, score: 1}]}
default_model: small
",
    );
    assert_eq!(vsr.models[0].endpoints, ["http://10.0.0.1:8000", "http://[fd00::2]:8000"]);
    assert_eq!(vsr.models[1].endpoints, ["http://10.0.0.1:8000"]);
    let math = decision(&vsr, "math");
    assert_eq!((&*math.model, math.reasoning), ("large", Some("on")));
    let computing = decision(&vsr, "computer_science");
    assert_eq!((&*computing.model, computing.reasoning), ("large", Some("off")));
    let labels = |name: &str| {
        vsr.policies[0].signals.iter().find(|signal| signal.name == name).map(|signal| signal.what.clone())
    };
    assert_eq!(labels("computer_science"), Some(What::Domain(vec!["computer science".into()])));
    assert_eq!(labels("science"), Some(What::Domain(vec!["physics".into(), "chemistry".into()])));
    assert!(vsr.guard && vsr.policies[0].decide.len() == 3);
    said(
        &notes,
        &[
            "weights are left out",
            "category_model.threshold",
            "pii_policy",
            "best score is taken",
            "categories.law",
        ],
    );
}

#[test]
fn the_first_command_lines_form_is_read() {
    let (vsr, _) = good(
        "
version: v0.1
signals:
  keywords: [{name: urgent, operator: NOR, keywords: [urgent, as soon as], case_sensitive: true}]
  domains: [{name: urgent, mmlu_categories: [math]}]
decisions:
  - {name: calm, priority: 3, rules: {operator: AND, conditions: [{type: keyword, name: urgent}, {type: domain, name: urgent}]}, modelRefs: [{model: m}]}
strategy: confidence
providers:
  models: [{name: m, provider_model_id: org/m, endpoints: [{name: e, weight: 1, endpoint: 'host:8000', protocol: https}], access_key: '${M_KEY}'}]
  default_model: m
",
    );
    assert_eq!(decision(&vsr, "calm").when, Some(When::All(vec![s("urgent"), s("urgent_domain")])));
    assert!(vsr.policies[0].by_confidence);
    let model = &vsr.models[0];
    assert_eq!(
        (&*model.endpoints[0], model.key.as_deref(), model.sent_as.as_deref()),
        ("https://host:8000", Some("${M_KEY}"), Some("org/m"))
    );
}

const MODELS: &str = "providers: {defaults: {default_model: m, default_reasoning_effort: low}, models: [{name: m, reasoning_family: gpt-oss, backend_refs: [{endpoint: 'h:1'}]}, {name: n, backend_refs: [{endpoint: 'h:2'}]}, {name: claude, api_format: anthropic}], reasoning_families: {gpt-oss: {type: reasoning_effort, parameter: reasoning_effort}}}\n";

/// A file with these signals and decisions.
fn with(signals: &str, decisions: &str) -> String {
    format!("{MODELS}routing:\n  signals: {{{signals}}}\n  decisions: [{decisions}]\n")
}

#[test]
fn a_condition_without_a_counterpart_never_makes_a_decision_wider() {
    let signals = "keywords: [{name: k, keywords: [a]}], language: [{name: es}]";
    let rules = |rules: &str| {
        with(
            signals,
            &format!(
                "{{name: d, rules: {rules}, modelRefs: [{{model: m}}]}}, {{name: e, modelRefs: [{{model: n}}]}}"
            ),
        )
    };
    let (k, es) = ("{type: keyword, name: k}", "{type: language, name: es}");
    let or = format!("{{operator: OR, conditions: [{k}, {es}]}}");
    let (vsr, notes) = good(&rules(&or));
    assert_eq!(decision(&vsr, "d").when, Some(s("k")));
    assert_eq!(decision(&vsr, "e").when, None);
    said(&notes, &["`routing.signals.language.es`: Waypost has no signal of the type `language`"]);
    for left_out in [
        format!("{{operator: AND, conditions: [{k}, {es}]}}"),
        format!("{{operator: NOT, conditions: [{es}]}}"),
        format!("{{operator: NOT, conditions: [{or}]}}"),
        format!("{{operator: AND, conditions: [{k}, {{operator: NOT, conditions: [{or}]}}]}}"),
        es.to_owned(),
        "{operator: OR}".to_owned(),
    ] {
        let (vsr, notes) = good(&rules(&left_out));
        assert_eq!(vsr.policies[0].decide.len(), 1, "{left_out}");
        said(&notes, &["`routing.decisions.d`: its condition cannot be kept"]);
    }
    let (vsr, _) =
        good(&rules(&format!("{{operator: OR, conditions: [{k}, {{operator: NOT, conditions: [{or}]}}]}}")));
    assert_eq!(decision(&vsr, "d").when, Some(s("k")));
    // A domain of which only a part is known is narrower, and its denial wider.
    let science = "domains: [{name: s, mmlu_categories: [physics, magic]}]";
    let (vsr, notes) =
        good(&with(science, "{name: d, rules: {type: domain, name: s}, modelRefs: [{model: m}]}"));
    assert_eq!(vsr.policies[0].decide.len(), 1);
    said(&notes, &["`magic` is none of the 14 domains, which are biology, business"]);
    let (none, _) = noted(&with(
        science,
        "{name: d, rules: {operator: NOT, conditions: [{type: domain, name: s}]}, modelRefs: [{model: m}]}",
    ));
    assert!(none.unwrap_err().contains("no decision that Waypost could keep"));
}

#[test]
fn keywords_and_examples_mean_what_they_meant() {
    let keyword = |more: &str| {
        let (vsr, notes) = good(&with(
            &format!("keywords: [{{name: k, {more}}}]"),
            "{name: d, rules: {type: keyword, name: k}, modelRefs: [{model: m}]}",
        ));
        let whats: Vec<_> = vsr.policies[0].signals.iter().map(|signal| signal.what.clone()).collect();
        (whats, decision(&vsr, "d").when.clone(), notes)
    };
    let plain = |matching| What::Keywords {
        words: vec!["a.b".into(), "2024".into()],
        matching,
        case_sensitive: false,
    };
    for (operator, matching) in [("OR", "any"), ("AND", "all"), ("NOR", "none")] {
        let (whats, when, notes) = keyword(&format!("operator: {operator}, keywords: [a.b, 2024]"));
        assert_eq!((whats, when, notes.len()), (vec![plain(matching)], Some(s("k")), 1), "{notes:?}");
    }
    let regex = |text: &str| What::Regex(text.to_owned());
    let (whats, when, _) = keyword("operator: OR, method: regex, keywords: ['a\\d', '${x}']");
    assert_eq!((whats, when), (vec![regex("(?i)(?:a\\d)|(?:${x})")], Some(s("k"))));
    let (whats, when, _) = keyword("operator: AND, method: regex, case_sensitive: true, keywords: [a, b]");
    assert_eq!((whats, when), (vec![regex("a"), regex("b")], Some(When::All(vec![s("k"), s("k_regex")]))));
    let (whats, when, _) = keyword("operator: NOR, method: regex, keywords: [a]");
    assert_eq!((whats, when), (vec![regex("(?i)a")], Some(When::Not(Box::new(s("k"))))));
    for method in ["method: bm25", "method: ngram", "fuzzy_match: true"] {
        let (whats, _, notes) = keyword(&format!("operator: OR, {method}, keywords: [a.b, 2024]"));
        assert_eq!(whats, [plain("any")]);
        said(&notes, &["finds fewer than vSR"]);
    }
    let examples = "embeddings: [{name: x, threshold: 0.72, aggregation_method: mean, candidates: [one, two]}, {name: i, query_modality: image, candidates: [three]}]";
    let (vsr, notes) = good(&with(
        examples,
        "{name: d, rules: {operator: OR, conditions: [{type: embedding, name: x}, {type: embedding, name: i}]}, modelRefs: [{model: m}]}",
    ));
    assert_eq!(vsr.policies[0].signals[0].what, What::Examples(vec!["one".into(), "two".into()]));
    said(&notes, &["threshold 0.72 belongs to vSR's", "nearest example", "compares the text of prompts"]);
}

#[test]
fn attacks_that_vsr_answers_itself_become_the_guard_and_the_rest_is_told() {
    let signals = "jailbreak: [{name: j, threshold: 0.8}, {name: r, direction: response}], pii: [{name: p, pii_types_allowed: [EMAIL_ADDRESS]}]";
    let canned = |rules: &str| {
        let other = "{name: e, rules: {type: pii, name: p}, modelRefs: [{model: n}]}";
        let (vsr, notes) = noted(&with(
            signals,
            &format!(
                "{{name: d, rules: {rules}, plugins: [{{type: fast_response, configuration: {{message: no}}}}]}}, {other}"
            ),
        ));
        let vsr = vsr.unwrap();
        assert_eq!(vsr.policies[0].decide.len(), 1);
        // The signals of what is left out are, too.
        assert_eq!(vsr.policies[0].signals.iter().map(|signal| &*signal.name).collect::<Vec<_>>(), ["p"]);
        (vsr.guard, notes)
    };
    let (guard, notes) = canned("{operator: OR, conditions: [{type: jailbreak, name: j}]}");
    assert!(guard && !notes.iter().any(|note| note.contains("NOT stopped")), "{notes:#?}");
    said(&notes, &["becomes `guard`", "every kind of personal data"]);
    let (guard, notes) =
        canned("{operator: OR, conditions: [{type: jailbreak, name: j}, {type: pii, name: p}]}");
    assert!(guard);
    said(&notes, &["becomes `guard`", "NOT stopped"]);
    for rules in [
        "{type: pii, name: p}",
        "{type: jailbreak, name: r}",
        "{operator: AND, conditions: [{type: jailbreak, name: j}, {type: pii, name: p}]}",
        "{operator: NOT, conditions: [{type: jailbreak, name: j}]}",
    ] {
        let (guard, notes) = canned(rules);
        assert!(!guard, "{rules}");
        said(&notes, &["NOT stopped"]);
    }
}

#[test]
fn models_that_cannot_be_asked_and_models_that_are_chosen_among() {
    let k = "rules: {type: domain, name: math}";
    let (vsr, notes) = good(&with(
        "domains: [{name: math, model_scores: [{model: m, score: 0.2}, {model: n, score: 0.8}]}]",
        &format!(
            "{{name: a, {k}, modelRefs: [{{model: claude}}]}}, {{name: b, {k}, modelRefs: [{{model: claude}}, {{model: m, use_reasoning: true, reasoning_effort: high, lora_name: m-math}}]}}, {{name: math, {k}, modelRefs: [{{model: m}}, {{model: n}}]}}, {{name: c, {k}, algorithm: {{type: router_dc}}, modelRefs: [{{model: n}}, {{model: m}}]}}, {{name: d, {k}, modelRefs: [{{model: m, use_reasoning: true}}]}}"
        ),
    ));
    assert_eq!(
        vsr.policies[0].decide.iter().map(|one| (&*one.name, &*one.model, one.reasoning)).collect::<Vec<_>>(),
        [("b", "m-math", Some("high")), ("math", "n", None), ("c", "n", None), ("d", "m", Some("low"))]
    );
    assert_eq!(
        vsr.models.last().map(|model| (&*model.name, model.adapter_of.as_deref())),
        Some(("m-math", Some("m")))
    );
    said(
        &notes,
        &[
            "claude.api_format",
            "`routing.decisions.a`: Waypost can ask none",
            "`routing.decisions.math`: of its models vSR's `static`",
            "by `router_dc`",
        ],
    );
}

#[test]
fn recipes_and_entry_points_become_policies_with_their_names() {
    let profile = |domain: &str| {
        format!(
            "{{decisions: [{{name: {domain}, rules: {{type: domain, name: {domain}}}, modelRefs: [{{model: m}}]}}]}}"
        )
    };
    let (vsr, notes) = good(&format!(
        "{MODELS}recipes: [{{name: fast, routing: {}}}, {{name: default, routing: {}}}, {{name: idle, routing: {}}}]\nentrypoints: [{{model_names: [team/fast, quick], recipe: fast}}, {{model_names: [vllm-sr/auto, front], recipe: default}}]\nglobal: {{router: {{auto_model_name: any}}}}",
        profile("math"),
        profile("law"),
        profile("history"),
    ));
    let names: Vec<_> = vsr.policies.iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["default", "team/fast", "idle"]);
    assert_eq!(
        vsr.auto_names.as_deref(),
        Some(&["vllm-sr/auto", "auto", "any", "front"].map(String::from)[..])
    );
    said(&notes, &["left out: quick", "`recipes.idle.routing`: no entry point leads here"]);
    // The newest form names the models at the entry point.
    let (vsr, _) = good(&format!(
        "{MODELS}recipes: [{{name: default, routing: {{decisions: [{{name: law, rules: {{type: domain, name: law}}}}]}}}}]\nentrypoints: [{{model_names: [auto], recipe: default, assignments: {{law: {{models: [{{model: n, weight: '1'}}]}}}}}}, {{model_names: [cheap], recipe: default, assignments: {{law: {{models: [{{model: m}}]}}}}}}]"
    ));
    let models: Vec<_> =
        vsr.policies.iter().map(|policy| (&*policy.name, &*policy.decide[0].model)).collect();
    assert_eq!(models, [("default", "n"), ("cheap", "m")]);
}

#[test]
fn no_secret_leaves_the_file() {
    const SECRET: &str = "sk-5ecret";
    let whole = format!(
        "
providers:
  models:
    - {{name: gpt 4, backend_refs: [{{base_url: 'https://h/v1', api_key: {SECRET}, extra_headers: {{X-Key: {SECRET}}}}}], access_key: {SECRET}}}
    - {{name: e, backend_refs: [{{endpoint: 'h:1', api_key_env: E_KEY}}]}}
    - {{name: f, backend_refs: [{{endpoint: 'h:1', api_key: '${{F_KEY:-{SECRET}}}'}}]}}
routing: {{decisions: [{{name: d, rules: {{type: domain, name: math}}, modelRefs: [{{model: e}}]}}]}}
global: {{stores: {{redis: {{password: {SECRET}}}}}}}
"
    );
    let (vsr, notes) = good(&whole);
    let made = config(&vsr);
    assert!(!made.contains(SECRET) && !notes.join("\n").contains(SECRET), "{made}{notes:#?}");
    let keys: Vec<_> = vsr.models.iter().map(|model| model.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["${GPT_4_API_KEY}", "${E_KEY}", "${F_API_KEY}"]);
    said(&notes, &["put it into the variable GPT_4_API_KEY", "extra_headers"]);
    for place in [
        "base_url: 'https://u:SECRET@h/v1'",
        "base_url: 'https://h/v1?key=SECRET'",
        "endpoint: 'SECRET@h:1'",
        "endpoint: h, api_key_env: SECRET",
    ] {
        let text = format!(
            "providers: {{models: [{{name: m, backend_refs: [{{{}}}]}}]}}",
            place.replace("SECRET", SECRET)
        );
        let error = noted(&text).0.unwrap_err();
        assert!(error.contains("providers.models.m.backend_refs[0]") && !error.contains(SECRET), "{error}");
    }
}

#[test]
fn what_cannot_be_is_an_error_with_its_place() {
    let decision = |text: &str| with("", text);
    for (text, wanted) in [
        ("a: [", ""),
        ("[1]", "the file is not a mapping"),
        ("policies: []", "is not vLLM Semantic Router's"),
        ("providers: {models: []}", "has no model"),
        ("providers: 5", "`providers` is not a mapping"),
        ("providers: {models: {a: 1}}", "`providers.models` is not a list"),
        ("providers: {models: [{}]}", "`providers.models[0]` has no `name`"),
        ("providers: {models: [m]}", "`providers.models[0]` is not a mapping"),
        ("providers: {models: [{name: m, backend_refs: [{}]}]}", "backend_refs[0]` has neither"),
        (
            "providers: {models: [{name: m, pricing: {prompt_per_1m: dear}}]}",
            "pricing.prompt_per_1m` is not a number",
        ),
        ("providers: {default_model: x, models: [{name: m}]}", "default model `x` is not a model"),
        (
            "vllm_endpoints: [{name: e, address: h}]\nmodel_config: {m: {preferred_endpoints: [f]}}",
            "names `f`, which is none of `vllm_endpoints`",
        ),
        ("model_config: {m: {}}\ncategories: [{name: math, model_scores: [{model: x}]}]", "names `x`"),
        (&decision(""), "no decision that Waypost could keep"),
        (
            &decision("{name: d, modelRefs: [{model: x}]}"),
            "`routing.decisions.d.modelRefs[0].model` names `x`",
        ),
        (
            &decision("{name: d, rules: {operator: XOR}, modelRefs: [{model: m}]}"),
            "`routing.decisions.d.rules.operator` is none of",
        ),
        (&decision("{name: d, rules: {operator: NOT}, modelRefs: [{model: m}]}"), "NOT without exactly one"),
        (
            &decision("{name: d, rules: {type: keyword, name: k}, modelRefs: [{model: m}]}"),
            "names the keyword signal `k`, which is not declared",
        ),
        (
            &decision("{name: d, rules: {type: keyword}, modelRefs: [{model: m}]}"),
            "`routing.decisions.d.rules` has no `name`",
        ),
        (&decision("{name: d, modelRefs: [{model: m}]}, {name: d}"), "stands twice"),
        (
            &with(
                "keywords: [{name: k, operator: NAND, keywords: [a]}]",
                "{name: d, rules: {type: keyword, name: k}, modelRefs: [{model: m}]}",
            ),
            "operator` is none of AND, OR and NOR",
        ),
        (&with("keywords: {k: 1}", ""), "`routing.signals.keywords` is not a list"),
        (
            &format!("{MODELS}entrypoints: [{{model_names: [a], recipe: x}}]\nrecipes: []"),
            "names `x`, which is none of `recipes`",
        ),
        (
            &format!("{MODELS}strategy: best\ndecisions: [{{name: d, modelRefs: [{{model: m}}]}}]"),
            "`strategy` is neither",
        ),
    ] {
        let error = noted(text).0.expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let deep = "{operator: AND, conditions: [".repeat(20) + "{type: domain, name: math}" + &"]}".repeat(20);
    let error =
        noted(&decision(&format!("{{name: d, rules: {deep}, modelRefs: [{{model: m}}]}}"))).0.unwrap_err();
    assert!(error.contains("nests deeper than"), "{error}");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..12 {
        bomb += &format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 10].join(", "));
    }
    assert!(noted(&format!("{bomb}providers: {{}}")).0.is_err());
}

#[test]
fn references_in_addresses_are_kept() {
    let text = "
providers: {models: [{name: m, backend_refs: [{endpoint: '${HOST}:${PORT}'}, {base_url: '${URL}'}, {endpoint: 'http://h/v1'}]}]}
decisions: [{name: d, rules: {type: domain, name: math}, modelRefs: [{model: m}]}]";
    let mut notes = Notes::default();
    let vsr = read(text, &mut notes).unwrap();
    assert_eq!(vsr.models[0].endpoints, ["http://${HOST}:${PORT}", "${URL}", "http://h/v1"]);
    let env = |name: &str| {
        Some(match name {
            "HOST" => "near".to_owned(),
            "PORT" => "81".to_owned(),
            _ => "https://far".to_owned(),
        })
    };
    let made = waypost_config::load_str(&config(&vsr), "made", &env).unwrap();
    let bases: Vec<_> = made.models[0].endpoints.iter().map(|endpoint| &*endpoint.base).collect();
    assert_eq!(bases, ["http://near:81", "https://far", "http://h"]);
}

/// A file in which most of what is read stands.
fn full() -> Value {
    let mut whole: Value = serde_json::to_value(serde_saphyr::from_str::<Value>(GUIDE).unwrap()).unwrap();
    let domains = whole["routing"]["signals"]["domains"].clone();
    whole["routing"]["signals"] = json!({
        "domains": domains,
        "keywords": [{"name": "k", "operator": "OR", "keywords": ["a", "b"], "method": "regex", "case_sensitive": true}],
        "embeddings": [{"name": "x", "threshold": 0.7, "candidates": ["one", "two"]}],
        "jailbreak": [{"name": "j", "threshold": 0.7}],
        "pii": [{"name": "p"}],
    });
    let decisions = whole["routing"]["decisions"].as_array_mut().unwrap();
    decisions.truncate(3);
    decisions.push(json!({"name": "mixed", "priority": 7, "algorithm": {"type": "static"}, "modelRefs": [{"model": "llama3-8b", "lora_name": "l", "use_reasoning": true}],
        "rules": {"operator": "OR", "conditions": [{"type": "keyword", "name": "k"}, {"operator": "NOT", "conditions": [{"type": "embedding", "name": "x"}]}, {"type": "pii", "name": "p"}]}}));
    decisions.push(json!({"name": "no", "rules": {"type": "jailbreak", "name": "j"}, "plugins": [{"type": "fast_response"}]}));
    whole["recipes"] = json!([{"name": "r", "routing": {"decisions": [{"name": "z", "rules": {"type": "domain", "name": "law"}, "modelRefs": [{"model": "llama3-8b"}]}]}}]);
    whole["entrypoints"] = json!([{"model_names": ["r1"], "recipe": "r"}]);
    whole["vllm_endpoints"] =
        json!([{"name": "e", "address": "10.0.0.1", "port": 80, "weight": 2, "models": ["v"]}]);
    whole["model_config"] = json!({"v": {"preferred_endpoints": ["e"], "pricing": {"prompt_per_1m": 1, "completion_per_1m": 2}, "reasoning_family": "qwen3"}});
    whole
}

/// Every value of the tree, in order.
fn places(value: &mut Value, found: &mut impl FnMut(&mut Value)) {
    found(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| places(item, found)),
        Value::Object(entries) => entries.values_mut().for_each(|item| places(item, found)),
        _ => {}
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "AND",
            "NOT",
            "domain",
            "math",
            "m",
            "llama3-8b",
            "${X}",
            "vsr",
            "auto",
            "",
            "http://a b",
            "-1"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "name",
                        "type",
                        "operator",
                        "conditions",
                        "model",
                        "enabled",
                        "routing"
                    ]),
                    inner
                ),
                0..4
            )
            .prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in a file: an error, or a configuration of which Waypost says whether it loads. Never a panic.
    #[test]
    fn any_tree_is_refused_or_written(changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..5)) {
        let mut whole = full();
        for (at, change) in changes {
            let mut count = 0;
            places(&mut whole, &mut |_| count += 1);
            let (mut left, mut change) = (at.index(count), Some(change));
            places(&mut whole, &mut |value| {
                if left == 0 && let Some(change) = change.take() {
                    *value = change;
                }
                left = left.saturating_sub(1);
            });
        }
        let (read, _) = noted(&whole.to_string());
        if let Ok(vsr) = read {
            let made = config(&vsr);
            prop_assert!(serde_saphyr::from_str::<Value>(&made).is_ok(), "{made}");
            let _ = waypost_config::load_str(&made, "made", &|_| None);
        }
    }

    #[test]
    fn any_text_is_refused_or_read(text in "\\PC{0,80}") {
        let _ = noted(&text);
        let _ = noted(&format!("providers: {text}"));
    }
}

/// A condition over `a`, `b` (known) and `u`, `v` (not known), as rules.
fn rules() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["math", "law"]).prop_map(|name| json!({"type": "domain", "name": name})),
        prop::sample::select(vec!["es", "fr"]).prop_map(|name| json!({"type": "language", "name": name})),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        (prop::sample::select(vec!["AND", "OR", "NOT"]), prop::collection::vec(inner, 1..4)).prop_map(
            |(operator, mut conditions)| {
                if operator == "NOT" {
                    conditions.truncate(1);
                }
                json!({"operator": operator, "conditions": conditions})
            },
        )
    })
}

fn meant(rules: &Value, truth: &dyn Fn(&str) -> bool) -> bool {
    if let Some(name) = rules.get("name").and_then(Value::as_str) {
        return truth(name);
    }
    let mut children = rules["conditions"].as_array().unwrap().iter();
    match rules["operator"].as_str().unwrap() {
        "AND" => children.all(|child| meant(child, truth)),
        "OR" => children.any(|child| meant(child, truth)),
        _ => !children.all(|child| meant(child, truth)),
    }
}

fn means(when: &When, truth: &dyn Fn(&str) -> bool) -> bool {
    match when {
        When::Signal(name) => truth(name),
        When::All(conditions) => conditions.iter().all(|one| means(one, truth)),
        When::Any(conditions) => conditions.iter().any(|one| means(one, truth)),
        When::Not(condition) => !means(condition, truth),
    }
}

proptest! {
    /// What is kept applies to no prompt that vSR's decision would not have applied to, whatever the unknown signals say;
    /// and where all are known, to the same ones.
    #[test]
    fn no_decision_becomes_wider(rules in rules(), truths in any::<[bool; 4]>()) {
        let text = with("language: [{name: es}, {name: fr}]", &format!("{}, {{name: e, modelRefs: [{{model: m}}]}}", json!({"name": "d", "rules": rules, "modelRefs": [{"model": "m"}]})));
        let (vsr, _) = noted(&text);
        let vsr = vsr.map_err(TestCaseError::fail)?;
        let truth = |name: &str| truths[["math", "law", "es", "fr"].iter().position(|known| *known == name).unwrap()];
        let kept = vsr.policies[0].decide.iter().find(|decision| decision.name == "d").map(|decision| decision.when.clone());
        let known = !rules.to_string().contains("language");
        match kept {
            Some(Some(when)) => prop_assert!(!means(&when, &truth) || meant(&rules, &truth)),
            Some(None) => prop_assert!(meant(&rules, &truth)),
            None => prop_assert!(!known),
        }
        if let (true, Some(Some(when))) = (known, vsr.policies[0].decide.iter().find(|decision| decision.name == "d").map(|decision| decision.when.clone())) {
            prop_assert_eq!(means(&when, &truth), meant(&rules, &truth));
        }
    }
}
