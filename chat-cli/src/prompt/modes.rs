//! The terminal's modes: as they were found, and as the editor needs them.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::write,
    process::{Pid, Signal, getpgrp, getpid, kill_process},
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};
use std::{
    fmt,
    fs::{self, read_dir},
    io,
    os::fd::{AsFd, OwnedFd},
    panic,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Marks what is pasted, so that its line ends do not count as the Enter key.
pub(super) const PASTE_ON: &str = "\x1b[?2004h";

/// Ends that.
pub(super) const PASTE_OFF: &str = "\x1b[?2004l";

/// One terminal, and its two modes.
pub(super) struct Modes {
    input: OwnedFd,
    output: OwnedFd,
    /// `None` once it is so again for good.
    found: Mutex<Option<Termios>>,
    /// As the editor sets them; `None` before its first line.
    editing: Mutex<Option<Termios>>,
}

impl fmt::Debug for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modes").finish_non_exhaustive()
    }
}

impl Modes {
    /// Notes the modes of a terminal.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub(super) fn of(input: impl AsFd, output: impl AsFd) -> io::Result<Arc<Self>> {
        let found = tcgetattr(&input)?;
        Ok(Arc::new(Self {
            input: input.as_fd().try_clone_to_owned()?,
            output: output.as_fd().try_clone_to_owned()?,
            found: Mutex::new(Some(found)),
            editing: Mutex::default(),
        }))
    }

    /// Restores the modes in a panic, whichever thread it is in, so that its message can be read
    /// and the terminal be used.
    pub(super) fn restore_on_panic(self: &Arc<Self>) {
        let modes = Arc::downgrade(self);
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(modes) = modes.upgrade() {
                modes.restore_now();
            }
            former(info);
        }));
    }

    /// Notes that the editor has set its modes.
    pub(super) fn note_editing(&self) {
        if let Ok(modes) = tcgetattr(&self.input) {
            *lock(&self.editing) = Some(modes);
        }
    }

    /// Sets what was found, for a while.
    pub(super) fn set_found(&self) {
        if let Some(found) = &*lock(&self.found) {
            // Now, because a stopped terminal never drains. It may also be gone.
            let _ = tcsetattr(&self.input, OptionalActions::Now, found);
        }
    }

    /// Sets what the editor needs.
    pub(super) fn set_editing(&self) {
        if lock(&self.found).is_some()
            && let Some(editing) = &*lock(&self.editing)
        {
            let _ = tcsetattr(&self.input, OptionalActions::Now, editing);
        }
    }

    /// Sets what was found, for good; false if that was so already.
    pub(super) fn restore(&self) -> bool {
        self.set_found();
        lock(&self.found).take().is_some()
    }

    /// As far as it can be done in any state, waiting for nobody.
    fn restore_now(&self) {
        let Ok(found) = self.found.try_lock() else {
            return;
        };
        let Some(found) = &*found else {
            return;
        };
        let _ = tcsetattr(&self.input, OptionalActions::Now, found);
        let mut output = [PollFd::new(&self.output, PollFlags::OUT)];
        if matches!(poll(&mut output, Some(&Timespec::default())), Ok(1)) {
            let _ = write(&self.output, format!("{PASTE_OFF}\r\n").as_bytes());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Poisoning is impossible to act on here: these are plain values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops this process and those it was started with, as Ctrl-Z does where the terminal sees to it;
/// returns when it goes on, or at once where there is nobody who could let it go on.
pub(super) fn suspend() {
    // One signal to all of them would reach this process in any of its threads, at any time; this
    // thread must not go on meanwhile.
    for pid in companions() {
        let _ = kill_process(pid, Signal::TSTP);
    }
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP);
}

/// Has the editor look at the terminal's size, which may have changed while it was stopped.
pub(super) fn ask_for_size() {
    let _ = kill_process(getpid(), Signal::WINCH);
}

/// The other processes of this one's group.
fn companions() -> Vec<Pid> {
    let (group, own) = (getpgrp(), getpid());
    let Ok(processes) = read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != own && group_of(*pid) == Some(group))
        .collect()
}

fn group_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // PID (NAME) STATE PARENT GROUP …; the name may be anything.
    let (_, rest) = stat.rsplit_once(')')?;
    Pid::from_raw(rest.split_whitespace().nth(2)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        io::read,
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
        termios::LocalModes,
    };
    use std::thread;

    #[test]
    fn a_panic_of_any_thread_restores_the_terminal() {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let path = ptsname(&control, Vec::new()).unwrap();
        let line = fs::File::options()
            .read(true)
            .write(true)
            .open(path.to_str().unwrap())
            .unwrap();
        let found = tcgetattr(&line).unwrap();
        let modes = Modes::of(&line, &line).unwrap();
        modes.restore_on_panic();
        let mut editing = found;
        editing.make_raw();
        tcsetattr(&line, OptionalActions::Now, &editing).unwrap();
        modes.note_editing();
        let is_canonical = || {
            let modes = tcgetattr(&line).unwrap().local_modes;
            modes.contains(LocalModes::ICANON | LocalModes::ECHO)
        };
        let panics = || {
            let thread = thread::spawn(|| panic!("on purpose"));
            assert!(thread.join().is_err());
        };
        panics();
        assert!(is_canonical());
        let mut bytes = [0; 100];
        let count = read(&control, &mut bytes).unwrap();
        assert_eq!(
            str::from_utf8(&bytes[..count]).unwrap(),
            "\x1b[?2004l\r\r\n"
        );
        // It goes back and forth until the end, and then no more.
        modes.set_editing();
        assert!(!is_canonical());
        assert!(modes.restore());
        assert!(is_canonical());
        assert!(!modes.restore());
        modes.set_editing();
        assert!(is_canonical());
        tcsetattr(&line, OptionalActions::Now, &editing).unwrap();
        panics();
        assert!(!is_canonical(), "somebody else's modes");
    }

    #[test]
    fn this_process_is_in_its_group() {
        assert_eq!(group_of(getpid()), Some(getpgrp()));
        assert!(!companions().contains(&getpid()));
    }
}
