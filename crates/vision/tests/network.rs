//! v2's network must give PyTorch's probabilities; a file that does not fit must say why.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

mod common;

use std::collections::HashMap;

use common::{Weights, difference, file, floats, golden, values, weights};
use waypost_vision::Network;

const TOLERANCE: f32 = 1e-5;
const NAMES: &str = r#"["gpt-5-chat", "nvidia/nvidia-nemotron-nano-9b-v2", "Qwen/Qwen3-VL-8B-Instruct"]"#;

fn metadata(names: &str) -> Option<HashMap<String, String>> {
    Some(HashMap::from([("model_names".to_owned(), names.to_owned())]))
}

fn loads(change: impl FnOnce(&mut Weights), names: &str) -> Result<Network, String> {
    let mut weights = weights(&golden("network_golden.json"));
    change(&mut weights);
    Network::from_bytes("net", &file(&weights, metadata(names))).map_err(|e| e.to_string())
}

#[test]
fn probabilities_are_pytorch_s() {
    let network = loads(|_| (), NAMES).unwrap();
    assert_eq!(network.inputs(), 24);
    let names: Vec<_> = network.models().iter().map(|name| &**name).collect();
    assert_eq!(
        serde_json::to_value(names).unwrap(),
        serde_json::from_str::<serde_json::Value>(NAMES).unwrap()
    );
    for (at, output) in golden("network_golden.json")["outputs"].as_array().unwrap().iter().enumerate() {
        let found = network.predict(&values(&format!("input{at}"), 24)).unwrap();
        assert!(difference(&found, &floats(output)) < TOLERANCE, "{found:?} {output}");
    }
}

#[test]
fn a_file_on_disk_loads_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nn_router.safetensors");
    let bytes = file(&weights(&golden("network_golden.json")), metadata(NAMES));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Network::open(&path).unwrap().models().len(), 3);
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = Network::open(&path).unwrap_err().to_string();
    assert!(error.contains("nn_router.safetensors") && error.contains("truncated"), "{error}");
    let error = Network::open(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("No such file"), "{error}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let network = loads(|_| (), NAMES).unwrap();
    let error = network.predict(&[0.0; 23]).unwrap_err().to_string();
    assert!(error.contains("23 numbers instead of 24"), "{error}");
    assert!(network.predict(&[f32::NAN; 24]).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn wrong_tensors_are_named() {
    let check = |words: &str, change: &dyn Fn(&mut Weights)| {
        let error = loads(change, NAMES).unwrap_err();
        assert!(error.starts_with("net: ") && error.contains(words), "{error}");
    };
    let without = |name: &'static str| move |w: &mut Weights| assert!(w.remove(name).is_some());
    let shaped = |name: &'static str, shape: &'static [usize]| {
        move |w: &mut Weights| {
            let bytes = values(name, shape.iter().product()).iter().flat_map(|v| v.to_le_bytes()).collect();
            w.insert(name.to_owned(), (shape.to_vec(), bytes));
        }
    };
    check("`network.0.weight` is missing", &without("network.0.weight"));
    check("`network.4.bias` is missing", &without("network.4.bias"));
    check("`network.5.running_var` is missing", &without("network.5.running_var"));
    check("`network.5.bias` is not part", &without("network.8.weight"));
    check("takes 9 numbers, but the layer before gives 16", &shaped("network.4.weight", &[8, 9]));
    check("has shape [24] instead of two", &shaped("network.0.weight", &[24]));
    check("is empty", &shaped("network.8.weight", &[0, 8]));
    check("has shape [7] instead of [16]", &shaped("network.0.bias", &[7]));
    check("`network.1.running_mean` has shape [3]", &shaped("network.1.running_mean", &[3]));
    check("`scaler.mean` is not part of v2's network (1 unknown", &shaped("scaler.mean", &[3]));
    check("holds numbers that are not finite", &|w| {
        w.get_mut("network.4.weight").unwrap().1[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    check("holds negative numbers", &|w| {
        w.get_mut("network.1.running_var").unwrap().1[..4].copy_from_slice(&(-1.0_f32).to_le_bytes());
    });
}

#[test]
fn wrong_names_are_refused() {
    let check = |names: &str, words: &str| {
        let error = loads(|_| (), names).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    check(r#"["a", "b"]"#, "2 names for 3 outputs");
    check(r#"["a", "b", "a"]"#, "two outputs are called `a`");
    check(r#"["a", "b", ""]"#, "0 bytes");
    check(r#"{"a": 1}"#, "not a JSON array");
    let none = file(&weights(&golden("network_golden.json")), None);
    let error = Network::from_bytes("net", &none).unwrap_err().to_string();
    assert!(error.contains("no `model_names`"), "{error}");
}

#[test]
fn a_network_without_hidden_layers_is_one_matrix() {
    let only = |w: &mut Weights| w.retain(|name, _| name.starts_with("network.0."));
    let names: Vec<String> = (0..16).map(|i| format!("m{i}")).collect();
    let network = loads(only, &serde_json::to_string(&names).unwrap()).unwrap();
    assert_eq!((network.inputs(), network.models().len()), (24, 16));
}
