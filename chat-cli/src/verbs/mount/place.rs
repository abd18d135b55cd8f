//! The directory of `chat mount`: what is made in it, and what is let alone.
//!
//! Below the directory that was named no symbolic link is followed, and nothing is used that is
//! not of the kind it should be or belongs to somebody else.

use rustix::{
    fs::{
        AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, mknodat,
        openat, renameat, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};
use std::{
    fs::{File, Metadata},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

/// The lock of a directory that is mounted, with the process that holds it.
const LOCK: &str = ".lock";
/// The pipe of a room.
const IN: &str = "in";
/// The file of a room.
const OUT: &str = "out";
/// Where in the room the file is, and what that is before it has its name.
const MARK: &str = ".mark";
const NEW_MARK: &str = ".mark.new";

/// A directory that is mounted by this process alone.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    _lock: File,
}

impl Root {
    /// Opens `path`, which is made if need be, and locks it.
    ///
    /// # Errors
    ///
    /// If that cannot be done; [`io::ErrorKind::AlreadyExists`] names who has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        let lock = openat(
            &dir,
            LOCK,
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        check(&lock, FileType::RegularFile, LOCK)?;
        let mut lock = File::from(lock);
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK {
                return Err(error.into());
            }
            let mut holder = String::new();
            lock.take(64).read_to_string(&mut holder)?;
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("it is mounted already, by process {}", holder.trim()),
            ));
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { dir, _lock: lock })
    }

    /// The place of a room of this name.
    ///
    /// # Errors
    ///
    /// If something is in the way.
    pub(super) fn room(&self, name: &str) -> io::Result<Place> {
        match mkdirat(&self.dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(&self.dir, name, flags, Mode::empty())?;
        check(&dir, FileType::Directory, name)?;
        Ok(Place { dir })
    }
}

/// The directory of a room.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
}

impl Place {
    /// Makes the pipe, or takes the one that a killed process left, and opens it for reading and
    /// writing: so it has no end when a writer goes.
    ///
    /// # Errors
    ///
    /// If something is in the way.
    pub(super) fn open_in(&self) -> io::Result<OwnedFd> {
        let mode = Mode::RUSR | Mode::WUSR;
        match mknodat(&self.dir, IN, FileType::Fifo, mode, 0) {
            Ok(()) => {}
            // Looked at before it is opened, which could do something to what is no pipe.
            Err(Errno::EXIST) => judge(&self.stat(IN)?, FileType::Fifo, IN)?,
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pipe = openat(&self.dir, IN, flags, Mode::empty())?;
        check(&pipe, FileType::Fifo, IN)?;
        Ok(pipe)
    }

    /// Takes the pipe away, if it is this one.
    pub(super) fn remove_in(&self, pipe: impl AsFd) {
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let is_it = fstat(pipe).is_ok_and(|ours| self.stat(IN).is_ok_and(|it| same(&it, &ours)));
        if is_it {
            // Somebody else may have done it just now.
            let _ = unlinkat(&self.dir, IN, AtFlags::empty());
        }
    }

    /// Opens the file, which is made if need be, to read it and to append to it.
    ///
    /// # Errors
    ///
    /// If something is in the way.
    pub(super) fn open_out(&self) -> io::Result<File> {
        let file = openat(
            &self.dir,
            OUT,
            OFlags::RDWR
                | OFlags::APPEND
                | OFlags::CREATE
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        check(&file, FileType::RegularFile, OUT)?;
        Ok(File::from(file))
    }

    /// Whether the file of that name is this one.
    pub(super) fn is_out(&self, ours: &Metadata) -> bool {
        let is_it = |it: &Stat| (it.st_dev, it.st_ino) == (ours.dev(), ours.ino());
        self.stat(OUT).is_ok_and(|it| is_it(&it))
    }

    /// What the mark says; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If something is in the way.
    pub(super) fn read_mark(&self) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mark = match openat(&self.dir, MARK, flags, Mode::empty()) {
            Ok(mark) => mark,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        check(&mark, FileType::RegularFile, MARK)?;
        let mut text = String::new();
        File::from(mark).take(256).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Replaces the mark as a whole.
    ///
    /// # Errors
    ///
    /// If that fails; the old one stays.
    pub(super) fn write_mark(&self, text: &str) -> io::Result<()> {
        match unlinkat(&self.dir, NEW_MARK, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mark = openat(&self.dir, NEW_MARK, flags, Mode::RUSR | Mode::WUSR)?;
        let mut mark = File::from(mark);
        mark.write_all(text.as_bytes())?;
        // An empty one must not take the place of the old one in a power cut.
        mark.sync_data()?;
        Ok(renameat(&self.dir, NEW_MARK, &self.dir, MARK)?)
    }

    fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn check(file: &OwnedFd, kind: FileType, name: &str) -> io::Result<()> {
    judge(&fstat(file)?, kind, name)
}

fn judge(stat: &Stat, kind: FileType, name: &str) -> io::Result<()> {
    let what = match kind {
        FileType::Fifo => "pipe",
        FileType::Directory => "directory",
        _ => "plain file",
    };
    let problem = if FileType::from_raw_mode(stat.st_mode) != kind {
        format!("{name} is in the way: it is no {what}")
    } else if stat.st_uid != geteuid().as_raw() {
        format!("{name} is in the way: it belongs to uid {}", stat.st_uid)
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}
