//! Points on the earth as scores of a sorted set, and the search for points near one.
//!
//! Longitude and latitude are each halved 26 times. The 52 answers, one bit each, alternate in one integer, which a
//! double holds exactly:
//!
//! ```text
//! bit 51                                                  bit 0
//!   lon₀ lat₀ lon₁ lat₁ lon₂ lat₂ …                  lon₂₅ lat₂₅
//! ```
//!
//! The first `2 * steps` bits name a cell in a grid of `2^steps` by `2^steps` cells, and the points of one cell are
//! neighbours in score order. A search chooses a grid whose cells are about as large as its shape, reads the cell
//! of its center and the eight cells around it, and measures the distance to each point found there.
//!
//! Invariants:
//!
//! - Each point within the shape lies in one of the ranges of [`Search::ranges`], except near the poles and the
//!   180th meridian, where a grid of longitudes and latitudes has its seams.
//! - The bounds of a range are integers up to 2^53.
//!
//! The interleaving is G. M. Morton's (1966), its use for places Gustavo Niemeyer's geohash (2008); searching a
//! sorted set in nine ranges of it comes from Yinqi Wen's Ardb (2014). The limits of latitude, the radius of the
//! earth and the estimate of the grid are those of Redis, so that scores, distances and the order of replies agree.

use crate::structures::skiplist::ScoreRange;

/// Bits of each coordinate.
const STEPS: u32 = 26;

/// Radius of the earth in meters, taken as a sphere.
const EARTH_RADIUS: f64 = 6_372_797.560856;

/// Half of the earth's circumference in the projection under the grid, in meters.
const MERCATOR_MAX: f64 = 20_037_726.37;

/// Largest longitude in degrees.
const LON_MAX: f64 = 180.0;

/// Largest latitude in degrees, where a square map of the world ends (EPSG:3857).
const LAT_MAX: f64 = 85.05112878;

/// The alphabet of geohash strings: digits and letters without `a`, `i`, `l`, `o`.
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Converts degrees to radians, in the same operations as Redis so that even the last bit agrees.
fn radians(degrees: f64) -> f64 {
    const RADIAN: f64 = std::f64::consts::PI / 180.0;
    degrees * RADIAN
}

fn degrees(radians: f64) -> f64 {
    const RADIAN: f64 = std::f64::consts::PI / 180.0;
    radians / RADIAN
}

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// East of Greenwich, -180 to 180.
    pub lon: f64,
    /// North of the equator, -85.05112878 to 85.05112878.
    pub lat: f64,
}

impl Point {
    /// The place, or `None` if the coordinates are outside the limits that a score can express.
    pub fn new(lon: f64, lat: f64) -> Option<Point> {
        // NaN is in no range.
        let valid = (-LON_MAX..=LON_MAX).contains(&lon) && (-LAT_MAX..=LAT_MAX).contains(&lat);
        valid.then_some(Point { lon, lat })
    }

    /// Score of the place: the 52 bits of its cell.
    pub fn hash(self) -> u64 {
        Cell::at(self, STEPS).bits()
    }

    /// Center of the cell that a score names. A score beyond the limits is clamped, so every score has a cell.
    #[inline]
    pub fn from_score(score: f64) -> Point {
        Cell::from_bits(bits_of_score(score), STEPS).area().middle()
    }

    /// The place as a standard geohash of eleven characters, over all latitudes up to the poles. The 52 bits give
    /// ten characters and two bits; the last character is always `0`.
    pub fn geohash(self) -> [u8; 11] {
        let scale = |value: f64, max: f64| ((value + max) / (2.0 * max) * f64::from(1 << STEPS)) as u32;
        let cell = Cell { lon: scale(self.lon, LON_MAX), lat: scale(self.lat, 90.0), steps: STEPS };
        let bits = cell.bits();
        let mut text = [b'0'; 11];
        for (i, byte) in text[..10].iter_mut().enumerate() {
            *byte = ALPHABET[(bits >> (47 - 5 * i)) as usize & 31];
        }
        text
    }

    /// Length of the shortest path to `other` in meters.
    pub fn distance(self, other: Point) -> f64 {
        Origin::new(self).distance(other)
    }
}

/// Bits of an arbitrary score, as the processors of servers convert a double to an unsigned integer: modulo 2^64 if
/// the magnitude is below 2^63.
#[inline]
fn bits_of_score(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    if score < HALF {
        score as i64 as u64
    } else if score < 2.0 * HALF {
        score as u64
    } else {
        0
    }
}

/// Distance in meters between two latitudes given in radians.
#[inline]
fn along_meridian(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (b - a).abs()
}

/// A place from which many distances are measured, with its trigonometric functions.
#[derive(Clone, Copy, Debug)]
struct Origin {
    lon: f64,
    /// Latitude in radians, as the longitude.
    lat: f64,
    cos_lat: f64,
}

impl Origin {
    #[inline]
    fn new(point: Point) -> Origin {
        let lat = radians(point.lat);
        Origin { lon: radians(point.lon), lat, cos_lat: lat.cos() }
    }

    /// Length in meters of the great-circle arc to `to`, by the haversine formula.
    #[inline]
    fn distance(&self, to: Point) -> f64 {
        self.distance_within(to, &Limits::NONE).expect("nothing is beyond infinity")
    }

    /// As [`Origin::distance`], if the place is not clearly beyond `limits`.
    #[inline]
    fn distance_within(&self, to: Point, limits: &Limits) -> Option<f64> {
        let (lon, lat) = (radians(to.lon), radians(to.lat));
        if (lon - self.lon).abs() > limits.lon {
            return None;
        }
        let v = ((lon - self.lon) / 2.0).sin();
        if v == 0.0 {
            return Some(along_meridian(self.lat, lat));
        }
        let u = ((lat - self.lat) / 2.0).sin();
        let a = u * u + self.cos_lat * lat.cos() * v * v;
        if a > limits.chord {
            return None;
        }
        // For antipodes, rounding may give more than 1.
        Some(2.0 * EARTH_RADIUS * a.min(1.0).sqrt().asin())
    }
}

/// Interleaves the bits with zeros.
#[inline]
fn spread(value: u32) -> u64 {
    let x = u64::from(value);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & 0x5555_5555_5555_5555
}

/// Collects every other bit: the inverse of [`spread`].
#[inline]
fn gather(value: u64) -> u32 {
    let x = value & 0x5555_5555_5555_5555;
    let x = (x | x >> 1) & 0x3333_3333_3333_3333;
    let x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// A cell in the grid of `2^steps` by `2^steps` cells. A coordinate at its upper limit is one cell further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    lon: u32,
    lat: u32,
    steps: u32,
}

/// What a cell covers, in degrees.
#[derive(Clone, Copy, Debug)]
struct Area {
    lon: (f64, f64),
    lat: (f64, f64),
}

impl Area {
    #[inline]
    fn middle(&self) -> Point {
        let middle = |(min, max): (f64, f64), limit: f64| ((min + max) / 2.0).clamp(-limit, limit);
        Point { lon: middle(self.lon, LON_MAX), lat: middle(self.lat, LAT_MAX) }
    }
}

impl Cell {
    /// The cell that contains a point.
    #[inline]
    fn at(point: Point, steps: u32) -> Cell {
        let size = f64::from(1 << steps);
        let scale = |value: f64, max: f64| ((value + max) / (2.0 * max) * size) as u32;
        Cell { lon: scale(point.lon, LON_MAX), lat: scale(point.lat, LAT_MAX), steps }
    }

    #[inline]
    fn from_bits(bits: u64, steps: u32) -> Cell {
        Cell { lon: gather(bits >> 1), lat: gather(bits), steps }
    }

    /// The bits of the two coordinates, interleaved.
    #[inline]
    fn bits(self) -> u64 {
        spread(self.lat) | spread(self.lon) << 1
    }

    #[inline]
    fn area(self) -> Area {
        let size = f64::from(1 << self.steps);
        let range = |i: u32, max: f64| {
            let edge = |i: f64| -max + i / size * (max + max);
            (edge(f64::from(i)), edge(f64::from(i) + 1.0))
        };
        Area { lon: range(self.lon, LON_MAX), lat: range(self.lat, LAT_MAX) }
    }

    /// The cell that lies `east` columns and `north` rows away. The grid wraps around.
    fn step(self, east: i32, north: i32) -> Cell {
        let last = (1 << self.steps) - 1;
        let step = |i: u32, by: i32| if by == 0 { i } else { i.wrapping_add_signed(by) & last };
        Cell { lon: step(self.lon, east), lat: step(self.lat, north), ..self }
    }

    /// Scores of all points in the cell.
    fn scores(self) -> ScoreRange {
        let shift = 2 * (STEPS - self.steps);
        let bits = self.bits();
        let (min, max) = ((bits << shift) as f64, ((bits + 1) << shift) as f64);
        ScoreRange { min, max, min_exclusive: false, max_exclusive: true }
    }
}

/// Shape of a search. Lengths are in meters.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Points at most this far from the center.
    Circle {
        /// Largest distance from the center.
        radius: f64,
    },
    /// Points at most half the width east or west and half the height north or south of the center.
    Rectangle {
        /// Extent from west to east.
        width: f64,
        /// Extent from south to north.
        height: f64,
    },
    /// Points enclosed by the line through these corners, straight on the map of longitudes and latitudes.
    Polygon(Vec<Point>),
}

/// Bounding box of a shape: smallest and largest longitude and latitude in degrees.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    lon: (f64, f64),
    lat: (f64, f64),
}

/// A search around a place.
#[derive(Clone, Debug)]
pub struct Search {
    center: Point,
    origin: Origin,
    shape: Shape,
    limits: Limits,
}

/// Bounds that are cheap to compare with: what exceeds one of them is not within the circle. They have a margin that
/// exceeds any rounding error.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Largest difference of longitudes in radians.
    lon: f64,
    /// Largest square of half a chord, for a sphere of radius 1.
    chord: f64,
}

impl Limits {
    const MARGIN: f64 = 1.000_001;
    const NONE: Limits = Limits { lon: f64::INFINITY, chord: f64::INFINITY };

    fn of_circle(origin: &Origin, radius: f64) -> Limits {
        let angle = radius / EARTH_RADIUS;
        let quarter = std::f64::consts::FRAC_PI_2;
        // Near a pole, a circle may have points of all longitudes.
        let farthest = origin.lat.abs() + angle;
        if farthest.is_nan() || farthest >= quarter * 0.999 {
            return Limits::NONE;
        }
        // The meridian that touches the circle, the center and the pole are a triangle with a right angle.
        let lon = (angle.sin() / origin.cos_lat).min(1.0).asin() * Limits::MARGIN;
        let crosses_180 = origin.lon.abs() + lon >= 2.0 * quarter;
        let half = (angle / 2.0).sin();
        let lon = if crosses_180 { f64::INFINITY } else { lon + f64::EPSILON };
        Limits { lon, chord: half * half * Limits::MARGIN }
    }
}

/// Farthest from the equator that a circle may reach, in degrees, for [`Search::nearer`].
const PLAIN_LAT: f64 = 80.0;
/// Largest radius of such a circle in meters.
const PLAIN_RADIUS: f64 = 2_000_000.0;

/// Offsets of the center's cell and the cells around it, in search order.
const AROUND: [(i32, i32); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

impl Search {
    /// A search for points within `shape` around `center`. The center does not move a polygon; distances are
    /// measured from it.
    pub fn new(center: Point, shape: Shape) -> Search {
        let origin = Origin::new(center);
        let limits = match shape {
            Shape::Circle { radius } => Limits::of_circle(&origin, radius),
            _ => Limits::NONE,
        };
        Search { center, origin, shape, limits }
    }

    /// The radius in meters of a circle in which about twice `wanted` points are expected, judging by the number of
    /// points in the cell of the center, which `count` tells, or in all cells if there are none. `None` if a search in
    /// smaller circles would not find all that this one does: where a grid has its seams.
    pub fn first_radius(&self, wanted: usize, mut count: impl FnMut(&ScoreRange) -> usize) -> Option<f64> {
        let Shape::Circle { radius } = self.shape else { return None };
        let bounds = self.bounds();
        let plain = radius <= PLAIN_RADIUS
            && bounds.lat.0 > -PLAIN_LAT
            && bounds.lat.1 < PLAIN_LAT
            && bounds.lon.0 > -LON_MAX
            && bounds.lon.1 < LON_MAX;
        if !plain {
            return None;
        }
        let cell = Cell::at(self.center, self.grid());
        let area = cell.area();
        let (mut cells, mut found) = (1.0, count(&cell.scores()));
        if found == 0 {
            (cells, found) = (9.0, self.ranges().map(|range| count(&range)).sum());
        }
        let meters = |(min, max): (f64, f64)| radians(max - min) * EARTH_RADIUS;
        let per_point = cells * meters(area.lat) * meters(area.lon) * self.origin.cos_lat / found as f64;
        Some((2.0 * wanted as f64 * per_point / std::f64::consts::PI).sqrt())
    }

    /// The search in a smaller circle around the same center; `None` if it would not be much smaller than this one.
    pub fn nearer(&self, radius: f64) -> Option<Search> {
        match self.shape {
            Shape::Circle { radius: whole } if radius * 1.5 < whole => {
                Some(Search::new(self.center, Shape::Circle { radius }))
            }
            _ => None,
        }
    }

    /// A search within a polygon. Distances are measured from the mean of its corners in space, projected back onto
    /// the surface.
    pub fn polygon(corners: Vec<Point>) -> Search {
        let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
        for corner in &corners {
            let (lon, lat) = (radians(corner.lon), radians(corner.lat));
            x += lat.cos() * lon.cos();
            y += lat.cos() * lon.sin();
            z += lat.sin();
        }
        let n = corners.len() as f64;
        let (x, y, z) = (x / n, y / n, z / n);
        let lat = degrees(z.atan2((x * x + y * y).sqrt()));
        let center = Point { lon: degrees(y.atan2(x)), lat: lat.clamp(-LAT_MAX, LAT_MAX) };
        Search::new(center, Shape::Polygon(corners))
    }

    /// Distance in meters from the center to `point`, if the point lies within the shape.
    #[inline]
    pub fn distance_within(&self, point: Point) -> Option<f64> {
        match &self.shape {
            Shape::Circle { radius } => {
                // No path is shorter than the difference in latitude, so a point clearly farther away needs no more
                // arithmetic. The margin exceeds any rounding error.
                if along_meridian(self.origin.lat, radians(point.lat)) > radius * 1.000_001 {
                    return None;
                }
                self.origin.distance_within(point, &self.limits).filter(|distance| distance <= radius)
            }
            Shape::Rectangle { width, height } => {
                let lat = radians(point.lat);
                if along_meridian(self.origin.lat, lat) > height / 2.0 {
                    return None;
                }
                let same_latitude = Point { lon: self.center.lon, lat: point.lat };
                if Origin::new(point).distance(same_latitude) > width / 2.0 {
                    return None;
                }
                Some(self.origin.distance(point))
            }
            Shape::Polygon(corners) => encloses(corners, point).then(|| self.origin.distance(point)),
        }
    }

    /// At most nine ranges of scores that together contain all points within the shape, in search order.
    pub fn ranges(&self) -> impl Iterator<Item = ScoreRange> + use<> {
        let bounds = self.bounds();
        let mut cell = Cell::at(self.center, self.grid());
        if cell.steps > 1 && !reaches(cell, &bounds) {
            cell = Cell::at(self.center, cell.steps - 1);
        }
        let area = cell.area();
        let far = cell.steps >= 2;
        // Where the shape ends within the cell of the center, the cells beyond are skipped.
        let (no_south, no_north) = (far && area.lat.0 < bounds.lat.0, far && area.lat.1 > bounds.lat.1);
        let (no_west, no_east) = (far && area.lon.0 < bounds.lon.0, far && area.lon.1 > bounds.lon.1);
        let mut last = None;
        AROUND.into_iter().filter_map(move |(east, north)| {
            let outside =
                east < 0 && no_west || east > 0 && no_east || north < 0 && no_south || north > 0 && no_north;
            let next = cell.step(east, north);
            // In a grid of two by two, the neighbours on both sides are one cell.
            if outside || last == Some(next) {
                return None;
            }
            last = Some(next);
            Some(next.scores())
        })
    }

    /// Number of steps of the finest grid in which the nine cells around the center usually cover the shape.
    fn grid(&self) -> u32 {
        let mut reach = self.reach();
        if reach == 0.0 {
            return STEPS;
        }
        let mut steps = 1;
        while reach < MERCATOR_MAX {
            reach *= 2.0;
            steps += 1;
        }
        steps -= 2;
        // Cells become narrower towards the poles.
        if self.center.lat.abs() > 66.0 {
            steps -= 1;
        }
        if self.center.lat.abs() > 80.0 {
            steps -= 1;
        }
        steps.clamp(1, STEPS as i32) as u32
    }

    /// Distance in meters from the center to the farthest point of the shape.
    fn reach(&self) -> f64 {
        match &self.shape {
            Shape::Circle { radius } => *radius,
            Shape::Rectangle { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
            Shape::Polygon(corners) => {
                corners.iter().map(|corner| self.origin.distance(*corner)).fold(0.0, f64::max)
            }
        }
    }

    fn bounds(&self) -> Bounds {
        let (width, height) = match &self.shape {
            Shape::Circle { radius } => (*radius, *radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
            Shape::Polygon(corners) => {
                let range = |of: fn(&Point) -> f64| {
                    let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
                    corners.iter().map(of).fold((min, max), |(min, max), x| (min.min(x), max.max(x)))
                };
                return Bounds { lon: range(|corner| corner.lon), lat: range(|corner| corner.lat) };
            }
        };
        let Point { lon, lat } = self.center;
        let north = degrees(height / EARTH_RADIUS);
        // Nearer to a pole, the same length spans more degrees, so the side of the shape towards the pole decides.
        let widest = if lat < 0.0 { lat - north } else { lat + north };
        let east = degrees(width / EARTH_RADIUS / radians(widest).cos());
        Bounds { lon: (lon - east, lon + east), lat: (lat - north, lat + north) }
    }
}

/// Whether the cells around `cell` cover the bounding box.
fn reaches(cell: Cell, bounds: &Bounds) -> bool {
    let lat = (cell.step(0, -1).area().lat.0, cell.step(0, 1).area().lat.1);
    let lon = (cell.step(-1, 0).area().lon.0, cell.step(1, 0).area().lon.1);
    // A shape larger than the earth has NaN for bounds, which no comparison misses.
    !(lat.1 < bounds.lat.1 || lat.0 > bounds.lat.0 || lon.1 < bounds.lon.1 || lon.0 > bounds.lon.0)
}

/// Whether a point lies within a polygon: a ray from the point to the east crosses an odd number of sides (M.
/// Shimrat, 1962; in this form W. R. Franklin).
fn encloses(corners: &[Point], point: Point) -> bool {
    let Some(&last) = corners.last() else { return false };
    let (mut from, mut inside) = (last, false);
    for &to in corners {
        if (to.lat > point.lat) != (from.lat > point.lat) {
            let crossing = (from.lon - to.lon) * (point.lat - to.lat) / (from.lat - to.lat) + to.lon;
            inside ^= point.lon < crossing;
        }
        from = to;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn point(rng: &mut Rng) -> Point {
        // Away from the poles and the 180th meridian, where the grid has its seams.
        Point { lon: rng.f64() * 300.0 - 150.0, lat: rng.f64() * 140.0 - 70.0 }
    }

    #[test]
    fn bits_alternate() {
        assert_eq!(spread(0b1011), 0b100_0101);
        let rng = &mut Rng::new(1);
        for _ in 0..1000 {
            let value = rng.next_u32();
            assert_eq!(gather(spread(value)), value);
            assert_eq!(gather(spread(value) << 1 | spread(!value)), !value);
        }
        assert_eq!(Point { lon: -180.0, lat: -LAT_MAX }.hash(), 0);
        assert_eq!(Point { lon: 179.999_999_99, lat: 85.051_128_77 }.hash(), (1 << 52) - 1);
    }

    #[test]
    fn known_places() {
        let (palermo, catania) =
            (Point { lon: 13.361389, lat: 38.115556 }, Point { lon: 15.087269, lat: 37.502669 });
        assert_eq!(palermo.hash(), 3_479_099_956_230_698);
        assert_eq!(catania.hash(), 3_479_447_370_796_909);
        let (from, to) = (Point::from_score(palermo.hash() as f64), Point::from_score(catania.hash() as f64));
        assert!((from.distance(to) - 166_274.151_6).abs() < 1e-4);
        assert_eq!(from.distance(from), 0.0);
        let leon = Point { lon: -5.6, lat: 42.6 };
        assert_eq!(&Point::from_score(leon.hash() as f64).geohash(), b"ezs42e44yx0");
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        // Half of the circumference.
        let there = Point { lon: 180.0, lat: 0.0 }.distance(Point { lon: 0.0, lat: 0.0 });
        assert!((there - std::f64::consts::PI * EARTH_RADIUS).abs() < 1.0);
    }

    #[test]
    fn a_place_is_near_its_cell() {
        let rng = &mut Rng::new(2);
        for _ in 0..10_000 {
            let place = point(rng);
            let middle = Point::from_score(place.hash() as f64);
            assert!(place.distance(middle) < 0.6, "{place:?} {middle:?}");
            assert_eq!(middle.hash(), place.hash());
        }
    }

    #[test]
    fn any_score_is_a_place() {
        let odd = [-1.0, 1e18, 1e19, 1e300, f64::INFINITY, f64::NEG_INFINITY, 0.5, 9_007_199_254_740_991.0];
        for score in odd {
            let place = Point::from_score(score);
            assert!(Point::new(place.lon, place.lat).is_some(), "{score} {place:?}");
            place.geohash();
        }
        assert_eq!(Point::new(180.1, 0.0), None);
        assert_eq!(Point::new(0.0, -85.06), None);
        assert_eq!(Point::new(f64::NAN, 0.0), None);
        assert!(Point::new(180.0, LAT_MAX).is_some_and(|corner| corner.hash() >= 1 << 52));
    }

    /// Checks that each point within a shape is in exactly one of the ranges.
    fn check(rng: &mut Rng, search: &Search) {
        let ranges: Vec<ScoreRange> = search.ranges().collect();
        assert!(ranges.len() <= 9);
        for _ in 0..300 {
            let far = rng.chance(0.3);
            let place = if far {
                point(rng)
            } else {
                let reach = search.reach() / 100_000.0;
                let near = |around: f64, rng: &mut Rng| around + (rng.f64() - 0.5) * 4.0 * reach;
                let (lon, lat) = (near(search.center.lon, rng), near(search.center.lat, rng));
                let Some(place) = Point::new(lon, lat) else { continue };
                place
            };
            let score = place.hash() as f64;
            let found = ranges.iter().filter(|range| range.contains(score)).count();
            assert!(found <= 1, "{search:?} {place:?} is in several ranges");
            if search.distance_within(Point::from_score(score)).is_some() {
                assert_eq!(found, 1, "{search:?} {place:?} is in no range");
            }
        }
    }

    #[test]
    fn ranges_hold_all_of_a_shape() {
        for seed in 0..300 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let center = point(rng);
            let mut length = || 10f64.powf(rng.f64() * 6.0);
            let (radius, width, height) = (length(), length(), length());
            check(rng, &Search::new(center, Shape::Circle { radius }));
            check(rng, &Search::new(center, Shape::Rectangle { width, height }));
            let size = 10f64.powf(rng.f64() * 3.0 - 2.0);
            let corners = (0..3 + rng.index(5)).map(|_| Point {
                lon: center.lon + (rng.f64() - 0.5) * size,
                lat: center.lat + (rng.f64() - 0.5) * size,
            });
            let corners: Vec<Point> = corners.collect();
            check(rng, &Search::polygon(corners));
        }
    }

    /// Some points within circles, others just outside.
    #[test]
    fn limits_exclude_nothing_within_a_circle() {
        for seed in 0..200 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let center = Point { lon: rng.f64() * 360.0 - 180.0, lat: (rng.f64() * 2.0 - 1.0) * LAT_MAX };
            let radius = 10f64.powf(rng.f64() * 8.0 - 0.5);
            let search = Search::new(center, Shape::Circle { radius });
            let span = degrees(radius / EARTH_RADIUS) * 1.2;
            for _ in 0..500 {
                let lat = (center.lat + (rng.f64() * 2.0 - 1.0) * span).clamp(-LAT_MAX, LAT_MAX);
                let wide = (span / radians(lat).cos()).min(180.0);
                let lon = center.lon + (rng.f64() * 2.0 - 1.0) * wide;
                let lon = if lon.abs() > 180.0 { lon - 360.0 * lon.signum() } else { lon };
                let place = Point { lon, lat };
                let distance = center.distance(place);
                let expected = (distance <= radius).then_some(distance);
                assert_eq!(search.distance_within(place), expected, "{center:?} {radius} {place:?}");
            }
        }
    }

    #[test]
    fn shapes_without_bounds_are_searched_everywhere() {
        for radius in [2e7, 1e12, f64::MAX, f64::INFINITY] {
            let search = Search::new(Point { lon: 3.0, lat: 4.0 }, Shape::Circle { radius });
            let size: f64 = search.ranges().map(|range| range.max - range.min).sum();
            assert_eq!(size, (1u64 << 52) as f64, "a grid of two by two");
        }
        let nothing = Search::new(Point { lon: 3.0, lat: 4.0 }, Shape::Circle { radius: 0.0 });
        assert_eq!(nothing.grid(), STEPS);
    }

    #[test]
    fn polygons() {
        let corner = |lon: f64, lat: f64| Point { lon, lat };
        let l = [
            corner(0.0, 0.0),
            corner(10.0, 0.0),
            corner(10.0, 2.0),
            corner(2.0, 2.0),
            corner(2.0, 10.0),
            corner(0.0, 10.0),
        ];
        for (lon, lat, inside) in [
            (1.0, 1.0, true),
            (9.0, 1.0, true),
            (1.0, 9.0, true),
            (5.0, 5.0, false),
            (-1.0, 1.0, false),
            (11.0, 1.0, false),
        ] {
            assert_eq!(encloses(&l, corner(lon, lat)), inside, "{lon} {lat}");
        }
        let search = Search::polygon(l.to_vec());
        let distance = search.distance_within(corner(1.0, 1.0)).expect("it is inside");
        assert_eq!(distance, search.center.distance(corner(1.0, 1.0)));
        assert_eq!(search.distance_within(corner(5.0, 5.0)), None);
        assert!(!encloses(&[], corner(0.0, 0.0)));
    }
}
