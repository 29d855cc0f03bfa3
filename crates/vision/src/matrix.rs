//! Float matrices, packed once for the machine's own kernels, and what lies between them in a transformer.
//!
//! Works on plain slices, row by row; shares nothing that changes, so threads may use one model at once. Called by
//! `clip` and `network`.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::{Normalize, NormalizeOptions, Sum, SumSquareSub};

use crate::error::Error;

thread_local! {
    /// It cannot be shared between threads, and costs nothing to have.
    static EXECUTOR: GemmExecutor<f32> = GemmExecutor::default();
}

/// A product of float matrices by the calling thread's executor.
fn gemm(
    out: &mut [f32],
    left: GemmInputA<'_, f32>,
    right: GemmInputB<'_, f32>,
    options: GemmOptions<'_, f32, f32, f32>,
) -> Result<(), Error> {
    EXECUTOR.with(|executor| executor.gemm(out, left, right, options)).map_err(failed)
}

/// A matrix and a bias: `inputs` numbers to `outputs` numbers.
pub(crate) struct Linear {
    packed: PackedBMatrix<f32>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({} to {})", self.inputs, self.outputs)
    }
}

impl Linear {
    /// From weights as PyTorch keeps them, `[outputs, inputs]`, and one bias per output, or none at all.
    pub(crate) fn new(weights: &[f32], bias: Vec<f32>, outputs: usize) -> Self {
        let inputs = weights.len() / outputs;
        let by_output = NdTensorView::from_data([outputs, inputs], weights);
        Self {
            packed: EXECUTOR.with(|executor| executor.prepack_b(by_output.transposed())),
            bias,
            inputs,
            outputs,
        }
    }

    /// The outputs for each row of `input`, whose length is a multiple of `inputs`.
    pub(crate) fn run(&self, input: &[f32]) -> Result<Vec<f32>, Error> {
        let rows = input.len() / self.inputs;
        let mut out = vec![0.0; rows * self.outputs];
        let bias = (!self.bias.is_empty()).then_some(BiasVector::Row(self.bias.as_slice()));
        let rows = Matrix::from_data([rows, self.inputs], input);
        let options = GemmOptions { bias, ..GemmOptions::default() };
        gemm(&mut out, GemmInputA::Unpacked(rows), GemmInputB::Packed(&self.packed), options)?;
        Ok(out)
    }
}

/// `out` = `scale` times `left` times `right`.
pub(crate) fn product(
    left: Matrix<'_, f32>,
    right: Matrix<'_, f32>,
    scale: f32,
    out: &mut [f32],
) -> Result<(), Error> {
    let options = GemmOptions { alpha: scale, ..GemmOptions::default() };
    gemm(out, GemmInputA::Unpacked(left), GemmInputB::Unpacked(right), options)
}

fn failed(error: rten_gemm::GemmError) -> Error {
    Error::Kernel(error.to_string())
}

/// A layer norm's gain and bias.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) epsilon: f32,
}

impl Norm {
    /// Normalises each row of `state` in place.
    pub(crate) fn run(&self, state: &mut [f32]) {
        let width = self.gain.len();
        for row in state.chunks_exact_mut(width) {
            let mean = Sum::new(row).dispatch() / width as f32;
            let variance = SumSquareSub::new(row, mean).dispatch() / width as f32;
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: (variance + self.epsilon).sqrt().recip(),
                element_scale: Some(&self.gain),
                element_bias: Some(&self.bias),
                ..NormalizeOptions::default()
            };
            Normalize::new_mut(row, options).dispatch();
        }
    }
}

/// Adds `other` to `state`.
pub(crate) fn add(state: &mut [f32], other: &[f32]) {
    state.iter_mut().zip(other).for_each(|(a, b)| *a += b);
}
