//! The `sentinel` directives of the configuration file, which is also where the state is kept.
//!
//! They may stand in any order: options of all primaries are read first, then which primaries there are, then the rest.

use std::os::unix::fs::PermissionsExt as _;

use crate::sentinel::instance::{Address, InstanceId, literal_ip};
use crate::sentinel::machine::admin::{Change, parse_period};
use crate::sentinel::machine::{Machine, Timings};
use crate::stdx::num::{parse_i64, parse_u64};
use crate::stdx::quote;

/// Finds the address of a host name.
pub type Resolve<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// Directives that must be known before primaries are.
const FIRST: [&str; 9] = [
    "announce-ip",
    "announce-port",
    "deny-scripts-reconfig",
    "sentinel-user",
    "sentinel-pass",
    "current-epoch",
    "myid",
    "resolve-hostnames",
    "announce-hostnames",
];

const UNKNOWN: &str = "Unrecognized sentinel configuration statement.";
const NO_PRIMARY: &str = "No such master with specified name.";

/// Reads directives: of each line, the words behind `sentinel`.
///
/// # Errors
/// The number of the first line that is wrong, from 0, and why.
pub fn read(
    machine: &mut Machine,
    lines: &[&[Vec<u8>]],
    now: i64,
    resolve: Resolve<'_>,
) -> Result<(), (usize, String)> {
    let phase = |words: &[Vec<u8>]| {
        let name = words.first().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase());
        match name.as_deref() {
            Some("monitor") => 1,
            Some(name) if FIRST.contains(&name) => 0,
            _ => 2,
        }
    };
    for wanted in 0..3 {
        for (number, words) in lines.iter().enumerate().filter(|(_, words)| phase(words) == wanted) {
            directive(machine, words, now, resolve).map_err(|reason| (number, reason))?;
        }
    }
    Ok(())
}

fn yes_no(word: &[u8], name: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(format!("Please specify yes or no for the {name} options.")),
    }
}

/// A port; 0 is none.
pub fn parse_port(text: &[u8]) -> Option<u16> {
    u16::try_from(parse_i64(text)?).ok()
}

fn directive(machine: &mut Machine, words: &[Vec<u8>], now: i64, resolve: Resolve<'_>) -> Result<(), String> {
    let Some((name, values)) = words.split_first() else { return Err(UNKNOWN.to_owned()) };
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let text = |at: usize| String::from_utf8_lossy(&values[at]).into_owned();
    let settings = &mut machine.settings;
    match (name.as_str(), values.len()) {
        ("announce-ip", 1) => settings.announce_ip = Some(text(0)).filter(|ip| !ip.is_empty()),
        ("announce-port", 1) => {
            settings.announce_port = parse_port(&values[0]).ok_or("Invalid announce-port.")?;
        }
        ("deny-scripts-reconfig", 1) => {
            settings.deny_scripts_reconfig = yes_no(&values[0], "deny-scripts-reconfig")?;
        }
        ("resolve-hostnames", 1) => settings.resolve_hostnames = yes_no(&values[0], "resolve-hostnames")?,
        ("announce-hostnames", 1) => settings.announce_hostnames = yes_no(&values[0], "announce-hostnames")?,
        ("sentinel-user", 1) => settings.sentinel_user = Some(values[0].clone()).filter(|u| !u.is_empty()),
        ("sentinel-pass", 1) => settings.sentinel_pass = Some(values[0].clone()).filter(|p| !p.is_empty()),
        ("current-epoch", 1) => {
            let epoch = parse_u64(&values[0]).ok_or("Invalid epoch.")?;
            machine.current_epoch = machine.current_epoch.max(epoch);
        }
        ("myid", 1) => {
            if values[0].len() != 40 || !values[0].iter().all(u8::is_ascii_alphanumeric) {
                return Err("Malformed Sentinel id in myid option.".to_owned());
            }
            machine.id = text(0);
        }
        ("monitor", 4) => {
            let quorum = parse_i64(&values[3]).unwrap_or(0);
            if quorum <= 0 {
                return Err("Quorum must be 1 or greater.".to_owned());
            }
            let address = locate(machine, &text(1), &values[2], resolve)?;
            machine.monitor(&text(0), address, quorum, now)?;
        }
        _ => return of_primary(machine, &name, values, now, resolve),
    }
    Ok(())
}

/// The address of an instance in the file. A host name need not be resolvable at this time.
fn locate(machine: &mut Machine, host: &str, port: &[u8], resolve: Resolve<'_>) -> Result<Address, String> {
    let port = parse_port(port).filter(|&port| port != 0).ok_or("Invalid port number.")?;
    let ip = match literal_ip(host) {
        Some(ip) => ip,
        None if machine.settings.resolve_hostnames => {
            let ip = resolve(host);
            machine.resolved(host, ip.clone());
            ip.unwrap_or_default()
        }
        None => return Err("Can't resolve instance hostname.".to_owned()),
    };
    Ok(Address { host: host.to_owned(), ip, port })
}

fn of_primary(
    machine: &mut Machine,
    name: &str,
    values: &[Vec<u8>],
    now: i64,
    resolve: Resolve<'_>,
) -> Result<(), String> {
    const TWO: [&str; 11] = [
        "down-after-milliseconds",
        "failover-timeout",
        "parallel-syncs",
        "notification-script",
        "client-reconfig-script",
        "auth-pass",
        "auth-user",
        "master-reboot-down-after-period",
        "primary-reboot-down-after-period",
        "config-epoch",
        "leader-epoch",
    ];
    let fits = match name {
        "known-replica" | "known-slave" | "rename-command" => values.len() == 3,
        "known-sentinel" => matches!(values.len(), 3 | 4),
        _ => TWO.contains(&name) && values.len() == 2,
    };
    if !fits {
        return Err(UNKNOWN.to_owned());
    }
    let text = |at: usize| String::from_utf8_lossy(&values[at]).into_owned();
    let id: InstanceId = machine.find_primary(&text(0)).ok_or(NO_PRIMARY)?;
    match name {
        "config-epoch" => {
            let epoch = parse_u64(&values[1]).ok_or("Invalid epoch.")?;
            machine.restore_config_epoch(id, epoch);
        }
        "leader-epoch" => {
            let epoch = parse_u64(&values[1]).ok_or("Invalid epoch.")?;
            machine.restore_leader_epoch(id, epoch);
        }
        "known-replica" | "known-slave" => {
            let address = locate(machine, &text(1), &values[2], resolve)?;
            machine.restore_replica(id, address, now).ok_or("Duplicate hostname and port for replica.")?;
        }
        "known-sentinel" => {
            let Some(run_id) = values.get(3) else { return Ok(()) };
            let address = locate(machine, &text(1), &values[2], resolve)?;
            let run_id = String::from_utf8_lossy(run_id);
            machine.restore_sentinel(id, &run_id, address, now).ok_or("Duplicate runid for sentinel.")?;
        }
        "rename-command" => {
            let from = text(1).to_ascii_lowercase();
            if machine.renames(id, &from) {
                return Err("Same command renamed multiple times with rename-command.".to_owned());
            }
            machine.apply(id, Change::Rename(from, text(2)));
        }
        _ => {
            let change = change(name, &values[1]).map_err(str::to_owned)?;
            machine.apply(id, change);
        }
    }
    Ok(())
}

/// A change of an option with one value, as in the file and in `SENTINEL SET`.
///
/// # Errors
/// The value is wrong; the reason as a file's reader is told it.
pub fn change(option: &str, value: &[u8]) -> Result<Change, &'static str> {
    const TIME: &str = "negative or zero time parameter.";
    let text = || Some(String::from_utf8_lossy(value).into_owned()).filter(|text| !text.is_empty());
    let bytes = || Some(value.to_vec()).filter(|bytes| !bytes.is_empty());
    let number = || parse_i64(value).and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    Ok(match option {
        "down-after-milliseconds" => Change::DownAfter(parse_period(value).ok_or(TIME)?),
        "failover-timeout" => Change::FailoverTimeout(parse_period(value).ok_or(TIME)?),
        // The second is the name that Valkey gives it.
        "master-reboot-down-after-period" | "primary-reboot-down-after-period" => {
            let ms = parse_i64(value).filter(|ms| (0..=i64::MAX >> 20).contains(ms));
            Change::RebootDownAfter(ms.ok_or("negative time parameter.")?)
        }
        "parallel-syncs" => Change::ParallelSyncs(number().ok_or("Invalid number of parallel syncs.")?),
        "quorum" => Change::Quorum(number().ok_or("Quorum must be 1 or greater.")?),
        "auth-pass" => Change::AuthPass(bytes()),
        "auth-user" => Change::AuthUser(bytes()),
        "notification-script" => Change::NotificationScript(script(
            text(),
            "Notification script seems non existing or non executable.",
        )?),
        "client-reconfig-script" => Change::ReconfigScript(script(
            text(),
            "Client reconfiguration script seems non existing or non executable.",
        )?),
        _ => return Err(UNKNOWN),
    })
}

fn script(path: Option<String>, refusal: &'static str) -> Result<Option<String>, &'static str> {
    if let Some(path) = &path {
        let found = std::fs::metadata(path).map_err(|_| refusal)?;
        if found.permissions().mode() & 0o111 == 0 {
            return Err(refusal);
        }
    }
    Ok(path)
}

/// All directives that describe a Sentinel, in the order in which they are written; of each, its kind (lines of one kind
/// may take the places of others) and the words behind `sentinel`.
pub fn write(machine: &Machine) -> Vec<(&'static str, Vec<u8>)> {
    let mut lines = Lines::default();
    let settings = &machine.settings;
    let yes_no = |on: bool| if on { "yes" } else { "no" };
    lines.add("myid", &[&machine.id]);
    if !settings.deny_scripts_reconfig {
        lines.add("deny-scripts-reconfig", &[yes_no(false)]);
    }
    if settings.resolve_hostnames {
        lines.add("resolve-hostnames", &[yes_no(true)]);
    }
    if settings.announce_hostnames {
        lines.add("announce-hostnames", &[yes_no(true)]);
    }
    for &id in machine.primaries() {
        lines.primary(machine, id);
    }
    lines.add("current-epoch", &[&machine.current_epoch.to_string()]);
    if let Some(ip) = &settings.announce_ip {
        lines.0.push((
            "announce-ip",
            [b"announce-ip ".to_vec(), quote::repr(ip.as_bytes()).into_bytes()].concat(),
        ));
    }
    if settings.announce_port != 0 {
        lines.add("announce-port", &[&settings.announce_port.to_string()]);
    }
    if let Some(user) = &settings.sentinel_user {
        lines.add_bytes("sentinel-user", &[user]);
    }
    if let Some(pass) = &settings.sentinel_pass {
        lines.add_bytes("sentinel-pass", &[pass]);
    }
    lines.0
}

#[derive(Default)]
struct Lines(Vec<(&'static str, Vec<u8>)>);

impl Lines {
    fn add(&mut self, name: &'static str, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.add_bytes(name, &words);
    }

    fn add_bytes(&mut self, name: &'static str, words: &[&[u8]]) {
        let mut line = name.as_bytes().to_vec();
        for word in words {
            line.push(b' ');
            if quote::needs_quotes(word) {
                quote::push_repr(word, &mut line);
            } else {
                line.extend_from_slice(word);
            }
        }
        self.0.push((name, line));
    }

    fn primary(&mut self, machine: &Machine, id: InstanceId) {
        let primary = &machine[id];
        let (name, watch) = (primary.name.as_str(), &primary.watch);
        // After a crash in the middle of a failover, the new primary is the right one.
        let current = machine.current_address(id);
        let port = current.port.to_string();
        let defaults = Timings::default();
        self.add("monitor", &[name, machine.shown(current), &port, &watch.quorum.to_string()]);
        if primary.down_after != defaults.default_down_after {
            self.add("down-after-milliseconds", &[name, &primary.down_after.to_string()]);
        }
        if watch.failover_timeout != defaults.default_failover_timeout {
            self.add("failover-timeout", &[name, &watch.failover_timeout.to_string()]);
        }
        if watch.parallel_syncs != 1 {
            self.add("parallel-syncs", &[name, &watch.parallel_syncs.to_string()]);
        }
        if let Some(path) = &watch.notification_script {
            self.add("notification-script", &[name, path]);
        }
        if let Some(path) = &watch.reconfig_script {
            self.add("client-reconfig-script", &[name, path]);
        }
        if let Some(pass) = &watch.auth_pass {
            self.add_bytes("auth-pass", &[name.as_bytes(), pass]);
        }
        if let Some(user) = &watch.auth_user {
            self.add_bytes("auth-user", &[name.as_bytes(), user]);
        }
        if watch.reboot_down_after != 0 {
            self.add("master-reboot-down-after-period", &[name, &watch.reboot_down_after.to_string()]);
        }
        self.add("config-epoch", &[name, &primary.config_epoch.to_string()]);
        self.add("leader-epoch", &[name, &primary.leader_epoch.to_string()]);
        for &replica in machine.replicas(id) {
            // In a failover, the roles are written as they will be.
            let address = &machine[replica].address;
            let address = if address.is_same(current) { &primary.address } else { address };
            self.add("known-replica", &[name, machine.shown(address), &address.port.to_string()]);
        }
        for &sentinel in machine.sentinels(id) {
            let instance = &machine[sentinel];
            if let (Some(run_id), true) = (&instance.run_id, instance.address.port != 0) {
                let address = &instance.address;
                let port = address.port.to_string();
                self.add("known-sentinel", &[name, machine.shown(address), &port, run_id]);
            }
        }
        for (from, to) in &watch.renamed {
            self.add("rename-command", &[name, from, to]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn machine(text: &str) -> Result<Machine, (usize, String)> {
        let mut machine = Machine::new(Rng::new(1));
        let words: Vec<Vec<Vec<u8>>> =
            text.lines().map(|line| quote::split_args(line.as_bytes()).expect("quoted well")).collect();
        let lines: Vec<&[Vec<u8>]> = words.iter().map(Vec::as_slice).collect();
        read(&mut machine, &lines, 1, &mut |_| None)?;
        Ok(machine)
    }

    fn text(machine: &Machine) -> String {
        let lines = write(machine).into_iter().map(|(_, line)| String::from_utf8(line).expect("text"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let lines = "myid 7e6f110b906ca82e33bec102d069cc8362fc6dbb\ndeny-scripts-reconfig no\nresolve-hostnames yes\n\
                     announce-hostnames yes\nmonitor m 127.0.0.1 1 1\ndown-after-milliseconds m 5000\n\
                     failover-timeout m 60000\nparallel-syncs m 3\nnotification-script m /bin/true\n\
                     client-reconfig-script m /bin/true\nauth-pass m \"a b\"\nauth-user m bar\n\
                     master-reboot-down-after-period m 100\nconfig-epoch m 7\nleader-epoch m 8\n\
                     known-replica m 127.0.0.1 7\nknown-sentinel m 127.0.0.1 9 abcdef\nrename-command m config cfg\n\
                     current-epoch 9\nannounce-ip \"1.2.3.4\"\nannounce-port 555\nsentinel-user u\nsentinel-pass p";
        assert_eq!(text(&machine(lines).expect("valid")), lines);
        let renamed = lines.replace("master-reboot", "primary-reboot");
        assert_eq!(text(&machine(&renamed).expect("valid")), lines);
        let mut reversed: Vec<&str> = lines.lines().collect();
        reversed.reverse();
        assert_eq!(text(&machine(&reversed.join("\n")).expect("in any order")), lines);
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_reason() {
        let refused = |text: &str| machine(text).map(|_| ()).expect_err(text);
        let ok = "monitor m 127.0.0.1 1 1\n";
        for (line, reason) in [
            ("foo", UNKNOWN),
            ("monitor m 127.0.0.1 1", UNKNOWN),
            ("parallel-syncs x 1", NO_PRIMARY),
            ("known-replica x 1.2.3.4 1", NO_PRIMARY),
            ("monitor n 127.0.0.1 1 0", "Quorum must be 1 or greater."),
            ("monitor n 127.0.0.1 70000 1", "Invalid port number."),
            ("monitor n nosuchhost 1 1", "Can't resolve instance hostname."),
            ("monitor m 127.0.0.1 2 1", "Duplicate master name."),
            ("down-after-milliseconds m 0", "negative or zero time parameter."),
            ("notification-script m /nonexist", "Notification script seems non existing or non executable."),
            ("myid abc", "Malformed Sentinel id in myid option."),
            (
                "deny-scripts-reconfig maybe",
                "Please specify yes or no for the deny-scripts-reconfig options.",
            ),
        ] {
            assert_eq!(refused(&format!("{ok}{line}")), (1, reason.to_owned()), "{line}");
        }
        let twice = format!("{ok}known-replica m 127.0.0.1 5\nknown-slave m 127.0.0.1 5");
        assert_eq!(refused(&twice), (2, "Duplicate hostname and port for replica.".to_owned()));
        let twice = format!("{ok}rename-command m a b\nrename-command m A c");
        assert_eq!(
            refused(&twice),
            (2, "Same command renamed multiple times with rename-command.".to_owned())
        );
    }
}
