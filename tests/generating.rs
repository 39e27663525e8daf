//! Files that the program generates.

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use spinel::config::{Param, table};
use support::spinel;

fn generate(words: &[&str]) -> Option<String> {
    let output = Command::new(spinel()).arg("generate").args(words).output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.success(), !text.is_empty(), "{words:?}");
    output.status.success().then_some(text)
}

#[test]
fn manual_pages_know_the_program_and_every_directive() {
    let program = generate(&["man"]).expect("a page");
    assert!(program.contains(".TH spinel 1") && program.contains("\\-\\-check\\-config"), "{program}");
    let configuration = generate(&["man", "5"]).expect("a page");
    assert!(configuration.starts_with(".TH spinel.conf 5"));
    for param in table::params().filter(|param| !param.hidden) {
        let name = param.name.replace('-', "\\-");
        assert!(configuration.contains(&format!(".TP\n.B {name}\n")), "{name}");
    }
    // Only what is meant as a request stands at the beginning of a line.
    for line in configuration.lines().filter(|line| line.starts_with(['.', '\''])) {
        let request = line.split(' ').next().expect("a word");
        assert!([".TH", ".SH", ".TP", ".B", ".PP"].contains(&request), "{line}");
    }
}

#[test]
fn completions_know_every_directive() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = generate(&["completions", shell]).expect(shell);
        for name in ["maxmemory-policy", "metrics-port", "check-config"] {
            assert!(text.contains(name), "{shell}: {name}");
        }
    }
    assert!(generate(&["completions", "zsh"]).is_some_and(|text| text.contains("allkeys-lru")));
    // What a shell proposes behind some words.
    let proposed = |words: &str| {
        let script = format!(
            "source /dev/stdin; COMP_WORDS=({words} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _spinel spinel '' \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let text = generate(&["completions", "bash"]).expect("bash");
        bash.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
        String::from_utf8(bash.wait_with_output().expect("it ends").stdout).expect("text")
    };
    assert!(proposed("spinel generate").contains("systemd"), "{}", proposed("spinel generate"));
    assert!(proposed("spinel guide").contains("watching"), "{}", proposed("spinel guide"));
    assert!(proposed("spinel --maxmemory-policy").contains("volatile-ttl"));
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("there is a shell");
    let text = generate(&["completions", "bash"]).expect("bash");
    bash.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    assert!(bash.wait().expect("it ends").success());
}

#[test]
fn a_generated_configuration_is_valid() {
    let text = generate(&["config"]).expect("a configuration");
    let mut check = Command::new(spinel())
        .args(["--check-config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = check.wait_with_output().expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "The configuration is valid: 0 errors, 0 warnings.\n"
    );
}

#[test]
fn what_is_unknown_is_not_generated() {
    for words in
        [&[][..], &["nosuch"], &["completions"], &["completions", "nosuch"], &["man", "7"], &["config", "x"]]
    {
        assert_eq!(generate(words), None);
    }
    let unit = generate(&["systemd"]).expect("a unit");
    assert!(unit.contains("--supervised systemd") && unit.contains("NoNewPrivileges=yes"));
    let image = generate(&["dockerfile"]).expect("a Dockerfile");
    assert!(image.contains("\nUSER 999:999\n") && image.contains("HEALTHCHECK"));
}

/// Whether a program can be run.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn the_unit_satisfies_systemd() {
    if !has("systemd-analyze") {
        return support::skip("no systemd-analyze");
    }
    let unit = generate(&["systemd"]).expect("a unit");
    let dir = std::env::temp_dir().join(format!("spinel-unit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    let verify = |unit: &str| {
        let path = dir.join("spinel.service");
        std::fs::write(&path, unit).expect("room for it");
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output();
        let output = output.expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let program = spinel();
    let unit = unit.replace("/usr/bin/spinel", program.to_str().expect("a path in ASCII"));
    assert_eq!(verify(&unit), (true, String::new()));
    let (_, said) = verify(&unit.replace("[Service]", "[Service]\nNoSuchThing=yes"));
    assert!(said.contains("NoSuchThing"), "what is wrong is seen: {said}");
    std::fs::remove_dir_all(&dir).expect("ours");
}

#[test]
fn the_dockerfile_satisfies_its_linter() {
    if !has("hadolint") {
        return support::skip("no hadolint");
    }
    let image = generate(&["dockerfile"]).expect("a Dockerfile");
    let lint = |text: &str| {
        let mut linter =
            Command::new("hadolint").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let linter = linter.as_mut().expect("it runs");
        linter.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
        let mut said = String::new();
        linter.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        (linter.wait().expect("it ends").success(), said)
    };
    assert_eq!(lint(&image), (true, String::new()));
    assert!(!lint(&image.replace("WORKDIR /data", "RUN cd /data")).0, "what is wrong is seen");
}

#[test]
fn the_debian_package_has_what_the_repository_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let (_, package) = manifest.split_once("[package.metadata.deb]").expect("a package");
    let (_, assets) = package.split_once("assets = [\n").expect("assets");
    let (assets, _) = assets.split_once("\n]").expect("an end");
    let build = std::fs::read_to_string(root.join("src/generate/debian/build")).expect("how it is built");
    for asset in assets.lines() {
        let source = asset.split('"').nth(1).expect("a source");
        let known = match source.strip_prefix("target/package/") {
            Some(made) => build.contains(&format!(">\"$out/{made}\"")),
            None => source == "target/release/spinel" || root.join(source.trim_end_matches("*.md")).exists(),
        };
        assert!(known, "{source}");
    }
    // What the build makes can be made.
    for line in build.lines().filter_map(|line| line.strip_prefix("\"$spinel\" generate ")) {
        let words: Vec<&str> = line.split(" >").next().expect("words").split(' ').collect();
        assert!(generate(&words).is_some(), "{line}");
    }
    for script in ["build", "postinst", "postrm", "prerm"] {
        let path = root.join("src/generate/debian").join(script);
        assert!(
            Command::new("sh").arg("-n").arg(path).status().expect("there is a shell").success(),
            "{script}"
        );
    }
}

#[test]
fn the_guide_names_directives_and_topics_that_exist() {
    let guide = |words: &[&str]| {
        let output = Command::new(spinel()).arg("guide").args(words).output().expect("the program starts");
        (String::from_utf8(output.stdout).expect("text"), output.status.success())
    };
    let (contents, good) = guide(&[]);
    assert!(good && contents.starts_with("Usage: spinel guide TOPIC\n"));
    assert!(!guide(&["nosuch"]).1 && !guide(&["start", "cluster"]).1);
    let topics: Vec<&str> =
        contents.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(topics.len() >= 8, "{contents}");
    for topic in topics {
        let (page, good) = guide(&[topic]);
        assert!(good && page.starts_with("# "), "{topic}");
        assert!(page.lines().all(|line| line.chars().count() <= 120), "{topic}");
        // Words with hyphens in code are directives, but for those of other programs.
        for word in page.split('`').skip(1).step_by(2).filter_map(|code| code.split([' ', '/']).next()) {
            let is_name =
                word.contains('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            let is_value = |param: &Param| param.allowed().split(" | ").any(|value| value == word);
            let known = table::find(word.as_bytes()).is_some()
                || table::params().any(is_value)
                || word == "rename-command"
                || word.starts_with("redis-")
                || word.starts_with('-');
            assert!(!is_name || known, "{topic}: {word}");
        }
    }
}
