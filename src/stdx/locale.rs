//! Locales of the system.
#![allow(unsafe_code)]

use std::ffi::CString;

/// Whether the system can compare strings in the locale `name`. The empty name stands for the locale of the
/// environment and is always known: if the environment names no existing locale, that is `C`.
pub fn is_known(name: &str) -> bool {
    if name.is_empty() {
        return true;
    }
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: the name ends with a zero byte and lives until after the call; a null base asks for a new locale.
    let locale = unsafe { libc::newlocale(libc::LC_COLLATE_MASK, name.as_ptr(), std::ptr::null_mut()) };
    if locale.is_null() {
        return false;
    }
    // SAFETY: the locale was just made, and nobody else knows of it.
    unsafe { libc::freelocale(locale) };
    true
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn only_locales_of_the_system_are_known() {
        assert!(is_known("") && is_known("C") && is_known("POSIX"));
        assert!(!is_known("nosuch_LOCALE") && !is_known("C\0"));
    }
}
