//! Longest time of a single step while a collection of ten million elements grows, shrinks to a few thousand, and
//! grows again: how long a command in O(1) or O(log n) can delay all clients.
//!
//! `cargo bench --bench pauses [-- ELEMENTS COLLECTION …]`
//!
//! Time is the processor time of the thread, including the kernel's share (page faults, `madvise`). On a virtual
//! machine it also includes time taken by the host at random moments. Each run is therefore repeated three times,
//! and the result is the longest step that recurs at the same place in every run.
//! counts is the longest step that comes back every time at the same place.

use std::hint::black_box;
use std::io::Write;

use spinel::stdx::clock::UnixMillis;
use spinel::types::Limits;
use spinel::types::hash::Hash;
use spinel::types::list::{End, List};
use spinel::types::set::Set;
use spinel::types::value::Value;
use spinel::types::zset::{Rule, Zset};

#[global_allocator]
static ALLOCATOR: spinel::stdx::alloc::Jemalloc = spinel::stdx::alloc::Jemalloc;

/// A stride that visits every index below ten million, and most other counts, once.
const STRIDE: u64 = 7_368_787;

/// Processor time of this thread in nanoseconds.
fn cpu_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local timespec, and every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Number of steps in one window.
const WINDOW: u64 = 4096;
const ROUNDS: usize = 3;

/// Longest step of each window, in nanoseconds.
fn measure(steps: impl Iterator<Item = u64>, mut step: impl FnMut(u64)) -> Vec<u64> {
    let mut longest = vec![];
    let mut before = cpu_time_ns();
    for (n, i) in steps.enumerate() {
        step(i);
        let now = cpu_time_ns();
        if (n as u64).is_multiple_of(WINDOW) {
            longest.push(0);
        }
        let window = longest.last_mut().expect("the first step pushed one");
        *window = now.saturating_sub(before).max(*window);
        before = now;
    }
    longest
}

/// A short text, different for each `i`.
fn text(buf: &mut [u8; 12], i: u64) -> &[u8] {
    write!(&mut buf[..], "m:{i:010}").expect("it has twelve bytes");
    buf
}

/// Measures a collection over its life: `add` and `remove` take the number of the element.
fn live<T>(name: &str, n: u64, new: impl Fn() -> T, add: impl Fn(&mut T, u64), remove: impl Fn(&mut T, u64)) {
    let mut named = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-') && arg.parse::<u64>().is_err())
        .peekable();
    if named.peek().is_some() && !named.any(|arg| arg == name) {
        return;
    }
    let leave = n / 200;
    let scattered = |i: u64| i * STRIDE % n;
    let rounds: Vec<[Vec<u64>; 3]> = (0..ROUNDS)
        .map(|_| {
            let mut it = new();
            let phases = [
                measure(0..n, |i| add(&mut it, i)),
                measure(0..n - leave, |i| remove(&mut it, scattered(i))),
                measure(0..n - leave, |i| add(&mut it, scattered(i))),
            ];
            black_box(it);
            phases
        })
        .collect();
    for (phase, what) in ["grows", "shrinks", "grows again"].into_iter().enumerate() {
        let windows = 0..rounds[0][phase].len();
        let every_time = windows.map(|w| rounds.iter().map(|r| r[phase][w]).min().unwrap_or(0)).max();
        let longest = rounds.iter().flat_map(|r| &r[phase]).max();
        let ms = |ns: Option<u64>| ns.unwrap_or(0) as f64 / 1e6;
        println!("| {name} | {what} | {:.2} | {:.2} |", ms(every_time), ms(longest.copied()));
    }
}

fn main() {
    // `cargo test --benches` only checks that the program starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let n = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000_000u64);
    let limits = Limits::default();
    // As in the server, the allocator returns free memory from a thread of its own.
    spinel::stdx::alloc::purge_in_background(true);
    let now = UnixMillis::now();
    println!(
        "{n} elements\n\n| collection | phase | longest ms, every time | longest ms, once |\n|---|---|---|---|"
    );
    live(
        "list",
        n,
        List::new,
        |list, i| {
            list.prepare(1, 12, &limits);
            list.push(End::Tail, text(&mut [0; 12], i));
        },
        |list, _| assert!(list.pop(End::Head, |_| ()).is_some()),
    );
    live(
        "set",
        n,
        Set::new,
        |set, i| assert!(set.add(text(&mut [0; 12], i), &limits)),
        |set, i| assert!(set.remove(text(&mut [0; 12], i))),
    );
    live(
        "hash",
        n,
        Hash::new,
        |hash, i| {
            hash.set(text(&mut [0; 12], i), Value::Bytes(b"12345678"), &limits);
        },
        |hash, i| assert!(hash.remove(text(&mut [0; 12], i), now)),
    );
    live(
        "sorted set",
        n,
        Zset::new,
        |zset, i| {
            zset.add(text(&mut [0; 12], i), (i * STRIDE % n) as f64, Rule::default(), &limits);
        },
        |zset, i| assert!(zset.remove(text(&mut [0; 12], i))),
    );
}
