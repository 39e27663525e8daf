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
