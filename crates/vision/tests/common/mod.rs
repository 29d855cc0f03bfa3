//! Tiny models with made-up weights, the same as `training/clip_golden.py` makes; its head has the formula.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use waypost_vision::Image;

/// Name to shape and bytes.
pub(crate) type Weights = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

pub(crate) fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// The made-up numbers of a tensor.
pub(crate) fn values(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (base, scale) = if name.contains("running_var") {
        (1.0, 0.5)
    } else if name.ends_with("bias") {
        (0.0, 0.1)
    } else if name.contains("norm") || name == "network.1.weight" || name == "network.5.weight" {
        (1.0, 0.2)
    } else if name.starts_with("network") {
        (0.0, 1.0)
    } else {
        (0.0, 0.35)
    };
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (base + scale * ((state >> 40) as f64 / f64::from(1 << 23) - 1.0)) as f32
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The made-up weights of the tensors a golden file lists.
pub(crate) fn weights(golden: &Value) -> Weights {
    let tensors = golden["tensors"].as_object().unwrap();
    tensors
        .iter()
        .map(|(name, shape)| {
            let shape: Vec<usize> =
                shape.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
            let bytes = values(name, shape.iter().product()).iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), (shape, bytes))
        })
        .collect()
}

/// A safetensors file of those weights.
pub(crate) fn file(weights: &Weights, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let views = weights.iter().map(|(name, (shape, bytes))| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, metadata).unwrap()
}

/// Writes the golden CLIP into `folder`.
pub(crate) fn write_clip(folder: &Path, golden: &Value) {
    let save = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    save("config.json", golden["config"].to_string().as_bytes());
    save("model.safetensors", &file(&weights(golden), None));
    save("vocab.json", serde_json::to_string(&vocabulary(golden)).unwrap().as_bytes());
    let merges: Vec<_> = merges(golden);
    save("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n")).as_bytes());
    let size = &golden["config"]["vision_config"]["image_size"];
    let preparation = json!({
        "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    });
    save("preprocessor_config.json", preparation.to_string().as_bytes());
}

pub(crate) fn merges(golden: &Value) -> Vec<&str> {
    golden["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect()
}

pub(crate) fn vocabulary(golden: &Value) -> HashMap<String, usize> {
    let mut others = '\u{100}'..;
    let mut bytes = Vec::new();
    for byte in 0..=255_u8 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        bytes.push(if printable { char::from(byte) } else { others.next().unwrap() }.to_string());
    }
    let ends: Vec<_> = bytes.iter().map(|name| format!("{name}</w>")).collect();
    let merged = merges(golden).into_iter().map(|m| m.replace(' ', ""));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let mut vocabulary = HashMap::new();
    for token in bytes.into_iter().chain(ends).chain(merged).chain(special) {
        let next = vocabulary.len();
        vocabulary.entry(token).or_insert(next);
    }
    vocabulary
}

/// The made-up picture of that size.
pub(crate) fn picture(width: usize, height: usize) -> Image {
    let byte = |at: usize| {
        let (x, y, colour) = (at / 3 % width, at / 3 / width, at % 3);
        let pattern = (x * y + 17 * colour) % 61 * ((x / 4 + y / 4) % 2);
        (x * 5 + y * (3 + colour) + pattern) as u8
    };
    Image::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap()
}

/// The largest difference between two vectors.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
