//! Names on the wire: borrowed from the frame, parsed, and only then copied.

use serde::{Deserializer, de};
use std::fmt;

/// Characters of a refused text that its error repeats.
const EXCERPT_CHARS: usize = 80;

/// The beginning of a refused `text`, so that an error is never much larger than its message.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Deserializes what `parse` makes of a text, without a copy of a text that it refuses.
pub(crate) fn deserialize_parsed<'de, D, T, E>(
    deserializer: D,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    struct Parsed<T, E> {
        parse: fn(&str) -> Result<T, E>,
    }

    impl<T, E: fmt::Display> de::Visitor<'_> for Parsed<T, E> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<V: de::Error>(self, text: &str) -> Result<T, V> {
            (self.parse)(text).map_err(V::custom)
        }
    }

    deserializer.deserialize_str(Parsed { parse })
}

/// On the wire a `$name` is its text.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::text::deserialize_parsed(deserializer, Self::parse)
            }
        }
    };
}
pub(crate) use serde_as_text;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Nick, Room, UserName};

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_huge_text() {
        let huge = "\u{1}".repeat(1 << 20);
        assert!(excerpt(&huge).len() < 100);
        assert!(Room::parse(&huge).unwrap_err().to_string().len() < 1_000);
        assert!(UserName::parse(&huge).unwrap_err().to_string().len() < 1_000);
        assert!(Nick::parse(&huge).unwrap_err().to_string().len() < 1_000);
        let accents = "\u{e9}".repeat(81);
        assert_eq!(excerpt(&accents).chars().count(), 81);
        assert_eq!(excerpt("short"), "short");
    }
}
