//! Commands on geographic positions: sorted sets whose scores encode points on the earth.

use std::io::Write;

use super::store::store_counting;
use crate::keyspace::Event;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::num;
use crate::types::geo::{Point, Search, Shape};
use crate::types::zset::{Outcome, Rule, Text, order};
use crate::types::{Describe, Zset};

/// Table entries of the geo commands.
pub const COMMANDS: &[Spec] = &[
    GEOADD,
    GEODIST,
    GEOHASH,
    GEOPOS,
    GEORADIUS,
    GEORADIUSBYMEMBER,
    GEORADIUSBYMEMBER_RO,
    GEORADIUS_RO,
    GEOSEARCH,
    GEOSEARCHSTORE,
];

// ---- arguments and replies ------------------------------------------------------------------------

/// The point at argument `i`: longitude, then latitude.
fn point(args: &Args<'_>, i: usize) -> Result<Point, Error> {
    let (lon, lat) = (args.float(i)?, args.float(i + 1)?);
    Point::new(lon, lat)
        .ok_or_else(|| Error::text(format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}")))
}

/// Length in meters of the unit at argument `i`.
fn unit(args: &Args<'_>, i: usize) -> Result<f64, Error> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.into_iter().find(|(name, _)| args.is(i, name));
    found
        .map(|(_, meters)| meters)
        .ok_or_else(|| Error::text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Argument `i` as a number, which the error calls `what`.
fn length(args: &Args<'_>, i: usize, what: &str) -> Result<f64, Error> {
    num::parse_f64(args.at(i)).ok_or_else(|| Error::text(format!("ERR need numeric {what}")))
}

/// A circle from the radius at argument `i` and the unit after it, and the length of the unit in meters.
fn circle(args: &Args<'_>, i: usize) -> Result<(Shape, f64), Error> {
    let radius = length(args, i, "radius")?;
    if radius < 0.0 {
        return Err(Error::text("ERR radius cannot be negative"));
    }
    let unit = unit(args, i + 1)?;
    Ok((Shape::Circle { radius: radius * unit }, unit))
}

/// As [`circle`], for a rectangle of width, height and unit.
fn rectangle(args: &Args<'_>, i: usize) -> Result<(Shape, f64), Error> {
    let (width, height) = (length(args, i, "width")?, length(args, i + 1, "height")?);
    if width < 0.0 || height < 0.0 {
        return Err(Error::text("ERR height or width cannot be negative"));
    }
    let unit = unit(args, i + 2)?;
    Ok((Shape::Rectangle { width: width * unit, height: height * unit }, unit))
}

/// The corners of a polygon, whose number is argument `i`.
fn corners(args: &Args<'_>, i: usize) -> Result<Vec<Point>, Error> {
    let number = num::parse_i64(args.at(i)).and_then(|n| i32::try_from(n).ok());
    let number = number.ok_or_else(|| Error::text("ERR invalid number of vertices"))?;
    let given = (args.len() - i - 1) / 2;
    let number = usize::try_from(number).ok().filter(|&n| n >= 3 && n <= given);
    let number =
        number.ok_or_else(|| Error::text("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"))?;
    (0..number).map(|corner| point(args, i + 1 + 2 * corner)).collect()
}

/// Replies with a length given in meters, in a unit of `unit` meters, with four decimals. Rounds after
/// multiplication by 10,000, as Redis does, which now and then differs from rounding the exact quotient.
fn answer_distance(reply: &mut Reply<'_>, meters: f64, unit: f64) -> Replied {
    let scaled = (meters / unit * 10_000.0).round_ties_even() as u64;
    let mut digits = itoa::Buffer::new();
    let whole = digits.format(scaled / 10_000).as_bytes();
    // At most 16 digits, a point and four decimals.
    let (mut text, len) = ([0; 24], whole.len());
    text[..len].copy_from_slice(whole);
    text[len] = b'.';
    for (i, power) in [1000, 100, 10, 1].into_iter().enumerate() {
        text[len + 1 + i] = b'0' + (scaled / power % 10) as u8;
    }
    reply.bulk(&text[..len + 5])
}

/// Replies with longitude and latitude.
fn answer_point(reply: &mut Reply<'_>, point: Point) -> Replied {
    let replied = reply.array(2);
    for degrees in [point.lon, point.lat] {
        // At most a sign, three digits, a point and 17 decimals.
        let mut room = [0; 24];
        let mut rest = &mut room[..];
        write!(rest, "{degrees:.17}").expect("there is room for a coordinate");
        let left = rest.len();
        let text = &room[..room.len() - left];
        let digits = text.iter().rposition(|&byte| byte != b'0').map_or(0, |last| last + 1);
        let text = text[..digits].strip_suffix(b".").unwrap_or(&text[..digits]);
        reply.double_text(if text == b"-0" { b"0" } else { text });
    }
    replied
}

const UNIT: Arg = Arg::one_of(
    "unit",
    &[Arg::word("m", "m"), Arg::word("km", "km"), Arg::word("ft", "ft"), Arg::word("mi", "mi")],
);

const ORDER: Arg = Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional();

const COUNT: Arg =
    Arg::block("count-block", &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").optional()])
        .optional();

/// As [`COUNT`], for commands older than `ANY`.
const COUNT_BEFORE_ANY: Arg = Arg::block(
    "count-block",
    &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").since("6.2.0").optional()],
)
.optional();

const WITH_COORD: Arg = Arg::word("withcoord", "WITHCOORD").optional();
const WITH_DIST: Arg = Arg::word("withdist", "WITHDIST").optional();
const WITH_HASH: Arg = Arg::word("withhash", "WITHHASH").optional();

const STORE: Arg = Arg::one_of(
    "store",
    &[
        Arg::key("storekey").key_spec(1).token("STORE").display("key"),
        Arg::key("storedistkey").key_spec(2).token("STOREDIST").display("key"),
    ],
)
.optional();

const FROM: Arg = Arg::one_of(
    "from",
    &[
        Arg::string("member").token("FROMMEMBER"),
        Arg::block("fromlonlat", &[Arg::double("longitude"), Arg::double("latitude")]).token("FROMLONLAT"),
    ],
)
.optional();

const BY: Arg = Arg::one_of(
    "by",
    &[
        Arg::block("circle", &[Arg::double("radius").token("BYRADIUS"), UNIT]),
        Arg::block("box", &[Arg::double("width").token("BYBOX"), Arg::double("height"), UNIT]),
        Arg::block(
            "polygon",
            &[
                Arg::integer("num-vertices").token("BYPOLYGON"),
                Arg::block("vertices", &[Arg::double("longitude"), Arg::double("latitude")]).multiple(),
            ],
        )
        .since("9.0.0"),
    ],
);

const READ: KeySpec = KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS));

const ANY_SINCE: (&str, &str) = ("6.2.0", "The option `ANY` of `COUNT` was added.");
const UPPERCASE_SINCE: (&str, &str) = ("7.0.0", "Units may be written in upper case.");
const POLYGON_SINCE: (&str, &str) = ("9.0.0", "The option `BYPOLYGON` was added (in Valkey).");

const SEARCH_COMPLEXITY: &str =
    "O(N+log(M)) for N members in the cells of the grid around the shape and M in the sorted set.";

// ---- single members -------------------------------------------------------------------------------

const GEOADD: Spec = Spec::data("geoadd", -5, geoadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::GEO)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Puts members at places, and creates the sorted set if need be.",
        since: "3.2.0",
        complexity: "O(log(N)) for each member, in a set of N.",
        group: Group::Geo,
        history: &[("6.2.0", "The options `NX`, `XX` and `CH` were added.")],
        args: &[
            Arg::key("key"),
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
                .since("6.2.0")
                .optional(),
            Arg::word("change", "CH").since("6.2.0").optional(),
            Arg::block("data", &[Arg::double("longitude"), Arg::double("latitude"), Arg::string("member")])
                .multiple(),
        ],
        ..Docs::NONE
    });

/// GEOADD key [NX | XX] [CH] longitude latitude member [… ] → number of added members; with CH, also of moved ones.
fn geoadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let (mut rule, mut changed) = (Rule::default(), false);
    let mut first = 2;
    loop {
        if args.is(first, "NX") {
            rule.only_new = true;
        } else if args.is(first, "XX") {
            rule.only_existing = true;
        } else if args.is(first, "CH") {
            changed = true;
        } else {
            break;
        }
        first += 1;
    }
    let places = args.rest(first);
    let n = places.len() / 3;
    if n == 0 || !places.len().is_multiple_of(3) || rule.only_new && rule.only_existing {
        return Err(Error::Syntax);
    }
    for i in 0..n {
        point(&places, 3 * i)?;
    }
    let (key, limits) = (args.key(1), &ctx.limits.types);
    let set = match ctx.db.write_as::<Zset>(key)? {
        Some(set) => {
            set.expect(n, limits);
            set
        }
        None if rule.only_existing => return Ok(ctx.reply.int(0)),
        None => {
            let longest = (0..n).map(|i| places.at(3 * i + 2).len()).max().unwrap_or(0);
            ctx.db.write_or_insert(key, || Zset::sized_for(n, longest, limits))?
        }
    };
    let (mut added, mut moved) = (0, 0);
    for i in 0..n {
        match set.add(places.at(3 * i + 2), point(&places, 3 * i)?.hash() as f64, rule, limits) {
            Outcome::Added(_) => added += 1,
            Outcome::Updated(_) => moved += 1,
            Outcome::Same(_) | Outcome::Refused | Outcome::NotANumber => {}
        }
    }
    ctx.db.changed(key, Event::zset("zadd"), added + moved);
    if !matches!(ctx.feed, Feed::Unheard) && added + moved > 0 {
        feed_scores(ctx.feed, &args, first)?;
    }
    Ok(ctx.reply.int(if changed { added + moved } else { added } as i64))
}

/// Propagates a GEOADD as scores instead of points, so that others need not compute the same scores.
fn feed_scores(feed: &mut Feed, args: &Args<'_>, first: usize) -> Result<(), Error> {
    let places = args.rest(first);
    let n = places.len() / 3;
    // A score has at most 16 digits.
    let (mut scores, mut digits) = (Vec::with_capacity(17 * n), itoa::Buffer::new());
    for i in 0..n {
        scores.extend_from_slice(digits.format(point(&places, 3 * i)?.hash()).as_bytes());
        scores.push(b' ');
    }
    let mut request: Vec<&[u8]> = Vec::with_capacity(first + 2 * n);
    request.extend([&b"zadd"[..], args.at(1)]);
    request.extend(args.range(2..first).iter());
    for (i, score) in scores.split(|&byte| byte == b' ').take(n).enumerate() {
        request.extend([score, places.at(3 * i + 2)]);
    }
    feed.instead(&request);
    Ok(())
}

const GEODIST: Spec =
    Spec::data("geodist", -4, geodist).flags(Flags::READONLY).acl(Acl::GEO).keys(&[READ]).docs(Docs {
        summary: "Answers how far two members are from each other.",
        since: "3.2.0",
        complexity: "O(1)",
        group: Group::Geo,
        args: &[Arg::key("key"), Arg::string("member1"), Arg::string("member2"), UNIT.optional()],
        ..Docs::NONE
    });

/// GEODIST key member1 member2 [M | KM | FT | MI] → distance, or null.
fn geodist(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let unit = match args.len() {
        4 => 1.0,
        5 => unit(&args, 4)?,
        _ => return Err(Error::Syntax),
    };
    let set = ctx.db.read_as::<Zset>(args.key(1))?;
    let ends = set.and_then(|set| Some((set.score(args.at(2))?, set.score(args.at(3))?)));
    Ok(match ends {
        Some((from, to)) => {
            let meters = Point::from_score(from).distance(Point::from_score(to));
            answer_distance(&mut ctx.reply, meters, unit)
        }
        None => ctx.reply.null(),
    })
}

const GEOHASH: Spec =
    Spec::data("geohash", -2, geohash).flags(Flags::READONLY).acl(Acl::GEO).keys(&[READ]).docs(Docs {
        summary: "Answers the places of members as geohash strings.",
        since: "3.2.0",
        complexity: "O(1) for each member.",
        group: Group::Geo,
        args: &[Arg::key("key"), Arg::string("member").optional().multiple()],
        ..Docs::NONE
    });

/// GEOHASH key [member …] → geohash of eleven characters, or null, for each member.
fn geohash(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<Zset>(ctx.args.key(1))?;
    let members = ctx.args.rest(2);
    let replied = ctx.reply.array(members.len());
    ctx.reply.each(members.iter(), |reply, member| {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.bulk(&Point::from_score(score).geohash()),
            None => reply.null(),
        };
    });
    Ok(replied)
}

const GEOPOS: Spec =
    Spec::data("geopos", -2, geopos).flags(Flags::READONLY).acl(Acl::GEO).keys(&[READ]).docs(Docs {
        summary: "Answers the longitudes and latitudes of members.",
        since: "3.2.0",
        complexity: "O(1) for each member.",
        group: Group::Geo,
        args: &[Arg::key("key"), Arg::string("member").optional().multiple()],
        ..Docs::NONE
    });

/// GEOPOS key [member …] → longitude and latitude, or null, for each member.
fn geopos(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<Zset>(ctx.args.key(1))?;
    let members = ctx.args.rest(2);
    let replied = ctx.reply.array(members.len());
    ctx.reply.each(members.iter(), |reply, member| {
        match set.and_then(|set| set.score(member)) {
            Some(score) => answer_point(reply, Point::from_score(score)),
            None => reply.null_array(),
        };
    });
    Ok(replied)
}

// ---- searches -------------------------------------------------------------------------------------

/// Syntax of a search command, and whether it may store its result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A circle around a point.
    Radius { may_store: bool },
    /// A circle around a member.
    RadiusByMember { may_store: bool },
    /// Center and shape are options.
    Search,
    /// Center and shape are options; the result is stored.
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Nearest first.
    Asc,
    /// Farthest first.
    Desc,
}

/// Destination of a stored result.
#[derive(Clone, Copy)]
struct Destination {
    /// Index of the argument that is the key.
    key: usize,
    /// Whether to store distances as scores instead of positions.
    distances: bool,
}

/// The parsed arguments of a search.
struct Query {
    search: Search,
    /// Length in meters of the unit of distances.
    unit: f64,
    with_dist: bool,
    with_hash: bool,
    with_coord: bool,
    /// Largest number of members in the reply.
    count: usize,
    /// Whether any members suffice, not only the nearest.
    any: bool,
    order: Option<Order>,
    destination: Option<Destination>,
}

/// A member found by a search.
struct Found<'a> {
    /// Distance from the center in meters.
    distance: f64,
    score: f64,
    member: Text<'a>,
}

/// Position of a member of `set`. Without a set, any position will do, because nothing will be found.
fn place_of(set: Option<&Zset>, member: &[u8]) -> Result<Point, Error> {
    let score = set.map_or(Some(0.0), |set| set.score(member));
    let score = score.ok_or_else(|| Error::text("ERR could not decode requested zset member"))?;
    Ok(Point::from_score(score))
}

impl Query {
    /// Parses the arguments of a command that searches `set`.
    fn parse(args: &Args<'_>, form: Form, set: Option<&Zset>) -> Result<Query, Error> {
        let (mut center, mut shape, mut unit) = (None, None, 1.0);
        let mut i = match form {
            Form::Radius { .. } => {
                center = Some(point(args, 2)?);
                let (circle, meters) = circle(args, 4)?;
                (shape, unit) = (Some(circle), meters);
                6
            }
            Form::RadiusByMember { .. } => {
                center = Some(place_of(set, args.at(2))?);
                shape = Some(Shape::Circle { radius: 0.0 });
                if set.is_some() {
                    let (circle, meters) = circle(args, 3)?;
                    (shape, unit) = (Some(circle), meters);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => 3,
        };
        let may_store =
            matches!(form, Form::Radius { may_store: true } | Form::RadiusByMember { may_store: true });
        let search = matches!(form, Form::Search | Form::SearchStore);
        let (mut with_dist, mut with_hash, mut with_coord) = (false, false, false);
        let (mut count, mut any, mut order) = (None, false, None);
        let mut destination = (form == Form::SearchStore).then_some(Destination { key: 1, distances: false });
        let mut from = None;
        // A polygon needs no center.
        let is_polygon = |shape: &Option<Shape>| matches!(shape, Some(Shape::Polygon(_)));
        while i < args.len() {
            let behind = args.len() - i - 1;
            if args.is(i, "WITHDIST") {
                with_dist = true;
            } else if args.is(i, "WITHHASH") {
                with_hash = true;
            } else if args.is(i, "WITHCOORD") {
                with_coord = true;
            } else if args.is(i, "ANY") {
                any = true;
            } else if args.is(i, "ASC") {
                order = Some(Order::Asc);
            } else if args.is(i, "DESC") {
                order = Some(Order::Desc);
            } else if args.is(i, "COUNT") && behind >= 1 {
                let given = args.int(i + 1)?;
                let given = usize::try_from(given).ok().filter(|&n| n > 0);
                count = Some(given.ok_or_else(|| Error::text("ERR COUNT must be > 0"))?);
                i += 1;
            } else if may_store && args.is(i, "STORE") && behind >= 1 {
                destination = Some(Destination { key: i + 1, distances: false });
                i += 1;
            } else if may_store && args.is(i, "STOREDIST") && behind >= 1 {
                destination = Some(Destination { key: i + 1, distances: true });
                i += 1;
            } else if form == Form::SearchStore && args.is(i, "STOREDIST") {
                destination = Some(Destination { key: 1, distances: true });
            } else if search
                && args.is(i, "FROMMEMBER")
                && behind >= 1
                && from != Some(Center::Place)
                && !is_polygon(&shape)
            {
                center = Some(place_of(set, args.at(i + 1))?);
                from = Some(Center::Member);
                i += 1;
            } else if search
                && args.is(i, "FROMLONLAT")
                && behind >= 2
                && from != Some(Center::Member)
                && !is_polygon(&shape)
            {
                center = Some(point(args, i + 1)?);
                from = Some(Center::Place);
                i += 2;
            } else if search
                && args.is(i, "BYRADIUS")
                && behind >= 2
                && matches!(shape, None | Some(Shape::Circle { .. }))
            {
                let (circle, meters) = circle(args, i + 1)?;
                (shape, unit) = (Some(circle), meters);
                i += 2;
            } else if search
                && args.is(i, "BYBOX")
                && behind >= 3
                && matches!(shape, None | Some(Shape::Rectangle { .. }))
            {
                let (rectangle, meters) = rectangle(args, i + 1)?;
                (shape, unit) = (Some(rectangle), meters);
                i += 3;
            } else if search
                && args.is(i, "BYPOLYGON")
                && behind >= 2
                && from.is_none()
                && (shape.is_none() || is_polygon(&shape))
            {
                let corners = corners(args, i + 1)?;
                i += 1 + 2 * corners.len();
                shape = Some(Shape::Polygon(corners));
            } else {
                return Err(Error::Syntax);
            }
            i += 1;
        }
        if destination.is_some() && (with_dist || with_hash || with_coord) {
            let option = if search { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Error::text(format!(
                "ERR {option} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let one_of = |options: &str| {
            let options = options.as_bytes();
            Error::quoting(&[b"ERR exactly one of ", options, b" can be specified for ", args.at(0)])
        };
        let search = match (shape, center) {
            (Some(Shape::Polygon(corners)), _) => Search::polygon(corners),
            (_, None) => return Err(one_of("FROMMEMBER or FROMLONLAT")),
            (None, Some(_)) => return Err(one_of("BYRADIUS and BYBOX")),
            (Some(shape), Some(center)) => Search::new(center, shape),
        };
        if any && count.is_none() {
            return Err(Error::text("ERR the ANY argument requires COUNT argument"));
        }
        if count.is_some() && !any && order.is_none() {
            // A limited result consists of the nearest members.
            order = Some(Order::Asc);
        }
        let count = count.unwrap_or(usize::MAX);
        Ok(Query { search, unit, with_dist, with_hash, with_coord, count, any, order, destination })
    }

    /// The members of `set` that match the query, in its order.
    fn run<'a>(&self, set: &'a Zset) -> Vec<Found<'a>> {
        if self.order == Some(Order::Asc) && !self.any && self.count < set.len() {
            let expected = self.search.first_radius(self.count, |range| set.ranks_by_score(range).len());
            let mut next = expected.and_then(|radius| Some((radius, self.search.nearer(radius)?)));
            // The nearest members are found in a small circle if it has enough of them.
            while let Some((radius, search)) = next {
                let found = self.collect(&search, set);
                if found.len() >= self.count {
                    return self.sort(found);
                }
                next = self.search.nearer(2.0 * radius).map(|search| (2.0 * radius, search));
            }
        }
        self.sort(self.collect(&self.search, set))
    }

    /// The members of `set` within the shape of `search`; no more than wanted if any will do.
    fn collect<'a>(&self, search: &Search, set: &'a Zset) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        let enough = if self.any { self.count } else { usize::MAX };
        'search: for range in search.ranges() {
            for pair in set.from_score(&range, false) {
                let score = pair.score();
                if !range.below_max(score) {
                    break;
                }
                if let Some(distance) = search.distance_within(Point::from_score(score)) {
                    found.push(Found { distance, score, member: pair.member.into() });
                    if found.len() >= enough {
                        break 'search;
                    }
                }
            }
        }
        found
    }

    /// Sorts what was found if an order is wanted, and keeps no more than wanted.
    fn sort<'a>(&self, mut found: Vec<Found<'a>>) -> Vec<Found<'a>> {
        let Some(wanted) = self.order else { return found };
        let compare = |a: &Found<'_>, b: &Found<'_>| {
            let by_distance = match wanted {
                Order::Asc => a.distance.total_cmp(&b.distance),
                Order::Desc => b.distance.total_cmp(&a.distance),
            };
            by_distance.then_with(|| order((a.score, a.member.as_ref()), (b.score, b.member.as_ref())))
        };
        if self.count < found.len() {
            // Only members in the reply need sorting.
            found.select_nth_unstable_by(self.count, compare);
            found.truncate(self.count);
        }
        found.sort_unstable_by(compare);
        found
    }

    fn answer(&self, reply: &mut Reply<'_>, found: &[Found<'_>]) -> Replied {
        let replied = reply.array(found.len());
        let extras = [self.with_dist, self.with_hash, self.with_coord].into_iter().filter(|&on| on).count();
        reply.each(found, |reply, one| {
            if extras > 0 {
                reply.array(1 + extras);
            }
            reply.bulk(one.member.as_ref());
            if self.with_dist {
                answer_distance(reply, one.distance, self.unit);
            }
            if self.with_hash {
                reply.int(one.score as i64);
            }
            if self.with_coord {
                answer_point(reply, Point::from_score(one.score));
            }
        });
        replied
    }
}

/// How options name the center of a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Center {
    Member,
    Place,
}

fn search(ctx: &mut Ctx<'_>, form: Form) -> CmdResult {
    let args = ctx.args;
    let source = args.key(if form == Form::SearchStore { 2 } else { 1 });
    let set = ctx.db.read_as::<Zset>(source)?;
    let query = Query::parse(&args, form, set)?;
    let found = set.map_or_else(Vec::new, |set| query.run(set));
    let Some(Destination { key, distances }) = query.destination else {
        return Ok(query.answer(&mut ctx.reply, &found));
    };
    let mut pairs: Vec<(f64, Text<'_>)> = found
        .into_iter()
        .map(|one| (if distances { one.distance / query.unit } else { one.score }, one.member))
        .collect();
    pairs.sort_unstable_by(|a, b| order((a.0, a.1.as_ref()), (b.0, b.1.as_ref())));
    let result = Zset::from_sorted(&pairs, &ctx.limits.types);
    let event = if form == Form::SearchStore { "geosearchstore" } else { "georadiusstore" };
    // Every member found counts as a change, unlike with other commands that store their result.
    let found = pairs.len();
    store_counting(ctx, args.key(key), result, Event::zset(event), found)
}

/// Finds the keys of GEORADIUS and similar commands, whose options begin at argument `options`: the set, and each
/// key that an option stores to.
fn find_keys(args: &Args<'_>, options: usize, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    f(1, KeyFlags::RO.with(KeyFlags::ACCESS));
    let mut i = options;
    while i + 1 < args.len() {
        if args.is(i, "STORE") || args.is(i, "STOREDIST") {
            i += 1;
            f(i, KeyFlags::OW.with(KeyFlags::UPDATE));
        }
        i += 1;
    }
    true
}

const GEORADIUS: Spec = Spec::data("georadius", -6, georadius)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::GEO)
    .keys(&[
        READ,
        KeySpec::after("STORE", 6).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
        KeySpec::after("STOREDIST", 6).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    ])
    .find_keys(|args, f| find_keys(args, 6, f))
    .docs(Docs {
        summary: "Finds or stores the members within a distance from a place.",
        since: "3.2.0",
        complexity: SEARCH_COMPLEXITY,
        group: Group::Geo,
        deprecated_since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
        history: &[ANY_SINCE, UPPERCASE_SINCE],
        args: &[
            Arg::key("key"),
            Arg::double("longitude"),
            Arg::double("latitude"),
            Arg::double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT_BEFORE_ANY,
            ORDER,
            STORE,
        ],
        ..Docs::NONE
    });

/// GEORADIUS key longitude latitude radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]
/// [STORE key | STOREDIST key] → members, or number of stored members.
fn georadius(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::Radius { may_store: true })
}

const GEORADIUS_RO: Spec =
    Spec::data("georadius_ro", -6, georadius_ro).flags(Flags::READONLY).acl(Acl::GEO).keys(&[READ]).docs(
        Docs {
            summary: "Finds the members within a distance from a place.",
            since: "3.2.10",
            complexity: SEARCH_COMPLEXITY,
            group: Group::Geo,
            deprecated_since: "6.2.0",
            replaced_by: "`GEOSEARCH` with the `BYRADIUS` argument",
            history: &[ANY_SINCE],
            args: &[
                Arg::key("key"),
                Arg::double("longitude"),
                Arg::double("latitude"),
                Arg::double("radius"),
                UNIT,
                WITH_COORD,
                WITH_DIST,
                WITH_HASH,
                COUNT_BEFORE_ANY,
                ORDER,
            ],
            ..Docs::NONE
        },
    );

/// GEORADIUS_RO key longitude latitude radius unit [option …] → members.
fn georadius_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::Radius { may_store: false })
}

const GEORADIUSBYMEMBER: Spec = Spec::data("georadiusbymember", -5, georadiusbymember)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::GEO)
    .keys(&[
        READ,
        KeySpec::after("STORE", 5).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
        KeySpec::after("STOREDIST", 5).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    ])
    .find_keys(|args, f| find_keys(args, 5, f))
    .docs(Docs {
        summary: "Finds or stores the members within a distance from one of them.",
        since: "3.2.0",
        complexity: SEARCH_COMPLEXITY,
        group: Group::Geo,
        deprecated_since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        history: &[UPPERCASE_SINCE],
        args: &[
            Arg::key("key"),
            Arg::string("member"),
            Arg::double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT,
            ORDER,
            STORE,
        ],
        ..Docs::NONE
    });

/// GEORADIUSBYMEMBER key member radius unit [option …] → members, or number of stored members.
fn georadiusbymember(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::RadiusByMember { may_store: true })
}

const GEORADIUSBYMEMBER_RO: Spec = Spec::data("georadiusbymember_ro", -5, georadiusbymember_ro)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .keys(&[READ])
    .docs(Docs {
        summary: "Finds the members within a distance from one of them.",
        since: "3.2.10",
        complexity: SEARCH_COMPLEXITY,
        group: Group::Geo,
        deprecated_since: "6.2.0",
        replaced_by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
        args: &[
            Arg::key("key"),
            Arg::string("member"),
            Arg::double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT,
            ORDER,
        ],
        ..Docs::NONE
    });

/// GEORADIUSBYMEMBER_RO key member radius unit [option …] → members.
fn georadiusbymember_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::RadiusByMember { may_store: false })
}

const GEOSEARCH: Spec =
    Spec::data("geosearch", -7, geosearch).flags(Flags::READONLY).acl(Acl::GEO).keys(&[READ]).docs(Docs {
        summary: "Finds the members within a circle, a box or a polygon.",
        since: "6.2.0",
        complexity: SEARCH_COMPLEXITY,
        group: Group::Geo,
        history: &[UPPERCASE_SINCE, POLYGON_SINCE],
        args: &[Arg::key("key"), FROM, BY, ORDER, COUNT, WITH_COORD, WITH_DIST, WITH_HASH],
        ..Docs::NONE
    });

/// GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude] BYRADIUS radius unit | BYBOX width height unit
/// | BYPOLYGON corners longitude latitude … [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH] →
/// members.
fn geosearch(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::Search)
}

const GEOSEARCHSTORE: Spec = Spec::data("geosearchstore", -8, geosearchstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::GEO)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
        KeySpec::at(2).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
    ])
    .docs(Docs {
        summary: "Stores the members within a circle, a box or a polygon.",
        since: "6.2.0",
        complexity: SEARCH_COMPLEXITY,
        group: Group::Geo,
        history: &[UPPERCASE_SINCE, POLYGON_SINCE],
        args: &[
            Arg::key("destination"),
            Arg::key("source").key_spec(1),
            FROM,
            BY,
            ORDER,
            COUNT,
            Arg::word("storedist", "STOREDIST").optional(),
        ],
        ..Docs::NONE
    });

/// GEOSEARCHSTORE destination source [as GEOSEARCH …] [STOREDIST] → number of stored members.
fn geosearchstore(ctx: &mut Ctx<'_>) -> CmdResult {
    search(ctx, Form::SearchStore)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};
    use crate::stdx::rng::Rng;

    #[test]
    fn places_and_searches() {
        check(
            r#"
            GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
            GEOADD Sicily NX CH 0 0 Palermo 12.758489 38.788135 edge
            GEOADD Sicily XX CH 12.758489 38.788136 edge 1 1 nobody
            GEOADD Sicily ch 12.758489 38.788136 edge
            ZSCORE Sicily Palermo
            GEODIST Sicily Palermo Catania
            GEODIST Sicily Palermo Catania KM
            GEODIST Sicily Palermo nobody
            GEOHASH Sicily Palermo nobody
            GEOPOS Sicily Palermo nobody
            GEORADIUS Sicily 15 37 200 km ASC
            GEORADIUS Sicily 15 37 200 km WITHCOORD WITHDIST WITHHASH COUNT 1
            GEORADIUSBYMEMBER Sicily Palermo 200 km DESC
            GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 2 WITHDIST
            GEOSEARCH Sicily FROMMEMBER edge BYRADIUS 100 km COUNT 1 ANY
            GEOSEARCH nothing FROMMEMBER edge BYRADIUS 100 km
            GEOPOS nothing a
            GEOHASH nothing
            "#,
            r#"
            (integer) 2
            (integer) 1
            (integer) 1
            (integer) 0
            "3479099956230698"
            "166274.1516"
            "166.2742"
            (nil)
            1) "sqc8b49rny0"
            2) (nil)
            1) 1) "13.36138933897018433"
               2) "38.11555639549629859"
            2) (nil)
            1) "Catania"
            2) "Palermo"
            1) 1) "Catania"
               2) "56.4413"
               3) (integer) 3479447370796909
               4) 1) "15.08726745843887329"
                  2) "37.50266842333162032"
            1) "Catania"
            2) "edge"
            3) "Palermo"
            1) 1) "Catania"
               2) "56.4413"
            2) 1) "Palermo"
               2) "190.4424"
            1) "edge"
            (empty array)
            1) (nil)
            (empty array)
            "#,
        );
    }

    /// The nearest members are searched in growing circles; they are the first of all that the whole search finds.
    #[test]
    fn the_nearest_come_first_of_all() {
        for seed in 0..12 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let mut harness = Harness::default();
            // Even, crowded around one place, or all over the map with its seams.
            let (lon, lat, spread) = match seed % 3 {
                0 => (15.0, 37.0, 1.0),
                1 => (-70.0, -55.0, 10.0),
                _ => (0.0, 0.0, 180.0),
            };
            let mut draw = |middle: f64, most: f64| {
                let offset = (rng.f64() * 2.0 - 1.0) * if seed % 2 == 0 { 1.0 } else { rng.f64().powi(3) };
                (middle + offset * spread).clamp(-most, most)
            };
            for i in 0..2000 {
                let (x, y) = (draw(lon, 180.0), draw(lat, 85.0));
                harness.run(&format!("GEOADD g {x} {y} m{i}"));
            }
            for _ in 0..60 {
                let (x, y) = (draw(lon, 180.0), draw(lat, 85.0));
                let radius = 10f64.powf(2.0 + (x.abs() * 7919.0).fract() * 4.5);
                let count = [1, 2, 10, 50, 300, 5000][((y.abs() * 7919.0).fract() * 6.0) as usize];
                let (x, y, radius, limit) =
                    (x.to_string(), y.to_string(), radius.to_string(), count.to_string());
                let mut search =
                    vec!["GEOSEARCH", "g", "FROMLONLAT", &x, &y, "BYRADIUS", &radius, "m", "ASC"];
                search.extend(["WITHDIST", "WITHHASH", "COUNT", &limit]);
                let words: Vec<&[u8]> = search.iter().map(|word| word.as_bytes()).collect();
                let text = |reply: Vec<u8>| String::from_utf8(reply).expect("text");
                let all = text(harness.raw(&words[..words.len() - 2]));
                let some = text(harness.raw(&words));
                let (all_len, all) = all.split_once("\r\n").expect("an array");
                let (len, some) = some.split_once("\r\n").expect("an array");
                let all_len: usize = all_len[1..].parse().expect("a number");
                assert_eq!(len, format!("*{}", all_len.min(count)), "{search:?}");
                assert!(all.starts_with(some), "{search:?}: {some:?} of {all:?}");
            }
        }
    }

    #[test]
    fn results_are_stored() {
        check(
            r#"
            GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
            GEOSEARCHSTORE to g FROMLONLAT 15 37 BYRADIUS 100 km
            ZRANGE to 0 -1 WITHSCORES
            GEOSEARCHSTORE to g FROMMEMBER Palermo BYRADIUS 100 km STOREDIST
            ZRANGE to 0 -1 WITHSCORES
            GEORADIUS g 15 37 100 km STORE to
            GEORADIUS g 15 37 100 km STOREDIST to COUNT 1
            GEORADIUS g 0 0 1 km STORE to
            EXISTS to
            GEORADIUSBYMEMBER nothing Palermo 1 km STORE to
            GEOSEARCHSTORE g g FROMMEMBER Palermo BYRADIUS 1 km
            ZCARD g
            "#,
            r#"
            (integer) 2
            (integer) 1
            1) "Catania"
            2) "3479447370796909"
            (integer) 1
            1) "Palermo"
            2) "0"
            (integer) 1
            (integer) 1
            (integer) 0
            (integer) 0
            (integer) 0
            (integer) 1
            (integer) 1
            "#,
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_redis_order() {
        check(
            r#"
            SET s x
            GEOADD s 1 1 m
            GEOADD g 181 1 m
            GEOADD g 1 1e30 m
            GEOADD g x 1 m
            GEOADD g NX XX 1 1 m
            GEOADD g NX CH CH
            GEOADD g 1 1 m 2 2
            GEOADD g 1 1 m
            GEODIST g m m miles
            GEODIST g m m m m
            GEOSEARCH s nonsense 1 1 1 1
            GEOSEARCH g FROMMEMBER m ASC ASC ASC
            GEOSEARCH g BYRADIUS 1 m ASC ASC
            geosearch g FROMMEMBER nobody BYRADIUS 1 m
            GEOSEARCH g FROMMEMBER m FROMLONLAT 1 1 BYRADIUS 1 m
            GEOSEARCH g FROMMEMBER m BYRADIUS 1 m BYBOX 1 1 m
            GEOSEARCH g FROMMEMBER m BYRADIUS 1 m ANY
            GEOSEARCH g FROMMEMBER m BYRADIUS 1 m COUNT 0
            GEOSEARCH g FROMMEMBER m BYRADIUS 1 m STOREDIST
            GEOSEARCH g FROMMEMBER m BYRADIUS -1 m
            GEOSEARCH g FROMMEMBER m BYRADIUS x m
            GEOSEARCH g FROMMEMBER m BYBOX 1 -1 m
            GEOSEARCH g FROMMEMBER m BYBOX x 1 m
            GEOSEARCH g FROMMEMBER m BYBOX 1 x m
            GEOSEARCHSTORE to g FROMMEMBER m BYRADIUS 1 m WITHDIST
            GEORADIUS g 1 1 1 m STORE to WITHDIST
            GEORADIUS_RO g 1 1 1 m STORE to
            GEORADIUSBYMEMBER g nobody 1 m
            GEORADIUSBYMEMBER nothing nobody x x
            GEORADIUSBYMEMBER g m 1 m STORE
            "#,
            r#"
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR invalid longitude,latitude pair 181.000000,1.000000
            (error) ERR invalid longitude,latitude pair 1.000000,1000000000000000019884624838656.000000
            (error) ERR value is not a valid float
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (integer) 1
            (error) ERR unsupported unit provided. please use M, KM, FT, MI
            (error) ERR syntax error
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH
            (error) ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH
            (error) ERR could not decode requested zset member
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR the ANY argument requires COUNT argument
            (error) ERR COUNT must be > 0
            (error) ERR syntax error
            (error) ERR radius cannot be negative
            (error) ERR need numeric radius
            (error) ERR height or width cannot be negative
            (error) ERR need numeric width
            (error) ERR need numeric height
            (error) ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options
            (error) ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options
            (error) ERR syntax error
            (error) ERR could not decode requested zset member
            (empty array)
            (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn polygons() {
        check(
            r#"
            GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 14 39 WITHDIST
            GEOSEARCH g BYPOLYGON 4 13 37 16 37 16 39 13 39 WITHDIST DESC
            GEOSEARCHSTORE to g BYPOLYGON 4 13 37 16 37 16 39 13 39 STOREDIST
            GEOSEARCH g BYPOLYGON 2 13 37 16 37
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 1
            GEOSEARCH g BYPOLYGON x 13 37 16 37 1 1
            GEOSEARCH g BYPOLYGON 2147483648 13 37 16 37 1 1
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 1 x
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 1 100
            GEOSEARCH g FROMMEMBER Palermo BYPOLYGON 3 13 37 16 37 14 39
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 14 39 FROMLONLAT 1 1
            GEOSEARCH g BYPOLYGON 3 13 37 16 37 14 39 BYRADIUS 1 m
            GEOSEARCH g ASC ASC ASC ASC BYPOLYGON
            "#,
            r#"
            (integer) 2
            1) 1) "Catania"
               2) "68853.1583"
            1) 1) "Palermo"
               2) "100405.5658"
            2) 1) "Catania"
               2) "76454.0837"
            (integer) 2
            (error) ERR GEOSEARCH BYPOLYGON must have at least 3 vertices
            (error) ERR GEOSEARCH BYPOLYGON must have at least 3 vertices
            (error) ERR invalid number of vertices
            (error) ERR invalid number of vertices
            (error) ERR value is not a valid float
            (error) ERR invalid longitude,latitude pair 1.000000,100.000000
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            "#,
        );
    }
}
