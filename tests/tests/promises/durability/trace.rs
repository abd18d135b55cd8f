//! What strace saw of a daemon, and what must come before what in it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use tests::{Place, eventually};

/// Runs daemons under strace, which follows them from a process of its own.
pub(super) fn traced(place: &Place, trace: &Path) -> Place {
    let words = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-yy",
        "-x",
        "-s",
        "8192",
        "-e",
        "trace=fdatasync,fsync,write,writev,pwrite64,sendto,sendmsg",
        "-o",
    ];
    let words = words.iter().map(OsString::from);
    place.through(words.chain([trace.as_os_str().to_owned(), "--".into()]))
}

/// The system calls of one daemon.
pub(super) struct Trace {
    path: PathBuf,
    database: &'static str,
    lines: Vec<String>,
}

impl Trace {
    /// Reads what was traced, once it has the answer to the request with `last` in it, and that
    /// on its way to a reader if it `is_read`: the tracer writes behind the program's back.
    pub(super) fn new(path: PathBuf, database: &'static str, last: &str, is_read: bool) -> Self {
        let last = hex(last);
        let lines = eventually("the trace is complete", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let written = position(&lines, 0, |line| writes(line, database, &last));
            let told = written.and_then(|line| position(&lines, line, is_reply));
            let read = position(&lines, 0, |line| publishes(line, &last));
            match told.is_some() && (read.is_some() || !is_read) {
                true => Ok(lines),
                false => Err(format!("{} lines", lines.len())),
            }
        });
        Self {
            path,
            database,
            lines,
        }
    }

    /// Finds, for every marker, the write of it to the log, then the end of a synchronisation
    /// of that file, and only then a reply to the peer, or the marker on its way to a reader,
    /// of whom there is one if it `is_read`.
    pub(super) fn assert_synchronised_first(&self, markers: &[String], is_read: bool) {
        let Self { lines, path, .. } = self;
        for marker in markers {
            let hexed = hex(marker);
            let written = position(lines, 0, |line| writes(line, self.database, &hexed))
                .unwrap_or_else(|| panic!("{marker} was never written to {}", self.database));
            let synchronised =
                position(lines, written, |line| ends_sync(line, lines, self.database))
                    .unwrap_or_else(|| panic!("{marker} was never synchronised"));
            let told = position(lines, written, is_reply)
                .unwrap_or_else(|| panic!("{marker} was never acknowledged"));
            let read = position(lines, 0, |line| publishes(line, &hexed));
            assert!(read.is_some() || !is_read, "{marker}: nobody got it");
            for (what, line) in [("acknowledged", Some(told)), ("told to a reader", read)] {
                assert!(
                    line.is_none_or(|line| synchronised < line),
                    "{marker}: written in line {written}, {what} in line {line:?}, \
                     synchronised in line {synchronised} of {}",
                    path.display()
                );
            }
        }
    }
}

impl Trace {
    /// Reads what was traced of a NATS server, once it has the acknowledgements of all that was
    /// `stored`: texts, and the seqs that they were answered with.
    pub(super) fn of_nats(path: PathBuf, stored: &[(String, u64)]) -> Self {
        let lines = eventually("the trace is complete", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let is_there = |seq| position(&lines, 0, |line| acknowledges(line, seq)).is_some();
            match stored.iter().all(|(_, seq)| is_there(*seq)) {
                true => Ok(lines),
                false => Err(format!("{} lines", lines.len())),
            }
        });
        Self {
            path,
            database: "/streams/chat/msgs/",
            lines,
        }
    }

    /// Finds, for everything that was `stored`, the write of it to a block of the stream, then the
    /// end of a synchronisation of that block, and only then an acknowledgement that covers it, and
    /// the text on its way to whoever consumes the stream.
    pub(super) fn assert_synchronised_before_acknowledged(&self, stored: &[(String, u64)]) {
        let Self { lines, path, .. } = self;
        for (text, seq) in stored {
            let hexed = hex(text);
            let written = position(lines, 0, |line| writes(line, self.database, &hexed))
                .unwrap_or_else(|| panic!("{text} was never written to a block"));
            let synchronised =
                position(lines, written, |line| ends_sync(line, lines, self.database))
                    .unwrap_or_else(|| panic!("{text} was never synchronised"));
            let told = position(lines, 0, |line| acknowledges(line, *seq));
            let read = position(lines, 0, |line| publishes(line, &hexed));
            for (what, line) in [("acknowledged", told), ("delivered", read)] {
                assert!(
                    line.is_none_or(|line| synchronised < line),
                    "{text}: written in line {written}, {what} in line {line:?}, synchronised in \
                     line {synchronised} of {}",
                    path.display()
                );
            }
        }
    }
}

/// Whether a NATS server acknowledges in this line what the stream has at `seq`: by itself, or in a
/// batch that ends there or behind it.
fn acknowledges(line: &str, seq: u64) -> bool {
    const BEFORE_SEQ: &str = "{\"stream\":\"chat\",\"seq\":";
    let Some(data) = socket_data(line) else {
        return false;
    };
    let bytes = unhex(data);
    // What is all printable is printed as it is, between quotation marks that are not its own.
    let plain = data.replace("\\\"", "\"");
    let said = format!("{plain}{}", String::from_utf8_lossy(&bytes));
    said.split(BEFORE_SEQ).skip(1).any(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        let last = digits.and_then(|digits| digits.parse::<u64>().ok());
        last.is_some_and(|last| last >= seq)
    })
}

fn writes(line: &str, database: &str, hexed: &str) -> bool {
    line.contains("pwrite64(") && line.contains(database) && line.contains(hexed)
}

fn position(lines: &[String], from: usize, test: impl Fn(&str) -> bool) -> Option<usize> {
    let found = lines.iter().skip(from).position(|line| test(line));
    found.map(|index| from + index)
}

/// Whether a call that began in this or an earlier line of the same thread and synchronises
/// `database` ends here.
fn ends_sync(line: &str, lines: &[String], database: &str) -> bool {
    let sync = |line: &str| line.contains(" fdatasync(") || line.contains(" fsync(");
    if sync(line) {
        return line.contains(database) && line.ends_with("= 0");
    }
    if !(line.contains("<... fdatasync resumed>") || line.contains("<... fsync resumed>")) {
        return false;
    }
    let thread = line.split_whitespace().next();
    let here = lines
        .iter()
        .position(|other| std::ptr::eq(other.as_str(), line));
    let before = &lines[..here.unwrap_or(0)];
    let of_thread = |other: &&String| other.split_whitespace().next() == thread && sync(other);
    let began = before.iter().rev().find(of_thread);
    line.ends_with("= 0") && began.is_some_and(|began| began.contains(database))
}

fn publishes(line: &str, hexed: &str) -> bool {
    socket_data(line).is_some_and(|data| data.contains(hexed))
}

/// What this line writes to a socket, as it is printed.
fn socket_data(line: &str) -> Option<&str> {
    let calls = [" write(", " writev(", " sendto(", " sendmsg("];
    let sockets = ["<TCP", "<UNIX", "<socket:"];
    calls.iter().find_map(|call| {
        let (_, args) = line.split_once(call)?;
        let file = args.trim_start_matches(|c: char| c.is_ascii_digit());
        let to_socket = sockets.iter().any(|socket| file.starts_with(socket));
        let (_, data) = to_socket.then(|| file.split_once(">, "))??;
        Some(data)
    })
}

/// Whether this line writes to a socket, and a reply is among the frames.
fn is_reply(line: &str) -> bool {
    const LENGTH_BYTES: usize = 4;
    let bytes = unhex(socket_data(line).unwrap_or_default());
    let mut rest = bytes.as_slice();
    while let Some((length, frame)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        // Both vocabularies have replies first and events second.
        if frame.first() == Some(&0) {
            return true;
        }
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        rest = frame.get(length..).unwrap_or_default();
    }
    false
}

/// As `strace -x` prints a buffer that has this in it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let parts = text.split("\\x").skip(1);
    let byte = |part: &str| u8::from_str_radix(part.get(..2)?, 16).ok();
    parts.filter_map(byte).collect()
}
