//! How fast a model's folder encodes: `cargo run --release -p waypost-tokens --example speed FOLDER TEXT`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use waypost_tokens::Tokenizer;

/// Milliseconds, the median of many runs.
fn median(mut run: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..41)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap();
    let folder = Path::new(&folder);
    let text = std::fs::read_to_string(arguments.next().unwrap()).unwrap();
    let start = Instant::now();
    let cached = Tokenizer::load(folder).unwrap();
    println!("load {:.2} s, {:?}", start.elapsed().as_secs_f64(), cached.stats());
    let plain = Tokenizer::load_with_cache(folder, 0).unwrap();
    let reference = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    for bytes in [1 << 10, 32 << 10, 256 << 10] {
        let text = &text[..text.floor_char_boundary(bytes)];
        let ours = median(|| drop(black_box(plain.text(text, false))));
        let theirs = median(|| drop(black_box(reference.encode_fast(text, false))));
        let again = median(|| drop(black_box(cached.text(text, false))));
        let speed = |ms: f64| text.len() as f64 / 1e3 / ms;
        println!(
            "{bytes} B: {ours:.3} ms, {:.1} MB/s; reference {theirs:.3} ms, {:.1} MB/s; cached {again:.4} ms",
            speed(ours),
            speed(theirs)
        );
    }
    // A conversation of 32 kB in messages of 2 kB, and one turn more each time.
    let mut messages = Vec::new();
    let mut at = 0;
    while at < 32 << 10 {
        let end = text.floor_char_boundary(at + 2048);
        let role = if messages.len() % 2 == 0 { "user" } else { "assistant" };
        messages.push(serde_json::json!({"role": role, "content": &text[at..end]}));
        at = end;
    }
    let body = |n: usize| {
        let mut all = messages.clone();
        all.push(serde_json::json!({"role": "user", "content": format!("And what of number {n}?")}));
        serde_json::json!({"model": "m", "messages": all}).to_string()
    };
    let bodies: Vec<String> = (0..50).map(body).collect();
    let mut n = 0;
    let turn = median(|| {
        n += 1;
        drop(black_box(cached.chat(bodies[n % bodies.len()].as_bytes())));
    });
    let whole = median(|| drop(black_box(plain.chat(bodies[0].as_bytes()))));
    println!(
        "new turn on {} B: {turn:.4} ms cached, {whole:.3} ms not; {:?}",
        bodies[0].len(),
        cached.stats()
    );
}
