//! Starting with configurations written for related servers.

use std::process::{Command, Stdio};

mod support;
use support::{ServerProcess, spinel};

const HARDENED: &str = r#"
rename-command EVAL ""
rename-command SLAVEOF nobody-knows
rename-command FLUSHALL ""
user default on nopass ~* &* +@all -eval -evalsha -script|load -cluster|reset +psync +slaveof -@scripting
user replica on nopass +psync +replconf +ping
tls-port 0
tls-cert-file ""
tls-auth-clients optional
tls-dh-params-file nowhere
server-cpulist 0
server_cpulist 0
cluster-announce-client-port 0
hide-user-data-from-log yes
io-threads 4
activedefrag yes
min-replicas-to-write 1
masterauth secret
tls-key-file-pass secret
cluster-node-timeout 1000
import-mode no
"#;

#[test]
fn hardened_configurations_start_and_idle_settings_are_told() {
    let file = std::env::temp_dir().join(format!("spinel-hardened-{}.conf", std::process::id()));
    std::fs::write(&file, HARDENED).expect("a file can be written");
    let server = ServerProcess::start_with(&spinel(), Some(&file), &[], &[]);
    std::fs::remove_file(&file).expect("the file is ours");
    let log = server.log();
    for told in [
        "'tls-dh-params-file nowhere' has no effect: keys are agreed on over elliptic curves only.",
        "'hide-user-data-from-log yes' has no effect: this version has no such setting.",
    ] {
        assert_eq!(log.matches(told).count(), 1, "{told}\n{log}");
    }
    assert_eq!(log.matches("has no effect").count(), 2, "{log}");

    let mut client = server.client();
    let mut ask = |request: &str| {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        String::from_utf8(client.command(&args).expect("an answer")).expect("text")
    };
    assert!(ask("FLUSHALL").starts_with("-ERR unknown command"));
    assert!(
        ask("CONFIG SET tls-port 6380").contains("Unable to update TLS configuration. Check server logs.")
    );
    assert!(ask("CONFIG SET locale-collate nosuch_LOCALE").contains("Invalid locale name"));
    assert_eq!(ask("CONFIG SET tls-dh-params-file elsewhere hz 20"), "+OK\r\n");
    assert_eq!(ask("CONFIG SET hz 30"), "+OK\r\n");
    let log = server.log();
    assert_eq!(log.matches("'tls-dh-params-file elsewhere' has no effect").count(), 1, "{log}");
    assert_eq!(log.matches("has no effect").count(), 3, "{log}");
}

#[test]
fn what_is_wrong_names_its_line() {
    for (line, complaint) in [
        ("rename-command GET SET", "Target command name already exists"),
        ("rename-command NOSUCH \"\"", "No such command in rename-command"),
        (
            "user bob on +@al",
            "Error loading ACL rule '+@al' for the user named 'bob': Unknown command or category name in ACL",
        ),
        ("tls-auth-clients maybe", "argument(s) must be one of the following: no, yes, optional"),
        ("unixsocketgroup redis", "'unixsocketgroup' is not supported by this server: only \"\" is possible"),
        ("import-mode yes", "'import-mode' is not supported by this server: only no is possible"),
        ("locale-collate nosuch_LOCALE", "Invalid locale name"),
        ("nosuch-directive 1", "Bad directive or wrong number of arguments"),
    ] {
        let file = std::env::temp_dir().join(format!("spinel-wrong-{}.conf", std::process::id()));
        std::fs::write(&file, format!("port 0\n# a comment\n{line}\n")).expect("a file can be written");
        let output =
            Command::new(spinel()).arg(&file).stdin(Stdio::null()).output().expect("the program starts");
        std::fs::remove_file(&file).expect("the file is ours");
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("Reading the configuration file, at line 3\n>>> '{line}'\n{complaint}\n");
        assert!(!output.status.success() && said.contains(&expected), "{line}: {said}");
    }
}

/// A link that somebody else has placed under the name of a temporary file is neither followed nor kept.
#[test]
fn links_under_temporary_names_are_not_followed() {
    let server = ServerProcess::start(&spinel(), &["--appendonly", "yes"]);
    let dir = &server.dir;
    let precious = dir.join("precious");
    std::fs::write(&precious, "keep me").expect("a file can be written");
    let plant = |name: String| {
        let _ = std::fs::remove_file(dir.join(&name));
        std::os::unix::fs::symlink(&precious, dir.join(&name)).expect("a link can be made");
        name
    };
    let mut client = server.client();
    let mut ask = |request: &str| {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        String::from_utf8(client.command(&args).expect("an answer")).expect("text")
    };
    ask("SET k v");
    let pid = server.pid();
    for (name, request) in [
        (format!("temp-{pid}.rdb"), "SAVE"),
        ("appendonlydir/temp_appendonly.aof.manifest".into(), "BGREWRITEAOF"),
        ("appendonlydir/appendonly.aof.3.incr.aof".into(), "BGREWRITEAOF"),
    ] {
        let name = plant(name);
        let answer = ask(request);
        assert!(answer.starts_with('+'), "{request}: {answer}");
        while ask("INFO persistence").contains("_in_progress:1")
            || ask("INFO persistence").contains("aof_rewrite_scheduled:1")
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        ask("SET k w");
        assert_eq!(std::fs::read(&precious).expect("it is there"), b"keep me", "{name}");
    }
    let info = ask("INFO persistence");
    assert!(info.contains("aof_last_bgrewrite_status:ok") && info.contains("rdb_last_bgsave_status:ok"));
    let log = std::fs::symlink_metadata(dir.join("appendonlydir/appendonly.aof.3.incr.aof"));
    assert!(log.expect("the log has got so far").is_file());
}

/// Runs the check of a configuration; the lines it prints, and whether it is content.
fn check(args: &[&str]) -> (Vec<String>, bool) {
    let output = Command::new(spinel())
        .arg("--check-config")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    (text.lines().map(String::from).collect(), output.status.success())
}

#[test]
fn a_check_lists_all_errors_and_what_has_no_effect() {
    let dir = std::env::temp_dir().join(format!("spinel-check-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("a path in ASCII").to_string()
    };
    let more = write("more.conf", "\nmaxmemory-polcy noeviction\n");
    let file = write(
        "main.conf",
        &format!(
            "prot 1\nport 1\nhz x\ninclude {more}\nrename-command NOSUCH \"\"\nuser bob on >secret +@al\nport 2\nmptcp yes\n\
             requirepass \"se cret\n"
        ),
    );
    let (lines, valid) = check(&[&file, "--tiemout", "3"]);
    assert!(!valid);
    assert_eq!(
        lines,
        [
            format!("{file}:1: error: prot: Bad directive or wrong number of arguments; the nearest name is 'port'"),
            format!("{file}:3: error: hz: argument couldn't be parsed into an integer"),
            format!(
                "{more}:2: error: maxmemory-polcy: Bad directive or wrong number of arguments; the nearest name is \
                 'maxmemory-policy'"
            ),
            format!("{file}:9: error: requirepass: Unbalanced quotes in configuration line"),
            "command line:2: error: tiemout: Bad directive or wrong number of arguments; the nearest name is 'timeout'"
                .into(),
            format!("{file}:5: error: rename-command: No such command in rename-command"),
            format!(
                "{file}:6: error: user: Error loading ACL rule '+@al' for the user named 'bob': Unknown command or \
                 category name in ACL"
            ),
            format!("{file}:2: warning: 'port' has no effect: line 7 sets it again."),
            format!("{file}:8: warning: 'mptcp yes' has no effect: this version has no such setting."),
            "A server does not start with this: 7 errors, 2 warnings.".into(),
        ]
    );

    // A start tells the same errors, before it opens anything.
    let output = Command::new(spinel()).arg(&file).stdin(Stdio::null()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(said.matches("*** FATAL CONFIG FILE ERROR").count(), 1, "{said}");
    assert_eq!(said.matches("Reading the configuration file").count(), 6, "{said}");
    assert!(said.contains("The nearest name is 'maxmemory-policy'") && !said.contains(">secret"), "{said}");

    for (text, expected) in [
        ("port 0", "Configured to not listen anywhere"),
        ("aclfile /nosuch/acl", "/nosuch/acl"),
        ("logfile /nosuch/log", "Can't open the log file '/nosuch/log'"),
        ("port 0\ntls-port 1\ntls-cert-file /nosuch/cert", "error: TLS: "),
        ("dir /nosuch", ":1: error: dir: No such file or directory"),
        ("cluster-enabled yes\nreplicaof h 1", "replicaof directive not allowed in cluster mode"),
        ("sentinel monitor a b c 2", "sentinel directive while not in sentinel mode"),
    ] {
        let file = write("other.conf", text);
        let (lines, valid) = check(&[&file]);
        assert!(!valid && lines[0].contains(expected), "{text}: {lines:?}");
    }
    let file = write("sentinel.conf", "sentinel monitor a 127.0.0.1 6379 2\nsentinel nosuch a 3\n");
    assert!(!check(&[&file, "--sentinel"]).1);
    assert!(!check(&["/nosuch/file"]).1 && !check(&[]).1);
    std::fs::remove_dir_all(&dir).expect("ours");
}

#[test]
fn a_check_passes_what_starts() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/redis.conf");
    assert_eq!(check(&[own]), (vec!["The configuration is valid: 0 errors, 0 warnings.".to_string()], true));
    let file = std::env::temp_dir().join(format!("spinel-check-hardened-{}.conf", std::process::id()));
    std::fs::write(&file, HARDENED).expect("a file can be written");
    let (lines, valid) = check(&[file.to_str().expect("a path in ASCII")]);
    std::fs::remove_file(&file).expect("the file is ours");
    assert!(valid, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains(": warning: ")).count(), 3, "{lines:?}");
}
