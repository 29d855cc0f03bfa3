//! The house keeps its shape: arrows between crates point down, decisions stay pure, files stay small.
//!
//! What a reviewer would have to watch for, checked on the manifests and the sources. A new crate
//! fails here until it has a place in [`LAYERS`].

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From the top down; a crate may use those in lower layers only, never its neighbours.
const LAYERS: [&[&str]; 7] = [
    &["waypost", "bench-extproc", "bench-picker", "training"],
    &["proxy", "extproc", "console", "sim"],
    &["door"],
    &["router", "ledger", "feeds"],
    &["classify", "policy", "picker", "tokens", "vision"],
    &["config"],
    &["wire", "prefetch"],
];

/// Crates that may use even less than their layer allows: they are useful on their own.
const ONLY: [(&str, &[&str]); 6] = [
    ("ledger", &["config", "wire"]),
    ("classify", &["wire"]),
    ("sim", &["wire"]),
    ("training", &["classify"]),
    ("tokens", &["wire"]),
    ("vision", &[]),
];

/// Crates that decide, and do nothing else: `waypost replay` and the tests run the same code.
const PURE: [&str; 2] = ["policy", "picker"];
/// Names of the network, the clock and the file system.
const WORLD: [&str; 9] =
    ["tokio", "hyper", "notify", "net", "fs", "TcpStream", "UdpSocket", "Instant", "SystemTime"];

/// Longest source file, its tests not counted.
const MAX_LINES: usize = 450;

#[test]
fn arrows_point_down() {
    let crates = crates();
    assert!(crates.len() >= 10, "cargo metadata lists the workspace");
    let mut wrong = Vec::new();
    for (name, dependencies) in &crates {
        for to in dependencies.iter().filter_map(|d| room(d)) {
            let down = layer(room(name)) < layer(Some(to));
            let only = ONLY.iter().find(|(from, _)| room(name) == Some(from));
            if !down || only.is_some_and(|(_, allowed)| !allowed.contains(&to)) {
                wrong.push(format!("{name} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point down, see LAYERS and ONLY: {wrong:?}");
}

#[test]
fn decisions_touch_neither_network_nor_clock_nor_files() {
    for (name, dependencies) in crates() {
        if PURE.iter().any(|pure| room(&name) == Some(pure)) {
            let found: Vec<_> = dependencies.iter().filter(|d| WORLD.contains(&d.as_str())).collect();
            assert!(found.is_empty(), "{name} depends on {found:?}");
        }
    }
    for pure in PURE {
        let files = sources(&root().join("crates").join(pure).join("src"));
        assert!(!files.is_empty(), "crates/{pure}/src holds sources");
        for (file, text) in files {
            let found: Vec<_> = words(&text).filter(|word| WORLD.contains(word)).collect();
            assert!(found.is_empty(), "{}: {found:?}; hand it in as an argument", file.display());
        }
    }
}

#[test]
fn files_are_small_and_open_with_what_they_are_for() {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let files: Vec<_> = crates.flat_map(|entry| sources(&entry.unwrap().path().join("src"))).collect();
    assert!(files.len() >= 50, "found {} sources", files.len());
    for (file, text) in files {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines; a file is one idea", file.display());
        assert!(text.starts_with("//!"), "{}: say what it does, and what never", file.display());
    }
}

/// Every crate of the workspace with what its product code depends on; tests may use more.
fn crates() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let product = list(&package["dependencies"]).into_iter().filter(|d| d["kind"] != "dev");
            (text(&package["name"]), product.map(|d| text(&d["name"])).collect())
        })
        .collect()
}

/// `waypost-wire` is the room `wire`; the binary is called as the house.
fn room(name: &str) -> Option<&str> {
    if name == "waypost" { Some(name) } else { name.strip_prefix("waypost-") }
}

fn layer(room: Option<&str>) -> usize {
    let found = LAYERS.iter().position(|layer| room.is_some_and(|room| layer.contains(&room)));
    found.unwrap_or_else(|| panic!("{room:?} has no place in LAYERS"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Rust files below `folder`, those that hold only tests left out.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The words of code, comments left out.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
}
