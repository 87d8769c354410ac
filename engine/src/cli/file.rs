//! Configuration files: TOML, and errors that name the file, the line and the key.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::{failure::Failure, topics::nearest};

/// More than any configuration has; a device given by mistake is not read to its end.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a configuration.
///
/// # Errors
/// [`Failure::Failed`] where the file cannot be read, [`Failure::Usage`] where it cannot mean anything.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = read_bounded(path).map_err(|error| {
        Failure::Failed(anyhow::anyhow!(
            "the configuration {} cannot be read: {error}; name another one with --config",
            path.display()
        ))
    })?;
    parse(&text).map_err(|wrong| Failure::Usage(format!("{}:{wrong}", path.display())))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(text)
}

/// The configuration in `text`; the error is `LINE: KEY: REASON`.
///
/// # Errors
/// About the first thing that is wrong.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    T::deserialize(Deserializer::parse(text).map_err(|error| describe(text, &error))?)
        .map_err(|error| describe(text, &error))
}

fn describe(text: &str, error: &Error) -> String {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let message = error.message().replace('\n', " ");
    // What can be made of a text that is no TOML will do to name the place.
    let (document, _) = DeTable::parse_recoverable(text);
    let key = key_at(document.get_ref(), at).or_else(|| key_of_line(text, line));
    let message = match unknown(&message) {
        Some((unknown, known)) => match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("no such key; did you mean {near}?"),
            None => format!("no such key; known are {}", known.join(", ")),
        },
        None => message,
    };
    match key {
        Some(key) => format!("{line}: {key}: {message}"),
        None => format!("{line}: {message}"),
    }
}

/// The key that stands, or whose value stands, at this byte: the innermost one.
fn key_at(table: &DeTable<'_>, at: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        if let Some(inner) = inside(value.get_ref(), at) {
            return Some(format!("{name}{inner}"));
        }
        let here = key.span().contains(&at) || value.span().contains(&at);
        here.then(|| name.to_string())
    })
}

/// What stands before the equals sign of a line, where it could be a key.
fn key_of_line(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let key = key.trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!key.is_empty() && key.chars().all(is_key)).then(|| key.to_owned())
}

/// The rest of the path to a key inside of a value.
fn inside(value: &DeValue<'_>, at: usize) -> Option<String> {
    if let Some(table) = value.as_table() {
        return key_at(table, at).map(|key| format!(".{key}"));
    }
    let list = value.as_array()?;
    list.iter().enumerate().find_map(|(index, value)| {
        // As people count.
        let number = index + 1;
        match inside(value.get_ref(), at) {
            Some(inner) => Some(format!("[{number}]{inner}")),
            None => (value.get_ref().is_table() && value.span().contains(&at)).then(|| format!("[{number}]")),
        }
    })
}

/// The unknown key and the known ones, out of what serde says of them.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// Every key that a table of the configuration `T` may have; `path` is empty for the top, else a header such as
/// `[limits]`. Nothing where `T` takes any key.
pub fn keys<T: DeserializeOwned>(path: &str) -> Vec<String> {
    let text = format!("{path}\nno-such-key = 1\n");
    let refused = Deserializer::parse(&text).and_then(|from| T::deserialize(from)).err();
    let message = refused.map(|error| error.message().to_owned()).unwrap_or_default();
    unknown(&message).map(|(_, known)| known.into_iter().map(str::to_owned).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::cli::{text, units::Count};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default, deserialize_with = "text::list")]
        ports: Option<Vec<Count<1, 9>>>,
        #[serde(default)]
        limits: Inner,
        #[serde(default)]
        share: Vec<Inner>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default, deserialize_with = "text::value")]
        mounts: Option<Count<1, 9>>,
    }

    fn wrong(text: &str) -> String {
        parse::<Sample>(text).unwrap_err()
    }

    #[test]
    fn numbers_and_texts_are_the_same() {
        let sample: Sample =
            parse("ports = [1, \"2\"]\n[limits]\nmounts = 3\n[[share]]\nmounts = \"4\"\n").unwrap();
        assert_eq!(sample.ports.unwrap(), [Count(1), Count(2)]);
        assert_eq!((sample.limits.mounts, sample.share[0].mounts), (Some(Count(3)), Some(Count(4))));
        assert_eq!(parse::<Sample>("ports = 5").unwrap().ports.unwrap(), [Count(5)]);
    }

    #[test]
    fn errors_name_line_and_key() {
        assert_eq!(wrong("\n[limits]\nmounts = \"many\"\n"), "3: limits.mounts: \"many\" is no whole number");
        assert_eq!(wrong("ports = [1,\n 77]"), "1: ports: \"77\" is not from 1 to 9");
        assert_eq!(
            wrong("[[share]]\nmounts = 1\n[[share]]\nmounts = false\n"),
            "4: share[2].mounts: \"false\" is no whole number"
        );
        assert_eq!(
            wrong("limits = { mounts = [1] }"),
            "1: limits.mounts: one value is wanted here, not a list"
        );
        assert!(wrong("\nports = = 1").starts_with("2: ports: "), "{}", wrong("\nports = = 1"));
        assert!(
            wrong("ports = 1\nports = 2").starts_with("2: ports: duplicate"),
            "{}",
            wrong("ports = 1\nports = 2")
        );
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert_eq!(wrong("[limits]\nmonts = 1\n"), "2: limits.monts: no such key; did you mean mounts?");
        assert_eq!(wrong("zzz = 1\n"), "1: zzz: no such key; known are ports, limits, share");
        assert_eq!(keys::<Sample>("[limits]"), ["mounts"]);
        assert_eq!(keys::<Sample>(""), ["ports", "limits", "share"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_wrong_usage() {
        let absent = read::<Sample>(Path::new("/nonexistent/host.toml")).unwrap_err();
        assert!(
            matches!(&absent, Failure::Failed(error) if error.to_string().contains("/nonexistent/host.toml"))
        );
        let endless = read::<Sample>(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, Failure::Failed(_)));
    }
}
