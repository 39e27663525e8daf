//! Lists of CPUs as text (`0-3,5`), and pinning a thread to them.
//!
//! The notation is that of `taskset --cpu-list`: numbers and inclusive ranges separated by commas, a range
//! optionally followed by a stride (`0-10:2` is every other CPU from 0 to 10).
#![allow(unsafe_code)]

use std::io;
use std::str::FromStr;

/// One more than the largest CPU number a list can hold; the size of the kernel's classic mask.
pub const MAX_CPUS: usize = 1024;

const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// A set of CPU numbers below [`MAX_CPUS`].
///
/// Parsing never yields an empty set: a thread must be able to run somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList {
    /// The kernel's own layout: bit `n % WORD_BITS` of word `n / WORD_BITS` stands for CPU `n`.
    words: [libc::c_ulong; MAX_CPUS / WORD_BITS],
}

/// Why a text is not a list of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// An item is not `N`, `N-M` or `N-M:STRIDE`.
    #[error("expected CPU numbers or ranges separated by commas")]
    Syntax,
    /// A CPU number is not below [`MAX_CPUS`].
    #[error("CPU number out of range")]
    TooLarge,
}

impl CpuList {
    /// Whether `cpu` is in the list.
    pub fn contains(&self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.words[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1 == 1
    }

    /// The CPU numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MAX_CPUS).filter(|&cpu| self.contains(cpu))
    }

    /// Restricts the calling thread, and threads that it starts later, to these CPUs.
    ///
    /// # Errors
    /// `EINVAL` if the machine has none of them.
    #[cfg(target_os = "linux")]
    pub fn pin_this_thread(&self) -> io::Result<()> {
        // SAFETY: pid 0 is the calling thread; the kernel reads `size_of_val` bytes of a live array whose
        // layout is that of `cpu_set_t`: unsigned longs, lowest CPU first.
        let rc = unsafe { libc::sched_setaffinity(0, size_of_val(&self.words), self.words.as_ptr().cast()) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Threads cannot be pinned on this system.
    ///
    /// # Errors
    /// Always `Unsupported`.
    #[cfg(not(target_os = "linux"))]
    pub fn pin_this_thread(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let mut list = CpuList { words: [0; MAX_CPUS / WORD_BITS] };
        for item in text.split(',') {
            let (range, stride) = match item.split_once(':') {
                Some((range, stride)) => (range, Some(number(stride)?)),
                None => (item, None),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                // A stride makes sense only behind a range.
                None if stride.is_some() => return Err(CpuListError::Syntax),
                None => (number(range)?, number(range)?),
            };
            if last >= MAX_CPUS {
                return Err(CpuListError::TooLarge);
            }
            let stride = stride.unwrap_or(1);
            if first > last || stride == 0 {
                return Err(CpuListError::Syntax);
            }
            for cpu in (first..=last).step_by(stride) {
                list.words[cpu / WORD_BITS] |= 1 << (cpu % WORD_BITS);
            }
        }
        Ok(list)
    }
}

/// A decimal number without sign; blanks around it are allowed.
fn number(text: &str) -> Result<usize, CpuListError> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CpuListError::Syntax);
    }
    digits.parse().map_err(|_| CpuListError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Result<Vec<usize>, CpuListError> {
        text.parse::<CpuList>().map(|list| list.iter().collect())
    }

    #[test]
    fn numbers_ranges_and_strides() {
        assert_eq!(cpus("0"), Ok(vec![0]));
        assert_eq!(cpus("0,2"), Ok(vec![0, 2]));
        assert_eq!(cpus("0-3,5"), Ok(vec![0, 1, 2, 3, 5]));
        assert_eq!(cpus("0-10:2"), Ok(vec![0, 2, 4, 6, 8, 10]));
        assert_eq!(cpus("62-66,1023"), Ok(vec![62, 63, 64, 65, 66, 1023]));
        assert_eq!(cpus(" 1 - 2 , 4"), Ok(vec![1, 2, 4]));
        assert_eq!(cpus("5,1,5"), Ok(vec![1, 5]));
    }

    #[test]
    fn what_is_not_a_list() {
        for text in ["", ",", "1,", "a", "-1", "1-", "-", "3-1", "1:2", "0-4:0", "0-4:", "+1", "0x1", "1.5"] {
            assert_eq!(cpus(text), Err(CpuListError::Syntax), "{text:?}");
        }
        for text in ["1024", "0-1024", "99999999999999999999", "0-99999999999999999999:1"] {
            assert_eq!(cpus(text), Err(CpuListError::TooLarge), "{text:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_pinned() {
        // In a thread of its own, so that the test runner keeps its CPUs.
        std::thread::spawn(|| {
            // SAFETY: no argument; it only reads.
            let here = unsafe { libc::sched_getcpu() };
            let list: CpuList = here.to_string().parse().expect("a CPU number is a list");
            list.pin_this_thread().expect("the thread runs there already");
            // SAFETY: as above.
            assert_eq!(unsafe { libc::sched_getcpu() }, here);
            let none: CpuList = "1023".parse().expect("in range");
            assert!(none.pin_this_thread().is_err());
        })
        .join()
        .expect("no assertion failed");
    }
}
