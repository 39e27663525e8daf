//! Scripts that users have called at events: a queue with limits, attempts and time limits.
//!
//! A script that is ended by a signal, or ends with status 1, is called again, after twice the last wait each time.

use std::collections::VecDeque;

/// Scripts in the queue.
const MAX_QUEUED: usize = 256;
/// Scripts that run at the same time.
const MAX_RUNNING: usize = 16;
/// Attempts, the first not counted.
const MAX_RETRIES: u32 = 10;

/// A script to be called, or running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Number of the job.
    pub id: u64,
    /// Path of the program, and its arguments.
    pub argv: Vec<String>,
    /// Attempts that have failed.
    pub retries: u32,
    /// When it is to be started, or was started if it runs.
    pub start_at: i64,
    /// Process ID while it runs; 0 before it is known.
    pub pid: Option<u32>,
    /// Whether it was told to end.
    killed: bool,
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Signal that ended it, or 0.
    pub signal: i32,
    /// Its status, if no signal ended it.
    pub status: i32,
}

/// The scripts.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    jobs: VecDeque<Job>,
    next: u64,
}

impl Scripts {
    /// Puts a call in the queue. If it is full, the oldest that does not run is dropped.
    pub fn schedule(&mut self, argv: Vec<String>) {
        self.next += 1;
        let id = self.next;
        self.jobs.push_back(Job { id, argv, retries: 0, start_at: 0, pid: None, killed: false });
        if self.jobs.len() > MAX_QUEUED
            && let Some(place) = self.jobs.iter().position(|job| job.pid.is_none())
        {
            self.jobs.remove(place);
        }
    }

    /// All jobs, the oldest first.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.iter()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.jobs.iter().filter(|job| job.pid.is_some()).count()
    }

    /// Jobs to be started now. They count as running from now on.
    pub fn due(&mut self, now: i64) -> Vec<Job> {
        let mut room = MAX_RUNNING.saturating_sub(self.running());
        let mut due = Vec::new();
        for job in &mut self.jobs {
            if room == 0 {
                break;
            }
            if job.pid.is_none() && job.start_at <= now {
                job.pid = Some(0);
                job.start_at = now;
                job.killed = false;
                room -= 1;
                due.push(job.clone());
            }
        }
        due
    }

    /// A job has been started as this process.
    pub fn started(&mut self, id: u64, pid: u32) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
            job.pid = Some(pid);
        }
    }

    /// A job has ended. Returns it if it has failed for good.
    pub fn ended(&mut self, id: u64, how: Ended, retry_delay: i64, now: i64) -> Option<Job> {
        let place = self.jobs.iter().position(|job| job.id == id)?;
        let job = &mut self.jobs[place];
        job.pid = None;
        if (how.signal != 0 || how.status == 1) && job.retries < MAX_RETRIES {
            job.retries += 1;
            job.start_at = now.saturating_add(retry_delay.saturating_mul(1 << (job.retries - 1)));
            return None;
        }
        let job = self.jobs.remove(place)?;
        (how.signal != 0 || how.status != 0).then_some(job)
    }

    /// Jobs that have run for too long, once each.
    pub fn overdue(&mut self, max_runtime: i64, now: i64) -> Vec<Job> {
        let late = |job: &&mut Job| {
            job.pid.is_some_and(|pid| pid != 0) && !job.killed && now - job.start_at > max_runtime
        };
        let late = self.jobs.iter_mut().filter(late).map(|job| {
            job.killed = true;
            job.clone()
        });
        late.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_tried_again_with_longer_waits_and_given_up_at_last() {
        let mut scripts = Scripts::default();
        scripts.schedule(vec!["/x".to_owned()]);
        let failed = Ended { signal: 0, status: 1 };
        let (mut now, mut attempts) = (0, 0);
        loop {
            let due = scripts.due(now);
            let [job] = &due[..] else { panic!("it is due at {now}") };
            attempts += 1;
            scripts.started(job.id, 7);
            if let Some(lost) = scripts.ended(job.id, failed, 100, now) {
                assert_eq!(lost.retries, MAX_RETRIES);
                break;
            }
            let wait = 100 << (attempts - 1);
            assert!(scripts.due(now + wait - 1).is_empty());
            now += wait;
        }
        assert_eq!(attempts, 11);
        assert_eq!(scripts.jobs().len(), 0);
    }

    #[test]
    fn the_queue_and_what_runs_are_bounded() {
        let mut scripts = Scripts::default();
        for i in 0..1000 {
            scripts.schedule(vec![i.to_string()]);
            if i == 5 {
                assert_eq!(scripts.due(1).len(), 6);
            }
        }
        assert_eq!(scripts.jobs().len(), MAX_QUEUED);
        assert_eq!(scripts.due(1).len(), MAX_RUNNING - 6);
        assert_eq!(scripts.running(), MAX_RUNNING);
        for id in 1..=6 {
            scripts.started(id, 1);
        }
        assert!(scripts.overdue(10, 11).is_empty());
        assert_eq!(scripts.overdue(10, 12).len(), 6);
        assert!(scripts.overdue(10, 13).is_empty());
        assert_eq!(scripts.ended(1, Ended { signal: 0, status: 0 }, 1, 1), None);
        assert!(scripts.ended(2, Ended { signal: 0, status: 3 }, 1, 1).is_some());
    }
}
