//! A vector set: names of elements, each with a vector and perhaps attributes, which are found by similarity.
//!
//! ```text
//! VectorSet ─ Graph (structures::hnsw): a node for each element ── slot
//!           ├─ names in order ── slot
//!           ├─ elements by slot: name, attributes
//!           └─ Projection, if the vectors are reduced to fewer components
//! ```
//!
//! Attributes are a text that clients choose, usually a JSON object, by whose fields a search can be restricted
//! (`filter`). Vector sets are Salvatore Sanfilippo's (Redis 8.0).

mod attributes;
mod collection;
mod filter;
mod projection;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stdx::rng::Rng;
pub use crate::structures::hnsw::{Code, LINKS, LoadError, LoadedNode, MAX_LEVEL, Quantization};
use crate::structures::hnsw::{Graph, Neighbour, Slot};
pub use filter::Filter;
pub use projection::Projection;

/// The most components of a vector.
pub const MAX_DIM: usize = 1 << 20;

/// A vector set. One machine word.
#[derive(Clone)]
pub struct VectorSet(Box<Inner>);

#[derive(Clone)]
struct Inner {
    graph: Graph,
    names: BTreeMap<Arc<[u8]>, Slot>,
    /// By slot; `None` where the graph has no node.
    elements: Vec<Option<Element>>,
    projection: Option<Projection>,
    /// Number of elements with attributes.
    with_attributes: usize,
    /// Number that no other vector set of this process has.
    uid: u64,
}

#[derive(Clone)]
struct Element {
    name: Arc<[u8]>,
    attributes: Option<Box<[u8]>>,
}

/// An element of a vector set, to be read.
#[derive(Clone, Copy)]
pub struct ElementRef<'a> {
    set: &'a VectorSet,
    slot: Slot,
}

/// An element that a search has found.
#[derive(Clone, Copy)]
pub struct Hit<'a> {
    /// The element.
    pub element: ElementRef<'a>,
    /// From 1 for the same direction to 0 for the opposite.
    pub similarity: f64,
}

/// What a search returns.
pub struct SearchOptions<'f> {
    /// The most elements.
    pub count: usize,
    /// Number of elements that the search keeps in view: the more, the better the result.
    pub ef: usize,
    /// Condition on the attributes.
    pub filter: Option<&'f Filter>,
    /// The most elements on which the condition is tried, unless all elements are compared.
    pub filter_ef: usize,
    /// The least similarity.
    pub least: f64,
    /// Whether the vector is compared with all elements.
    pub exhaustive: bool,
}

fn next_uid() -> u64 {
    static SETS: AtomicU64 = AtomicU64::new(0);
    SETS.fetch_add(1, Ordering::Relaxed)
}

/// The set as a whole.
impl VectorSet {
    /// An empty set of vectors of `dim` components, as they are after the projection, with `links` links per node.
    ///
    /// # Panics
    /// If `dim` is 0 or `links` is not in [`LINKS`].
    pub fn new(dim: usize, links: usize, how: Quantization, projection: Option<Projection>) -> VectorSet {
        VectorSet(Box::new(Inner {
            graph: Graph::new(dim, links, how),
            names: BTreeMap::new(),
            elements: Vec::new(),
            projection,
            with_attributes: 0,
            uid: next_uid(),
        }))
    }

    /// Number of components of the stored vectors.
    pub fn dim(&self) -> usize {
        self.0.graph.dim()
    }

    /// Number of links of a new node, per layer.
    pub fn links(&self) -> usize {
        self.0.graph.links()
    }

    /// How vectors are stored.
    pub fn quantization(&self) -> Quantization {
        self.0.graph.quantization()
    }

    /// The projection of vectors before they are stored.
    pub fn projection(&self) -> Option<&Projection> {
        self.0.projection.as_ref()
    }

    /// The highest layer of the graph.
    pub fn max_level(&self) -> usize {
        self.0.graph.max_level()
    }

    /// Number of elements with attributes.
    pub fn with_attributes(&self) -> usize {
        self.0.with_attributes
    }

    /// Number that no other vector set of this process has.
    pub fn uid(&self) -> u64 {
        self.0.uid
    }

    /// The greatest number that an element's node has had.
    pub fn last_id(&self) -> u64 {
        self.0.graph.last_id()
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        let Inner { graph, names, elements, with_attributes, .. } = &*self.0;
        graph.check();
        assert_eq!(graph.slots(), elements.len());
        assert_eq!(graph.len(), names.len());
        assert_eq!(elements.iter().flatten().count(), names.len());
        for (name, &slot) in names {
            let element = elements[slot as usize].as_ref().expect("names lead to elements");
            assert_eq!(&element.name, name);
        }
        let with = elements.iter().flatten().filter(|element| element.attributes.is_some()).count();
        assert_eq!(with, *with_attributes);
    }
}

/// Elements.
impl VectorSet {
    /// Adds an element, or gives it another vector; whether it is new. Attributes stay unless there are new ones; empty
    /// ones remove them. O(log n) distances, of which `ef` sets the number.
    ///
    /// # Panics
    /// If the vector does not have [`VectorSet::dim`] components.
    pub fn add(&mut self, name: &[u8], vector: &[f32], ef: usize, attributes: Option<&[u8]>) -> bool {
        assert_eq!(vector.len(), self.dim(), "callers check the number of components");
        let code = Code::new(vector, self.quantization());
        let inner = &mut *self.0;
        let old = inner.names.get(name).copied();
        let mut element = match old {
            Some(slot) => {
                inner.graph.remove(slot);
                inner.elements[slot as usize].take().expect(NAMED)
            }
            None => Element { name: name.into(), attributes: None },
        };
        let had = element.attributes.is_some();
        if let Some(text) = attributes {
            element.attributes = (!text.is_empty()).then(|| text.into());
        }
        inner.with_attributes += usize::from(element.attributes.is_some());
        inner.with_attributes -= usize::from(had);
        let slot = inner.graph.insert(code, ef);
        inner.names.insert(Arc::clone(&element.name), slot);
        if inner.elements.len() <= slot as usize {
            inner.elements.resize(slot as usize + 1, None);
        }
        inner.elements[slot as usize] = Some(element);
        old.is_none()
    }

    /// Removes an element; whether there was one. O(log n + links²).
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let inner = &mut *self.0;
        let Some(slot) = inner.names.remove(name) else { return false };
        inner.graph.remove(slot);
        let element = inner.elements[slot as usize].take().expect(NAMED);
        inner.with_attributes -= usize::from(element.attributes.is_some());
        true
    }

    /// Sets the attributes of an element, or removes them if `text` is empty; whether there is such an element.
    pub fn set_attributes(&mut self, name: &[u8], text: &[u8]) -> bool {
        let inner = &mut *self.0;
        let Some(&slot) = inner.names.get(name) else { return false };
        let element = inner.elements[slot as usize].as_mut().expect(NAMED);
        inner.with_attributes -= usize::from(element.attributes.is_some());
        inner.with_attributes += usize::from(!text.is_empty());
        element.attributes = (!text.is_empty()).then(|| text.into());
        true
    }

    /// The element with this name. O(log n).
    pub fn get(&self, name: &[u8]) -> Option<ElementRef<'_>> {
        self.0.names.get(name).map(|&slot| ElementRef { set: self, slot })
    }

    /// The elements in the order of their names.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ElementRef<'_>> + ExactSizeIterator {
        self.0.names.values().map(|&slot| ElementRef { set: self, slot })
    }

    /// The elements whose names are between two, in order. O(log n), then O(1) for each. None if the bounds cross.
    pub fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl Iterator<Item = ElementRef<'a>> + use<'a> {
        let crosses = match (from, to) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
            _ => false,
        };
        let range = (!crosses).then(|| self.0.names.range::<[u8], _>((from, to)));
        range.into_iter().flatten().map(|(_, &slot)| ElementRef { set: self, slot })
    }

    /// A random element. O(slots / elements) on average.
    pub fn random(&self, rng: &mut Rng) -> Option<ElementRef<'_>> {
        if self.0.names.is_empty() {
            return None;
        }
        loop {
            let slot = rng.index(self.0.elements.len());
            if self.0.elements[slot].is_some() {
                return Some(ElementRef { set: self, slot: slot as Slot });
            }
        }
    }

    /// Calls `each` with `count` distinct random elements, or with all if there are fewer, until it breaks. O(n).
    pub fn random_distinct<'a>(
        &'a self,
        count: usize,
        rng: &mut Rng,
        mut each: impl FnMut(ElementRef<'a>) -> ControlFlow<()>,
    ) {
        let mut all: Vec<Slot> = self.0.names.values().copied().collect();
        for _ in 0..count.min(all.len()) {
            let slot = all.swap_remove(rng.index(all.len()));
            if each(ElementRef { set: self, slot }).is_break() {
                return;
            }
        }
    }

    /// The elements most similar to a vector, most similar first.
    ///
    /// # Panics
    /// If the vector does not have [`VectorSet::dim`] components.
    pub fn search<'a>(&'a self, vector: &[f32], options: &SearchOptions<'_>) -> Vec<Hit<'a>> {
        assert_eq!(vector.len(), self.dim(), "callers check the number of components");
        let Inner { graph, elements, .. } = &*self.0;
        let query = Code::new(vector, graph.quantization());
        let passes = |slot: Slot, filter: &Filter| {
            let attributes =
                elements[slot as usize].as_ref().and_then(|element| element.attributes.as_deref());
            attributes.is_some_and(|attributes| filter.accepts(attributes))
        };
        let ef = options.ef.max(options.count).min(graph.len());
        let found = match (options.exhaustive, options.filter) {
            (true, filter) => {
                let accept = |slot| filter.is_none_or(|filter| passes(slot, filter));
                graph.scan(&query, options.count.min(graph.len()), accept)
            }
            (false, None) => graph.search(&query, ef),
            (false, Some(filter)) => {
                let mut left = options.filter_ef;
                graph.search_where(&query, ef, |slot| match left.checked_sub(1) {
                    None => ControlFlow::Break(()),
                    Some(rest) => {
                        left = rest;
                        ControlFlow::Continue(passes(slot, filter))
                    }
                })
            }
        };
        let hit = |Neighbour { slot, distance }: Neighbour| Hit {
            element: ElementRef { set: self, slot },
            similarity: Code::similarity(distance),
        };
        let hits = found.into_iter().take(options.count).map(hit);
        hits.take_while(|hit| hit.similarity >= options.least).collect()
    }
}

const NAMED: &str = "every name leads to an element";

impl<'a> ElementRef<'a> {
    fn element(self) -> &'a Element {
        self.set.0.elements[self.slot as usize].as_ref().expect(NAMED)
    }

    /// Its name.
    pub fn name(self) -> &'a [u8] {
        &self.element().name
    }

    /// Its attributes.
    pub fn attributes(self) -> Option<&'a [u8]> {
        self.element().attributes.as_deref()
    }

    /// Its vector.
    pub fn code(self) -> &'a Code {
        self.set.0.graph.code(self.slot)
    }

    /// Number of its node.
    pub fn id(self) -> u64 {
        self.set.0.graph.id(self.slot)
    }

    /// The elements it is linked with in each layer of the graph, from layer 0 on.
    pub fn links(
        self,
    ) -> impl DoubleEndedIterator<Item = impl ExactSizeIterator<Item = Hit<'a>>> + ExactSizeIterator {
        let hit = move |near: Neighbour| Hit {
            element: ElementRef { set: self.set, slot: near.slot },
            similarity: Code::similarity(near.distance),
        };
        self.set.0.graph.links_of(self.slot).map(move |links| links.map(hit))
    }
}

/// Loading.
impl VectorSet {
    /// Adds saved elements, each a name, its attributes and its node, to an empty set. O(links) distances.
    ///
    /// # Errors
    /// The nodes do not make a graph. `None` as the error: two elements have the same name.
    ///
    /// # Panics
    /// If the set is not empty, or vectors are not stored as those of this set are.
    pub fn load(
        &mut self,
        elements: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        nodes: Vec<LoadedNode>,
    ) -> Result<(), Option<LoadError>> {
        let inner = &mut *self.0;
        for (slot, (name, attributes)) in elements.into_iter().enumerate() {
            let name: Arc<[u8]> = name.into();
            let attributes = attributes.filter(|text| !text.is_empty()).map(Vec::into_boxed_slice);
            inner.with_attributes += usize::from(attributes.is_some());
            if inner.names.insert(Arc::clone(&name), slot as Slot).is_some() {
                return Err(None);
            }
            inner.elements.push(Some(Element { name, attributes }));
        }
        inner.graph.load(nodes).map_err(Some)
    }
}
