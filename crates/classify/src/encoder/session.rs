//! Runs the encoder on one thread: text to tokens, tokens to pooled output.
//!
//! The thread becomes a rayon pool of its own, so that the kernels never spread a prompt over other cores: throughput per
//! core is what counts in a gateway. Called by the router's encoder threads, training and evaluation.

use std::sync::Arc;

use super::layer::{Workspace, normalise};
use super::weights::Layers;
use super::{BRANCH_LAYERS, Branch, Encoder, Encoding, HIDDEN, MAX_TOKENS};
use crate::ends;
use crate::error::Error;
use crate::words::for_each_word;

const CLS: u16 = 101;
const SEP: u16 = 102;
/// Bytes of a text's start, and as many of its end, in which the tokens that are read are looked for.
const EDGE_BYTES: usize = 4096;
/// Stands between the ends of an excerpt; wide enough that it is seen to be cut, wherever characters end.
const GAP: &str = "        ";
/// Tokens of text read from the start when the text is too long; the rest of the room is for its end.
const HEAD_TOKENS: usize = (MAX_TOKENS - 3).div_ceil(2);
const TAIL_TOKENS: usize = MAX_TOKENS - 3 - HEAD_TOKENS;

/// An encoder with the buffers of one thread.
#[derive(Debug)]
pub struct Session {
    encoder: Arc<Encoder>,
    /// Kept for as long as the session lives; the kernels find it through the thread.
    _pool: Option<rayon::ThreadPool>,
    work: Workspace,
    ids: Vec<u16>,
    state: Vec<f32>,
}

impl Session {
    /// A session for the calling thread, which becomes the only worker of its kernels.
    ///
    /// # Errors
    /// If the thread works for another rayon pool, or the weights cannot be unpacked.
    pub fn new(encoder: Arc<Encoder>) -> Result<Self, Error> {
        encoder.layers()?;
        let pool = match rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build() {
            Ok(pool) => Some(pool),
            // An earlier session already made this thread a pool of one.
            Err(_) if rayon::current_num_threads() == 1 => None,
            Err(error) => return Err(Error::Kernel(error.to_string())),
        };
        Ok(Self { encoder, _pool: pool, work: Workspace::default(), ids: Vec::new(), state: Vec::new() })
    }

    /// Encodes `text`. About 6 ms for 64 tokens; at most [`MAX_TOKENS`] are read, from both ends.
    ///
    /// # Errors
    /// Only if the kernels refuse their own shapes, which would be a defect.
    pub fn encode(&mut self, text: &str, branch: Branch) -> Result<Encoding, Error> {
        tokenise(&self.encoder, text, &mut self.ids);
        forward(self.encoder.layers()?, branch, &self.ids, &mut self.state, &mut self.work)
    }

    /// How many tokens the last text took.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// What a session looks at of `text`, to be kept: encoding it is encoding `text`.
pub fn excerpt(text: &str) -> String {
    match ends::of(text, EDGE_BYTES, EDGE_BYTES) {
        (whole, "") => whole.to_owned(),
        (head, tail) => [head, GAP, tail].concat(),
    }
}

fn forward(
    layers: &Layers,
    branch: Branch,
    ids: &[u16],
    state: &mut Vec<f32>,
    work: &mut Workspace,
) -> Result<Encoding, Error> {
    layers.embed(ids, state);
    normalise(state, &layers.norm);
    for layer in &layers.trunk {
        layer.run(state, work)?;
    }
    let mut values = Vec::with_capacity(branch.width());
    let silent = BRANCH_LAYERS - branch.width() / HIDDEN;
    for (at, layer) in layers.branch(branch).iter().enumerate() {
        layer.run(state, work)?;
        if at >= silent {
            values.extend(mean(state));
        }
    }
    Ok(Encoding::new(branch, values))
}

fn mean(state: &[f32]) -> [f32; HIDDEN] {
    let mut sum = [0.0; HIDDEN];
    for row in state.chunks_exact(HIDDEN) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    let tokens = (state.len() / HIDDEN).max(1) as f32;
    sum.map(|s| s / tokens)
}

/// `[CLS] text [SEP]`, or `[CLS] start [SEP] end [SEP]` for a text that does not fit.
fn tokenise(encoder: &Encoder, text: &str, ids: &mut Vec<u16>) {
    let (head, tail) = ends::of(text, EDGE_BYTES, EDGE_BYTES);
    ids.clear();
    ids.push(CLS);
    let (mut word, mut pieces) = (String::new(), Vec::new());
    for part in [head, tail] {
        for_each_word(part, &mut word, |w| {
            encoder.wordpiece().encode(w, &mut pieces);
            ids.extend_from_slice(&pieces);
        });
    }
    if ids.len() >= MAX_TOKENS {
        let tail_from = ids.len() - TAIL_TOKENS;
        ids.drain(1 + HEAD_TOKENS..tail_from);
        ids.insert(1 + HEAD_TOKENS, SEP);
    }
    ids.push(SEP);
}
