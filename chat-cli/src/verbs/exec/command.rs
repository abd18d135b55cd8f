//! The command of `chat exec`: one pipe for all it prints, and how it ended.

use crate::exit::{Failure, say};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};
use tokio::{
    net::unix::pipe,
    process::{Child, Command},
};

/// Exit codes of shells for what cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// A command that runs, and what it prints, on standard output and error in one.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) output: pipe::Receiver,
}

/// Starts a command. It has this process's standard input.
///
/// # Errors
///
/// If there is no pipe, or the command cannot be run.
pub(super) fn start(words: &[OsString]) -> io::Result<Running> {
    let (reader, writer) = io::pipe()?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let program = words.first().cloned().unwrap_or_default();
    // Dropped at the end with its ends of the pipe: only the command has them then.
    let child = Command::new(program)
        .args(words.iter().skip(1))
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    Ok(Running { child, output })
}

/// The exit code for a command that could not be run.
pub(super) fn code_of_error(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_RUN
    }
}

/// The exit code of a command as shells tell it: 128 and the signal's number if it was ended by one.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Passes a signal on that this process was sent.
pub(super) fn pass_on(child: &Child, signal: Signal) {
    // What the terminal sends it sends to both.
    if matches!(signal, Signal::INT | Signal::HUP) && is_in_foreground() {
        return;
    }
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && let Err(error) = kill_process(pid, signal)
    {
        say(&format!("the command could not be told to end: {error}"));
    }
}

fn is_in_foreground() -> bool {
    let group = rustix::termios::tcgetpgrp(io::stdin())
        .or_else(|_| rustix::termios::tcgetpgrp(io::stderr()));
    group.is_ok_and(|group| group == getpgrp())
}

/// The command as one would type it, on one line and not too much of it.
pub(super) fn name(words: &[OsString]) -> String {
    const MOST: usize = 120;
    let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
    let line = words.collect::<Vec<_>>().join(" ");
    let line = crate::render::line(&line);
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}\u{2026}", &line[..end]),
        None => line.into_owned(),
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "%+,-./:=@_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What is told of a command in the end.
pub(super) fn verdict(words: &[OsString], status: ExitStatus, took: Duration) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    };
    format!("`{}` {how} after {}", name(words), duration(took))
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

fn duration(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else if seconds < 3_600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60)
    }
}

/// Why a command could not be run, for the room and for standard error.
pub(super) fn not_run(words: &[OsString], error: &io::Error) -> String {
    format!("`{}` could not be run: {error}", name(words))
}

/// What is left in the pipe of a command that has ended, as far as it has been written.
///
/// # Errors
///
/// [`Failure`] if the pipe cannot be read.
pub(super) fn drain(output: &pipe::Receiver, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match output.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count]),
            // Somebody whom the command left behind has it open still.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Failure::failed(format_args!("the pipe: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_as_one_would_type_it() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for (command, shown) in [
            (&["make", "-j4", "all"][..], "make -j4 all"),
            (&["sh", "-c", "exit 3"], "sh -c 'exit 3'"),
            (&["echo", "it's", ""], r"echo 'it'\''s' ''"),
            (&["printf", "a\nb\u{1b}"], r"printf 'a\nb\x1b'"),
        ] {
            assert_eq!(name(&words(command)), shown);
        }
        assert_eq!(name(&words(&[&"x".repeat(500)])).chars().count(), 121);
    }

    #[test]
    fn how_it_ended_is_told_in_words_and_as_a_shell_does() {
        let words = [OsString::from("make")];
        for (raw, seconds, told, number) in [
            (0, 3.21, "`make` ended with 0 after 3.2 s", 0),
            (3 << 8, 125.0, "`make` ended with 3 after 2 min 5 s", 3),
            (
                15,
                7_300.0,
                "`make` was ended by SIGTERM after 2 h 1 min",
                143,
            ),
            (40, 0.0, "`make` was ended by signal 40 after 0.0 s", 168),
        ] {
            let status = ExitStatus::from_raw(raw);
            let took = Duration::from_secs_f64(seconds);
            assert_eq!(verdict(&words, status, took), told);
            assert_eq!(code(status), number);
        }
    }
}
