//! Random projection of vectors to fewer components, which nearly keeps the angles between them (W. Johnson, J.
//! Lindenstrauss, 1984; with random signs, D. Achlioptas, 2003).

use crate::structures::hnsw::dot_f32;

/// A matrix that vectors are multiplied with before they are stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Projection {
    input: usize,
    /// Row by row; a row for each component of the result.
    matrix: Vec<f32>,
}

impl Projection {
    /// The most elements of a matrix: 64 MB.
    pub const MAX_ELEMENTS: usize = 16 << 20;

    /// The projection from `input` to `output` components: the same one each time, so that replicas and replayed logs
    /// store the same vectors. `None` if the matrix is too large.
    pub fn new(input: usize, output: usize) -> Option<Projection> {
        let len = input.checked_mul(output).filter(|&len| len <= Projection::MAX_ELEMENTS)?;
        let scale = 1.0 / (input as f32).sqrt();
        // A linear congruential generator (D. Knuth's MMIX) with a fixed seed, of whose state the highest bit is used.
        let mut state = 0x853c_49e6_748f_ea9b_u64;
        let mut sign = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if state >> 63 == 1 { scale } else { -scale }
        };
        Some(Projection { input, matrix: (0..len).map(|_| sign()).collect() })
    }

    /// The projection with a saved matrix; `None` if that is not one for `output` components.
    pub fn from_matrix(input: usize, output: usize, matrix: Vec<f32>) -> Option<Projection> {
        let fits = input > 0 && input.checked_mul(output) == Some(matrix.len());
        fits.then_some(Projection { input, matrix })
    }

    /// Number of components that vectors have before.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The matrix, row by row.
    pub fn matrix(&self) -> &[f32] {
        &self.matrix
    }

    /// Projects a vector of [`Projection::input`] components. O(input · output).
    pub fn apply(&self, vector: &[f32]) -> Vec<f32> {
        self.matrix.chunks(self.input).map(|row| dot_f32(row, vector)).collect()
    }
}
