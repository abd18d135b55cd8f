//! Whether to trust whoever listens at a socket, as the agent checks whoever connects.

use std::{os::unix::fs::MetadataExt, path::Path};

/// Who runs this process.
#[must_use]
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether an agent of uid `agent` at `socket` may be talked to.
///
/// Oneself and root always; for a shared agent the owner of the socket's directory, if only root
/// could make that directory there, as in `/run/chat/agent.sock`. In `/tmp` anybody could have
/// made it.
#[must_use]
pub fn is_trusted(agent: u32, socket: &Path) -> bool {
    if agent == uid() || agent == 0 {
        return true;
    }
    let Some(dir) = socket.parent().and_then(|dir| dir.canonicalize().ok()) else {
        return false;
    };
    let owned = std::fs::metadata(&dir).is_ok_and(|found| found.uid() == agent);
    let above = dir.parent().and_then(|above| std::fs::metadata(above).ok());
    owned && above.is_some_and(|above| made_by_root_only(above.uid(), above.mode()))
}

const fn made_by_root_only(owner: u32, mode: u32) -> bool {
    owner == 0 && mode & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oneself_and_root_are_trusted_anywhere() {
        assert!(is_trusted(uid(), Path::new("/tmp/x/agent.sock")));
        assert!(is_trusted(0, Path::new("/tmp/x/agent.sock")));
    }

    #[test]
    fn others_are_not_trusted_where_anybody_could_have_put_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_trusted(uid() + 1, &dir.path().join("agent.sock")));
        assert!(made_by_root_only(0, 0o40755));
        assert!(!made_by_root_only(0, 0o41777));
        assert!(!made_by_root_only(1000, 0o40755));
    }
}
