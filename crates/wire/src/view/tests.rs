use super::*;
use bytes::Bytes;

fn parse(body: &str) -> Result<RequestView<'_>, ApiError> {
    RequestView::parse(body.as_bytes())
}

fn rewrite(body: &str, model: &str) -> String {
    let view = parse(body).unwrap();
    let out = view.rewrite(&Bytes::copy_from_slice(body.as_bytes()), model).to_vec();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_v1_request_loses_its_object_and_gets_its_model_and_nothing_else_changes() {
    let body = "{ \"temp\": 1.50e+0,\n \"model\" : \"\" , \"nim-llm-router\": {\"policy\":\" p \",\"routing_strategy\":\"triton\"}, \"x\":[1,2] }";
    assert_eq!(rewrite(body, "a/b"), "{ \"temp\": 1.50e+0,\n \"model\" : \"a/b\" , \"x\":[1,2] }");
    let view = parse(body).unwrap();
    let nim = view.nim.unwrap();
    assert_eq!(nim.policy.as_deref(), Some("p"));
    assert_eq!((nim.strategy, nim.problem), (Some(Strategy::Triton), None));
}

#[test]
fn the_object_is_removed_wherever_it_stands() {
    let nim = r#""nim-llm-router":{"policy":"p"}"#;
    assert_eq!(rewrite(&format!("{{{nim}}}"), "m"), r#"{"model":"m"}"#);
    assert_eq!(rewrite(&format!("{{{nim},\"a\":1}}"), "m"), r#"{"model":"m","a":1}"#);
    assert_eq!(rewrite(&format!("{{\"a\":1,{nim}}}"), "m"), r#"{"model":"m","a":1}"#);
    assert_eq!(rewrite(&format!("{{\"model\":null,{nim},\"a\":1}}"), "m"), r#"{"model":"m","a":1}"#);
    assert_eq!(rewrite("{}", "m"), r#"{"model":"m"}"#);
}

#[test]
fn a_body_that_already_names_the_upstream_id_is_not_touched() {
    let body = "{\"model\":\"m\\u0031\",\"z\":0.10}";
    assert_eq!(rewrite(body, "m1"), body);
}

#[test]
fn conversations_of_every_form_are_read() {
    let body = r#"{"messages":[
        {"role":"developer","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"what is\n"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"this"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},
        {"role":"tool","tool_call_id":"1","content":"42"},
        {"role":"wizard"}],
        "tools":[{"type":"function"}],"response_format":{"type":"json_schema","json_schema":{}},"max_tokens":5,"max_completion_tokens":9,"stream":true}"#;
    let view = parse(body).unwrap();
    let messages = view.messages.as_ref().unwrap();
    let roles: Vec<_> = messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Other]);
    let texts: Vec<_> = messages[1].content.texts().map(|t| t.decode().into_owned()).collect();
    assert_eq!(texts, ["what is\n", "this"]);
    assert!(messages[2].calls_tools);
    assert_eq!(view.needs, Needs { images: true, audio: false, tools: true, json_schema: true });
    assert_eq!((view.max_tokens, view.stream), (Some(9), true));
    let calls = r#"[{"id":"1"}]"#.len() + r#"[{"type":"function"}]"#.len();
    assert_eq!(view.text_bytes, 8 + 9 + 4 + 2 + calls);
}

#[test]
fn empty_tool_lists_and_other_inputs() {
    assert!(!parse(r#"{"tools":[ ],"functions":null}"#).unwrap().needs.tools);
    let view = parse(r#"{"input":["a",[1,2],{"type":"input_text","text":"b"}]}"#).unwrap();
    let texts: Vec<_> = view.input.unwrap().texts().map(|t| t.decode().into_owned()).collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn the_responses_api_is_a_conversation_too() {
    let view = parse(
        r#"{"instructions":"be brief","input":[
            {"role":"user","content":[{"type":"input_text","text":"look"},{"type":"input_image","image_url":"x"}]},
            {"type":"function_call_output","call_id":"c","output":"42"}],
            "text":{"format":{"type":"json_schema"}}}"#,
    )
    .unwrap();
    let messages = view.messages.as_ref().unwrap();
    assert_eq!((messages.len(), messages[0].role), (1, Role::User));
    assert_eq!(messages[0].content.texts().next().unwrap().decode(), "look");
    assert_eq!(view.needs, Needs { images: true, json_schema: true, ..Needs::default() });
    assert!(view.instructions.is_some_and(|i| i.is("be brief")));
    assert!(view.text_bytes >= 8 + 4 + 56);
}

#[test]
fn what_cannot_stand_is_named() {
    let cases = [
        ("", "invalid_json", "expected a value, found the end of the body at byte 0"),
        ("[]", "invalid_json", "must be a JSON object at byte 0"),
        ("{\"a\":1} x", "invalid_json", "unexpected text after the JSON object at byte 8"),
        (r#"{"model":"a","model":"b"}"#, "duplicate_key", "'model' stands twice"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "duplicate_key", "'model' stands twice"),
        (r#"{"model":7}"#, "invalid_type", "'model' must be a string"),
        (r#"{"stream":"yes"}"#, "invalid_type", "'stream' must be true or false"),
        (r#"{"messages":{}}"#, "invalid_type", "'messages' must be an array"),
        (r#"{"messages":["hi"]}"#, "invalid_type", "'messages[0]' must be an object"),
        (r#"{"messages":[{"role":"user","content":7}]}"#, "invalid_type", "messages[0].content"),
        (r#"{"messages":[{"content":"x"}]}"#, "invalid_type", "messages[0].role"),
        (
            r#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#,
            "duplicate_key",
            "messages[0].content",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","text":7}]}]}"#,
            "duplicate_key",
            "'text' stands twice",
        ),
        (r#"{"a":"\ud800"}"#, "invalid_json", "lone surrogate in a \\u escape at byte 6"),
        (r#"{"nim-llm-router":{"policy":"a","policy":"b"}}"#, "duplicate_key", "nim-llm-router.policy"),
    ];
    for (body, code, text) in cases {
        let error = parse(body).unwrap_err();
        assert_eq!(error.code.as_str(), code, "{body}");
        assert!(error.message.contains(text), "{body}: {}", error.message);
        assert_eq!(error.status(), 400);
    }
    let not_utf8 = RequestView::parse(b"{\"a\":\"\xff\"}").unwrap_err();
    assert!(not_utf8.message.contains("not UTF-8 at byte 6"));
}

#[test]
fn a_misused_body_object_says_why() {
    let problem = |body: &str| parse(body).unwrap().nim.unwrap().problem;
    assert!(problem(r#"{"nim-llm-router":{}}"#).unwrap().contains("'policy' is required"));
    assert!(problem(r#"{"nim-llm-router":[]}"#).unwrap().contains("must be an object"));
    assert!(problem(r#"{"nim-llm-router":{"policy":1}}"#).unwrap().contains("'policy' must be a string"));
    let strategy = problem(r#"{"nim-llm-router":{"policy":"p","routing_strategy":"Manual"}}"#).unwrap();
    assert!(strategy.contains("must be 'triton' or 'manual', not 'Manual'"));
    assert_eq!(
        problem(r#"{"nim-llm-router":{"policy":"p","routing_strategy":null,"threshold":0.2,"more":[]}}"#),
        None
    );
}

#[test]
fn many_keys_and_many_messages_are_bounded() {
    let keys: Vec<_> = (0..300).map(|i| format!("\"k{i}\":{i}")).collect();
    assert!(parse(&format!("{{{}}}", keys.join(","))).unwrap_err().message.contains("256"));
    let messages = vec!["{\"role\":\"user\"}"; MAX_MESSAGES + 1].join(",");
    assert!(parse(&format!("{{\"messages\":[{messages}]}}")).unwrap_err().message.contains("20000"));
}

mod properties {
    use super::{Bytes, RequestView, parse, rewrite};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(|i| json!(i)),
            "\\PC{0,8}[\"\\\\\n\u{1F600}]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{1,5}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        /// For any object, with or without the two fields: the rewritten body is the same JSON but for
        /// `model` and the removed object, and everything between the edits is byte-identical.
        #[test]
        fn rewriting_changes_two_fields_and_no_other(
            mut fields in prop::collection::btree_map("[a-z]{1,6}", value(), 0..6),
            model in prop::option::of("\\PC{0,6}"),
            nim in any::<bool>(),
            pretty in any::<bool>(),
        ) {
            for reserved in ["model", "stream", "input", "prompt", "query"] { fields.remove(reserved); }
            let mut object: Map<String, Value> = fields.into_iter().collect();
            if let Some(model) = &model { object.insert("model".into(), json!(model)); }
            if nim { object.insert("nim-llm-router".into(), json!({"policy": "p"})); }
            let body = Value::Object(object.clone());
            let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            let out = rewrite(&body, "up/\"stream\"");
            object.remove("nim-llm-router");
            object.insert("model".into(), json!("up/\"stream\""));
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), Value::Object(object));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RequestView::parse(&body);
        }

        #[test]
        fn json_like_text_never_panics(body in r#"\{("model"|"messages"|"nim-llm-router"|"stream"|[\[\]{}:,"a0 ]){0,20}\}"#) {
            if let Ok(view) = parse(&body) {
                let out = view.rewrite(&Bytes::from(body.clone()), "m").to_vec();
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{}", body);
            }
        }
    }
}
