//! The network: one switch (a bridge) with a cable to each machine, and what can go wrong with a cable. Everything is within
//! the namespace of the lab and ends with it.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::words::run;

/// The lab's own address, that of the clients.
const CLIENT: &str = "10.77.0.254";

/// The address of machine `at`.
pub(crate) fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 1 + u8::try_from(at).unwrap_or(u8::MAX - 1))
}

/// What a cable does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// It is not plugged in.
    Unplugged,
    /// Nothing comes from the machine.
    Mute,
    /// Nothing reaches the machine.
    Deaf,
    /// Three of ten packets are lost, each way.
    Loss,
}

/// Builds the switch.
///
/// Errors: `ip` or `nft` is missing, or the kernel refuses.
pub(crate) fn build() -> anyhow::Result<()> {
    run("ip link set lo up")?;
    run("ip link add lab type bridge forward_delay 0")?;
    run(&format!("ip addr add {CLIENT}/24 dev lab"))?;
    run("ip link set lab up")?;
    run("nft add table bridge lab")?;
    run("nft add chain bridge lab from { type filter hook prerouting priority -300 ; }")?;
    run("nft add chain bridge lab to { type filter hook postrouting priority 300 ; }")
}

/// A machine's place in the network: a namespace that lives as long as this.
pub(crate) struct Port {
    keeper: Child,
    cable: String,
}

impl Port {
    /// Plugs machine `at` in.
    pub(crate) fn new(at: usize) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "infinity"]).stdin(Stdio::null());
        let keeper = command.spawn().context("`unshare` cannot be run")?;
        let port = Self { keeper, cable: format!("cable{at}") };
        let (cable, id) = (&port.cable, port.keeper.id());
        port.wait_for_namespace()?;
        run(&format!("ip link add {cable} type veth peer name eth0 netns {id}"))?;
        run(&format!("ip link set {cable} master lab up"))?;
        let within = |line: &str| run(&format!("nsenter --net=/proc/{id}/ns/net {line}"));
        within("ip link set lo up")?;
        within(&format!("ip addr add {}/24 dev eth0", address(at)))?;
        within("ip link set eth0 up")?;
        Ok(port)
    }

    /// Until the keeper has left the lab's own namespace.
    fn wait_for_namespace(&self) -> anyhow::Result<()> {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        let mine = of("self").context("there is no /proc")?;
        for _ in 0..1000 {
            if of(&self.keeper.id().to_string()).is_ok_and(|its| its != mine) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        anyhow::bail!("no namespace was made for {}", self.cable)
    }

    /// The words that run something on this machine.
    pub(crate) fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.keeper.id())]
    }

    /// Makes trouble on the cable.
    pub(crate) fn break_it(&self, trouble: Trouble) -> anyhow::Result<()> {
        let cable = &self.cable;
        match trouble {
            Trouble::Unplugged => run(&format!("ip link set {cable} down")),
            Trouble::Mute => run(&format!("nft add rule bridge lab from iifname {cable} drop")),
            Trouble::Deaf => run(&format!("nft add rule bridge lab to oifname {cable} drop")),
            Trouble::Loss => {
                run(&format!(
                    "nft add rule bridge lab from iifname {cable} numgen random mod 100 < 30 drop"
                ))?;
                run(&format!("nft add rule bridge lab to oifname {cable} numgen random mod 100 < 30 drop"))
            }
        }
    }

    /// A whole cable again.
    pub(crate) fn mend(&self) -> anyhow::Result<()> {
        run("nft flush table bridge lab")?;
        run(&format!("ip link set {} up", self.cable))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // It may have been killed with the lab's other processes.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
