//! Times a CLIP model and compares it with transformers: `embed FOLDER`, as `training/clip_golden.py --folder` leaves it.
//!
//! Prints the largest difference to `expected.json`, the time to load, and milliseconds per text and per image, fastest and
//! median call. `RAYON_NUM_THREADS=1` gives the times on one core.
#![expect(clippy::print_stdout, reason = "a command-line tool's report")]

use std::io::Cursor;
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use serde_json::Value;
use waypost_vision::{Clip, Error, Image, decode};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Calls per line; on a busy machine the fastest tells more than the median.
const ROUNDS: usize = 21;

fn main() -> Fallible<()> {
    let folder = std::env::args().nth(1).ok_or("embed FOLDER")?;
    let started = Instant::now();
    let clip = Clip::open(Path::new(&folder))?;
    println!("loaded in {:.0} ms, {} dimensions", started.elapsed().as_secs_f64() * 1e3, clip.dims());
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(&folder).join("expected.json"))?)?;
    for row in expected["texts"].as_array().into_iter().flatten() {
        let text = row["text"].as_str().unwrap_or_default();
        let apart = difference(&clip.text(text)?, &row["vector"]);
        println!("{apart:.2e} apart, {}: {:?}", times(|| clip.text(text))?, text.get(..30).unwrap_or(text));
    }
    for row in expected["images"].as_array().into_iter().flatten() {
        let side = |name: &str| row[name].as_u64().unwrap_or_default() as usize;
        let image = picture(side("width"), side("height"))?;
        let apart = difference(&clip.image(&image)?, &row["vector"]);
        println!("{apart:.2e} apart, {}: {image:?}", times(|| clip.image(&image))?);
    }
    let url = jpeg(&picture(1024, 768)?)?;
    println!("{}: decoding a JPEG of 1024 x 768, {} kB", times(|| decode(&url))?, url.len() / 1000);
    Ok(())
}

/// How long a call takes.
fn times<T>(call: impl Fn() -> Result<T, Error>) -> Result<String, Error> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        call()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(format!("{:.1} ms ({:.1})", times[0], times[ROUNDS / 2]))
}

/// The largest difference of two numbers, relative to the expected vector's length.
fn difference(found: &[f32], expected: &Value) -> f64 {
    let expected: Vec<f64> = expected.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
    let apart = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
    if found.len() == expected.len() { apart.fold(0.0, f64::max) / length } else { f64::INFINITY }
}

/// The made-up picture of `clip_golden.py`.
fn picture(width: usize, height: usize) -> Result<Image, Error> {
    let byte = |at: usize| {
        let (x, y, colour) = (at / 3 % width, at / 3 / width, at % 3);
        (x * 5 + y * (3 + colour) + (x * y + 17 * colour) % 61 * ((x / 4 + y / 4) % 2)) as u8
    };
    Image::new(width, height, (0..width * height * 3).map(byte).collect())
}

fn jpeg(image: &Image) -> Fallible<String> {
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let pixels = image::RgbImage::from_raw(width, height, image.rgb().to_vec()).ok_or("size")?;
    pixels.write_to(&mut bytes, image::ImageFormat::Jpeg)?;
    Ok(format!(
        "data:image/jpeg;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
    ))
}
