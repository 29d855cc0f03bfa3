//! Conjugate gradients for several right sides at once, each with its own steps.
//!
//! Called by everything linear in `outcomes`.

/// Solves `A x = b` for a positive definite `A`, column by column, in at most `steps` steps. `b` holds a row of `k` numbers
/// for each unknown; `apply` is `A` times such a matrix.
pub(super) fn solve(k: usize, b: Vec<f32>, steps: usize, apply: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
    let mut solution = vec![0.0_f32; b.len()];
    let mut left = b;
    let mut direction = left.clone();
    let mut squares = dots(&left, &left, k);
    for _ in 0..steps {
        let turned = apply(&direction);
        let curvature = dots(&direction, &turned, k);
        let step: Vec<f32> = squares.iter().zip(&curvature).map(|(s, c)| ratio(*s, *c)).collect();
        let rows = solution.chunks_exact_mut(k).zip(left.chunks_exact_mut(k));
        for ((x, l), (d, t)) in rows.zip(direction.chunks_exact(k).zip(turned.chunks_exact(k))) {
            for at in 0..k {
                x[at] += step[at] * d[at];
                l[at] -= step[at] * t[at];
            }
        }
        let new = dots(&left, &left, k);
        let turn: Vec<f32> = new.iter().zip(&squares).map(|(n, s)| ratio(*n, *s)).collect();
        for (d, l) in direction.chunks_exact_mut(k).zip(left.chunks_exact(k)) {
            (0..k).for_each(|at| d[at] = l[at] + turn[at] * d[at]);
        }
        squares = new;
    }
    solution
}

fn dots(a: &[f32], b: &[f32], k: usize) -> Vec<f64> {
    let mut out = vec![0.0_f64; k];
    for (a, b) in a.chunks_exact(k).zip(b.chunks_exact(k)) {
        (0..k).for_each(|at| out[at] += f64::from(a[at]) * f64::from(b[at]));
    }
    out
}

/// Nothing more to do where nothing is left.
fn ratio(a: f64, b: f64) -> f32 {
    if b > f64::MIN_POSITIVE { (a / b) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_solves() {
        let a = [[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]];
        let times = |x: &[f32]| -> Vec<f32> {
            a.iter()
                .flat_map(|row| {
                    (0..2)
                        .map(|at| row.iter().zip(x.chunks(2)).map(|(a, x)| a * x[at]).sum())
                        .collect::<Vec<f32>>()
                })
                .collect()
        };
        let wanted = [1.0, -2.0, 0.5, 0.0, 3.0, 1.0];
        let found = solve(2, times(&wanted), 3, times);
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}");
    }
}
