//! A tiny CLIP must give the vectors that Hugging Face transformers gives; a broken folder must say what is broken.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

mod common;

use std::path::Path;

use common::{difference, floats, golden, picture, vocabulary, weights, write_clip};
use serde_json::{Value, json};
use waypost_vision::Clip;

/// Kernels add in another order than PyTorch's.
const TOLERANCE: f32 = 1e-4;
/// PIL rounds its weights to 22 bits, so a resized byte may come out one apart; vectors here are of length 5 to 15.
const RESIZED_TOLERANCE: f32 = 0.02;

fn folder() -> (tempfile::TempDir, Value) {
    let (folder, golden) = (tempfile::tempdir().unwrap(), golden("clip_golden.json"));
    write_clip(folder.path(), &golden);
    (folder, golden)
}

fn compare_texts(clip: &Clip, golden: &Value) {
    for row in golden["texts"].as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let found = difference(&clip.text(text).unwrap(), &floats(&row["vector"]));
        assert!(found < TOLERANCE, "{text:?}: {found}");
    }
}

#[test]
fn texts_have_the_vectors_of_transformers() {
    let (folder, golden) = folder();
    let clip = Clip::open(folder.path()).unwrap();
    assert_eq!(clip.dims(), 16);
    compare_texts(&clip, &golden);
}

#[test]
fn either_form_of_tokenizer_file_gives_the_same() {
    let (folder, golden) = folder();
    std::fs::remove_file(folder.path().join("vocab.json")).unwrap();
    std::fs::remove_file(folder.path().join("merges.txt")).unwrap();
    let lines: Vec<Value> = common::merges(&golden).into_iter().map(Value::from).collect();
    let pairs = lines.iter().map(|line| line.as_str().unwrap().split(' ').collect::<Vec<_>>().into());
    for merges in [lines.clone(), pairs.collect::<Vec<Value>>()] {
        let mut vocab = vocabulary(&golden);
        let end = vocab.remove("<|endoftext|>").unwrap();
        let file = json!({
            "added_tokens": [{"id": end, "content": "<|endoftext|>", "special": true}],
            "model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges},
        });
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        compare_texts(&Clip::open(folder.path()).unwrap(), &golden);
    }
}

#[test]
fn images_have_the_vectors_of_transformers() {
    let (folder, golden) = folder();
    let clip = Clip::open(folder.path()).unwrap();
    for row in golden["images"].as_array().unwrap() {
        let [width, height] = ["width", "height"].map(|side| row[side].as_u64().unwrap() as usize);
        let found = difference(&clip.image(&picture(width, height)).unwrap(), &floats(&row["vector"]));
        let tolerance = if width == height { TOLERANCE } else { RESIZED_TOLERANCE };
        assert!(found < tolerance, "{width} x {height}: {found}");
    }
}

#[test]
fn without_a_preprocessor_file_openai_s_values_hold() {
    let (folder, golden) = folder();
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let clip = Clip::open(folder.path()).unwrap();
    let row = &golden["images"][0];
    assert!(difference(&clip.image(&picture(32, 32)).unwrap(), &floats(&row["vector"])) < TOLERANCE);
}

#[test]
fn half_precision_weights_are_read() {
    let (folder, golden) = folder();
    let views: Vec<_> = weights(&golden).into_iter().collect();
    let halves: Vec<_> = views
        .iter()
        .map(|(name, (shape, bytes))| {
            let halves: Vec<u8> = bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
            (name.clone(), shape.clone(), halves)
        })
        .collect();
    let views = halves.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let clip = Clip::open(folder.path()).unwrap();
    let row = &golden["texts"][1];
    let found = difference(&clip.text(row["text"].as_str().unwrap()).unwrap(), &floats(&row["vector"]));
    assert!(found > TOLERANCE && found < 0.2, "{found}");
}

#[test]
fn threads_share_a_model() {
    let (folder, _) = folder();
    let clip = Clip::open(folder.path()).unwrap();
    let (text, image) = (clip.text("the cat").unwrap(), clip.image(&picture(40, 50)).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(clip.text("the cat").unwrap(), text);
                    assert_eq!(clip.image(&picture(40, 50)).unwrap(), image);
                }
            });
        }
    });
}

#[test]
fn a_text_cannot_end_itself_and_huge_ones_are_cut() {
    let (folder, _) = folder();
    let clip = Clip::open(folder.path()).unwrap();
    let ended = clip.text("the <|endoftext|> cat").unwrap();
    assert!(difference(&ended, &clip.text("the <|endoftext|> dog").unwrap()) > 0.01);
    let (long, longer) = ("an ".repeat(6_000), "an ".repeat(1_000_000));
    assert_eq!(clip.text(&long).unwrap(), clip.text(&longer).unwrap());
    clip.text(&"a".repeat(1_000_000)).unwrap();
    clip.text(&"é".repeat(1_000_000)).unwrap();
}

/// Breaks a folder and expects the error to name the file and say `words`.
fn broken(file: &str, words: &str, damage: impl Fn(&Path)) {
    let (folder, _) = folder();
    damage(folder.path());
    let error = Clip::open(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(file) && text.contains(words), "{text}");
    assert!(!error.is_image());
}

fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "model.safetensors", "vocab.json", "merges.txt"] {
        broken(file, "No such file", |folder| std::fs::remove_file(folder.join(file)).unwrap());
    }
}

#[test]
fn broken_weights_are_named() {
    let file = "model.safetensors";
    broken(file, "truncated", |folder| {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 10]).unwrap();
    });
    broken(file, "truncated", |folder| std::fs::write(folder.join(file), "").unwrap());
    broken(file, "not a safetensors file", |folder| std::fs::write(folder.join(file), [0xff; 99]).unwrap());
    let save = |folder: &Path, change: &dyn Fn(&mut common::Weights)| {
        let mut weights = weights(&golden("clip_golden.json"));
        change(&mut weights);
        std::fs::write(folder.join(file), common::file(&weights, None)).unwrap();
    };
    let tensor = "vision_model.encoder.layers.1.mlp.fc1.bias";
    broken(file, &format!("`{tensor}` is missing"), |folder| {
        save(folder, &|w| assert!(w.remove(tensor).is_some()));
    });
    broken(file, "has shape [40, 2] instead of [80]", |folder| {
        save(folder, &|w| w.get_mut(tensor).unwrap().0 = vec![40, 2]);
    });
    broken(file, "not finite", |folder| {
        save(folder, &|w| w.get_mut(tensor).unwrap().1[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    });
}

#[test]
fn broken_configurations_are_named() {
    let file = "config.json";
    broken(file, "expected", |folder| std::fs::write(folder.join(file), "not JSON").unwrap());
    broken(file, "longer than", |folder| std::fs::write(folder.join(file), vec![b' '; 2 << 20]).unwrap());
    let cases: [(&str, &str, Value); 9] = [
        ("/model_type", "only `clip`", json!("siglip")),
        ("/projection_dim", "projection_dim is 0", json!(0)),
        ("/text_config/hidden_size", "hidden_size is 1000000000000", json!(1_000_000_000_000_u64)),
        ("/text_config/num_hidden_layers", "num_hidden_layers is 100000", json!(100_000)),
        ("/text_config/num_attention_heads", "no multiple of 5 heads", json!(5)),
        ("/text_config/max_position_embeddings", "start and end", json!(1)),
        ("/text_config/hidden_act", "unknown variant `relu`", json!("relu")),
        ("/vision_config/image_size", "image_size is 99999", json!(99_999)),
        ("/vision_config/patch_size", "do not fill", json!(7)),
    ];
    for (at, words, value) in cases {
        broken(file, words, |folder| {
            edit(folder, file, |config| *config.pointer_mut(at).unwrap() = value.clone());
        });
    }
    let file = "preprocessor_config.json";
    let cases = [
        ("crop_size", "sees 32", json!(64)),
        ("size", "size is 16", json!(16)),
        ("resample", "only 3", json!(0)),
        ("do_center_crop", "must all be on", json!(false)),
        ("image_std", "above 0", json!([0.5, 0.0, 0.5])),
    ];
    for (key, words, value) in cases {
        broken(file, words, |folder| edit(folder, file, |config| config[key] = value.clone()));
    }
}

#[test]
fn broken_vocabularies_are_named() {
    broken("merges.txt", "`zq` is not in the vocabulary", |folder| {
        std::fs::write(folder.join("merges.txt"), "z q\n").unwrap();
    });
    broken("merges.txt", "not two tokens", |folder| {
        std::fs::write(folder.join("merges.txt"), "zq\n").unwrap();
    });
    broken("merges.txt", "`<|endoftext|>` is not", |folder| {
        edit(folder, "vocab.json", |vocab| {
            assert!(vocab.as_object_mut().unwrap().remove("<|endoftext|>").is_some())
        });
    });
    broken("", "reach 5000", |folder| {
        edit(folder, "vocab.json", |vocab| vocab["<|endoftext|>"] = json!(5000));
    });
    broken("tokenizer.json", "not CLIP's tokenizer", |folder| {
        let file = json!({"model": {"type": "WordPiece", "vocab": {}, "merges": []}});
        std::fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
    });
}
