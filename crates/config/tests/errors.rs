//! Configuration errors exactly as a user sees them.

#![expect(clippy::expect_used, reason = "helpers of tests")]

use insta::assert_snapshot;

/// What is printed for a file that does not load; `KEY` is the only variable there is.
fn error(text: &str) -> String {
    let env = |name: &str| (name == "KEY").then(|| "nvapi-secret".to_owned());
    waypost_config::load_str(text.trim_start(), "waypost.yaml", &env).expect_err("must not load").to_string()
}

/// One good model, then `policies`.
fn policy_error(policies: &str) -> String {
    error(&format!("models:\n  - {{name: small, endpoint: http://a:1}}\npolicies:\n{policies}"))
}

#[test]
fn unknown_key() {
    assert_snapshot!(error(r#"
models:
  - name: small
    endpiont: http://a:1
"#), @r#"
    waypost.yaml:3:5: unknown key `endpiont`; did you mean `endpoint`?
      |
    3 |     endpiont: http://a:1
      |     ^
    "#);
}

#[test]
fn unknown_key_far_from_any() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1}
log: {colour: red}
"#), @r#"
    waypost.yaml:3:7: unknown key `colour`; possible here: decisions, file
      |
    3 | log: {colour: red}
      |       ^
    "#);
}

#[test]
fn a_file_of_v2_is_pointed_to_its_import() {
    assert_snapshot!(error("functions: {healthcheck_fn: {_type: healthcheck}}\n"), @r#"
    waypost.yaml:1:1: `functions` belongs to NVIDIA LLM Router v2's config.yml; `waypost import nvidia-v2 FILE` makes a configuration of it
      |
    1 | functions: {healthcheck_fn: {_type: healthcheck}}
      | ^
    "#);
}

#[test]
fn missing_key() {
    assert_snapshot!(error(r#"
models:
  - endpoints: [http://a:1]
"#), @r#"
    waypost.yaml:2:5: missing key `name`
      |
    2 |   - endpoints: [http://a:1]
      |     ^
    "#);
}

#[test]
fn key_twice() {
    assert_snapshot!(error(r#"
models:
  - name: small
    name: large
"#), @r#"
    waypost.yaml:3:5: key `name` is given twice
      |
    3 |     name: large
      |     ^
    "#);
}

#[test]
fn a_value_where_a_list_belongs() {
    assert_snapshot!(error(r#"
models:
  - name: small
    endpoints: http://a:1
"#), @r#"
    waypost.yaml:3:16: a list belongs here: `[a, b]`, or lines that start with `- `
      |
    3 |     endpoints: http://a:1
      |                ^
    "#);
}

#[test]
fn empty_file() {
    assert_snapshot!(error(r#"
"#), @r#"waypost.yaml: no model to send a request to: list them under `models:`, each with a `name` and `endpoints`, or give a v1 file with `policies:` and their `llms:`"#);
}

#[test]
fn bad_url_scheme() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: "ftp://a:1"}
"#), @r#"
    waypost.yaml:2:29: `ftp://a:1` is not a usable URL: scheme `ftp`; only http and https
      |
    2 |   - {name: small, endpoint: "ftp://a:1"}
      |                             ^
    "#);
}

#[test]
fn url_with_user_is_hidden() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: "http://me:hunter2@a:1"}
"#), @r#"
    waypost.yaml:2:29: `http://**********@a:1` is not a usable URL: it holds a user name; use `api_key`
      |
    2 |   - {name: small, endpoint: "http://**********@a:1"}
      |                             ^
    "#);
}

#[test]
fn bad_duration() {
    assert_snapshot!(error(r#"
models:
  - name: small
    endpoint: http://a:1
    timeouts: {idle: 5 minutes}
"#), @r#"
    waypost.yaml:4:22: `5 minutes` is not a duration such as `250ms`, `2s`, `5m` or plain seconds (at most 30 days)
      |
    4 |     timeouts: {idle: 5 minutes}
      |                      ^
    "#);
}

#[test]
fn zero_timeout() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1, timeouts: {idle: 0s}}
"#), @r#"
    waypost.yaml:2:58: `0s` must be longer than zero
      |
    2 |   - {name: small, endpoint: http://a:1, timeouts: {idle: 0s}}
      |                                                          ^
    "#);
}

#[test]
fn negative_price() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1, price: {input: -1, output: 0}}
"#), @r#"
    waypost.yaml:2:56: `-1` must not be negative
      |
    2 |   - {name: small, endpoint: http://a:1, price: {input: -1, output: 0}}
      |                                                        ^
    "#);
}

#[test]
fn no_endpoint() {
    assert_snapshot!(error(r#"
models:
  - name: small
    model: meta/small
"#), @r#"
    waypost.yaml:2:11: this model has no `endpoints`
      |
    2 |   - name: small
      |           ^
    "#);
}

#[test]
fn duplicate_model() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1}
  - {name: small, endpoint: http://b:1}
"#), @r#"
    waypost.yaml:3:12: another model has this name
      |
    3 |   - {name: small, endpoint: http://b:1}
      |            ^
    "#);
}

#[test]
fn no_door_for_requests() {
    assert_snapshot!(error(r#"
listen: off
admin: {listen: "0.0.0.0:9090"}
models:
  - {name: small, endpoint: http://a:1}
"#), @r#"
    waypost.yaml:1:9: no door is left open for requests: with `listen: off`, `ext_proc` is needed
      |
    1 | listen: off
      |         ^
    "#);
}

#[test]
fn an_empty_auto_name() {
    assert_snapshot!(error(r#"
auto_names: [auto, " "]
models:
  - {name: small, endpoint: http://a:1}
"#), @r#"
    waypost.yaml:1:20: `` is empty
      |
    1 | auto_names: [auto, " "]
      |                    ^
    "#);
}

#[test]
fn unknown_capability() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1, accepts: [image]}
"#), @r#"
    waypost.yaml:2:51: `image` is not `images`, `audio`, `tools` or `json_schema`; did you mean `images`?
      |
    2 |   - {name: small, endpoint: http://a:1, accepts: [image]}
      |                                                   ^
    "#);
}

#[test]
fn malformed_reference() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: "http://${a.b}:1"}
"#), @r#"
    waypost.yaml:2:29: `${a.b}` is neither `${NAME}` nor `${NAME:-default}`; write `$${a.b}` for the literal text
      |
    2 |   - {name: small, endpoint: "http://${a.b}:1"}
      |                             ^
    "#);
}

#[test]
fn secrets_are_never_shown() {
    assert_snapshot!(error(r#"
models:
  - {name: small, api_key: nvapi-literal, endpoint: "${KEY}"}
"#), @r#"
    waypost.yaml:2:53: `${KEY}` is not a usable URL: no scheme; write `http://` or `https://` first
      |
    2 |   - {name: small, api_key: *************, endpoint: "${KEY}"}
      |                                                     ^
    "#);
}

#[test]
fn header_limit_too_small_to_serve() {
    assert_snapshot!(error(r#"
models:
  - {name: small, endpoint: http://a:1}
limits: {header_bytes: 1KiB}
"#), @r#"
    waypost.yaml:3:24: `1KiB` must be between 8KiB and 16MiB
      |
    3 | limits: {header_bytes: 1KiB}
      |                        ^
    "#);
}

#[test]
fn unknown_label() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: task
    routes:
      Code Genration: small
"#), @r#"
    waypost.yaml:7:7: the classifier has no label `Code Genration`; did you mean `Code Generation`?
      |
    7 |       Code Genration: small
      |       ^
    "#);
}

#[test]
fn unknown_model() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: task
    routes: {Open QA: smal}
"#), @r#"
    waypost.yaml:6:23: unknown model `smal`; did you mean `small`?
      |
    6 |     routes: {Open QA: smal}
      |                       ^
    "#);
}

#[test]
fn unknown_fallback() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: task
    routes: {Open QA: small}
    fallbacks: [small, smalll]
"#), @r#"
    waypost.yaml:7:24: unknown model `smalll`; did you mean `small`?
      |
    7 |     fallbacks: [small, smalll]
      |                        ^
    "#);
}

#[test]
fn unknown_classifier() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: tsk
    routes: {Open QA: small}
"#), @r#"
    waypost.yaml:5:17: `tsk` is not a built-in classifier; did you mean `task`?
      |
    5 |     classifier: tsk
      |                 ^
    "#);
}

#[test]
fn floor_out_of_range() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: task
    routes: {Open QA: small}
    confidence_floor: 35
"#), @r#"
    waypost.yaml:7:23: `35` must be between 0 and 1
      |
    7 |     confidence_floor: 35
      |                       ^
    "#);
}

#[test]
fn policy_without_routes() {
    assert_snapshot!(policy_error(r#"  - name: p
    default: small
"#), @r#"
    waypost.yaml:4:11: this policy routes nothing: it needs `routes` (label to model), or v1's `llms`
      |
    4 |   - name: p
      |           ^
    "#);
}

#[test]
fn policy_with_both_forms() {
    assert_snapshot!(policy_error(r#"  - name: p
    routes: {Open QA: small}
    llms: [{name: Open QA, api_base: "http://a", model: m}]
"#), @r#"
    waypost.yaml:4:11: this policy has `routes` and v1's `llms`; keep one
      |
    4 |   - name: p
      |           ^
    "#);
}

#[test]
fn policy_named_like_a_model() {
    assert_snapshot!(policy_error(r#"  - name: small
    classifier: task
    routes: {Open QA: small}
"#), @r#"
    waypost.yaml:2:12: a policy has this name too; clients could not tell them apart
      |
    2 |   - {name: small, endpoint: http://a:1}
      |            ^
    "#);
}

#[test]
fn duplicate_policy() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: task
    routes: {Open QA: small}
  - name: " p "
    classifier: task
    routes: {Open QA: small}
"#), @r#"
    waypost.yaml:7:11: another policy has this name
      |
    7 |   - name: " p "
      |           ^
    "#);
}

#[test]
fn kserve_without_labels() {
    assert_snapshot!(policy_error(r#"  - name: p
    classifier: {kserve: {url: "http://t:8000/v2/models/m/infer"}}
    routes: {billing: small}
"#), @r#"
    waypost.yaml:5:32: this classifier needs `labels`: the label of each of its outputs, in order
      |
    5 |     classifier: {kserve: {url: "http://t:8000/v2/models/m/infer"}}
      |                                ^
    "#);
}

#[test]
fn unknown_default_policy() {
    assert_snapshot!(policy_error(r#"  - name: task
    classifier: task
    routes: {Open QA: small}
default_policy: tsak
"#), @r#"
    waypost.yaml:7:17: `default_policy` names no policy of this file; did you mean `task`?
      |
    7 | default_policy: tsak
      |                 ^
    "#);
}

#[test]
fn v1_duplicate_label() {
    assert_snapshot!(policy_error(r#"  - name: p
    llms:
      - {name: Open QA, api_base: "http://a", model: m}
      - {name: Open QA, api_base: "http://a", model: m}
"#), @r#"
    waypost.yaml:7:16: another entry of `llms` has this name
      |
    7 |       - {name: Open QA, api_base: "http://a", model: m}
      |                ^
    "#);
}

#[test]
fn v1_without_url_and_a_slip() {
    assert_snapshot!(policy_error(r#"  - name: p
    llms:
      - {name: Open QA, api_base: "http://a", model: m}
      - {name: Chatbot, api_base: "http://a", model: m}
      - {name: Rewrit, api_base: "http://a", model: m}
"#), @r#"
    waypost.yaml:8:16: the classifier has no label `Rewrit`; did you mean `Rewrite`?
      |
    8 |       - {name: Rewrit, api_base: "http://a", model: m}
      |                ^
    "#);
}

#[test]
fn a_missing_file_and_a_huge_one() {
    let missing = std::path::Path::new("/nonexistent/waypost.yaml");
    let error = waypost_config::load_file(missing).expect_err("must not load");
    assert!(error.to_string().starts_with("/nonexistent/waypost.yaml: cannot be opened: "));

    let file = tempfile::NamedTempFile::new().expect("temp file");
    file.as_file().set_len(waypost_config::MAX_FILE_BYTES + 1).expect("grow");
    let error = waypost_config::load_file(file.path()).expect_err("must not load");
    assert!(error.to_string().ends_with("is larger than 4194304 bytes"), "{error}");
}

#[test]
fn deep_nesting_ends_in_an_error_not_in_a_stack_overflow() {
    let text = format!("models: {}", "[".repeat(100_000));
    assert!(waypost_config::load_str(&text, "f", &|_| None).is_err());
}

#[test]
fn line_and_column_are_there_for_programs_too() {
    let error = waypost_config::load_str("models: 3\n", "f", &|_| None).expect_err("must not load");
    assert_eq!((error.line(), error.column()), (Some(1), Some(9)));
}

#[test]
fn two_models_that_take_any_name() {
    assert_snapshot!(error(r#"
models:
  - {name: a, endpoint: http://a:1, any_name: true}
  - {name: b, endpoint: http://b:1, any_name: true}
"#), @r#"
    waypost.yaml:3:47: `a` takes every name already
      |
    3 |   - {name: b, endpoint: http://b:1, any_name: true}
      |                                               ^
    "#);
}
