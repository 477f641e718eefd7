//! `discovery.conf`: a line for each discovery controller, of the options that `nvme discover` has.

use std::str::FromStr;

use nvme_spec::{HostId, Nqn};

use super::connection::{Connection, Secret};

/// What `discovery.conf` says, as nvme-cli reads it.
///
/// Words are separated by white space, an option's value from its name by white space or `=`, and
/// there are no quotes. Lines that are empty or begin with `#` are left out, and so are those with
/// neither a transport nor an address. A line that is wrong is passed over; the others count.
/// Options that say how to print, or what to do beside connecting, are allowed and of no matter.
///
/// One thing is different: nvme-cli cuts a value at a `=` in it, and with that every secret for
/// DH-HMAC-CHAP; here it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DiscoveryConf {
    /// The connections, in the order of their lines; each is one to a discovery controller.
    pub connections: Vec<Connection>,
    /// The lines that are wrong.
    pub errors: Vec<LineError>,
}

/// A line that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
#[non_exhaustive]
pub struct LineError {
    /// Its number; the first is 1.
    pub line: usize,
    /// What is wrong.
    pub problem: LineProblem,
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// There is no such option.
    #[error("there is no option `{}`", .0.escape_debug())]
    Unknown(String),
    /// The beginning of an option's name could be that of several.
    #[error("`{}` could be several options", .0.escape_debug())]
    Ambiguous(String),
    /// The option has no value.
    #[error("{0} has no value")]
    NoValue(&'static str),
    /// The option has a value, and cannot have one.
    #[error("{option} has no value, and `{}` is one", value.escape_debug())]
    Flag {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
    },
    /// The value is none of this option.
    #[error("`{}` is no value of {option}: {reason}", value.escape_debug())]
    Value {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A word that belongs to no option.
    #[error("`{}` belongs to no option", .0.escape_debug())]
    Stray(String),
}

impl DiscoveryConf {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            if text.starts_with('#') || text.trim().is_empty() {
                continue;
            }
            let place = format!("line {line}");
            let discovery = Connection { place, discovery: true, ..Connection::default() };
            match parse_line(text, discovery) {
                Ok(one) if one.transport.is_none() && one.traddr.is_none() => {}
                Ok(one) => conf.connections.push(one),
                Err(problem) => conf.errors.push(LineError { line, problem }),
            }
        }
        conf
    }
}

/// What becomes of an option.
enum Effect {
    /// It has a value, which this keeps.
    Value(fn(&mut Connection, &str) -> Result<(), String>),
    /// It has none, and this is what it says.
    Flag(fn(&mut Connection)),
    /// It has a value that is of no matter here.
    ValueIgnored,
    /// It has none, and is of no matter here.
    FlagIgnored,
}

use Effect::{Flag, FlagIgnored, Value, ValueIgnored};

/// The options of `nvme discover`: the letter, `\0` for none; the name; what it does.
const OPTIONS: &[(char, &str, Effect)] = &[
    ('t', "--transport", Value(|c, v| keep(&mut c.transport, v))),
    ('a', "--traddr", Value(|c, v| keep(&mut c.traddr, v))),
    ('s', "--trsvcid", Value(|c, v| keep(&mut c.trsvcid, v))),
    ('w', "--host-traddr", Value(|c, v| keep(&mut c.host_traddr, v))),
    ('f', "--host-iface", Value(|c, v| keep(&mut c.host_iface, v))),
    ('n', "--nqn", Value(|c, v| keep_nqn(&mut c.nqn, v))),
    ('q', "--hostnqn", Value(|c, v| keep_nqn(&mut c.hostnqn, v))),
    ('I', "--hostid", Value(|c, v| keep(&mut c.hostid, v).and_then(|()| not_zero(c.hostid)))),
    ('S', "--dhchap-secret", Value(|c, v| keep_secret(&mut c.dhchap_secret, v))),
    ('C', "--dhchap-ctrl-secret", Value(|c, v| keep_secret(&mut c.dhchap_ctrl_secret, v))),
    ('\0', "--keyring", Value(|c, v| keep(&mut c.keyring, v))),
    ('\0', "--tls-key", Value(|c, v| keep_secret(&mut c.tls_key, v))),
    ('\0', "--tls-key-identity", Value(|c, v| keep(&mut c.tls_key_identity, v))),
    ('i', "--nr-io-queues", Value(|c, v| keep_number(&mut c.nr_io_queues, v))),
    ('W', "--nr-write-queues", Value(|c, v| keep_number(&mut c.nr_write_queues, v))),
    ('P', "--nr-poll-queues", Value(|c, v| keep_number(&mut c.nr_poll_queues, v))),
    ('Q', "--queue-size", Value(|c, v| keep_number(&mut c.queue_size, v))),
    ('k', "--keep-alive-tmo", Value(|c, v| keep_number(&mut c.keep_alive_tmo, v))),
    ('c', "--reconnect-delay", Value(|c, v| keep_number(&mut c.reconnect_delay, v))),
    ('l', "--ctrl-loss-tmo", Value(|c, v| keep_number(&mut c.ctrl_loss_tmo, v))),
    ('F', "--fast-io-fail-tmo", Value(|c, v| keep_number(&mut c.fast_io_fail_tmo, v))),
    ('T', "--tos", Value(|c, v| keep_number(&mut c.tos, v))),
    ('D', "--duplicate-connect", Flag(|c| c.duplicate_connect = true)),
    ('\0', "--disable-sqflow", Flag(|c| c.disable_sqflow = true)),
    ('g', "--hdr-digest", Flag(|c| c.hdr_digest = true)),
    ('G', "--data-digest", Flag(|c| c.data_digest = true)),
    ('\0', "--tls", Flag(|c| c.tls = true)),
    ('\0', "--concat", Flag(|c| c.concat = true)),
    ('p', "--persistent", Flag(|c| c.persistent = true)),
    ('d', "--device", ValueIgnored),
    ('r', "--raw", ValueIgnored),
    ('J', "--config", ValueIgnored),
    ('o', "--output-format", ValueIgnored),
    ('\0', "--context", ValueIgnored),
    ('\0', "--nbft-path", ValueIgnored),
    ('v', "--verbose", FlagIgnored),
    ('O', "--dump-config", FlagIgnored),
    ('m', "--matching", FlagIgnored),
    ('\0', "--quiet", FlagIgnored),
    ('\0', "--force", FlagIgnored),
    ('\0', "--nbft", FlagIgnored),
    ('\0', "--no-nbft", FlagIgnored),
];

type Known = (char, &'static str, Effect);

fn parse_line(text: &str, mut connection: Connection) -> Result<Connection, LineProblem> {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix("--") {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let option = by_name(name).map_err(|why| why(word.to_owned()))?;
            apply(option, value, &mut words, &mut connection)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            short(letters, &mut words, &mut connection)?;
        } else {
            return Err(LineProblem::Stray(word.to_owned()));
        }
    }
    Ok(connection)
}

/// Letters in one word: any number of flags, and at the end one with a value, which may be in the
/// same word.
fn short<'a>(
    letters: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
    connection: &mut Connection,
) -> Result<(), LineProblem> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let option = OPTIONS.iter().find(|(known, ..)| *known == letter && letter != '\0');
        let option = option.ok_or_else(|| LineProblem::Unknown(format!("-{letter}")))?;
        if !matches!(option.2, Value(_) | ValueIgnored) {
            apply(option, None, words, connection)?;
            continue;
        }
        let value = rest.strip_prefix('=').unwrap_or(rest);
        return apply(option, Some(value).filter(|value| !value.is_empty()), words, connection);
    }
    Ok(())
}

/// The option of this name, or of one that begins so; `_` is as good as `-`.
fn by_name(name: &str) -> Result<&'static Known, fn(String) -> LineProblem> {
    let name = name.replace('_', "-");
    let named = |option: &&Known| option.1[2..] == name;
    if let Some(option) = OPTIONS.iter().find(named) {
        return Ok(option);
    }
    let mut begun = OPTIONS.iter().filter(|option| option.1[2..].starts_with(&name));
    match (begun.next(), begun.next()) {
        (Some(option), None) if !name.is_empty() => Ok(option),
        (Some(_), Some(_)) if !name.is_empty() => Err(LineProblem::Ambiguous),
        _ => Err(LineProblem::Unknown),
    }
}

fn apply<'a>(
    (_, name, effect): &'static Known,
    value: Option<&'a str>,
    words: &mut impl Iterator<Item = &'a str>,
    connection: &mut Connection,
) -> Result<(), LineProblem> {
    match (effect, value) {
        (Flag(_) | FlagIgnored, Some(value)) => {
            Err(LineProblem::Flag { option: name, value: value.to_owned() })
        }
        (Flag(set), None) => {
            set(connection);
            Ok(())
        }
        (FlagIgnored, None) => Ok(()),
        (Value(_) | ValueIgnored, value) => {
            let value = value.or_else(|| words.next()).filter(|value| !value.is_empty());
            let value = value.ok_or(LineProblem::NoValue(name))?;
            match effect {
                Value(keep) => keep(connection, value).map_err(|reason| LineProblem::Value {
                    option: name,
                    value: value.to_owned(),
                    reason,
                }),
                _ => Ok(()),
            }
        }
    }
}

fn keep<T: FromStr<Err: ToString>>(place: &mut Option<T>, value: &str) -> Result<(), String> {
    *place = Some(value.parse().map_err(|error: T::Err| error.to_string())?);
    Ok(())
}

fn keep_nqn(place: &mut Option<Nqn>, value: &str) -> Result<(), String> {
    *place = Some(Nqn::lenient(value).map_err(|error| error.to_string())?);
    Ok(())
}

fn keep_secret(place: &mut Option<Secret>, value: &str) -> Result<(), String> {
    *place = Some(Secret::new(value));
    Ok(())
}

fn not_zero(id: Option<HostId>) -> Result<(), String> {
    match id {
        Some(id) if id.is_zero() => Err("zeroes name no host".to_owned()),
        _ => Ok(()),
    }
}

/// A number in decimal, or as in 0x1f.
fn keep_number<T: TryFrom<i64>>(place: &mut Option<T>, value: &str) -> Result<(), String> {
    let parsed = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            i64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => value.parse().ok(),
    };
    let number = parsed.and_then(|number| T::try_from(number).ok());
    *place = Some(number.ok_or("it is no number, or too large")?);
    Ok(())
}

#[cfg(test)]
mod tests;
