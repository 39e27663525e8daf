//! Metrics over HTTP, from a thread of its own (`metrics-port`).
//!
//! The thread asks for a [`Snapshot`] by setting a flag, which the timer looks at: the event loop writes the snapshot
//! within a tick and is told of nothing else. One snapshot answers everybody who asks within [`FRESH`], so that the loop
//! spends no more on many readers than on one. While the timer does not run, because a script does, there is no
//! snapshot, and readers are answered with status 503.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::page::page;
use super::watched_keys::WatchedKeys;
use crate::background::block_signals;
use crate::net::http::response::Response;
use crate::net::http::server::{Answers, HttpServer};
use crate::net::listener::{self, ListenError, Listener};
use crate::net::poll::Waker;
use crate::server::Server;
use crate::stats::metrics::{Snapshot, exposition, json};
use crate::stdx::alloc;
use crate::stdx::sync::Mutex;

/// How long a snapshot answers those who ask.
const FRESH: Duration = Duration::from_millis(250);

/// Length of the queue of connections not yet accepted.
const BACKLOG: u32 = 64;

/// Writes a snapshot. What is in it, those know who write INFO.
pub type Report = fn(&mut Server) -> Snapshot;

/// What the event loop keeps of it.
pub struct Metrics {
    exchange: Arc<Exchange>,
    waker: Waker,
    listeners: Arc<Vec<Listener>>,
    report: Report,
    /// Hot and big keys, while somebody looks at the page and they may be told.
    pub(super) keys: Option<Box<WatchedKeys>>,
}

/// Where the two threads meet.
#[derive(Default)]
struct Exchange {
    wanted: AtomicBool,
    /// Whether the page is looked at, so that the next snapshot tells of keys, too.
    looks: AtomicBool,
    /// The last snapshot, and when it was written.
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Metrics {
    /// In a child process: leaves the sockets to the parent.
    pub(in crate::server) fn leave_to_parent(&self) {
        for listener in &*self.listeners {
            // A failure only means that the port stays taken while the child runs.
            let _ = listener.leave_to_parent();
        }
    }

    /// The listening sockets.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }
}

/// Why metrics cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Nobody could connect.
    #[error("Metrics: {0}")]
    Listen(#[from] ListenError),
    /// None of the addresses in `metrics-bind` is there.
    #[error(
        "Metrics: none of the addresses in metrics-bind can be listened on. Name one that this machine has."
    )]
    Nowhere,
    /// There are no resources.
    #[error("Metrics: {0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Serves metrics, if they are configured, which `report` writes.
    ///
    /// # Errors
    /// The port is taken, or there are no resources.
    pub(in crate::server) fn serve_metrics(&mut self, report: Report) -> Result<(), MetricsError> {
        let options = &self.config.metrics;
        if options.port == 0 {
            return Ok(());
        }
        let listeners = listener::listen_tcp(&options.bind, options.port, BACKLOG)?;
        if listeners.is_empty() {
            return Err(MetricsError::Nowhere);
        }
        let server = HttpServer::new(listeners)?;
        let exchange = Arc::new(Exchange::default());
        let (waker, listeners) = (server.waker(), server.listeners());
        let mut source = Source { exchange: Arc::clone(&exchange), texts: None };
        thread::Builder::new().name("metrics".into()).spawn(move || {
            // It frees snapshots that the main thread has allocated.
            alloc::count_for_ever(|| {
                block_signals();
                server.run(&mut source)
            })
        })?;
        tracing::info!("Metrics are served on port {}, at /metrics", options.port);
        self.metrics = Some(Box::new(Metrics { exchange, waker, listeners, report, keys: None }));
        Ok(())
    }

    /// Writes a snapshot if one is wanted. Called by the timer.
    #[inline]
    pub(in crate::server) fn report_if_wanted(&mut self) {
        if let Some(metrics) = &self.metrics
            && metrics.exchange.wanted.load(Ordering::Acquire)
        {
            self.write_report();
        }
    }

    #[cold]
    fn write_report(&mut self) {
        let Some(report) = self.metrics.as_ref().map(|metrics| metrics.report) else { return };
        let mut snapshot = report(self);
        let looks =
            self.metrics.as_ref().is_some_and(|metrics| metrics.exchange.looks.swap(false, Ordering::AcqRel));
        if looks || self.watches_keys() {
            snapshot.keys = self.report_keys(looks);
        }
        let snapshot = Arc::new(snapshot);
        let Some(Metrics { exchange, waker, .. }) = self.metrics.as_deref() else { return };
        // Who asks from now on gets this one.
        exchange.wanted.store(false, Ordering::Release);
        let mut latest = exchange.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = latest.replace((Instant::now(), snapshot));
        drop(latest);
        drop(before);
        waker.wake();
    }
}

/// The thread's side.
struct Source {
    exchange: Arc<Exchange>,
    /// What was made of the latest snapshot, for those who ask for the same.
    texts: Option<Texts>,
}

/// A snapshot as text.
struct Texts {
    taken: Instant,
    snapshot: Arc<Snapshot>,
    metrics: Option<Response>,
    json: Option<Response>,
}

impl Source {
    /// The texts of a snapshot that is new enough for a question asked at `since`.
    fn texts(&mut self, since: Instant) -> Option<&mut Texts> {
        let latest = self.exchange.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = latest.as_ref().map(|(taken, snapshot)| (*taken, Arc::clone(snapshot)));
        let Some((taken, snapshot)) = latest.filter(|(taken, _)| *taken + FRESH >= since) else {
            self.exchange.wanted.store(true, Ordering::Release);
            return None;
        };
        if self.texts.as_ref().is_none_or(|texts| texts.taken != taken) {
            self.texts = Some(Texts { taken, snapshot, metrics: None, json: None });
        }
        self.texts.as_mut()
    }
}

impl Answers for Source {
    fn answer(&mut self, path: &str, since: Instant) -> Option<Response> {
        match path {
            "/metrics" => {
                let Texts { snapshot, metrics, .. } = self.texts(since)?;
                let made = metrics.get_or_insert_with(|| {
                    let text = exposition(snapshot).into_bytes();
                    Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text)
                });
                Some(made.clone())
            }
            "/data.json" => {
                self.exchange.looks.store(true, Ordering::Release);
                let Texts { snapshot, json: made, .. } = self.texts(since)?;
                let made = made.get_or_insert_with(|| {
                    Response::new(200, "application/json", json(snapshot).into_bytes())
                });
                Some(made.clone())
            }
            "/" => Some(page()),
            _ => Some(Response::plain(404)),
        }
    }
}
