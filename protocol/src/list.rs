//! Lists on the wire: bounded by their number, whatever their frame has room for.

use crate::limits::MAX_PAGE_ENTRIES;
use serde::{Deserialize, Deserializer, de};
use std::{fmt, marker::PhantomData};

/// Most values of one list: two pages, so that a page that is gathered from two sources and a
/// little over is still a page and not the end of its connection.
const MAX_LIST_ENTRIES: usize = 2 * MAX_PAGE_ENTRIES;

/// Deserializes at most [`MAX_LIST_ENTRIES`] values.
///
/// A value can take fifty times its bytes on the wire, so the length of the frame alone is no
/// bound worth having.
///
/// # Errors
///
/// A claim of more is refused before memory is set aside for any.
pub(crate) fn deserialize_page<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Page<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Page<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_LIST_ENTRIES}")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
            let claimed = values.size_hint().unwrap_or(0);
            if claimed > MAX_LIST_ENTRIES {
                return Err(de::Error::invalid_length(claimed, &self));
            }
            let mut page = Vec::with_capacity(claimed);
            while let Some(value) = values.next_element()? {
                if page.len() == MAX_LIST_ENTRIES {
                    return Err(de::Error::invalid_length(page.len() + 1, &self));
                }
                page.push(value);
            }
            Ok(page)
        }
    }

    deserializer.deserialize_seq(Page(PhantomData))
}
