//! Values of a configuration file: each is read from its text, as the command line and the environment give it.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// A string, a number or a truth value, as it is written.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        let mut texts = from.deserialize_any(Texts { lists: false })?;
        texts.pop().map(Text).ok_or_else(|| D::Error::custom("nothing"))
    }
}

/// Takes one value, or a list of them.
struct Texts {
    lists: bool,
}

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lists { "a value or a list of values" } else { "a value" })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Vec<String>, E> {
        Ok(vec![value.to_owned()])
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Vec<String>, E> {
        Ok(vec![value.to_string()])
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Vec<String>, E> {
        Ok(vec![value.to_string()])
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Vec<String>, E> {
        Ok(vec![value.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        if !self.lists {
            return Err(A::Error::custom("one value is wanted here, not a list"));
        }
        let mut texts = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

fn parse<T: FromStr<Err: fmt::Display>, E: Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(|error: T::Err| {
        let reason = error.to_string();
        let quoted = format!("{text:?}");
        // A type of ours names the value itself.
        E::custom(if reason.contains(&quoted) { reason } else { format!("{quoted}: {reason}") })
    })
}

/// One value.
///
/// # Errors
/// What its type says of it.
pub fn value<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    parse(&Text::deserialize(from)?.0).map(Some)
}

/// One value or a list of them.
///
/// # Errors
/// What their type says of the first wrong one.
pub fn list<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = from.deserialize_any(Texts { lists: true })?;
    texts.iter().map(|text| parse(text)).collect::<Result<_, _>>().map(Some)
}

/// A path that is there; of a key that must be given.
///
/// # Errors
/// When it is empty.
pub fn path<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let Text(path) = Text::deserialize(from)?;
    if path.is_empty() { Err(D::Error::custom("\"\" is an empty path")) } else { Ok(path.into()) }
}
