//! Bicubic resizing, as the Python Imaging Library does it, which CLIP models were trained behind.
//!
//! The kernel is Keys' cubic with a = -0.5, widened when a picture shrinks; rows first, rounded to bytes, then columns
//! (Pillow 13 begins with the columns of pictures more than twice as high as wide, which rounds a little differently).
//! Only a window of the result is computed, so a very long strip costs no more than a square. Called by `clip::pixels`.

use std::ops::Range;

use crate::image::Image;

/// The weights of the input pixels that make one output pixel.
struct Taps {
    from: usize,
    weights: Vec<f32>,
}

/// The part of a resized picture that is wanted: columns and rows of the result.
pub(crate) struct Window {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// The bytes of `window` of `image` resized to `width` times `height`, three per pixel.
pub(crate) fn bicubic(image: &Image, width: usize, height: usize, window: &Window) -> Vec<u8> {
    let across = taps(image.width(), width, &window.columns);
    let down = taps(image.height(), height, &window.rows);
    let first = down.iter().map(|t| t.from).min().unwrap_or(0);
    let last = down.iter().map(|t| t.from + t.weights.len()).max().unwrap_or(0);
    let mut narrow = Vec::with_capacity((last - first) * across.len() * 3);
    for row in image.rgb().chunks_exact(image.width() * 3).take(last).skip(first) {
        narrow.extend(across.iter().flat_map(|t| {
            let pixels = row[3 * t.from..].chunks_exact(3);
            let sum = t.weights.iter().zip(pixels).fold([0.0; 3], |[r, g, b], (weight, p)| {
                [r + weight * f32::from(p[0]), g + weight * f32::from(p[1]), b + weight * f32::from(p[2])]
            });
            sum.map(byte)
        }));
    }
    let stride = across.len() * 3;
    let mut out = Vec::with_capacity(down.len() * stride);
    let mut sums = vec![0.0; stride];
    for t in &down {
        sums.fill(0.0);
        let rows = narrow[(t.from - first) * stride..].chunks_exact(stride);
        for (weight, row) in t.weights.iter().zip(rows) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * f32::from(value));
        }
        out.extend(sums.iter().copied().map(byte));
    }
    out
}

/// What makes each output pixel in `wanted`, of `output` pixels made from `input`.
fn taps(input: usize, output: usize, wanted: &Range<usize>) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    wanted
        .clone()
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            let from = (centre - reach + 0.5).max(0.0) as usize;
            let to = ((centre + reach + 0.5) as usize).min(input);
            let weight = |x: usize| cubic((x as f64 - centre + 0.5) / stretch);
            let total: f64 = (from..to).map(weight).sum();
            Taps { from, weights: (from..to).map(|x| (weight(x) / total) as f32).collect() }
        })
        .collect()
}

/// Keys, "Cubic convolution interpolation for digital image processing" (1981), equation 15.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn byte(value: f32) -> u8 {
    // The cast clamps to 0..=255.
    (value + 0.5).floor() as u8
}

#[cfg(test)]
mod tests {
    use super::{Window, bicubic};
    use crate::image::Image;

    fn whole(width: usize, height: usize) -> Window {
        Window { columns: 0..width, rows: 0..height }
    }

    #[test]
    fn the_same_size_changes_nothing_and_one_colour_stays() {
        let noise = Image::new(5, 3, (0..45).map(|i| (i * 37 % 256) as u8).collect()).unwrap();
        assert_eq!(bicubic(&noise, 5, 3, &whole(5, 3)), noise.rgb());
        let grey = Image::new(7, 9, vec![77; 189]).unwrap();
        assert!(bicubic(&grey, 20, 4, &whole(20, 4)).iter().all(|&v| v == 77));
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let image = Image::new(31, 17, (0..31 * 17 * 3).map(|i| (i * i % 251) as u8).collect()).unwrap();
        let all = bicubic(&image, 12, 10, &whole(12, 10));
        let part = bicubic(&image, 12, 10, &Window { columns: 3..7, rows: 4..9 });
        for (row, line) in part.chunks_exact(4 * 3).enumerate() {
            let at = ((row + 4) * 12 + 3) * 3;
            assert_eq!(line, &all[at..at + 12]);
        }
    }
}
