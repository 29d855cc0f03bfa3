//! One transformer layer: self-attention and feed-forward, each with its residual and norm.
//!
//! The four large products run in int8: weights per output channel, activations per token with a zero point of their
//! own. Attention itself stays in floats. Activations use seven bits: then the pairwise sums of the older x86 int8
//! instruction cannot saturate, and every machine computes the same integers. Called by `session`.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::{Gelu, MinMax, Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::{FEED_FORWARD, HEADS, HIDDEN};
use crate::error::Error;
use crate::model_file::ModelFile;
use crate::wide::wide;

const HEAD_WIDTH: usize = HIDDEN / HEADS;
/// Largest quantised activation; see the module's head.
const LEVELS: f32 = 127.0;
/// From here on floats are a whole number apart.
const UNIT_STEPS: f32 = (1_u32 << (f32::MANTISSA_DIGITS - 1)) as f32;
/// As in the published model.
const NORM_EPSILON: f32 = 1e-12;

/// The kernels this machine has, and buffers for one sequence.
#[derive(Default)]
pub(super) struct Workspace {
    int8: GemmExecutor<u8, i8, i32>,
    float: GemmExecutor<f32>,
    quantised: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
    sums: Vec<i32>,
    wide: Vec<f32>,
    mixed: Vec<f32>,
    narrow: Vec<f32>,
    scores: Vec<f32>,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("kernel", &self.int8.kernel_name()).finish_non_exhaustive()
    }
}

/// An int8 matrix, packed, with what turns its sums back into floats.
struct Linear {
    packed: PackedBMatrix<i8>,
    /// Sum of each column's weights: what a row's zero point adds to its products.
    sums: Vec<f32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

/// The weights of one layer.
pub(super) struct Layer {
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    attention_norm: [Vec<f32>; 2],
    output_norm: [Vec<f32>; 2],
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

/// Name, inputs, outputs.
const MATRICES: [(&str, usize, usize); 4] = [
    ("qkv", HIDDEN, 3 * HIDDEN),
    ("out", HIDDEN, HIDDEN),
    ("up", HIDDEN, FEED_FORWARD),
    ("down", FEED_FORWARD, HIDDEN),
];

impl Layer {
    /// Whether the file holds layer `name` in full.
    pub(super) fn check(file: &ModelFile<'_>, name: &str) -> Result<(), Error> {
        for (part, inputs, outputs) in MATRICES {
            file.int8(&format!("{name}.{part}"), &[inputs, outputs])?;
        }
        Ok(())
    }

    pub(super) fn open(file: &ModelFile<'_>, name: &str) -> Result<Self, Error> {
        let gemm = GemmExecutor::<u8, i8, i32>::default();
        let linear = |(part, inputs, outputs): (&str, usize, usize)| -> Result<Linear, Error> {
            let bytes = file.int8(&format!("{name}.{part}"), &[inputs, outputs])?;
            let values: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
            let packed = gemm.prepack_b(NdTensorView::from_data([inputs, outputs], values.as_slice()));
            let mut sums = vec![0.0; outputs];
            for row in values.chunks_exact(outputs) {
                sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += f32::from(weight));
            }
            Ok(Linear {
                packed,
                sums,
                scales: file.floats(&format!("{name}.{part}.scales"), &[outputs])?,
                bias: file.floats(&format!("{name}.{part}.bias"), &[outputs])?,
            })
        };
        let norm = |part: &str| -> Result<[Vec<f32>; 2], Error> {
            Ok([
                file.floats(&format!("{name}.{part}.gain"), &[HIDDEN])?,
                file.floats(&format!("{name}.{part}.bias"), &[HIDDEN])?,
            ])
        };
        let [qkv, out, up, down] = MATRICES;
        Ok(Self {
            qkv: linear(qkv)?,
            out: linear(out)?,
            up: linear(up)?,
            down: linear(down)?,
            attention_norm: norm("attention_norm")?,
            output_norm: norm("output_norm")?,
        })
    }

    /// Replaces `state`, `HIDDEN` numbers per token, by the layer's output.
    pub(super) fn run(&self, state: &mut [f32], work: &mut Workspace) -> Result<(), Error> {
        let mut wide = std::mem::take(&mut work.wide);
        let mut mixed = std::mem::take(&mut work.mixed);
        let mut narrow = std::mem::take(&mut work.narrow);
        work.product(&self.qkv, state, HIDDEN, &mut wide)?;
        work.attend(&wide, &mut mixed)?;
        work.product(&self.out, &mixed, HIDDEN, &mut narrow)?;
        add(state, &narrow);
        normalise(state, &self.attention_norm);
        work.product(&self.up, state, HIDDEN, &mut wide)?;
        Gelu {}.map_mut(&mut wide);
        work.product(&self.down, &wide, FEED_FORWARD, &mut narrow)?;
        add(state, &narrow);
        normalise(state, &self.output_norm);
        (work.wide, work.mixed, work.narrow) = (wide, mixed, narrow);
        Ok(())
    }
}

impl Workspace {
    /// `out` = `input` times the matrix, plus its bias; rows of `input` are `inputs` wide.
    fn product(
        &mut self,
        matrix: &Linear,
        input: &[f32],
        inputs: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let rows = input.len() / inputs;
        let outputs = matrix.scales.len();
        self.quantise(input, inputs);
        self.sums.resize(rows * outputs, 0);
        self.int8
            .gemm(
                &mut self.sums,
                GemmInputA::Unpacked(Matrix::from_data([rows, inputs], self.quantised.as_slice())),
                GemmInputB::Packed(&matrix.packed),
                // Not `a_quant`: rten-gemm 0.27 applies the zero points of rows 0..16 to all later rows.
                GemmOptions::default(),
            )
            .map_err(kernel)?;
        out.resize(rows * outputs, 0.0);
        let tokens = self.scales.iter().zip(&self.zeros);
        for ((out, sums), (&scale, &zero)) in
            out.chunks_exact_mut(outputs).zip(self.sums.chunks_exact(outputs)).zip(tokens)
        {
            let zero = f32::from(zero);
            let channels = matrix.sums.iter().zip(&matrix.scales).zip(&matrix.bias);
            wide(
                #[inline(always)]
                || {
                    for ((out, &sum), ((total, s), bias)) in out.iter_mut().zip(sums).zip(channels) {
                        *out = (sum as f32 - zero * total) * (scale * s) + bias;
                    }
                },
            );
        }
        Ok(())
    }

    /// Each row to 0..=127 with a scale and a zero point of its own.
    fn quantise(&mut self, input: &[f32], width: usize) {
        self.quantised.resize(input.len(), 0);
        self.scales.clear();
        self.zeros.clear();
        for (row, out) in input.chunks_exact(width).zip(self.quantised.chunks_exact_mut(width)) {
            let (low, high) = MinMax::new(row).dispatch();
            let (low, high) = (low.min(0.0), high.max(0.0));
            let scale = ((high - low) / LEVELS).max(f32::MIN_POSITIVE);
            let zero = (-low / scale).round_ties_even();
            let inverse = 1.0 / scale;
            wide(
                #[inline(always)]
                || {
                    for (out, value) in out.iter_mut().zip(row) {
                        // Rounding both the value and the zero point can overshoot by one.
                        let level = ((value * inverse).round_ties_even() + zero).clamp(0.0, LEVELS);
                        // A cast that saturates keeps this from being vectorised: this far out, the lowest bits are the
                        // integer.
                        *out = (level + UNIT_STEPS).to_bits() as u8;
                    }
                },
            );
            self.scales.push(scale);
            self.zeros.push(zero as u8);
        }
    }

    /// Scaled dot-product attention over rows of query, key and value.
    fn attend(&mut self, qkv: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        let tokens = qkv.len() / (3 * HIDDEN);
        out.clear();
        out.resize(tokens * HIDDEN, 0.0);
        self.scores.resize(tokens * tokens, 0.0);
        let mut mixed = vec![0.0; tokens * HEAD_WIDTH];
        let part = |at: usize| -> Result<Matrix<'_, f32>, Error> {
            let data = &qkv[at..];
            Matrix::from_slice_with_strides([tokens, HEAD_WIDTH], data, [3 * HIDDEN, 1])
                .map_err(|e| Error::Kernel(format!("{e:?}")))
        };
        for head in 0..HEADS {
            let at = head * HEAD_WIDTH;
            let (query, key, value) = (part(at)?, part(HIDDEN + at)?, part(2 * HIDDEN + at)?);
            let scaled = GemmOptions { alpha: (HEAD_WIDTH as f32).sqrt().recip(), ..GemmOptions::default() };
            self.float
                .gemm(
                    &mut self.scores,
                    GemmInputA::Unpacked(query),
                    GemmInputB::Unpacked(key.transposed()),
                    scaled,
                )
                .map_err(kernel)?;
            for row in self.scores.chunks_exact_mut(tokens) {
                Softmax::new_mut(row).dispatch();
            }
            let scores = Matrix::from_data([tokens, tokens], self.scores.as_slice());
            self.float
                .gemm(
                    &mut mixed,
                    GemmInputA::Unpacked(scores),
                    GemmInputB::Unpacked(value),
                    GemmOptions::default(),
                )
                .map_err(kernel)?;
            for (row, from) in out.chunks_exact_mut(HIDDEN).zip(mixed.chunks_exact(HEAD_WIDTH)) {
                row[at..at + HEAD_WIDTH].copy_from_slice(from);
            }
        }
        Ok(())
    }
}

fn kernel(error: rten_gemm::GemmError) -> Error {
    Error::Kernel(error.to_string())
}

fn add(state: &mut [f32], other: &[f32]) {
    for (a, b) in state.iter_mut().zip(other) {
        *a += b;
    }
}

/// Layer norm of each token, in place.
pub(super) fn normalise(state: &mut [f32], [gain, bias]: &[Vec<f32>; 2]) {
    for row in state.chunks_exact_mut(HIDDEN) {
        let mean = Sum::new(row).dispatch() / HIDDEN as f32;
        let variance = SumSquareSub::new(row, mean).dispatch() / HIDDEN as f32;
        let options = NormalizeOptions {
            pre_scale_bias: mean,
            scale: (variance + NORM_EPSILON).sqrt().recip(),
            element_scale: Some(gain),
            element_bias: Some(bias),
            ..NormalizeOptions::default()
        };
        Normalize::new_mut(row, options).dispatch();
    }
}
