//! Spinel compared with Redis and Valkey: `cargo bench --bench server`.
//!
//! Starts Spinel and every peer found (`redis-server` and `valkey-server` on the PATH, or the programs named by
//! `SPINEL_BENCH_PEERS=name=path,…`), and sends the same requests to each in turn, round after round. Servers run
//! on one processor, the load generator on another. The main result is the server's processor time per request;
//! with little pipelining, requests per second say more about the load generator.
//!
//! - `workloads` holds the tables of requests, of data whose memory is measured, and of pauses;
//! - `compare` runs them, using `process` (servers) and `load` (clients);
//! - `threads` measures what I/O threads take off the main thread;
//! - `measure` reads the counters, `report` writes the results.
//!
//! A complete run writes `benches/results/server.md`, `server.svg` and `threads.md`; a run with a filter only prints,
//! unless it is told where to write.

mod compare;
mod load;
mod measure;
mod process;
mod report;
mod threads;
mod workloads;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, value_parser};

use compare::Place;
use report::Results;
use workloads::Size;

fn options() -> Command {
    Command::new("server")
        .about("Compares Spinel with its peers")
        .arg(
            Arg::new("filter")
                .action(ArgAction::Append)
                .help("Only rows whose title (\"GET 64 B of 1 M, P = 16\") contains one of these"),
        )
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .default_value("5")
                .value_parser(value_parser!(u64).range(1..=99))
                .help("How often everything is repeated"),
        )
        .arg(flag("full").help("Every pipeline, value size and key space: about an hour"))
        .arg(flag("list").help("Only show the titles"))
        .arg(
            Arg::new("out")
                .long("out")
                .value_parser(value_parser!(PathBuf))
                .help("Directory for results [default: benches/results; with a filter: none]"),
        )
        .arg(flag("bench").hide(true))
        .arg(flag("test").hide(true))
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn main() -> io::Result<()> {
    let options = options().get_matches();
    // `cargo test --benches` only checks that the program starts.
    if options.get_flag("test") || !options.get_flag("bench") {
        return Ok(());
    }
    let filter: Vec<&String> = options.get_many("filter").unwrap_or_default().collect();
    let wanted = |title: &str| filter.is_empty() || filter.iter().any(|part| title.contains(part.as_str()));
    let size = if options.get_flag("full") { Size::Full } else { Size::Quick };
    let mut cases = workloads::cases(size);
    cases.retain(|case| wanted(&report::title(case)));
    let mut items = workloads::items(size);
    items.retain(|items| wanted(&format!("memory: {}", items.name)));
    let mut pauses = workloads::pauses();
    pauses.retain(|pause| wanted(&format!("pause: {}", pause.name)));
    let loads = wanted(report::LOADING);
    let threaded = wanted(threads::TITLE);
    if options.get_flag("list") {
        cases.iter().for_each(|case| println!("{}", report::title(case)));
        items.iter().for_each(|items| println!("memory: {}", items.name));
        pauses.iter().for_each(|pause| println!("pause: {}", pause.name));
        if loads {
            println!("{}", report::LOADING);
        }
        if threaded {
            println!("{}", threads::TITLE);
        }
        return Ok(());
    }

    // The servers get the first processor, the load generator and everything else the second.
    let pinned = load::processors() > 1 && load::pin(1);
    let place = Place { processor: pinned.then_some(0) };
    let programs = process::programs();
    let rounds = *options.get_one::<u64>("rounds").expect("it has a default") as usize;
    let everywhere = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"));
    let out = options.get_one("out").cloned().or_else(|| filter.is_empty().then(everywhere));
    let mut samples = vec![vec![Vec::new(); programs.len()]; cases.len()];
    let results = |samples, rounds| Results {
        programs: &programs,
        rounds,
        pinned,
        cases: &cases,
        samples,
        memory: Vec::new(),
        pauses: Vec::new(),
        loading: Vec::new(),
    };
    for number in 0..rounds {
        compare::round(&programs, place, &cases, number, &mut samples);
        // If a long run is interrupted, the results of the rounds so far are there.
        let so_far = results(samples.clone(), number + 1);
        println!("round {} of {rounds}", number + 1);
        (0..cases.len()).for_each(|which| println!("{}", so_far.line(which)));
        write(&so_far, out.as_deref())?;
    }
    let mut results = results(samples, rounds);
    let complain = |what: &str, program: &process::Program, error: &io::Error| {
        eprintln!("{what}: {}: {error}", program.name);
    };
    for items in &items {
        let row = programs.iter().map(|program| {
            let memory = compare::memory(program, place, items);
            memory.inspect_err(|error| complain(&items.name, program, error)).ok()
        });
        results.memory.push((items, row.collect()));
    }
    for pause in &pauses {
        let mut row = vec![Vec::new(); programs.len()];
        for _ in 0..rounds {
            for (program, latencies) in programs.iter().zip(&mut row) {
                let once = compare::pause(program, place, pause);
                latencies.extend(once.inspect_err(|error| complain(pause.name, program, error)));
            }
        }
        results.pauses.push((pause, row));
    }
    if loads {
        let row = programs.iter().map(|program| {
            let loading = compare::loading(program, place, rounds);
            loading.inspect_err(|error| complain(report::LOADING, program, error)).unwrap_or_default()
        });
        results.loading = row.collect();
    }

    write(&results, out.as_deref())?;
    if out.is_none() && !results.is_empty() {
        println!("\n{}", results.markdown());
    }
    if threaded {
        let before = threads::load_average();
        let rows = threads::measure(&programs, rounds);
        let text = threads::text(&programs, &rows, rounds, [&before, &threads::load_average()]);
        match &out {
            None => println!("\n{text}"),
            Some(directory) => fs::write(directory.join("threads.md"), text)?,
        }
    }
    if let Some(directory) = out {
        println!("written to {}", directory.display());
    }
    Ok(())
}

/// Writes the results to files in `directory`, if one is given.
fn write(results: &Results<'_>, directory: Option<&Path>) -> io::Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    fs::create_dir_all(directory)?;
    if results.is_empty() {
        return Ok(());
    }
    fs::write(directory.join("server.md"), results.markdown())?;
    fs::write(directory.join("server.svg"), results.svg())
}
