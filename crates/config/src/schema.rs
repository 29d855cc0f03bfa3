//! The JSON schema of the file, and the table of its keys for `docs/configuration.md`.
//!
//! Both come from the structs of `file`; the table is read off the schema, so it cannot drift.
//! Called by `waypost schema` and by the test that keeps the document current.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::file::File;

/// JSON schema (draft 2020-12) of the configuration file, for editors and CI.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<File>().to_value()
}

/// Markdown table of every key: key, type, default, meaning.
pub fn docs_table() -> String {
    let mut out = String::from("| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
    rows(&json_schema(), "", &mut out);
    out
}

fn rows(schema: &Value, prefix: &str, out: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required = schema.get("required").and_then(Value::as_array);
    for (key, property) in properties {
        let path = format!("{prefix}{key}");
        let needed = required.is_some_and(|keys| keys.iter().any(|k| k == key));
        // A row of the table is one line.
        let meaning =
            property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let inner = without_null(property);
        let kind = kind(inner);
        let default = match (needed, default(property, inner)) {
            (true, _) => "required".to_owned(),
            (false, Some(value)) => format!("`{value}`"),
            (false, None) => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{path}` | {kind} | {default} | {meaning} |");
        match inner.get("items") {
            Some(items) => rows(items, &format!("{path}[]."), out),
            None => rows(inner, &format!("{path}."), out),
        }
        let variants = inner.get("oneOf").and_then(Value::as_array);
        for variant in variants.into_iter().flatten() {
            // A name or a map: the row above says so, the keys of the map follow here.
            rows(variant, &format!("{path}."), out);
        }
    }
}

/// The schema behind an optional key.
fn without_null(schema: &Value) -> &Value {
    let options = schema.get("anyOf").and_then(Value::as_array);
    options
        .into_iter()
        .flatten()
        .find(|option| option.get("type").is_none_or(|t| t != "null"))
        .unwrap_or(schema)
}

fn kind(schema: &Value) -> String {
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        return format.to_owned();
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", kind(without_null(items)));
    }
    if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
        return variants.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    "map".to_owned()
}

/// A scalar's default; those of maps and lists are told by their own keys.
fn default(property: &Value, inner: &Value) -> Option<String> {
    let value = property.get("default")?;
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::String(text) if inner.get("format").is_some() => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
