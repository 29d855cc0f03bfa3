//! LLM Router v2's trained network: an embedding to each model's probability of a right answer.
//!
//! The state of its `RouterNetwork` as safetensors, with the models' names in the metadata;
//! `scripts/nn_router_to_safetensors.py` makes the file from `nn_router.pth`. Everything is checked at load: a name or
//! a tensor that does not fit is an error, never a default. Called by the router.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::matrix::Linear;
use crate::tensors::Tensors;

/// Largest network file that is read, in bytes; v2's own has some 3 MB.
pub const MAX_NETWORK_BYTES: u64 = 256 << 20;
/// Most hidden layers.
const MAX_HIDDEN_LAYERS: usize = 32;
/// Longest model name, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Modules of PyTorch's `Sequential` per hidden layer: Linear, BatchNorm1d, ReLU, Dropout.
const STRIDE: usize = 4;
/// `BatchNorm1d`'s epsilon, which v2 leaves as it is.
const EPSILON: f64 = 1e-5;
/// Where the names are in the file's metadata: a JSON array of strings, in the order of the outputs.
const NAMES: &str = "model_names";

/// A loaded network. Threads may use one at once.
pub struct Network {
    layers: Vec<Linear>,
    models: Vec<Arc<str>>,
    inputs: usize,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("layers", &self.layers).field("models", &self.models).finish()
    }
}

impl Network {
    /// Loads the network from a safetensors file.
    ///
    /// # Errors
    /// Names the file and what is wrong: unreadable, too large, a tensor missing, unknown, misshapen or not finite, layers
    /// that do not chain, names that are missing, double, or not one per output.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::load(Tensors::open(path, MAX_NETWORK_BYTES)?)
    }

    /// Loads the network from the bytes of such a file, which errors call `name`.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::load(Tensors::of(name, bytes)?)
    }

    /// Length of the vector it judges; v2's is a text's and an image's vector of 512 each.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The models' names as the training had them, in the order of the outputs.
    pub fn models(&self) -> &[Arc<str>] {
        &self.models
    }

    /// The probability, for each of [`Network::models`], that it answers rightly.
    ///
    /// # Errors
    /// When `input` does not have [`Network::inputs`] finite numbers.
    pub fn predict(&self, input: &[f32]) -> Result<Vec<f32>, Error> {
        if input.len() != self.inputs {
            return Err(Error::Input(format!("{} numbers instead of {}", input.len(), self.inputs)));
        }
        if input.iter().any(|v| !v.is_finite()) {
            return Err(Error::Input("it holds numbers that are not finite".to_owned()));
        }
        let mut state = input.to_vec();
        for (at, layer) in self.layers.iter().enumerate() {
            state = layer.run(&state)?;
            if at + 1 < self.layers.len() {
                state.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        Ok(state.into_iter().map(|v| (1.0 + (-v).exp()).recip()).collect())
    }

    fn load<R: Read + Seek>(mut file: Tensors<R>) -> Result<Self, Error> {
        let plan = plan(&file)?;
        let mut layers = Vec::with_capacity(plan.len());
        for (at, &[outputs, inputs]) in plan.iter().enumerate() {
            let linear = at * STRIDE;
            let mut weights = file.floats(&format!("network.{linear}.weight"), &[outputs, inputs])?;
            let mut bias = file.floats(&format!("network.{linear}.bias"), &[outputs])?;
            if at + 1 < plan.len() {
                fold(&mut file, linear + 1, &mut weights, &mut bias)?;
            }
            layers.push(Linear::new(&weights, bias, outputs));
        }
        let [outputs, _] = plan[plan.len() - 1];
        let models = names(&file, outputs)?;
        Ok(Self { layers, models, inputs: plan[0][1] })
    }
}

/// `[outputs, inputs]` of each Linear, after checking that the file holds such a network and nothing else.
fn plan<R: Read + Seek>(file: &Tensors<R>) -> Result<Vec<[usize; 2]>, Error> {
    let mut shapes = file.shapes();
    let wrong = |reason: String| Error::model(file.name(), reason);
    let hidden = (0..).take_while(|at| shapes.contains_key(&format!("network.{}.weight", (at + 1) * STRIDE)));
    let hidden = hidden.take(MAX_HIDDEN_LAYERS + 1).count();
    if hidden > MAX_HIDDEN_LAYERS {
        return Err(wrong(format!("more than {MAX_HIDDEN_LAYERS} hidden layers")));
    }
    let mut plan: Vec<[usize; 2]> = Vec::with_capacity(hidden + 1);
    for at in 0..=hidden {
        let name = format!("network.{}.weight", at * STRIDE);
        let shape = take(&mut shapes, &name).map_err(&wrong)?;
        let &[outputs, inputs] = shape.as_slice() else {
            return Err(wrong(format!("tensor `{name}` has shape {shape:?} instead of two dimensions")));
        };
        if outputs == 0 || inputs == 0 {
            return Err(wrong(format!("tensor `{name}` is empty")));
        }
        if let Some(&[before, _]) = plan.last()
            && before != inputs
        {
            return Err(wrong(format!(
                "`{name}` takes {inputs} numbers, but the layer before gives {before}"
            )));
        }
        take(&mut shapes, &format!("network.{}.bias", at * STRIDE)).map_err(&wrong)?;
        if at < hidden {
            for part in ["weight", "bias", "running_mean", "running_var"] {
                take(&mut shapes, &format!("network.{}.{part}", at * STRIDE + 1)).map_err(&wrong)?;
            }
            // Counts training steps; says nothing about the function.
            shapes.remove(&format!("network.{}.num_batches_tracked", at * STRIDE + 1));
        }
        plan.push([outputs, inputs]);
    }
    if let Some(unknown) = shapes.keys().min() {
        let reason =
            format!("tensor `{unknown}` is not part of v2's network ({} unknown in all)", shapes.len());
        return Err(wrong(reason));
    }
    Ok(plan)
}

fn take(shapes: &mut HashMap<String, Vec<usize>>, name: &str) -> Result<Vec<usize>, String> {
    shapes.remove(name).ok_or_else(|| format!("tensor `{name}` is missing"))
}

/// Folds the BatchNorm1d at `at` into the Linear before it; outside training it is a scale and a shift per output.
fn fold<R: Read + Seek>(
    file: &mut Tensors<R>,
    at: usize,
    weights: &mut [f32],
    bias: &mut [f32],
) -> Result<(), Error> {
    let shape = [bias.len()];
    let inputs = weights.len() / bias.len();
    let mut part = |name: &str| file.floats(&format!("network.{at}.{name}"), &shape);
    let (gain, shift) = (part("weight")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_var")?);
    if variance.iter().any(|&v| v < 0.0) {
        return Err(Error::model(file.name(), format!("`network.{at}.running_var` holds negative numbers")));
    }
    for (output, row) in weights.chunks_exact_mut(inputs).enumerate() {
        let scale = f64::from(gain[output]) / (f64::from(variance[output]) + EPSILON).sqrt();
        row.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        let moved = f64::from(bias[output]) - f64::from(mean[output]);
        bias[output] = (moved * scale + f64::from(shift[output])) as f32;
    }
    Ok(())
}

/// The models' names, one per output, each once.
fn names<R: Read + Seek>(file: &Tensors<R>, outputs: usize) -> Result<Vec<Arc<str>>, Error> {
    let wrong = |reason: String| Error::model(file.name(), reason);
    let text = file.text(NAMES).ok_or_else(|| wrong(format!("its metadata has no `{NAMES}`")))?;
    let names: Vec<Arc<str>> = serde_json::from_str(text)
        .map_err(|e| wrong(format!("`{NAMES}` in its metadata is not a JSON array of strings: {e}")))?;
    if names.len() != outputs {
        return Err(wrong(format!("{} names for {outputs} outputs", names.len())));
    }
    let mut seen = HashSet::new();
    for name in &names {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(wrong(format!(
                "a model's name has {} bytes, 1 to {MAX_NAME_BYTES} are read",
                name.len()
            )));
        }
        if !seen.insert(name) {
            return Err(wrong(format!("two outputs are called `{name}`")));
        }
    }
    Ok(names)
}
