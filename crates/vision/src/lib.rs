//! Images and texts to vectors, and v2's network over them, in process and on the CPU.
//!
//! [`decode`] turns a `data:` URL into pixels within limits, [`Clip`] texts and images into vectors that can be compared,
//! [`Network`] such vectors into a probability per model. No network: an image URL is never fetched. Files are read at
//! load only. Called by the router.

mod clip;
mod error;
mod image;
mod matrix;
mod network;
mod resize;
mod tensors;
mod v2;

pub use clip::{Clip, MAX_MODEL_BYTES};
pub use error::Error;
pub use image::{Image, MAX_PIXELS, MAX_SIDE_PIXELS, MAX_URL_BYTES, check, decode};
pub use network::{MAX_NETWORK_BYTES, Network};
pub use v2::{v2_input, v2_text};

/// `vector` scaled to length 1, as similarities want it; a vector of zeros stays as it is.
pub fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn a_vector_gets_length_one_and_zeros_stay() {
        assert_eq!(normalised(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalised(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
