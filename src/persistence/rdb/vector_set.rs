//! Vector sets as RDB bytes, and back: as values of the module `vectorset`, as which Redis 8 stores them.
//!
//! Data of modules describe themselves: each number and string follows an opcode that says what it is, and an opcode ends
//! them.
//!
//! ```text
//! module id | components, elements, quantization | links << 8, flags
//!           | [components before the projection, matrix row by row as a string of floats]
//!           | per element: name, [attributes], vector, n, and n numbers:
//!           |   node number, level | 1 << 24,
//!           |   per layer from 0 on: links, most links, a node number for each link, farthest link
//!           |   length of the vector, and range of its components in the high half, both as bits of a float
//! ```
//!
//! The flags say whether there are a projection and attributes. The farthest link is its place among the links, and its
//! distance in the high half. All of it was found out by looking at what Redis 8.2.3 writes.

use super::format::module_opcode;
use super::input::{Fault, Input};
use super::output::Output;
use crate::types::VectorSet;
use crate::types::vector_set::{Code, LINKS, LoadedNode, MAX_DIM, MAX_LEVEL, Projection, Quantization};

/// The id of the module: nine letters of six bits each, and the version of its format in ten bits.
pub(super) const MODULE_ID: u64 = id(b"vectorset");

/// Flag: there is a projection.
const PROJECTED: u64 = 1;
/// Flag: there are attributes.
const ATTRIBUTED: u64 = 2;
/// Version of the form of nodes, above their level.
const NODE_FORM: u64 = 1 << 24;

const fn id(name: &[u8; 9]) -> u64 {
    let mut id = 0;
    let mut i = 0;
    while i < name.len() {
        assert!(name[i].is_ascii_lowercase(), "the letters of the names used here");
        id = id << 6 | (name[i] - b'a' + 26) as u64;
        i += 1;
    }
    id << 10
}

fn unsigned(n: u64, out: &mut Output<'_>) {
    out.len(module_opcode::UNSIGNED as usize);
    out.len(n as usize);
}

fn string(text: &[u8], out: &mut Output<'_>) {
    out.len(module_opcode::STRING as usize);
    out.string(text);
}

/// Two floats in a number, `low` in its low half.
fn floats(low: f32, high: f32) -> u64 {
    u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32
}

/// Writes a vector set. O(n).
pub(super) fn write(set: &VectorSet, out: &mut Output<'_>) {
    out.len(MODULE_ID as usize);
    unsigned(set.dim() as u64, out);
    unsigned(set.iter().len() as u64, out);
    unsigned(set.quantization() as u64 | (set.links() as u64) << 8, out);
    let projected = if set.projection().is_some() { PROJECTED } else { 0 };
    let attributed = if set.with_attributes() > 0 { ATTRIBUTED } else { 0 };
    unsigned(projected | attributed, out);
    if let Some(projection) = set.projection() {
        unsigned(projection.input() as u64, out);
        let matrix: Vec<u8> = projection.matrix().iter().flat_map(|x| x.to_le_bytes()).collect();
        string(&matrix, out);
    }
    let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
    for element in set.iter() {
        string(element.name(), out);
        if attributed != 0 {
            string(element.attributes().unwrap_or_default(), out);
        }
        let code = element.code();
        bytes.clear();
        code.write_bytes(&mut bytes);
        string(&bytes, out);
        let layers = element.links();
        numbers.clear();
        numbers.extend([element.id(), (layers.len() as u64 - 1) | NODE_FORM]);
        for (layer, links) in layers.enumerate() {
            let most = if layer == 0 { set.links() * 2 } else { set.links() };
            numbers.extend([links.len() as u64, most as u64]);
            let (mut farthest, mut place) = (0.0, 0);
            for (i, hit) in links.enumerate() {
                numbers.push(hit.element.id());
                let distance = code.distance(hit.element.code());
                if distance > farthest {
                    (farthest, place) = (distance, i as u64);
                }
            }
            numbers.push(place | u64::from(farthest.to_bits()) << 32);
        }
        numbers.push(floats(code.norm(), code.range().unwrap_or_default()));
        unsigned(numbers.len() as u64, out);
        numbers.iter().for_each(|&n| unsigned(n, out));
    }
    out.len(module_opcode::EOF as usize);
}

const FORM: Fault = Fault::Corrupt("a vector set is not one");
const SIZE: Fault =
    Fault::Corrupt("the vectors of a vector set have an impossible number of components or links");
const VECTOR: Fault = Fault::Corrupt("a vector of a vector set has not the size of the others");

fn opcode(input: &mut Input<'_>, expected: u64) -> Result<(), Fault> {
    if input.number()? == expected { Ok(()) } else { Err(FORM) }
}

fn read_unsigned(input: &mut Input<'_>) -> Result<u64, Fault> {
    opcode(input, module_opcode::UNSIGNED)?;
    input.number()
}

fn read_string(input: &mut Input<'_>) -> Result<Vec<u8>, Fault> {
    opcode(input, module_opcode::STRING)?;
    Ok(input.string()?.bytes(&mut itoa::Buffer::new()).to_vec())
}

/// Reads a number of at least 1 and at most `most`.
fn read_size(input: &mut Input<'_>, most: usize) -> Result<usize, Fault> {
    let size = usize::try_from(read_unsigned(input)?).ok();
    size.filter(|size| (1..=most).contains(size)).ok_or(SIZE)
}

/// Reads the numbers of a node's links in a layer.
fn read_links(input: &mut Input<'_>, left: &mut usize) -> Result<Vec<u64>, Fault> {
    let len = usize::try_from(read_unsigned(input)?).ok().filter(|len| *len < *left).ok_or(FORM)?;
    // The most links follow from the layer.
    read_unsigned(input)?;
    *left = left.checked_sub(len + 3).ok_or(FORM)?;
    let mut links = Vec::with_capacity(input.room(len, 2));
    for _ in 0..len {
        links.push(read_unsigned(input)?);
    }
    // Which link is the farthest is found again.
    read_unsigned(input)?;
    Ok(links)
}

/// Reads a vector set behind its module's id.
///
/// # Errors
/// The bytes are not a vector set, or its nodes and links contradict each other.
pub(super) fn read(input: &mut Input<'_>) -> Result<VectorSet, Fault> {
    let dim = read_size(input, MAX_DIM)?;
    let len = read_unsigned(input)?;
    // A node takes at least these bytes: its strings, their opcodes, and its numbers.
    let len = usize::try_from(len).ok().filter(|&len| len <= input.left() / 16).ok_or(Fault::Truncated)?;
    let kind = read_unsigned(input)?;
    let how = Quantization::from_number(kind as u8).ok_or(FORM)?;
    let links = usize::try_from(kind >> 8).ok().filter(|links| LINKS.contains(links)).ok_or(SIZE)?;
    let flags = read_unsigned(input)?;
    if flags & !(PROJECTED | ATTRIBUTED) != 0 {
        return Err(Fault::Unsupported("a vector set has parts that are unknown".into()));
    }
    let projection = match flags & PROJECTED {
        0 => None,
        _ => {
            let before = read_size(input, MAX_DIM)?;
            let matrix = read_string(input)?;
            let matrix = matrix.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            Some(Projection::from_matrix(before, dim, matrix).ok_or(VECTOR)?)
        }
    };
    let mut set = VectorSet::new(dim, links, how, projection);
    let (mut elements, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..len {
        let name = read_string(input)?;
        let attributes = if flags & ATTRIBUTED == 0 { None } else { Some(read_string(input)?) };
        let vector = read_string(input)?;
        let mut left = usize::try_from(read_unsigned(input)?).map_err(|_| FORM)?;
        let id = read_unsigned(input)?;
        let level = read_unsigned(input)?;
        let form = level & !0xffff;
        let level = (level & 0xffff) as usize;
        if form != NODE_FORM || level > MAX_LEVEL {
            return Err(Fault::Unsupported("a node of a vector set has an unknown form".into()));
        }
        left = left.checked_sub(2).ok_or(FORM)?;
        let mut layers = Vec::with_capacity(level + 1);
        for _ in 0..=level {
            layers.push(read_links(input, &mut left)?);
        }
        let last = read_unsigned(input)?;
        if left != 1 {
            return Err(FORM);
        }
        let (norm, range) = (f32::from_bits(last as u32), f32::from_bits((last >> 32) as u32));
        let code = Code::from_bytes(&vector, dim, how, norm, range).ok_or(VECTOR)?;
        elements.push((name, attributes));
        nodes.push(LoadedNode { id, code, layers });
    }
    opcode(input, module_opcode::EOF)?;
    set.load(elements, nodes).map_err(|error| match error {
        Some(error) => Fault::VectorSet(error),
        None => Fault::Corrupt("an element is in a vector set twice"),
    })?;
    Ok(set)
}
