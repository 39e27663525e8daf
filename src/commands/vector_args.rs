//! Vectors as arguments of commands: as a block of floats, or number by number.

use crate::resp::{Args, Error};
use crate::stdx::num;
use crate::types::vector_set::MAX_DIM;

/// What a vector is given by.
pub(super) enum VectorArg<'a> {
    /// Its components.
    Components(Vec<f32>),
    /// The element whose vector it is.
    Element(&'a [u8]),
}

impl<'a> VectorArg<'a> {
    /// The error for arguments that are no vector.
    pub(super) fn invalid() -> Error {
        Error::text("ERR invalid vector specification")
    }

    /// The vector that begins at argument `i`, perhaps behind `REDUCE dim`: its components, the number to which they are to
    /// be reduced, and the index of the argument behind it.
    ///
    /// # Errors
    /// If the arguments are no vector.
    pub(super) fn to_add(args: &Args<'a>, i: usize) -> Result<(Vec<f32>, Option<usize>, usize), Error> {
        let (reduced, i) = match args.is(i, "REDUCE") {
            true => (Some(size(args, i + 1)?), i + 2),
            false => (None, i),
        };
        let (vector, next) = components(args, i)?;
        Ok((vector, reduced, next))
    }

    /// The vector or element at argument `i`, and the index of the argument behind it.
    ///
    /// # Errors
    /// If the arguments are neither.
    pub(super) fn to_search(args: &Args<'a>, i: usize) -> Result<(VectorArg<'a>, usize), Error> {
        if args.is(i, "ELE") {
            let element = args.get(i + 1).ok_or_else(VectorArg::invalid)?;
            return Ok((VectorArg::Element(element), i + 2));
        }
        let (vector, next) = components(args, i)?;
        Ok((VectorArg::Components(vector), next))
    }
}

/// Argument `i` as a number of components.
fn size(args: &Args<'_>, i: usize) -> Result<usize, Error> {
    let n = args.get(i).and_then(num::parse_i64).and_then(|n| usize::try_from(n).ok());
    n.filter(|n| (1..=MAX_DIM).contains(n)).ok_or_else(VectorArg::invalid)
}

fn components(args: &Args<'_>, i: usize) -> Result<(Vec<f32>, usize), Error> {
    let (vector, next): (Option<Vec<f32>>, usize) = if args.is(i, "FP32") {
        let blob = args.get(i + 1).ok_or_else(VectorArg::invalid)?;
        let (floats, rest) = blob.as_chunks::<4>();
        let fits = (1..=MAX_DIM).contains(&floats.len()) && rest.is_empty();
        (fits.then(|| floats.iter().map(|x| f32::from_le_bytes(*x)).collect()), i + 2)
    } else if args.is(i, "VALUES") {
        let (n, from) = (size(args, i + 1)?, i + 2);
        if args.len().saturating_sub(from) < n {
            return Err(VectorArg::invalid());
        }
        let numbers = (from..from + n).map(|i| num::parse_f64(args.at(i)).map(|x| x as f32));
        (numbers.collect(), from + n)
    } else {
        (None, i)
    };
    // The direction of a vector with an infinite component is unknown.
    let vector = vector.filter(|vector| vector.iter().all(|x| x.is_finite()));
    Ok((vector.ok_or_else(VectorArg::invalid)?, next))
}
