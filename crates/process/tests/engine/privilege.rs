//! Giving up root, in a process of its own. Skipped, and said so, where the tests do not run as root.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use tutti_process::privilege::{self, SERVER_KEEPS};
use tutti_process::{Engine, Identity};

use crate::cases::{run, spec};

/// No such user exists; nothing looks for one.
const UID: u32 = 63_999;
const ENGINE_UID: u32 = 64_007;

fn skip() -> bool {
    let skip = !privilege::is_root();
    if skip {
        println!("SKIPPED: needs root");
    }
    skip
}

/// The process that gives up root, in the folder that it is to own.
pub(crate) fn be_dropped(folder: &str) -> ExitCode {
    let kept = privilege::drop_to(UID, UID, SERVER_KEEPS, &[Path::new(folder)]).unwrap();
    assert_eq!(kept, SERVER_KEEPS);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains(&format!("Uid:\t{UID}\t{UID}\t{UID}\t{UID}")), "{status}");
    std::process::exit(run_dropped(folder))
}

fn run_dropped(folder: &str) -> i32 {
    std::fs::write(Path::new(folder).join("new"), "mine").unwrap();
    assert!(std::fs::write("/etc/tutti-test", "x").is_err(), "it is not root any more");
    assert!(std::fs::read("/etc/shadow").is_ok(), "but it reads what folders hold");
    assert!(privilege::may_change_user());
    run(async {
        let mut spec = spec(&["engine"]);
        spec.identity = Identity::Own { uid: ENGINE_UID, gid: ENGINE_UID };
        let mut engine = Engine::spawn(&spec).await.unwrap();
        assert_eq!((engine.report().uid, engine.report().own_uid), (ENGINE_UID, true));
        engine.call(b"fill 3", &[], None).await.unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
        for line in ["CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", &format!("Uid:\t{ENGINE_UID}")]
        {
            assert!(status.contains(line), "{line}: {status}");
        }
        let pid = engine.pid();
        drop(engine);
        let start = std::time::Instant::now();
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(start.elapsed().as_secs() < 10, "it can kill an engine of another user");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    0
}

pub(crate) fn a_dropped_server_still_starts_engines() {
    if skip() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/old"), "root's").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
    let before = std::fs::metadata("/etc/hostname").unwrap().uid();
    let status = Command::new("/proc/self/exe").arg("dropped").arg(folder.path()).status().unwrap();
    assert!(status.success(), "{status}");
    for path in ["", "sub", "sub/old", "new"] {
        assert_eq!(std::fs::metadata(folder.path().join(path)).unwrap().uid(), UID, "{path}");
    }
    assert_eq!(std::fs::metadata("/etc/hostname").unwrap().uid(), before, "links are not followed");
}

pub(crate) fn folders_are_handed_over() {
    if skip() {
        return;
    }
    let foreign = tempfile::tempdir().unwrap();
    std::os::unix::fs::lchown(foreign.path(), Some(12_345), None).unwrap();
    // Each is refused before anything of this process changes; this process has threads, which comes first.
    let threads = std::thread::scope(|scope| {
        scope
            .spawn(|| privilege::drop_to(UID, UID, SERVER_KEEPS, &[foreign.path()]).unwrap_err())
            .join()
            .unwrap()
    });
    assert!(threads.to_string().contains("threads run already"), "{threads}");
    for folder in [foreign.path(), Path::new("/")] {
        let output = Command::new("/proc/self/exe").arg("dropped").arg(folder).output().unwrap();
        assert!(!output.status.success());
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(&UID.to_string()) && words.contains(folder.to_str().unwrap()), "{words}");
    }
}
