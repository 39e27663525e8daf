//! Tells the program which commit it is built from, and the linker to compress what a debugger needs.
//!
//! Without git, or outside a repository, the commit is eight zeros. So it is in a debug build, because otherwise each
//! commit would have everything compiled again.

use std::path::Path;
use std::process::Command;

/// What `git` prints, without the end of the line; `None` if it fails.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The commit and whether the sources differ from it; `None` if that cannot be told.
fn commit() -> Option<(String, bool)> {
    // A copy of the sources inside another repository is not one of its commits.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var_os("CARGO_MANIFEST_DIR")?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // A commit, a checkout and a merge write here. Changed sources are compiled again in any case.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=8", "HEAD"])?;
    let modified = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some((commit.chars().take(8).collect(), modified))
}

fn main() {
    let is_debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    println!("cargo:rerun-if-changed={}", if is_debug { "src/build.rs" } else { "src" });
    let (commit, modified) =
        if is_debug { None } else { commit() }.unwrap_or_else(|| ("00000000".into(), false));
    println!("cargo:rustc-env=SPINEL_COMMIT={commit}");
    println!("cargo:rustc-env=SPINEL_MODIFIED={}", u8::from(modified));
    // Crash reports name lines of the source from what is in the program itself, which is half as large like this. Flags
    // in a configuration of cargo would not reach those who install from elsewhere.
    if !is_debug && std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    }
}
