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
