//! `${NAME}`: a value ends up in its scalar, whatever it holds, and changes nothing else.

use proptest::prelude::*;
use waypost_config::{Snapshot, load_str};

/// A variable in each kind of place a scalar can have.
const PLACES: &str = "\
models:                                  # ${V} in a comment is nothing
  - name: plain
    api_key: ${V}
    endpoint: http://a
  - {name: flow, api_key: ${V}, endpoint: http://a}
  - {name: double, api_key: \"${V}\", endpoint: http://a}
  - {name: single, api_key: '${V}', endpoint: http://a}
  - name: block
    api_key: >-
      ${V}
    endpoint: http://a
  - name: fallback
    api_key: ${UNSET:-a: [b, {c}  # not a comment
    endpoint: http://a
  - name: around
    api_key: it's-${V}-x
    endpoint: http://a
";

fn load(text: &str, value: &str) -> Result<Snapshot, waypost_config::Error> {
    load_str(text, "waypost.yaml", &|name| (name == "V").then(|| value.to_owned()))
}

proptest! {
    #[test]
    fn a_value_never_changes_the_structure(value in any::<String>()) {
        let text = PLACES.replace("{c}  # not a comment", "{c  # inside}");
        match load(&text, &value) {
            Ok(snapshot) => {
                let keys: Vec<_> = snapshot.models.iter().map(|m| (&*m.name, m.api_key.expose())).collect();
                let trimmed = value.trim();
                let around = format!("it's-{value}-x");
                prop_assert_eq!(keys, vec![
                    ("plain", trimmed),
                    ("flow", trimmed),
                    ("double", trimmed),
                    ("single", trimmed),
                    ("block", trimmed),
                    ("fallback", "a: [b, {c  # inside"),
                    ("around", &around[..]),
                ]);
                prop_assert_eq!(snapshot.warnings, vec![]);
            }
            Err(error) => {
                // A key that no header can carry is the one thing to refuse, and the value is not shown.
                prop_assert!(value.chars().any(char::is_control), "{}", error);
                prop_assert_eq!(error.message, "this secret contains a control character");
            }
        }
    }

    #[test]
    fn yaml_in_a_value_stays_text(value in "[ \\-:#&*!|>'\"%@`{}\\[\\],a-c~?=]{0,24}") {
        let snapshot = load(PLACES_SIMPLE, &value).expect("loads");
        prop_assert_eq!(snapshot.models.len(), 1);
        prop_assert_eq!(snapshot.models[0].api_key.expose(), value.trim());
    }

    #[test]
    fn any_text_loads_or_fails_but_never_panics(text in any::<String>(), cut in 0..PLACES.len()) {
        let _ = load(&text, "v");
        let mut mixed = PLACES.to_owned();
        if mixed.is_char_boundary(cut) {
            mixed.insert_str(cut, &text);
        }
        let _ = load(&mixed, &text).map_err(|error| error.to_string());
    }
}

const PLACES_SIMPLE: &str = "models: [{name: m, endpoint: http://a, api_key: ${V}}]\n";

#[test]
fn numbers_urls_and_words_may_come_from_variables() {
    let text = "
listen: ${HOST:-127.0.0.1}:${PORT}
models:
  - {name: '${NAME}', endpoint: 'http://${NAME}:1', price: {input: ${P}, output: ${P}}, context_length: ${N}}
limits: {body: '${N}KiB', connections: ${N}}
log: {decisions: ${B}}
";
    let env = |name: &str| {
        let value = match name {
            "PORT" => "9000",
            "NAME" => "small",
            "P" => "0.5",
            "N" => "4096",
            "B" => "false",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let snapshot = load_str(text, "f", &env).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(snapshot.listen.unwrap().to_string(), "127.0.0.1:9000");
    assert_eq!(&*snapshot.models[0].endpoints[0].base, "http://small:1");
    assert_eq!(snapshot.models[0].context_length, Some(4096));
    assert_eq!(snapshot.limits.body_bytes, 4 << 20);
    assert_eq!(snapshot.limits.connections, 4096);
    assert!(!snapshot.log.decisions);
}

#[test]
fn an_escape_is_literal_and_an_empty_variable_takes_the_default() {
    let text = "models: [{name: $${V}, model: ${V:-m}, endpoint: http://a}]\n";
    let snapshot = load(text, "").expect("loads");
    assert_eq!(&*snapshot.models[0].name, "${V}");
    assert_eq!(&*snapshot.models[0].upstream_id, "m");
    assert_eq!(snapshot.warnings, []);
}

#[test]
fn faults_after_a_variable_keep_their_column() {
    let text = "models: [{name: ${V}, endpoint: nonsense}]\n";
    let error = load(text, "a very much longer value").expect_err("must not load");
    assert_eq!((error.line(), error.column()), (Some(1), Some(33)));
    assert!(!error.to_string().contains("longer"));
}
