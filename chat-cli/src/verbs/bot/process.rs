//! The program of a bot: a child with three pipes, in a process group of its own.
//!
//! The pipe to it holds one block only. So it can be written to again exactly when the program has
//! taken all that was in it. And of each line the first byte goes alone: when that is taken, the
//! program has come back for more, without having seen what. All that it printed before is about
//! what it had already, and all that it prints after is not. This holds for whatever reads a line
//! or more before it answers; nothing is asked of the program, and no time is guessed.

use crate::{
    bounded::{Line, Lines},
    wait::until,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, Signal, kill_process_group},
};
use std::{
    ffi::OsString,
    future::pending,
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, Interest, unix::AsyncFd},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::Instant,
};

/// Less than a page: the system makes it one block.
const PIPE_BYTES: usize = 4096;

/// Longest line that is heard of the program; an object of JSON needs more than what it says.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// Longest complaint of the program that is repeated.
const MAX_COMPLAINT_BYTES: usize = 4096;

/// How long what a program has printed may take to be read once it has ended: somebody it left
/// behind may have its pipe open.
const LINGER: Duration = Duration::from_secs(1);

/// What a program did.
#[derive(Debug)]
pub(super) enum Deed {
    /// It has come back for more, and is about to get the line that it is given.
    CameBack,
    /// It has taken all of the line, and can be given another.
    Took,
    /// It printed a line.
    Said(Line),
    /// It printed a line on standard error.
    Complained(Line),
    /// It has ended.
    Ended(ExitStatus),
}

/// A program that runs.
pub(super) struct Process {
    child: Child,
    pub(super) began: Instant,
    stdin: Option<AsyncFd<OwnedFd>>,
    /// Whether it has closed its end.
    deaf: bool,
    giving: Giving,
    stdout: Option<Lines<ChildStdout>>,
    stderr: Option<Lines<ChildStderr>>,
    ended: Option<(ExitStatus, Instant)>,
}

/// A line that is being put in the pipe.
#[derive(Default)]
struct Giving {
    bytes: Vec<u8>,
    written: usize,
    stage: Stage,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is given.
    #[default]
    Idle,
    /// The first byte goes, or lies in the pipe.
    First,
    /// The first byte was taken; what was printed before that is still to be read.
    Back,
    /// The rest goes, or lies in the pipe.
    Rest,
}

impl Giving {
    /// How many of the bytes may be in the pipe by now.
    const fn end(&self) -> usize {
        match self.stage {
            Stage::Idle | Stage::Back => self.written,
            Stage::First => 1,
            Stage::Rest => self.bytes.len(),
        }
    }
}

impl Process {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// If there is no pipe, or it cannot be run.
    pub(super) fn start(words: &[OsString]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES)?;
        ioctl_fionbio(&writer, true)?;
        let program = words.first().cloned().unwrap_or_default();
        let mut child = Command::new(program)
            .args(words.iter().skip(1))
            .stdin(reader)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for this process, which ends it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            began: Instant::now(),
            stdin: Some(watched(OwnedFd::from(writer))?),
            deaf: false,
            giving: Giving::default(),
            stdout: child
                .stdout
                .take()
                .map(|out| Lines::new(out, MAX_LINE_BYTES)),
            stderr: child
                .stderr
                .take()
                .map(|err| Lines::new(err, MAX_COMPLAINT_BYTES)),
            child,
            ended: None,
        })
    }

    /// Whether it can be given something.
    pub(super) fn is_free(&self) -> bool {
        self.stdin.is_some() && !self.is_taking()
    }

    /// Whether it has not taken all that it was given.
    pub(super) fn is_taking(&self) -> bool {
        self.giving.stage != Stage::Idle
    }

    /// Gives it a line; [`Deed::CameBack`] says when it is about to get that. The caller asked
    /// [`Process::is_free`] before.
    pub(super) fn give(&mut self, line: &str) {
        self.giving = Giving {
            bytes: [line.as_bytes(), b"\n"].concat(),
            written: 0,
            stage: Stage::First,
        };
    }

    /// Lets it see the end of what it is given.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to it and those it has started.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = pid.and_then(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits for the next thing that it does; what it says only if somebody can `listen`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self, listen: bool) -> io::Result<Deed> {
        loop {
            if listen && self.giving.stage == Stage::Back {
                let said = match &mut self.stdout {
                    Some(stdout) => stdout.take_now()?,
                    None => None,
                };
                if let Some(line) = said {
                    return Ok(Deed::Said(line));
                }
                self.giving.stage = Stage::Rest;
                return Ok(Deed::CameBack);
            }
            if let Some((status, _)) = self.ended
                && self.stdout.is_none()
                && self.stderr.is_none()
            {
                return Ok(Deed::Ended(status));
            }
            let is_giving = matches!(self.giving.stage, Stage::First | Stage::Rest);
            let linger = self.ended.map(|(_, at)| at + LINGER);
            tokio::select! {
                // In this order, so that what it printed comes before that it has ended.
                biased;
                line = next_line(&mut self.stdout), if listen && self.stdout.is_some() => {
                    match line? {
                        Some(line) => return Ok(Deed::Said(line)),
                        None => self.stdout = None,
                    }
                }
                line = next_line(&mut self.stderr), if self.stderr.is_some() => {
                    match line? {
                        Some(line) => return Ok(Deed::Complained(line)),
                        None => self.stderr = None,
                    }
                }
                taken = give(self.stdin.as_ref(), &mut self.giving),
                    if is_giving && !self.deaf && self.ended.is_none() =>
                {
                    match self.giving.stage {
                        _ if !taken? => self.deaf = true,
                        Stage::First => self.giving.stage = Stage::Back,
                        _ => {
                            self.giving = Giving::default();
                            // Whoever has more to give must hear of it: nothing else may happen.
                            return Ok(Deed::Took);
                        }
                    }
                }
                status = self.child.wait(), if self.ended.is_none() => {
                    self.ended = Some((status?, Instant::now()));
                }
                () = until(linger), if listen && linger.is_some() => {
                    self.stdout = None;
                    self.stderr = None;
                }
                else => return pending().await,
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "sound for an `OwnedFd`, which stays open and the same; its successor is `unsafe`"
)]
fn watched(pipe: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pipe, Interest::WRITABLE)
}

/// Never, from what has ended.
async fn next_line<R: AsyncRead + Unpin>(lines: &mut Option<Lines<R>>) -> io::Result<Option<Line>> {
    match lines {
        Some(lines) => lines.next().await,
        None => pending().await,
    }
}

/// Writes what may be in the pipe by now and waits until it is taken; false if nobody can.
///
/// # Cancel safety
///
/// Cancel safe: nothing is written twice.
async fn give(stdin: Option<&AsyncFd<OwnedFd>>, giving: &mut Giving) -> io::Result<bool> {
    let Some(stdin) = stdin else {
        return Ok(false);
    };
    loop {
        let mut ready = stdin.writable().await?;
        let rest = &giving.bytes[giving.written..giving.end()];
        let done = ready.try_io(|fd| {
            if rest.is_empty() {
                return is_empty(fd.get_ref()).map(|()| 0);
            }
            Ok(rustix::io::write(fd.get_ref(), rest)?)
        });
        match done {
            Ok(Ok(0)) => return Ok(true),
            Ok(Ok(count)) => giving.written += count,
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

/// Whether all was taken out of a pipe of one block; "would block" if not.
fn is_empty(pipe: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(pipe, PollFlags::OUT)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now))?;
    let is = fds[0].revents();
    if is.contains(PollFlags::ERR) {
        Err(Errno::PIPE.into())
    } else if is.contains(PollFlags::OUT) {
        Ok(())
    } else {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
