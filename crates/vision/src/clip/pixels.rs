//! A picture to the numbers of the vision tower's patches, as the model's preprocessor says.
//!
//! Shorter side resized bicubically, the middle square cut out, bytes scaled and normalised. Never fails and reads no
//! file. Called by `clip`.

use super::config::Preparation;
use crate::image::Image;
use crate::resize::{Window, bicubic};

/// The middle square of `image`, `side` pixels wide, of the picture with its shorter side resized to `shortest`.
pub(super) fn square(image: &Image, shortest: usize, side: usize) -> Vec<u8> {
    let (width, height) = (image.width(), image.height());
    let least = width.min(height);
    // Python's `int(shortest * long / short)`.
    let (wide, high) = (shortest * width / least, shortest * height / least);
    let (left, top) = ((wide - side) / 2, (high - side) / 2);
    bicubic(image, wide, high, &Window { columns: left..left + side, rows: top..top + side })
}

/// The patches of a `square` of `side` pixels in reading order, each with its red numbers row by row, then green, blue.
pub(super) fn patches(square: &[u8], side: usize, patch: usize, preparation: &Preparation) -> Vec<f32> {
    let number = |byte: u8, colour: usize| {
        let mean = preparation.image_mean[colour];
        (f32::from(byte) * preparation.rescale_factor - mean) / preparation.image_std[colour]
    };
    let mut out = Vec::with_capacity(square.len());
    let corners = (0..side).step_by(patch).flat_map(|y| (0..side).step_by(patch).map(move |x| (x, y)));
    for (left, top) in corners {
        for colour in 0..3 {
            for y in top..top + patch {
                let row = &square[3 * (y * side + left)..3 * (y * side + left + patch)];
                out.extend(row.chunks_exact(3).map(|pixel| number(pixel[colour], colour)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::square;
    use crate::image::Image;
    use serde_json::Value;

    /// The made-up picture of `training/clip_golden.py`.
    fn picture(width: usize, height: usize) -> Image {
        let byte = |at: usize| {
            let (x, y, colour) = (at / 3 % width, at / 3 / width, at % 3);
            (x * 5 + y * (3 + colour) + (x * y + 17 * colour) % 61 * ((x / 4 + y / 4) % 2)) as u8
        };
        Image::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap()
    }

    #[test]
    fn resized_bytes_are_at_most_one_from_pil_s() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/clip_golden.json")).unwrap();
        for row in golden["images"].as_array().unwrap() {
            let [width, height] = ["width", "height"].map(|side| row[side].as_u64().unwrap() as usize);
            let hex = row["square"].as_str().unwrap();
            let expected =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            let found = square(&picture(width, height), 32, 32);
            assert_eq!(found.len(), hex.len() / 2);
            let apart: Vec<_> = found.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).collect();
            let (worst, differing) = (apart.iter().max().unwrap(), apart.iter().filter(|&&d| d > 0).count());
            assert!(
                *worst <= 1 && differing * 100 <= apart.len(),
                "{width} x {height}: {worst}, {differing}"
            );
        }
    }

    #[test]
    fn a_very_long_strip_costs_no_more_than_its_middle() {
        let strip = Image::new(16_384, 1, vec![9; 16_384 * 3]).unwrap();
        assert_eq!(square(&strip, 224, 224), vec![9; 224 * 224 * 3]);
    }
}
