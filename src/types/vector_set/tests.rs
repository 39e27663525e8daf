//! Elements that come and go, and what projections keep.

use super::*;
use crate::types::Describe;

fn search<'a>(
    set: &'a VectorSet,
    vector: &[f32],
    filter: Option<&Filter>,
    exhaustive: bool,
) -> Vec<&'a [u8]> {
    let options =
        SearchOptions { count: 10, ef: 100, filter, filter_ef: 1000, least: f64::NEG_INFINITY, exhaustive };
    set.search(vector, &options).iter().map(|hit| hit.element.name()).collect()
}

#[test]
fn elements_come_and_go() {
    let mut set = VectorSet::new(2, 4, Quantization::Full, None);
    assert!(set.add(b"east", &[1.0, 0.0], 10, None));
    assert!(set.add(b"north", &[0.0, 1.0], 10, Some(b"{\"y\":1}")));
    assert!(set.add(b"west", &[-1.0, 0.0], 10, Some(b"")));
    assert!(!set.add(b"east", &[1.0, 0.1], 10, Some(b"{\"y\":2}")));
    set.check();
    assert_eq!((set.len(), set.with_attributes()), (3, 2));
    assert_eq!(search(&set, &[1.0, 0.2], None, true), [&b"east"[..], b"north", b"west"]);
    assert_eq!(search(&set, &[1.0, 0.2], None, false), [&b"east"[..], b"north", b"west"]);
    let filter = Filter::parse(b".y < 2").unwrap();
    for exhaustive in [false, true] {
        assert_eq!(search(&set, &[1.0, 0.2], Some(&filter), exhaustive), [b"north"]);
    }
    assert!(set.set_attributes(b"north", b"") && !set.set_attributes(b"south", b"x"));
    assert_eq!(set.with_attributes(), 1);
    let names: Vec<_> = set.range(Bound::Excluded(b"east"), Bound::Unbounded).map(ElementRef::name).collect();
    assert_eq!(names, [&b"north"[..], b"west"]);
    assert_eq!(set.range(Bound::Excluded(b"x"), Bound::Excluded(b"x")).count(), 0);
    assert_eq!(set.range(Bound::Included(b"x"), Bound::Included(b"a")).count(), 0);
    assert!(set.remove(b"east") && !set.remove(b"east"));
    set.check();
    assert!(set.remove(b"west") && set.remove(b"north") && set.is_empty());
}

#[test]
fn projections_keep_what_is_near() {
    let projection = Projection::new(100, 20).unwrap();
    let mut rng = Rng::new(4);
    let mut vector = || -> Vec<f32> { (0..100).map(|_| rng.f64() as f32 - 0.5).collect() };
    let (a, b) = (vector(), vector());
    let near: Vec<f32> = a.iter().map(|x| x * 1.02 + 0.001).collect();
    let code = |vector: &[f32]| Code::new(&projection.apply(vector), Quantization::Full);
    assert!(code(&a).distance(&code(&near)) < 0.01);
    assert!(code(&a).distance(&code(&b)) > 0.3);
    assert_eq!(Projection::new(1 << 20, 1 << 20), None);
    assert_eq!(Projection::from_matrix(3, 2, vec![0.0; 5]), None);
}
