//! `docs/configuration.md` says what the code does: its table is generated, its examples load.
//!
//! `WAYPOST_BLESS=1 cargo test -p waypost-config --test docs` rewrites the table.

#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::path::PathBuf;

const BEGIN: &str = "<!-- begin generated table -->\n";
const END: &str = "<!-- end generated table -->";

fn document() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md");
    (path, text)
}

#[test]
fn the_table_is_current() {
    let (path, text) = document();
    let (before, rest) = text.split_once(BEGIN).expect("begin marker");
    let (found, after) = rest.split_once(END).expect("end marker");
    let wanted = waypost_config::docs_table();
    if std::env::var_os("WAYPOST_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).expect("write");
    } else {
        assert_eq!(found, wanted, "run this test with WAYPOST_BLESS=1");
    }
}

#[test]
fn every_example_loads() {
    let (_, text) = document();
    let examples: Vec<_> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert!(examples.len() >= 3, "found {}", examples.len());
    for (example, _) in examples {
        let loaded = waypost_config::load_str(example, "example", &|_| Some("set".to_owned()));
        let snapshot = loaded.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(snapshot.warnings, [], "{example}");
    }
}

#[test]
fn the_schema_describes_every_key_and_forbids_others() {
    let schema = waypost_config::json_schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["listen"]["default"], "0.0.0.0:8084");
    let policy = &schema["properties"]["policies"]["items"];
    assert_eq!(policy["additionalProperties"], false);
    assert_eq!(policy["required"], serde_json::json!(["name"]));
    for line in waypost_config::docs_table().lines().skip(2) {
        assert!(!line.ends_with("|  |"), "a key without a meaning: {line}");
    }
}
