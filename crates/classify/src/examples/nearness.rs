//! How near a text is to each label's examples in one space of vectors.
//!
//! Pure arithmetic on vectors of length 1. Called by `examples`, which keeps one of these per tier.

/// The examples of all labels, and the middle of each label's.
#[derive(Debug)]
pub(super) struct Nearness {
    width: usize,
    /// Row after row; those of a label stand together.
    examples: Vec<f32>,
    /// Where each label's rows end.
    ends: Vec<usize>,
    /// One row per label.
    centres: Vec<f32>,
}

impl Nearness {
    /// From the vectors of each label in turn, all of the same width.
    pub(super) fn new(width: usize, labels: &[Vec<Vec<f32>>]) -> Self {
        let mut new = Self { width, examples: Vec::new(), ends: Vec::new(), centres: Vec::new() };
        for vectors in labels {
            let mut sum = vec![0.0; width];
            for vector in vectors {
                new.examples.extend(vector);
                sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            }
            new.ends.push(new.examples.len() / width);
            new.centres.extend(unit(&sum));
        }
        new
    }

    /// One similarity per label, 1 for a text that is an example.
    ///
    /// The centre of a label's examples tells best what belongs to it, however many they are; the nearest example alone
    /// tells best when the text all but repeats it. So the nearer the nearest, the more it counts.
    pub(super) fn of(&self, vector: &[f32]) -> Vec<f32> {
        let mut rows = self.examples.chunks_exact(self.width);
        let mut start = 0;
        self.ends
            .iter()
            .zip(self.centres.chunks_exact(self.width))
            .map(|(&end, centre)| {
                let rows = rows.by_ref().take(end - start);
                start = end;
                let nearest = rows.map(|row| cosine(vector, row)).fold(-1.0, f32::max);
                let middle = cosine(vector, centre);
                let weight = nearest.max(0.0).powi(2);
                (middle + weight * (nearest - middle)).clamp(0.0, 1.0)
            })
            .collect()
    }
}

/// Scaled to length 1; what is zero stays so.
pub(super) fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|v| v / norm).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    #[test]
    fn an_example_is_at_one_and_the_middle_next_to_it() {
        let nearness = Nearness::new(2, &[vec![at(0.0), at(40.0)], vec![at(90.0)]]);
        let close = |degrees: f32, label: usize, expected: f32| {
            let found = nearness.of(&at(degrees))[label];
            assert!((found - expected).abs() < 1e-3, "{degrees}: {found}, not {expected}");
        };
        close(0.0, 0, 1.0);
        close(40.0, 0, 1.0);
        close(90.0, 1, 1.0);
        let (nearest, middle) = (20_f32.to_radians().cos(), 1.0);
        close(20.0, 0, middle + nearest * nearest * (nearest - middle));
        close(0.0, 1, 0.0);
        close(-100.0, 0, 0.0);
    }

    #[test]
    fn listing_an_example_again_hardly_matters() {
        let once = Nearness::new(2, &[vec![at(0.0), at(30.0)]]);
        let often = Nearness::new(2, &[vec![at(0.0), at(30.0), at(0.0), at(30.0)]]);
        assert!((once.of(&at(70.0))[0] - often.of(&at(70.0))[0]).abs() < 1e-5);
    }
}
