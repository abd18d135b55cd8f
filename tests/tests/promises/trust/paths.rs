//! What others put in the way of sockets and state is neither used nor harmed.

use rustix::fs::{AtFlags, CWD, Uid, chownat};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};
use tests::{
    Host, Sandbox, Server,
    privilege::{Need, privileged},
    server::free_loopback,
};

/// A uid that owns nothing.
const NOBODY: u32 = 54_322;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Whatever a daemon said when it did not start.
fn refusal(process: &mut tests::Process) -> String {
    let finished = process.wait();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    finished.stderr
}

#[test]
fn a_link_in_the_place_of_the_agent_s_socket_leads_nowhere() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let dir = host.socket().parent().expect("a directory");
    fs::create_dir_all(dir).expect("a directory");
    set_mode(dir, 0o700);
    let precious = sandbox.path().join("precious");
    fs::write(&precious, "precious").expect("written");
    for target in [precious.clone(), sandbox.path().join("not-there")] {
        symlink(&target, host.socket()).expect("a link");
        let told = refusal(&mut host.launch());
        let path = host.socket().to_str().expect("a plain path");
        assert!(told.contains(path), "{told}");
        fs::remove_file(host.socket()).expect("still there");
    }
    assert!(!sandbox.path().join("not-there").exists());
    let left = fs::read_to_string(&precious).expect("still there");
    assert_eq!(left, "precious");
}

#[test]
fn directories_that_others_can_write_are_not_used() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let server = Server::new(&sandbox, free_loopback());
    let dir = host.socket().parent().expect("a directory");
    fs::create_dir_all(dir).expect("a directory");
    set_mode(dir, 0o777);
    let told = refusal(&mut host.launch());
    assert!(told.contains(dir.to_str().expect("a plain path")), "{told}");
    let host = Host::new(&sandbox, "bee");
    for state_dir in [server.state_dir(), host.state_dir()] {
        fs::create_dir_all(state_dir).expect("a directory");
        set_mode(state_dir, 0o777);
    }
    for (state_dir, mut process) in [
        (server.state_dir(), server.launch()),
        (host.state_dir(), host.launch()),
    ] {
        let told = refusal(&mut process);
        assert!(told.contains("can be written by others"), "{told}");
        let files = fs::read_dir(state_dir).expect("a directory").count();
        assert_eq!(files, 0, "it made something there");
    }
}

#[test]
fn a_link_that_another_user_made_is_not_followed() {
    let name = "trust::paths::a_link_that_another_user_made_is_not_followed";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let theirs = sandbox.path().join("theirs");
        symlink(sandbox.dir("ours"), &theirs).expect("a link");
        let nobody = Some(Uid::from_raw(NOBODY));
        chownat(CWD, &theirs, nobody, None, AtFlags::SYMLINK_NOFOLLOW).expect("lchown");
        let by_socket = Host::new(&sandbox, "ada").with_socket(theirs.join("agent.sock"));
        let by_state = Host::new(&sandbox, "bee").with_state_dir(theirs.clone());
        let server = Server::new(&sandbox, free_loopback()).with_state_dir(theirs);
        for mut process in [by_socket.launch(), by_state.launch(), server.launch()] {
            let told = refusal(&mut process);
            assert!(told.contains("54322"), "whose is it? {told}");
        }
        let files = fs::read_dir(sandbox.dir("ours"))
            .expect("a directory")
            .count();
        assert_eq!(files, 0, "something was made behind the link");
    });
}
