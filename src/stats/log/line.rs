//! The form of a line: what it says, in one of three formats with one of three forms of time.
//!
//! ```text
//! 4711:M 22 Nov 2026 05:51:08.032 * Ready                                                              legacy
//! pid=4711 role=primary timestamp="22 Nov 2026 05:51:08.032" level=notice message="Ready"              logfmt
//! {"pid":4711,"role":"primary","timestamp":"22 Nov 2026 05:51:08.032","level":"notice","message":"Ready"}    json
//! ```
//!
//! Formats and words are those of Valkey. In logfmt, what would end the message or the line is replaced; in JSON it is
//! escaped.

use std::fmt::Write as _;

use super::{Level, UnknownName};

/// Form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Format {
    /// As Redis has always written them.
    #[default]
    Legacy,
    /// Pairs of name and value.
    Logfmt,
    /// An object of JSON.
    Json,
}

/// Form of the time in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum TimestampFormat {
    /// `22 Nov 2026 05:51:08.032`, in local time.
    #[default]
    Legacy,
    /// `2026-11-22T05:51:08.032+00:00`, in local time with its offset from UTC.
    Iso8601,
    /// Milliseconds since 1970.
    Milliseconds,
}

impl Format {
    pub(super) const ALL: [Format; 3] = [Format::Legacy, Format::Logfmt, Format::Json];
}

impl TimestampFormat {
    pub(super) const ALL: [TimestampFormat; 3] =
        [TimestampFormat::Legacy, TimestampFormat::Iso8601, TimestampFormat::Milliseconds];
}

impl std::str::FromStr for Format {
    type Err = UnknownName;

    /// Parses a name of `log-format`.
    fn from_str(name: &str) -> Result<Format, UnknownName> {
        match name {
            "legacy" => Ok(Format::Legacy),
            "logfmt" => Ok(Format::Logfmt),
            "json" => Ok(Format::Json),
            _ => Err(UnknownName),
        }
    }
}

impl std::str::FromStr for TimestampFormat {
    type Err = UnknownName;

    /// Parses a name of `log-timestamp-format`.
    fn from_str(name: &str) -> Result<TimestampFormat, UnknownName> {
        match name {
            "legacy" => Ok(TimestampFormat::Legacy),
            "iso8601" => Ok(TimestampFormat::Iso8601),
            "milliseconds" => Ok(TimestampFormat::Milliseconds),
            _ => Err(UnknownName),
        }
    }
}

/// A moment, where the clocks on the wall are `offset` seconds ahead of UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since 1970, UTC.
    pub utc: i64,
    pub millis: u32,
    pub offset: i32,
}

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub pid: u32,
    /// As for [`super::set_role`].
    pub role: char,
    pub at: Moment,
    pub level: Level,
    pub message: &'a str,
}

impl Line<'_> {
    /// The line with its end.
    pub(super) fn text(&self, format: Format, time: TimestampFormat) -> String {
        let Line { pid, role, at, level, message } = self;
        let time = at.text(time);
        match format {
            Format::Legacy => format!("{pid}:{role} {time} {} {message}\n", level.sign()),
            Format::Logfmt => {
                let (role, level) = (role_name(*role), level.common_name());
                let message = message.replace('"', "'").replace(['\n', '\r'], " ");
                format!("pid={pid} role={role} timestamp=\"{time}\" level={level} message=\"{message}\"\n")
            }
            Format::Json => {
                let (role, level) = (role_name(*role), level.common_name());
                let mut text = format!(
                    "{{\"pid\":{pid},\"role\":\"{role}\",\"timestamp\":\"{time}\",\"level\":\"{level}\",\"message\":\""
                );
                escape_json(message, &mut text);
                text.push_str("\"}\n");
                text
            }
        }
    }
}

fn role_name(role: char) -> &'static str {
    match role {
        'M' => "primary",
        'S' => "replica",
        'X' => "sentinel",
        _ => "RDB/AOF",
    }
}

/// Appends a text as it stands between the quotes of a string in JSON.
pub fn escape_json(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Moment {
    fn text(&self, format: TimestampFormat) -> String {
        let Moment { utc, millis, offset } = *self;
        let local = utc + i64::from(offset);
        let (year, month, day) = civil_date(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        match format {
            TimestampFormat::Legacy => {
                format!("{day:02} {} {year} {h:02}:{m:02}:{s:02}.{millis:03}", MONTHS[month - 1])
            }
            TimestampFormat::Iso8601 => {
                let sign = if offset < 0 { '-' } else { '+' };
                let (ahead_h, ahead_m) = (offset.abs() / 3600, offset.abs() / 60 % 60);
                format!(
                    "{year}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}{sign}{ahead_h:02}:{ahead_m:02}"
                )
            }
            TimestampFormat::Milliseconds => (utc * 1000 + i64::from(millis)).to_string(),
        }
    }
}

pub(super) fn date_text(local: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday} {} {day:2} {h:02}:{m:02}:{s:02} {year}", MONTHS[month - 1])
}

/// Year, month (1 to 12) and day of the month for a day counted from 1970-01-01.
///
/// The year is taken to start in March, so that the leap day is its last day and month lengths follow a line of slope
/// 153/5 (Howard Hinnant, "chrono-compatible low-level date algorithms").
pub(super) fn civil_date(days: i64) -> (i64, usize, i64) {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_ctime_writes_them() {
        assert_eq!(date_text(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(date_text(1_796_064_749), "Mon Nov 30 18:52:29 2026");
    }

    #[test]
    fn lines_are_laid_out() {
        let line = |utc, millis, level| {
            let at = Moment { utc, millis, offset: 0 };
            let line = Line { pid: 4711, role: 'M', at, level, message: "Ready" };
            line.text(Format::Legacy, TimestampFormat::Legacy)
        };
        assert_eq!(line(0, 0, Level::Debug), "4711:M 01 Jan 1970 00:00:00.000 . Ready\n");
        assert_eq!(line(1_795_326_668, 32, Level::Notice), "4711:M 22 Nov 2026 05:51:08.032 * Ready\n");
        assert_eq!(line(1_709_251_199, 999, Level::Verbose), "4711:M 29 Feb 2024 23:59:59.999 - Ready\n");
        assert_eq!(line(4_107_542_400, 7, Level::Warning), "4711:M 01 Mar 2100 00:00:00.007 # Ready\n");
        assert_eq!(line(-1, 0, Level::Notice), "4711:M 31 Dec 1969 23:59:59.000 * Ready\n");
    }

    /// The expected lines are those that Valkey 9.1.2 writes.
    #[test]
    fn other_formats_keep_a_message_in_one_line() {
        let at = Moment { utc: 1_796_073_983, millis: 17, offset: 5 * 3600 + 1800 };
        let message = "DEBUG LOG: a\"b\\c\nd\te\u{1}\u{7f}'é=x\r\u{8}\u{c}";
        let line = |role, level| Line { pid: 7, role, at, level, message };
        assert_eq!(
            line('S', Level::Verbose).text(Format::Logfmt, TimestampFormat::Iso8601),
            "pid=7 role=replica timestamp=\"2026-12-01T02:56:23.017+05:30\" level=info \
             message=\"DEBUG LOG: a'b\\c d\te\u{1}\u{7f}'é=x \u{8}\u{c}\"\n"
        );
        assert_eq!(
            line('C', Level::Warning).text(Format::Json, TimestampFormat::Milliseconds),
            "{\"pid\":7,\"role\":\"RDB/AOF\",\"timestamp\":\"1796073983017\",\"level\":\"warning\",\
             \"message\":\"DEBUG LOG: a\\\"b\\\\c\\nd\\te\\u0001\u{7f}'é=x\\r\\b\\f\"}\n"
        );
        let west = Moment { offset: -(3 * 3600 + 1800), ..at };
        assert_eq!(west.text(TimestampFormat::Iso8601), "2026-11-30T17:56:23.017-03:30");
        assert_eq!(at.text(TimestampFormat::Legacy), "01 Dec 2026 02:56:23.017");
    }

    #[test]
    fn dates_are_those_of_the_c_library() {
        for days in (-200_000i64..2_000_000).step_by(61) {
            let seconds = days * 86_400;
            // SAFETY: `tm` is plain data; `gmtime_r` reads `seconds` and fills it.
            let tm = unsafe {
                let mut tm: libc::tm = std::mem::zeroed();
                libc::gmtime_r(&raw const seconds, &raw mut tm);
                tm
            };
            let expected = (i64::from(tm.tm_year) + 1900, tm.tm_mon as usize + 1, i64::from(tm.tm_mday));
            assert_eq!(civil_date(days), expected, "day {days}");
        }
    }
}
