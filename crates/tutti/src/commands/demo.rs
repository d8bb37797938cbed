//! `tutti demo`: several nodes on this machine behind one address, a gentle load on it, and one live line. Looks after
//! its nodes and leaves nothing behind. Decides nothing about the cluster.

mod folder;
mod guard;
mod http;
mod kills;
mod layout;
mod load;
mod node;
mod processes;
mod screen;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tutti_base::{Clock, Tick};

use self::folder::Folder;
use self::guard::Guard;
use self::kills::{Kills, Next};
use self::layout::Layout;
use self::load::{Client, Load, Mix};
use self::node::{News, Node};
use self::screen::Screen;
use self::status::Seen;
use crate::cli::DemoArgs;
use crate::world::MachineClock;

/// How often the nodes are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the cluster is asked how it is.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long each step of the start may take.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long nodes may take to stop; then they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs the demo until it is told to stop, or for as long as the arguments say.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    if args.guard {
        return guard::run();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> anyhow::Result<()> {
    let (originals, pictures) = folder::originals(args.originals.as_deref())?;
    // Dropped last: nothing runs in it any more.
    let folder = Folder::ready(args.dir.as_deref())?;
    let layout = Layout::new(args.base, args.nodes, folder.path(), &originals)?;
    layout.check_ports()?;
    let told = told_to_stop()?;
    let mut house = House::new(args, layout, pictures)?;
    let ended = tokio::select! {
        ended = house.live() => ended,
        () = told => Ok(()),
    };
    house.stop().await;
    ended?;
    house.conclude()
}

/// The nodes and everything around them.
struct House {
    clock: Arc<dyn Clock>,
    binary: PathBuf,
    layout: Layout,
    pictures: Vec<String>,
    nodes: Vec<Node>,
    guard: Guard,
    load: Arc<Load>,
    screen: Screen,
    seen: Option<Seen>,
    /// The holder of the address, as the kernel knows it.
    master: Option<usize>,
    kills: Option<Kills>,
    /// How long it lasts; none: until it is told to stop.
    lasts: Option<Duration>,
    begun: Tick,
}

impl House {
    fn new(args: &DemoArgs, layout: Layout, pictures: Vec<String>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(MachineClock::start());
        let binary = std::env::current_exe().context("the running binary cannot be found")?;
        let begun = clock.now();
        Ok(Self {
            nodes: (0..layout.nodes).map(|at| Node::new(layout.name(at), layout.data(at))).collect(),
            guard: Guard::start(&binary)?,
            load: Arc::new(Load::new(layout.address(), args.load, Arc::clone(&clock))),
            screen: Screen::new(),
            seen: None,
            master: None,
            kills: args.kill.map(|wanted| Kills::new(wanted, begun)),
            lasts: args.check.map(Duration::from_secs),
            clock,
            binary,
            layout,
            pictures,
            begun,
        })
    }

    /// Starts everything, and goes on until it has lasted long enough.
    async fn live(&mut self) -> anyhow::Result<()> {
        self.start_all().await?;
        self.begun = self.clock.now();
        self.kills = self.kills.take().map(|kills| kills.waiting_from(self.begun));
        let load = Arc::clone(&self.load);
        let mix = Mix::new(self.pictures.clone(), self.clock.wall().0);
        tokio::select! {
            () = load.run(mix) => {}
            ended = self.watch() => ended?,
        }
        load.rest().await;
        Ok(())
    }

    async fn start_all(&mut self) -> anyhow::Result<()> {
        self.start(0, None)?;
        self.screen.say("starting node one, which founds the cluster");
        self.wait_for("node one to answer", async |house: &mut Self| house.ask(0).await.is_some()).await?;
        for at in 1..self.nodes.len() {
            let token = self.token().await?;
            self.start(at, Some(&token))?;
            self.screen.say(&format!("node {} joins", self.nodes[at].name));
        }
        let all = self.nodes.len();
        self.wait_for("all nodes to be up", async |house: &mut Self| {
            house.ask(0).await.is_some_and(|seen| seen.up() >= all)
        })
        .await?;
        let client = Client::new(self.layout.address(), Arc::clone(&self.clock));
        self.wait_for("the address to answer", async |_: &mut Self| {
            client.get("/readyz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await?;
        let token = self.token().await.ok();
        let text = screen::first_lines(&self.layout, &self.binary, &self.pictures[0], token.as_deref());
        self.screen.say(&text);
        Ok(())
    }

    /// Waits until `check` holds.
    ///
    /// Errors: it does not within [`START_WITHIN`], or a node dies meanwhile; then its last words.
    async fn wait_for(
        &mut self,
        what: &str,
        mut check: impl AsyncFnMut(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        let begin = self.clock.now();
        while !check(self).await {
            let now = self.clock.now();
            for node in &mut self.nodes {
                if let News::Died(_) = node.look(now) {
                    bail!("node {} ended at its start:\n{}", node.name, node.last_words());
                }
            }
            if now.since(begin) > START_WITHIN {
                bail!(
                    "waited {} s in vain for {what}:\n{}",
                    START_WITHIN.as_secs(),
                    self.nodes[0].last_words()
                );
            }
            self.clock.sleep_until(now + LOOK_EVERY).await;
        }
        Ok(())
    }

    /// A token for one more node.
    async fn token(&mut self) -> anyhow::Result<String> {
        let begin = self.clock.now();
        loop {
            match status::token(&*self.clock, &self.layout.socket(0)).await {
                Ok(token) => return Ok(token),
                Err(error) if self.clock.now().since(begin) > START_WITHIN => {
                    return Err(error.context("no token could be had for the next node"));
                }
                Err(_) => self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await,
            }
        }
    }

    fn start(&mut self, at: usize, token: Option<&str>) -> anyhow::Result<()> {
        let words = self.layout.words(at, token);
        let server = self.nodes[at].start(&self.binary, &words, self.clock.now())?;
        self.guard.watch(server);
        Ok(())
    }

    async fn ask(&self, at: usize) -> Option<Seen> {
        self.nodes[at].server()?;
        status::ask(&*self.clock, &self.layout.socket(at)).await.ok()
    }

    /// Looks after everything, again and again.
    async fn watch(&mut self) -> anyhow::Result<()> {
        let mut next = self.clock.now();
        loop {
            self.look_after()?;
            let now = self.clock.now();
            if now >= next {
                next = now + ASK_EVERY;
                self.look_around().await;
            }
            if self.kills.is_some() {
                if self.advance_kills().await? {
                    return Ok(());
                }
            } else if self.lasts.is_some_and(|lasts| now.since(self.begun) >= lasts) {
                return Ok(());
            }
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await;
        }
    }

    /// Notices who has died, and starts again who is due.
    fn look_after(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        for at in 0..self.nodes.len() {
            let name = self.nodes[at].name;
            match self.nodes[at].look(now) {
                News::None => {}
                News::Died(server) => {
                    self.guard.forget(server);
                    let was = if self.master == Some(at) { ", the master," } else { "" };
                    let secs = node::AGAIN_AFTER.as_secs();
                    self.screen.say(&format!("node {name}{was} has died; it is started again in {secs} s"));
                }
                News::Due => {
                    self.start(at, None)?;
                    self.screen.say(&format!("node {name} is started again"));
                }
                News::GivenUp => {
                    let words = self.nodes[at].last_words();
                    self.screen.say(&format!("node {name} cannot be started and is left alone:\n{words}"));
                }
            }
        }
        Ok(())
    }

    /// Asks any living node how the cluster is, finds the master, and shows both.
    async fn look_around(&mut self) {
        self.seen = None;
        for at in 0..self.nodes.len() {
            self.seen = self.ask(at).await;
            if self.seen.is_some() {
                break;
            }
        }
        self.find_master().await;
        let said = self.seen.as_ref().and_then(|seen| seen.holder.as_deref());
        let master = self.master.map(|at| self.nodes[at].name).or(said);
        let line = screen::live_line(self.nodes.len(), self.seen.as_ref(), master, &self.load.sums());
        self.screen.show(line, self.clock.now());
    }

    /// Who holds the address, as the kernel says; where it may not, as the nodes say. Keeps the file of its processes.
    async fn find_master(&mut self) {
        let servers: Vec<(usize, u32)> =
            self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.server()?))).collect();
        let said = self.seen.as_ref().and_then(|seen| seen.holder.clone());
        let said = said.and_then(|name| self.nodes.iter().position(|node| node.name == name));
        let said = said.and_then(|at| servers.iter().find(|(other, _)| *other == at)).copied();
        let (address, file) = (self.layout.address(), self.layout.master_file());
        let look = move || {
            let ids: Vec<u32> = servers.iter().map(|(_, id)| *id).collect();
            let listens = processes::listener(address, &ids);
            let master =
                listens.and_then(|id| servers.iter().find(|(_, other)| *other == id)).copied().or(said);
            let family = master.map(|(_, id)| processes::family(id)).unwrap_or_default();
            let text = family.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + "\n";
            // Renamed into place, so that whoever reads it never sees half of it. Without it one line cannot be pasted.
            let part = file.with_extension("part");
            let _ = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &file));
            master.map(|(at, _)| at)
        };
        // It panics nowhere; then nobody is known to be the master.
        self.master = tokio::task::spawn_blocking(look).await.unwrap_or_default();
    }

    /// Kills the master where it is time to; true once all kills are done.
    async fn advance_kills(&mut self) -> anyhow::Result<bool> {
        let Some(kills) = &mut self.kills else { return Ok(true) };
        let before = kills.gaps().kills;
        let next = kills.look(self.clock.now()).await;
        if let Some(gap) = kills.last().filter(|_| kills.gaps().kills > before) {
            self.screen.say(&format!("the address answers again after {} ms", gap.as_millis()));
        }
        match next {
            Next::Wait => Ok(false),
            Next::Done => Ok(true),
            Next::Stuck(why) => bail!("{why}"),
            Next::Kill => {
                if self.all_in_step().await {
                    self.kill_master().await;
                }
                Ok(false)
            }
        }
    }

    /// Whether every node runs and sees all others in step.
    async fn all_in_step(&self) -> bool {
        for at in 0..self.nodes.len() {
            if !self.ask(at).await.is_some_and(|seen| seen.is_in_step(self.nodes.len())) {
                return false;
            }
        }
        true
    }

    async fn kill_master(&mut self) {
        self.find_master().await;
        let Some(master) = self.master else { return };
        self.screen.say(&format!("killing node {}, the master", self.nodes[master].name));
        let killed = self.clock.now();
        self.nodes[master].kill();
        let client = Client::new(self.layout.address(), Arc::clone(&self.clock));
        if let Some(kills) = &mut self.kills {
            kills.begin(client, Arc::clone(&self.clock), killed);
        }
    }

    /// Stops all nodes; kills those that take too long, or all at once when told to stop again.
    async fn stop(&mut self) {
        self.screen.end();
        let servers: Vec<u32> = self.nodes.iter().filter_map(Node::server).collect();
        let all = processes::Held::new(servers.iter().flat_map(|server| processes::family(*server)));
        self.nodes.iter().for_each(Node::ask_to_stop);
        let late = self.clock.sleep_until(self.clock.now() + STOP_WITHIN);
        let told_again = async {
            match told_to_stop() {
                Ok(told) => told.await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.all_over() => {}
            () = told_again => {}
            () = late => {
                let secs = STOP_WITHIN.as_secs();
                self.screen.say(&format!("some nodes did not stop within {secs} s and are killed"));
            }
        }
        all.kill();
        self.all_over().await;
    }

    async fn all_over(&mut self) {
        while !self.nodes.iter_mut().all(Node::is_over) {
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await;
        }
    }

    /// Says how it went.
    ///
    /// Errors: requests have failed in a demo that was to check that.
    fn conclude(&self) -> anyhow::Result<()> {
        let sums = self.load.sums();
        let checks = self.kills.is_some() || self.lasts.is_some();
        if !checks {
            let (requests, failed, retried) = (sums.requests, sums.failed, sums.retried);
            self.screen.say(&format!("stopped: {requests} requests, {failed} failed, {retried} retried"));
            return Ok(());
        }
        let gaps = self.kills.as_ref().map(Kills::gaps);
        self.screen.say(&json!({ "nodes": self.nodes.len(), "load": sums, "gaps": gaps }).to_string());
        match sums.last_failure {
            Some(why) => bail!("{} of {} requests failed; the last: {why}", sums.failed, sums.requests),
            None => Ok(()),
        }
    }
}

/// Completes at the word to stop, or when the terminal goes. The word is heard from the call on.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
