//! Files that nobody else has a hand in.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Creates a file at `path` to append to, with the permissions `mode` as far as the umask lets. What is there already, left by
/// a process that ended early or put there by somebody, is removed first and never written through: the file is new,
/// and no symbolic link leads to it.
///
/// # Errors
/// Those of removing and creating; `AlreadyExists` if somebody was quicker to put something there.
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
        // A link that leads nowhere would otherwise be followed to create what it names.
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
