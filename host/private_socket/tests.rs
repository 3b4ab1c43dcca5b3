use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A folder of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("netkeel-test-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_file_is_the_owners_alone_and_goes_with_its_listener() {
    let scratch = Scratch::new("mode");
    let path = scratch.0.join("s");
    let listener = PrivateListener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let client = UnixStream::connect(&path).unwrap();
    assert_eq!(Peer::of(&client).unwrap().uid, geteuid().as_raw());
    let (_stream, peer) = listener.accept().unwrap().unwrap();
    assert_eq!((peer.uid, peer.is_trusted()), (geteuid().as_raw(), true));
    assert_eq!(peer.pid, std::process::id() as i32);
    assert!(listener.accept().unwrap().is_none());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_named_and_a_stale_one_replaced() {
    let scratch = Scratch::new("stale");
    let path = scratch.0.join("s");
    let first = PrivateListener::bind(&path).unwrap();
    let refused = PrivateListener::bind(&path).unwrap_err();
    assert!(matches!(&refused, SocketError::Live(at) if *at == path), "{refused}");
    assert!(path.exists(), "the live one is untouched");
    // As a process that is killed leaves it.
    let stale = scratch.0.join("kept");
    fs::hard_link(&path, &stale).unwrap();
    drop(first);
    fs::rename(&stale, &path).unwrap();
    let second = PrivateListener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(second);
}

#[test]
fn another_file_in_its_place_is_left_alone() {
    let scratch = Scratch::new("other");
    let path = scratch.0.join("s");
    let listener = PrivateListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    drop(listener);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let refused = PrivateListener::bind(&path).unwrap_err().to_string();
    assert!(refused.contains("is no socket: remove it"), "{refused}");
    let to = scratch.0.join("link");
    symlink(scratch.0.join("elsewhere"), &to).unwrap();
    assert!(matches!(PrivateListener::bind(&to), Err(SocketError::NotASocket(_))));
    assert!(!scratch.0.join("elsewhere").exists());
}

#[test]
fn of_many_who_want_a_path_one_gets_it() {
    let scratch = Scratch::new("race");
    let path = scratch.0.join("s");
    for _ in 0..20 {
        let bind = || PrivateListener::bind(&path);
        let won: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            all.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(won.len(), 1);
    }
}

#[test]
fn a_folder_that_is_not_ours_alone_is_refused() {
    let scratch = Scratch::new("folder");
    let folder = scratch.0.join("private");
    private_folder(&folder).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    private_folder(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let open = private_folder(&folder).unwrap_err().to_string();
    assert!(open.contains("is open to other users: remove it"), "{open}");
    let link = scratch.0.join("link");
    symlink(&folder, &link).unwrap();
    assert!(private_folder(&link).unwrap_err().to_string().contains("is no folder"));
    let long = scratch.0.join("x".repeat(120));
    assert!(PrivateListener::bind(&long).unwrap_err().to_string().contains("107 bytes at most"));
}
