//! Originals from named local folders: opened beneath their root by the kernel, never by comparing path strings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tutti_base::{Clock, Deadline, Kind, Problem};

use crate::count::Counts;
use crate::{FileStamp, FolderFile, wait};

/// The most files that are opened at once. Each holds a thread until the file system answers.
pub const OPENS_AT_ONCE: usize = 64;
/// How often an open is tried again when something was renamed on its way meanwhile (openat2(2), EAGAIN).
const RENAME_RETRIES: usize = 8;

/// Folders by name; the unnamed one has the empty name.
pub type FolderPaths = BTreeMap<String, PathBuf>;

/// The named folders.
pub struct Folders {
    paths: ArcSwap<FolderPaths>,
    slots: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
}

/// How one folder is, for the log at start and for `doctor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderReport {
    /// Its name, empty for the unnamed one.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// How it is.
    pub state: FolderState,
}

/// How one folder is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FolderState {
    /// It can be read.
    Readable,
    /// There is nothing.
    Missing,
    /// There is something else than a folder.
    NotAFolder,
    /// This user may not read it or not walk through it.
    Denied {
        /// The effective user id of this process.
        uid: u32,
    },
    /// The kernel cannot open beneath a root (it is older than 5.6, or a sandbox forbids `openat2`).
    KernelTooOld,
    /// Something else is wrong with it.
    Failing(String),
}

impl FolderReport {
    /// Whether originals can be read from it.
    pub fn readable(&self) -> bool {
        self.state == FolderState::Readable
    }
}

impl fmt::Display for FolderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ", called(&self.name), self.path.display())?;
        match &self.state {
            FolderState::Readable => write!(f, "can be read"),
            FolderState::Missing => write!(f, "does not exist; make it, or name another with `--originals`"),
            FolderState::NotAFolder => write!(f, "is not a folder"),
            FolderState::Denied { uid } => write!(
                f,
                "cannot be read by uid {uid}; give that uid read and search permission on it and search permission on \
                 every folder above it"
            ),
            FolderState::KernelTooOld => {
                write!(f, "cannot be opened safely: the kernel has no openat2 (Linux 5.6)")
            }
            FolderState::Failing(reason) => write!(f, "cannot be read: {reason}"),
        }
    }
}

pub(crate) fn called(name: &str) -> String {
    if name.is_empty() { "the unnamed folder".into() } else { format!("folder `{name}`") }
}

impl Folders {
    pub(crate) fn new(paths: FolderPaths, clock: Arc<dyn Clock>, counts: Arc<Counts>) -> Self {
        let slots = Arc::new(Semaphore::new(OPENS_AT_ONCE));
        Self { paths: ArcSwap::from_pointee(paths), slots, clock, counts }
    }

    pub(crate) fn reconfigure(&self, paths: FolderPaths) {
        self.paths.store(Arc::new(paths));
    }

    /// Where the folder `name` is, if there is one.
    pub(crate) fn root(&self, name: &str) -> Option<PathBuf> {
        self.paths.load().get(name).cloned()
    }

    /// The names of all folders.
    pub(crate) fn names(&self) -> Vec<String> {
        self.paths.load().keys().cloned().collect()
    }

    /// How all folders are. Blocks on the file system.
    pub fn check(&self) -> Vec<FolderReport> {
        let report = |(name, path): (&String, &PathBuf)| FolderReport {
            name: name.clone(),
            path: path.clone(),
            state: state_of(path),
        };
        self.paths.load().iter().map(report).collect()
    }

    /// Opens `path` beneath the folder `name`. Cancel-safe.
    ///
    /// Errors: `NotFound` for nothing there, what is no regular file, what lies outside, and what may not be read (the
    /// cause names folder and uid); `OriginBroken` when the file system fails; `OriginTimeout` when it does not answer
    /// before the deadline; `Unavailable` when this process is out of descriptors.
    pub async fn open(&self, name: &str, path: &str, deadline: Deadline) -> Result<FolderFile, Problem> {
        let opened = wait::until(&*self.clock, deadline.0, self.open_on_thread(name, path)).await;
        let opened = opened.unwrap_or(Err(OpenError::Slow));
        if let Err(error) = &opened {
            self.counts.file_error(error.word());
        } else {
            self.counts.files.inc();
        }
        opened.map_err(|error| {
            let root = self.paths.load().get(name).cloned().unwrap_or_default();
            error.problem(name, path, &root)
        })
    }

    async fn open_on_thread(&self, name: &str, path: &str) -> Result<FolderFile, OpenError> {
        let root = self.paths.load().get(name).cloned().ok_or(OpenError::NoFolder)?;
        if !well_formed(path) {
            return Err(OpenError::Path);
        }
        let slot = self.slots.clone().acquire_owned().await.expect("this semaphore is never closed");
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let opened = open_beneath(&root, &path);
            drop(slot);
            opened
        });
        opened.await.map_err(|error| OpenError::Thread(error.to_string()))?
    }
}

/// Whether `path` is one as `Source::Local` promises; a second look costs nothing.
pub(crate) fn well_formed(path: &str) -> bool {
    let component = |part: &str| !part.is_empty() && part != "." && part != "..";
    !path.contains('\0') && path.split('/').all(component)
}

/// Why a file was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    NoFolder,
    Path,
    Irregular(&'static str),
    Root(Errno),
    File(Errno),
    Slow,
    Thread(String),
}

impl OpenError {
    fn word(&self) -> &'static str {
        match self {
            OpenError::NoFolder => "no_folder",
            OpenError::Path => "path",
            OpenError::Irregular(_) => "irregular",
            OpenError::Root(Errno::ACCESS | Errno::PERM) | OpenError::File(Errno::ACCESS | Errno::PERM) => {
                "denied"
            }
            OpenError::File(Errno::XDEV | Errno::LOOP) => "outside",
            OpenError::File(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => "missing",
            OpenError::Root(_) => "root",
            OpenError::File(_) => "failing",
            OpenError::Slow => "timeout",
            OpenError::Thread(_) => "thread",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            OpenError::NoFolder | OpenError::Path | OpenError::Irregular(_) => Kind::NotFound,
            OpenError::Root(errno) | OpenError::File(errno) => match *errno {
                Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::LOOP => {
                    Kind::NotFound
                }
                Errno::ACCESS | Errno::PERM | Errno::INVAL | Errno::NXIO | Errno::NODEV => Kind::NotFound,
                Errno::MFILE | Errno::NFILE | Errno::NOMEM => Kind::Unavailable,
                _ => Kind::OriginBroken,
            },
            OpenError::Slow => Kind::OriginTimeout,
            OpenError::Thread(_) => Kind::Internal,
        }
    }

    fn problem(&self, name: &str, path: &str, root: &Path) -> Problem {
        let kind = self.kind();
        let detail = match (self, kind) {
            (OpenError::NoFolder, _) => format!("there is no {} of originals here", called(name)),
            (_, Kind::NotFound) => format!("there is no original at local://{name}/{path}"),
            (_, Kind::OriginTimeout) => format!("local://{name}/{path} could not be opened in time"),
            _ => format!("local://{name}/{path} cannot be opened now"),
        };
        Problem::new(kind, detail).about("source").because(self.cause(name, root))
    }

    fn cause(&self, name: &str, root: &Path) -> String {
        let place = format!("{} at {}", called(name), root.display());
        match self {
            OpenError::NoFolder => format!("no {} is configured; add it with `--originals`", called(name)),
            OpenError::Path => format!("{place}: the path has empty, `.` or `..` components or NUL"),
            OpenError::Irregular(what) => format!("{place}: it is {what}, not a regular file"),
            OpenError::Root(errno @ (Errno::ACCESS | Errno::PERM))
            | OpenError::File(errno @ (Errno::ACCESS | Errno::PERM)) => {
                format!("{place} or the file in it cannot be read by uid {}: {errno}", uid())
            }
            OpenError::Root(Errno::NOSYS) | OpenError::File(Errno::NOSYS) => {
                format!("{place}: the kernel has no openat2 (Linux 5.6)")
            }
            OpenError::File(Errno::XDEV) => format!("{place}: a link leads out of it"),
            OpenError::Root(errno) => format!("{place} cannot be opened: {errno}"),
            OpenError::File(errno) => format!("{place}: {errno}"),
            OpenError::Slow => format!("{place} did not answer before the deadline"),
            OpenError::Thread(error) => format!("{place}: {error}"),
        }
    }
}

pub(crate) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn open_root(root: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(OpenError::Root)
}

/// Opens beneath an open root. Links may lead anywhere within it, and not through /proc. Never blocks on a FIFO, never
/// takes a terminal.
pub(crate) fn open_at(root: &OwnedFd, path: &str, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RENAME_RETRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

fn open_beneath(root: &Path, path: &str) -> Result<FolderFile, OpenError> {
    // The root is opened each time, so that a folder that is mounted or replaced later is seen.
    open_file(&open_root(root)?, path)
}

/// Opens a regular file beneath an open root.
pub(crate) fn open_file(root: &OwnedFd, path: &str) -> Result<FolderFile, OpenError> {
    let file = open_at(root, path, OFlags::empty()).map_err(OpenError::File)?;
    let stat = rustix::fs::fstat(&file).map_err(OpenError::File)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(FolderFile { file: Arc::new(File::from(file)), stamp: stamp(&stat) }),
        FileType::Directory => Err(OpenError::Irregular("a folder")),
        FileType::Fifo => Err(OpenError::Irregular("a FIFO")),
        FileType::Socket => Err(OpenError::Irregular("a socket")),
        _ => Err(OpenError::Irregular("a device")),
    }
}

pub(crate) fn stamp(stat: &Stat) -> FileStamp {
    let nanoseconds = |seconds: i128, rest: i128| seconds * 1_000_000_000 + rest;
    FileStamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        changed_ns: nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
    }
}

fn state_of(path: &Path) -> FolderState {
    let denied = || FolderState::Denied { uid: uid() };
    let listed = open_root(path).and_then(|root| {
        let folder = open_at(&root, ".", OFlags::DIRECTORY).map_err(OpenError::File)?;
        // Reading needs one permission, walking through another.
        rustix::fs::accessat(&root, ".", rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)
            .map_err(OpenError::File)?;
        rustix::fs::Dir::new(folder).map_err(OpenError::File)?.next().transpose().map_err(OpenError::File)
    });
    match listed {
        Ok(_) => FolderState::Readable,
        Err(OpenError::Root(errno) | OpenError::File(errno)) => match errno {
            Errno::NOENT => FolderState::Missing,
            Errno::NOTDIR => FolderState::NotAFolder,
            Errno::ACCESS | Errno::PERM => denied(),
            Errno::NOSYS => FolderState::KernelTooOld,
            errno => FolderState::Failing(errno.to_string()),
        },
        Err(error) => FolderState::Failing(format!("{error:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::process::Uid;

    use super::*;

    fn opened(root: &Path, path: &str) -> Result<u64, &'static str> {
        open_beneath(root, path).map(|file| file.stamp.len).map_err(|error| error.word())
    }

    #[test]
    fn links_may_lead_within_the_folder_and_not_out_of_it() {
        let house = tempfile::tempdir().unwrap();
        let root = house.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/inside"), "12345").unwrap();
        fs::write(house.path().join("secret"), "secret").unwrap();
        symlink("sub/inside", root.join("near")).unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(house.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("parent")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/fd/0", root.join("magic")).unwrap();

        assert_eq!(opened(&root, "sub/inside"), Ok(5));
        assert_eq!(opened(&root, "near"), Ok(5));
        for path in [
            "up",
            "absolute",
            "parent/secret",
            "loop",
            "magic",
            "../secret",
            "sub/../../secret",
            "/etc/passwd",
        ] {
            assert_eq!(opened(&root, path), Err("outside"), "{path}");
        }
        assert_eq!(opened(&root, "nothing"), Err("missing"));
        assert_eq!(opened(&root, "sub/inside/deeper"), Err("missing"));
        assert_eq!(opened(&root, &"x".repeat(300)), Err("missing"));
    }

    #[test]
    fn only_regular_files_are_opened_and_a_fifo_does_not_hang() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        let folder = fs::File::open(root.path()).unwrap();
        rustix::fs::mkfifoat(&folder, "fifo", Mode::from_raw_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        assert_eq!(opened(root.path(), "sub"), Err("irregular"));
        assert_eq!(opened(root.path(), "fifo"), Err("irregular"));
        assert!(opened(root.path(), "socket").is_err());
    }

    #[test]
    fn a_stamp_changes_with_the_content() {
        let root = tempfile::tempdir().unwrap();
        let stamp = || open_beneath(root.path(), "a").unwrap().stamp;
        fs::write(root.path().join("a"), "one").unwrap();
        let first = stamp();
        assert_eq!(stamp(), first);
        fs::write(root.path().join("b"), "two").unwrap();
        fs::rename(root.path().join("b"), root.path().join("a")).unwrap();
        assert_ne!(stamp(), first, "the same length, another file");
    }

    /// Runs `act` on a thread that is not root, whoever runs the tests; gives its uid as well.
    fn as_nobody<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> (u32, T) {
        let thread = std::thread::spawn(|| {
            if uid() == 0 {
                let nobody = Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            (uid(), act())
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_may_not_be_read_names_folder_and_uid() {
        let house = tempfile::tempdir().unwrap();
        fs::set_permissions(house.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = house.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "1").unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o000)).unwrap();

        let place = root.clone();
        let (uid, problem) =
            as_nobody(move || open_beneath(&place, "a").unwrap_err().problem("photos", "a", &place));
        assert_eq!(problem.kind, Kind::NotFound);
        let cause = problem.cause.unwrap();
        assert!(cause.contains("folder `photos`") && cause.contains(&format!("uid {uid}")), "{cause}");
        assert!(!problem.detail.contains("root"), "a client learns nothing of our paths: {}", problem.detail);

        fs::set_permissions(&root, fs::Permissions::from_mode(0o000)).unwrap();
        let place = root.clone();
        let (uid, state) = as_nobody(move || state_of(&place));
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(state, FolderState::Denied { uid });
    }

    #[test]
    fn a_report_says_what_is_wrong_and_what_to_do() {
        let house = tempfile::tempdir().unwrap();
        fs::write(house.path().join("file"), "").unwrap();
        let (missing, file) = (house.path().join("missing"), house.path().join("file"));
        assert_eq!(state_of(house.path()), FolderState::Readable);
        assert_eq!(state_of(&missing), FolderState::Missing);
        assert_eq!(state_of(&file), FolderState::NotAFolder);
        let denied = FolderState::Denied { uid: 7 };
        let report = FolderReport { name: "photos".into(), path: "/srv/p".into(), state: denied };
        let text = report.to_string();
        assert!(text.starts_with("folder `photos` at /srv/p cannot be read by uid 7"), "{text}");
    }

    #[test]
    fn paths_that_are_not_canonical_are_not_tried() {
        for path in ["", "/a", "a//b", "a/", "./a", "../a", "a/../b", "a\0b"] {
            assert!(!well_formed(path), "{path}");
        }
        for path in ["a", "a/b", "..a", "a b", "a%2fb", "...", "ü"] {
            assert!(well_formed(path), "{path}");
        }
    }
}
