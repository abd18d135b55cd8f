//! Names values, encodes them, and compares with the committed lines.

use protocol::{CodecError, FrameCodec, encode_frame};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt, fmt::Write as _};
use tokio_util::{bytes::BytesMut, codec::Decoder};

/// Every golden value of one protocol version, in the order of the file.
#[derive(Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    frame: Vec<u8>,
    check: Check,
}

/// Panics unless the bytes decode to the value.
type Check = Box<dyn Fn(&[u8])>;

/// What a wire type must be able to do here.
pub(crate) trait Wire:
    Serialize + DeserializeOwned + PartialEq + fmt::Debug + Clone
{
}
impl<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug + Clone> Wire for T {}

impl Table {
    /// Adds each variant of an enum, in wire order, as the frame that `wrap` makes of it.
    ///
    /// Fails unless `samples` are all variants of the enum, each once and in order: an appended
    /// variant cannot be forgotten, also where `#[non_exhaustive]` forbids an exhaustive `match`.
    pub(crate) fn variants<T: Wire, F: Wire + 'static>(
        &mut self,
        enum_name: &str,
        samples: impl IntoIterator<Item = T>,
        wrap: impl Fn(T) -> F,
    ) {
        let mut count = 0_u8;
        for sample in samples {
            let name = format!("{enum_name}::{}", variant_name(&sample));
            let alone = encode_frame(&sample).unwrap();
            assert_eq!(alone[4], count, "{name} has another place in its enum");
            self.add(name, wrap(sample));
            count += 1;
        }
        match decode::<T>(&[0, 0, 0, 1, count]) {
            Err(CodecError::Malformed { reason })
                if reason.contains(&format!("variant index 0 <= i < {count}")) => {}
            other => panic!("{enum_name} has more than {count} variants: {other:?}"),
        }
    }

    fn add<F: Wire + 'static>(&mut self, name: String, value: F) {
        let frame = encode_frame(&value).unwrap().to_vec();
        let check = {
            let name = name.clone();
            Box::new(move |bytes: &[u8]| match decode::<F>(bytes) {
                Ok(Some(decoded)) => assert_eq!(decoded, value, "{name}"),
                other => panic!("{name}: {other:?}"),
            })
        };
        self.entries.push(Entry { name, frame, check });
    }

    /// The file as this build would write it.
    pub(crate) fn render(&self) -> String {
        let mut text = String::from(
            "# Frames of protocol version 1, length prefix included. A line that changes is a\n\
             # broken wire; new lines are appended variants.\n",
        );
        for entry in &self.entries {
            writeln!(text, "{} {}", entry.name, hex(&entry.frame)).unwrap();
        }
        text
    }

    /// Fails unless `committed` has exactly these values, encoded as this build does, and this
    /// build reads each line as its value.
    pub(crate) fn compare(&self, committed: &str) {
        let mut lines = BTreeMap::new();
        for line in committed.lines().filter(|line| !line.starts_with('#')) {
            let (name, digits) = line.split_once(' ').expect("a line is `name hex`");
            let before = lines.insert(name, unhex(digits));
            assert!(before.is_none(), "{name} is there twice");
        }
        for entry in &self.entries {
            let name = &entry.name;
            let bytes = lines
                .remove(name.as_str())
                .unwrap_or_else(|| panic!("{name} has no line: run again with CHAT_BLESS=1"));
            (entry.check)(&bytes);
            assert_eq!(
                hex(&entry.frame),
                hex(&bytes),
                "{name} is encoded otherwise"
            );
        }
        assert!(
            lines.is_empty(),
            "lines without a value: {:?}",
            lines.keys()
        );
    }
}

/// The first word of the derived `Debug`.
fn variant_name(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

fn decode<F: DeserializeOwned>(bytes: &[u8]) -> Result<Option<F>, CodecError> {
    FrameCodec::<F, ()>::new().decode_eof(&mut BytesMut::from(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte: {digits}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}
