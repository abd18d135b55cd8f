//! Nasty inputs made by hand, one a file in `corpus`, replayed with what each must give.
//!
//! A file has `#` comments, lines `expect VOCABULARY END` (`any` for every vocabulary), and the
//! bytes of the stream as hex digits, spaced as its author liked.

use crate::decode::read_in_every_vocabulary;
use protocol::{EncodedBody, Preface};
use std::{fs, path::Path};
use tokio_util::bytes::Bytes;

struct Case {
    name: String,
    expected: Vec<(String, String)>,
    bytes: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            parse(name, &fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn parse(name: String, text: &str) -> Case {
    let mut expected = Vec::new();
    let mut digits = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("expect ") {
            let (vocabulary, end) = rest.split_once(' ').expect("expect VOCABULARY END");
            expected.push((vocabulary.to_owned(), end.to_owned()));
        } else {
            let new = line.chars().filter(|c| !c.is_whitespace());
            digits.extend(new.map(|c| c.to_digit(16).expect("a hex digit") as u8));
        }
    }
    assert!(digits.len().is_multiple_of(2), "{name} has half a byte");
    assert!(!expected.is_empty(), "{name} expects nothing");
    Case {
        name,
        expected,
        bytes: digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    }
}

#[test]
fn every_nasty_input_ends_as_expected() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} files were found", cases.len());
    for Case {
        name,
        expected,
        bytes,
    } in cases
    {
        let ends = read_in_every_vocabulary(&bytes);
        for (vocabulary, end) in expected {
            let concerned = |found: &str| vocabulary == "any" || vocabulary == found;
            let mut matched = ends.iter().filter(|(found, _)| concerned(found)).peekable();
            assert!(matched.peek().is_some(), "{name}: what is {vocabulary}?");
            for (found, actual) in matched {
                assert_eq!(actual.to_string(), end, "{name} as {found}");
            }
        }
        survives_elsewhere(&bytes);
    }
}

/// The same bytes in the other places where bytes arrive.
fn survives_elsewhere(bytes: &[u8]) {
    let mut first = [0; 16];
    let len = bytes.len().min(16);
    first[..len].copy_from_slice(&bytes[..len]);
    if let Ok(preface) = Preface::from_bytes(first) {
        assert_eq!(preface.to_bytes(), first);
    }
    for start in [0, 4.min(bytes.len())] {
        if let Ok(body) = EncodedBody::from_bytes(Bytes::copy_from_slice(&bytes[start..])) {
            // Either answer will do, as long as it is one.
            let _ = body.decode();
        }
    }
}
