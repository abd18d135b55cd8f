//! Tests that need to be root: for namespaces, mounts or other OS users.
//!
//! Root runs them as they are. Anybody else runs them as the root of a user namespace of their
//! own, where the kernel allows that. Where it does not they fail and say what is missing: a
//! promise that was not tested is not kept.

use crate::process::chat_binary;
use std::{
    fs,
    process::{Command, Stdio},
};

const INSIDE: &str = "CHAT_TESTS_INSIDE_NAMESPACE";

/// What a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Networks and mounts of its own: a user namespace will do.
    Namespaces,
    /// A second OS user too: a user namespace with subordinate uids will do.
    OtherUsers,
}

/// Runs `body` with what it needs; `test` is the calling test's name as the test runner prints
/// it.
///
/// # Panics
///
/// If this machine cannot give it, or `body` panics.
pub fn privileged(need: Need, test: &str, body: impl FnOnce()) {
    if is_root() {
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount"]);
    if need == Need::OtherUsers {
        command.arg("--map-auto");
    }
    command
        .arg("--")
        .args([
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"",
            "sh",
        ])
        .arg(std::env::current_exe().expect("path of the test executable"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .env("CHAT_TEST_BINARY", chat_binary())
        .stdin(Stdio::null());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{test} needs root, or `unshare` from util-linux: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} needs root, or a kernel that lets users make namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0) \
         and, for other OS users, the Debian package uidmap and an entry in /etc/subuid; in a \
         namespace of its own it gave:\n{stdout}\n{stderr}"
    );
}

/// Runs a tool that prepares the machine.
///
/// # Panics
///
/// If it is missing or fails: the message says what it was asked.
pub fn tool(words: &[&str]) -> String {
    let (program, args) = words.split_first().expect("a command");
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{program}: {error} (the tests need the Debian packages iproute2, nftables, \
                 strace and util-linux)"
            )
        });
    assert!(
        output.status.success(),
        "`{}` failed: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // Root in a container may lack the right that all of this hangs on: CAP_SYS_ADMIN, bit 21.
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .expect("own capabilities");
    rustix::process::geteuid().is_root() && capabilities & (1 << 21) != 0
}
