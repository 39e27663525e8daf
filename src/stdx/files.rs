//! Files that no other process can interfere with.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Creates a new file at `path` for appending, with the permissions `mode` restricted by the umask. An existing file,
/// left by an earlier process or placed there by another user, is removed first and never written through, so no
/// symbolic link is followed.
///
/// # Errors
/// Removing or creating failed; `AlreadyExists` if another process created a file there in between.
pub fn create_exclusively(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().append(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_was_there_is_removed_and_not_written_through() {
        let dir = std::env::temp_dir().join(format!("spinel-files-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory can be made");
        let (precious, temporary) = (dir.join("precious"), dir.join("temporary"));
        fs::write(&precious, "keep me").expect("a file can be written");
        symlink(&precious, &temporary).expect("a link can be made");
        for _ in 0..2 {
            let file = create_exclusively(&temporary, 0o600).expect("the directory is ours");
            (&file).write_all(b"new").expect("it can be written");
            assert_eq!(fs::read(&precious).expect("it is there"), b"keep me");
            let made = fs::symlink_metadata(&temporary).expect("it is there");
            assert!(made.is_file() && made.permissions().mode() & 0o777 == 0o600 && made.len() == 3);
        }
        // A dangling link would otherwise be followed to create its target.
        fs::remove_file(&temporary).expect("it is ours");
        symlink(dir.join("elsewhere"), &temporary).expect("a link can be made");
        create_exclusively(&temporary, 0o600).expect("the directory is ours");
        assert!(!dir.join("elsewhere").exists());
        fs::remove_file(&temporary).expect("it is ours");
        fs::create_dir(&temporary).expect("a directory can be made");
        assert!(create_exclusively(&temporary, 0o600).is_err());
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
