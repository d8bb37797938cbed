//! `tutti store lock NAME -- COMMAND`: a command that runs on one machine at a time. The lock is a key under a lease; the
//! lease is the fencing token.

use std::convert::Infallible;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tutti_admin::user_store::{Condition, LeaseAnswer, StoreAction, TxnCall};
use tutti_admin::{Client, ClientError};
use tutti_base::{Clock, Tick};

use crate::cli::LockArgs;
use crate::world::MachineClock;

/// How long one call waits for the lock's holder to go; the server may answer earlier.
const WAIT: Duration = Duration::from_secs(20);

/// Waits for the lock, runs the command while it is held, and ends as the command ends.
pub(crate) async fn run(client: &Client, args: LockArgs) -> anyhow::Result<()> {
    let LockArgs { name, ttl, command } = args;
    let key = format!("locks/{name}");
    let clock = MachineClock::start();
    let asked = clock.now();
    let lease = client.store_grant(ttl).await?;
    let held = Held { client, clock, lease, ttl, kept: asked };
    let ended = held.hold(&key, &command).await;
    // Where this fails the lease runs out by itself.
    let _ = client.store_revoke(held.lease.lease).await;
    match ended?.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => bail!("the command was ended by a signal"),
    }
}

/// A lease that is kept alive while something is done.
struct Held<'a> {
    client: &'a Client,
    clock: MachineClock,
    lease: LeaseAnswer,
    ttl: Duration,
    /// When it was asked for: it lives at least its time from there on.
    kept: Tick,
}

impl Held<'_> {
    async fn hold(&self, key: &str, command: &[std::ffi::OsString]) -> anyhow::Result<ExitStatus> {
        let mut kept = self.kept;
        tokio::select! {
            taken = self.take(key) => taken?,
            lost = self.keep(&mut kept) => return Err(lost),
        }
        let (program, words) = command.split_first().context("give a command after `--`")?;
        let mut child = Command::new(program);
        child.args(words).env("TUTTI_LOCK_TOKEN", self.lease.lease.to_string()).env("TUTTI_LOCK_KEY", key);
        let child = child.spawn().with_context(|| format!("{} cannot be run", program.display()))?;
        let pid = Pid::from_child(&child);
        let mut ended = tokio::task::spawn_blocking(move || end_of(child));
        tokio::select! {
            ended = &mut ended => Ok(ended??),
            never = pass_on_signals(pid) => match never {},
            lost = self.keep(&mut kept) => {
                end(pid, &mut ended, self.ttl / 6).await;
                Err(lost.context("the lock is lost, and the command was ended"))
            }
        }
    }

    /// Waits until the key is ours.
    async fn take(&self, key: &str) -> anyhow::Result<()> {
        let put = StoreAction::Put {
            key: key.into(),
            value: format!("{}", std::process::id()),
            encoding: Default::default(),
            lease: Some(self.lease.lease),
        };
        let call =
            TxnCall { when: vec![Condition::Absent { key: key.into() }], then: vec![put], otherwise: vec![] };
        let mut after = self.client.store_watch(key, None, Duration::ZERO).await?.next;
        loop {
            if self.client.store_txn(&call).await?.done {
                return Ok(());
            }
            let page = self.client.store_watch(key, Some(after), WAIT).await?;
            after = page.next;
        }
    }

    /// Keeps the lease alive; returns when it cannot be trusted any more: after two thirds of its time without an answer.
    async fn keep(&self, kept: &mut Tick) -> anyhow::Error {
        loop {
            self.clock.sleep_until(self.clock.now() + self.ttl / 4).await;
            let asked = self.clock.now();
            let trusted = *kept + self.ttl * 2 / 3;
            let confirmed = tokio::select! {
                confirmed = self.client.store_keep_alive(self.lease.lease) => confirmed,
                () = self.clock.sleep_until(trusted) => {
                    return anyhow::anyhow!("the server did not confirm the lock in time");
                }
            };
            match confirmed {
                Ok(()) => *kept = asked,
                Err(ClientError::Refused(problem)) if problem.status == 409 => {
                    return anyhow::anyhow!(problem.detail);
                }
                Err(error) if self.clock.now() >= trusted => return error.into(),
                Err(_) => {}
            }
        }
    }
}

fn end_of(mut child: Child) -> std::io::Result<ExitStatus> {
    child.wait()
}

/// Passes the signals that end us on to the command, so that the lock is given back when it has ended. A terminal's Ctrl-C
/// reaches the command by itself.
async fn pass_on_signals(pid: Pid) -> Infallible {
    let listen =
        || Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
    let Ok((mut terminate, mut interrupt)) = listen() else { return std::future::pending().await };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                let _ = kill_process(pid, Signal::TERM);
            }
            _ = interrupt.recv() => {}
        }
    }
}

/// Ends the command: asks first, for half of what is left of the lease.
async fn end(pid: Pid, ended: &mut JoinHandle<std::io::Result<ExitStatus>>, patience: Duration) {
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(patience, &mut *ended).await.is_err() {
        let _ = kill_process(pid, Signal::KILL);
        let _ = ended.await;
    }
}
