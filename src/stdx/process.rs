//! Facts about this process and its machine from the operating system: processor time, memory, names.
#![allow(unsafe_code)]

use std::time::Duration;

/// Selects whose processor time is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// All threads of the process.
    Process,
    /// Child processes that have ended and were waited for.
    Children,
    /// The calling thread.
    Thread,
}

/// Processor time spent in the kernel and outside it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuTime {
    /// Outside the kernel.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.max(0) as u32) * 1000)
}

/// Processor time used so far. One system call.
pub fn cpu_time(who: Who) -> CpuTime {
    let who = match who {
        Who::Process => libc::RUSAGE_SELF,
        Who::Children => libc::RUSAGE_CHILDREN,
        #[cfg(target_os = "linux")]
        Who::Thread => libc::RUSAGE_THREAD,
        #[cfg(not(target_os = "linux"))]
        Who::Thread => libc::RUSAGE_SELF,
    };
    // SAFETY: all-zero bytes are a valid `rusage`, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage` to a place of that size.
    if unsafe { libc::getrusage(who, &raw mut usage) } != 0 {
        return CpuTime::default();
    }
    CpuTime { user: duration(usage.ru_utime), system: duration(usage.ru_stime) }
}

/// Name, release and machine of the system, as `uname -srm` prints them.
pub fn system_name() -> String {
    // SAFETY: all-zero bytes are a valid `utsname`: arrays of characters.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `utsname` to a place of that size.
    if unsafe { libc::uname(&raw mut name) } != 0 {
        return String::new();
    }
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

fn setting(name: libc::c_int) -> u64 {
    // SAFETY: `sysconf` takes any number and touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0)
}

/// Bytes of memory of the machine; 0 if unknown.
pub fn total_memory() -> u64 {
    setting(libc::_SC_PHYS_PAGES) * setting(libc::_SC_PAGESIZE)
}

/// Resident memory of the process in bytes; 0 without `/proc`.
pub fn resident_memory() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * setting(libc::_SC_PAGESIZE)
}

/// Bytes of memory that only this process has written to; after a fork, those that were copied for it. 0 if the
/// system does not report it.
pub fn private_dirty_memory() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps_rollup") else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
    let kilobytes: u64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kilobytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        assert!(system_name().split(' ').count() >= 3);
        assert!(total_memory() > 1 << 20);
        assert!(resident_memory() > 1 << 16 && resident_memory() < total_memory());
    }

    #[test]
    fn processor_time_advances() {
        let before = cpu_time(Who::Process);
        let mut sum = 0u64;
        while cpu_time(Who::Process).user == before.user {
            sum = (0..100_000).fold(sum, |a, b| a.wrapping_mul(31).wrapping_add(b));
        }
        assert!(cpu_time(Who::Process).user > before.user, "{sum}");
        assert!(cpu_time(Who::Thread).user <= cpu_time(Who::Process).user);
        let _ = cpu_time(Who::Children);
    }
}
