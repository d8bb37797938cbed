//! Where child processes are born and buried: one thread starts them, one reaps them. Both live as long as the process.
//!
//! Linux ties `PR_SET_PDEATHSIG` to the *thread* that started a child, so children must not be started by threads that
//! may end before the server does; and neither starting nor reaping one belongs on an async thread.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError, mpsc};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::oneshot;

/// A child process that is killed when this is dropped, and reaped in any case.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<Child>,
    pidfd: OwnedFd,
}

struct Birth {
    command: Command,
    reply: oneshot::Sender<io::Result<Process>>,
}

struct Burial {
    child: Child,
    status: Option<oneshot::Sender<ExitStatus>>,
}

static BIRTHS: Mutex<Option<mpsc::Sender<Birth>>> = Mutex::new(None);
static BURIALS: Mutex<Option<mpsc::Sender<Burial>>> = Mutex::new(None);

/// Starts `command`. Cancel-safe: a child whose caller has gone is killed.
pub(crate) async fn spawn(command: Command) -> io::Result<Process> {
    let (reply, born) = oneshot::channel();
    let order = Birth { command, reply };
    sender(&BIRTHS, "tutti-nursery", deliver)?.send(order).map_err(|_| ended())?;
    born.await.map_err(|_| ended())?
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Kills it (it may be dead already) and tells how it ended.
    pub(crate) async fn end(mut self) -> Option<ExitStatus> {
        let (status, ended) = oneshot::channel();
        self.bury(Some(status));
        ended.await.ok()
    }

    fn bury(&mut self, status: Option<oneshot::Sender<ExitStatus>>) {
        let Some(child) = self.child.take() else { return };
        if let Err(error) = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(pid = child.id(), %error, "cannot kill an engine: does this process have CAP_KILL?");
        }
        match sender(&BURIALS, "tutti-reaper", reap) {
            Ok(reaper) => drop(reaper.send(Burial { child, status })),
            Err(error) => {
                tracing::error!(%error, "cannot start the reaper: a dead child stays in the process table")
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.bury(None);
    }
}

fn deliver(births: &mpsc::Receiver<Birth>) {
    while let Ok(Birth { mut command, reply }) = births.recv() {
        // A caller that has gone gets no child; one that goes meanwhile drops the child, which kills it.
        if !reply.is_closed() {
            drop(reply.send(start(&mut command)));
        }
    }
}

fn start(command: &mut Command) -> io::Result<Process> {
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    // The child cannot have been reaped yet, so its number is still its own.
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Process { child: Some(child), pidfd }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error.into())
        }
    }
}

fn reap(burials: &mpsc::Receiver<Burial>) {
    while let Ok(Burial { mut child, status }) = burials.recv() {
        match (child.wait(), status) {
            (Ok(ended), Some(status)) => drop(status.send(ended)),
            (Ok(_), None) => {}
            (Err(error), _) => tracing::error!(%error, pid = child.id(), "cannot reap a child"),
        }
    }
}

/// The way to a thread that is started at its first use.
fn sender<T: Send + 'static>(
    slot: &Mutex<Option<mpsc::Sender<T>>>,
    name: &str,
    work: fn(&mpsc::Receiver<T>),
) -> io::Result<mpsc::Sender<T>> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*slot {
        return Ok(sender.clone());
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name(name.into()).spawn(move || work(&receiver))?;
    *slot = Some(sender.clone());
    Ok(sender)
}

fn ended() -> io::Error {
    io::Error::other("the thread that starts child processes has ended")
}
