//! One fault after the other: a load runs, something goes wrong, it is mended, and what came of it is judged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tutti_base::Tick;
use tutti_base::clock::MachineTime;

use crate::audit::{self, Writer};
use crate::load::{self, Done, Load};
use crate::machine::{Machine, Outfit};
use crate::scenario::{Fault, Fronts, Kind, Scenario};
use crate::wires::{self, Trouble};
use crate::{Cli, http};

/// Requests by which the cost of one is measured, after as many that warm up.
const PROBES: u64 = 24;
const PROBE_WITHIN: Duration = Duration::from_secs(20);
/// Failures that are printed.
const SHOWN_MAX: usize = 5;

/// Runs every fault; whether nothing is wrong.
pub(crate) fn all(cli: &Cli, groups: &str) -> anyhow::Result<bool> {
    let scenario = Scenario::read(&cli.scenarios)?;
    if cli.data.exists() {
        std::fs::remove_dir_all(&cli.data)
            .with_context(|| format!("{} cannot be emptied", cli.data.display()))?;
    }
    std::fs::create_dir_all(&cli.data).with_context(|| format!("{} cannot be made", cli.data.display()))?;
    let data = std::path::absolute(&cli.data)?;
    let originals = std::path::absolute(&cli.originals)?;
    wires::build()?;
    let outfit = Outfit { binary: &cli.binary, data: &data, groups, quota_pct: scenario.quota_pct };
    let mut lab = Lab::build(&scenario, &outfit, &originals)?;
    let mut wrong = 0;
    for round in 0..cli.rounds {
        for fault in scenario
            .faults
            .iter()
            .filter(|fault| cli.only.as_ref().is_none_or(|only| fault.name.contains(only)))
        {
            let complaints = lab.try_out(fault)?;
            for complaint in &complaints {
                println!("  wrong: {complaint}");
            }
            println!("  {}", if complaints.is_empty() { "as it must be" } else { "FAILED" });
            wrong += complaints.len();
        }
        println!("lab: round {} of {} is over, {wrong} complaints so far", round + 1, cli.rounds);
    }
    Ok(wrong == 0)
}

struct Lab<'a> {
    scenario: &'a Scenario,
    machines: Vec<Machine>,
    time: MachineTime,
    rate: f64,
    serial: u64,
    written: u64,
}

impl<'a> Lab<'a> {
    fn build(scenario: &'a Scenario, outfit: &Outfit<'_>, originals: &Path) -> anyhow::Result<Self> {
        let mut machines = Vec::new();
        for at in 0..scenario.nodes {
            // The victim, which is the last, holds them as well.
            let holds = at + 1 == scenario.nodes || at + 1 < scenario.originals_on;
            let mut machine = Machine::new(at, outfit, holds.then_some(originals))?;
            match machines.first() {
                None => machine.start(None)?,
                Some(first) => machine.start(Some(&token(first)?))?,
            }
            machines.push(machine);
        }
        audit::settled(&machines)?;
        let mut lab =
            Self { scenario, machines, time: MachineTime::start(), rate: 0.0, serial: 0, written: 0 };
        lab.set_pace()?;
        Ok(lab)
    }

    /// Measures what a request costs all nodes together, and sets the pace by it.
    fn set_pace(&mut self) -> anyhow::Result<()> {
        self.probe()?;
        let used = |lab: &Self| lab.machines.iter().map(|machine| machine.group.used()).sum::<Duration>();
        let before = used(self);
        self.probe()?;
        let cost = used(self).saturating_sub(before).as_secs_f64() / PROBES as f64;
        let cores = self.machines.len() as f64 * self.scenario.quota_pct as f64 / 100.0;
        self.rate = cores * self.scenario.load_pct as f64 / 100.0 / cost.max(0.001);
        println!(
            "lab: a request costs {:.1} ms of CPU in all; the load is {:.1} a second",
            cost * 1e3,
            self.rate
        );
        Ok(())
    }

    fn probe(&mut self) -> anyhow::Result<()> {
        for turn in 0..PROBES {
            let front = &self.machines[turn as usize % self.machines.len()];
            let answer =
                http::get(front.http(), &load::target(self.serial), PROBE_WITHIN).context("a probe")?;
            anyhow::ensure!(answer.status == 200, "a probe was answered {}", answer.status);
            self.serial += 1;
        }
        Ok(())
    }

    /// Tries one fault; what is wrong afterwards.
    fn try_out(&mut self, fault: &Fault) -> anyhow::Result<Vec<String>> {
        println!("lab: {}", fault.name);
        let victim = self.machines.len() - 1;
        let asked = if fault.fronts == Fronts::All { self.machines.len() } else { victim };
        let fronts = self.machines[..asked].iter().map(Machine::http).collect();
        let writer = Arc::new(Writer::default());
        let begun = self.time.now();
        let load = Load::start(fronts, self.rate, self.serial, self.time);
        let (others, last) = self.machines.split_at_mut(victim);
        let (scenario, time, written) = (self.scenario, self.time, self.written);
        let went_wrong = std::thread::scope(|scope| {
            let (writer_here, first) = (Arc::clone(&writer), &others[0]);
            scope.spawn(move || writer_here.run(first, written, &time));
            std::thread::sleep(scenario.before());
            let at = time.now();
            let done = break_it(&mut last[0], fault.kind);
            std::thread::sleep(scenario.during());
            writer.stop();
            done.map(|()| at)
        })?;
        let until = self.time.now();
        let done = load.end();
        self.serial += done.len() as u64 + 1000;
        mend(&mut self.machines[victim], fault.kind)?;
        let span = Span { begun, went_wrong, until };
        let mut complaints = self.judge(fault, &done, &span);
        let acknowledged = writer.acknowledged.load(Ordering::SeqCst);
        println!("  longest time without an acknowledged write {:?}", writer.longest_gap());
        complaints.extend(audit::complaints(&self.machines, acknowledged));
        self.written = self.written.max(acknowledged) + 1000;
        Ok(complaints)
    }

    fn judge(&self, fault: &Fault, done: &[Done], span: &Span) -> Vec<String> {
        let victim = self.machines.len() - 1;
        let mut complaints = Vec::new();
        let at_victim = done.iter().filter(|one| one.front == victim && one.failed.is_some()).count();
        let lost: Vec<&Done> = done
            .iter()
            .filter(|one| if one.front == victim { one.failed_again.is_some() } else { one.failed.is_some() })
            .collect();
        for one in lost.iter().take(SHOWN_MAX) {
            let since = one.due.since(span.went_wrong);
            let why = (&one.failed, &one.failed_again);
            complaints
                .push(format!("a request of front {} failed {since:?} after the fault: {why:?}", one.front));
        }
        let before = load::p99(done, span.begun + Duration::from_secs(1), span.went_wrong);
        let at_once = load::p99(done, span.went_wrong, span.went_wrong + Duration::from_secs(1));
        println!(
            "  {} requests, {} failed, {at_victim} broke on the victim as front",
            done.len(),
            lost.len()
        );
        println!("  p99 before {before:?}, in the first second {at_once:?}");
        complaints
            .extend(fault.normal_within().and_then(|within| self.is_slow_after(within, before, done, span)));
        complaints
    }

    /// Whether requests are not as fast again soon enough. What is normal with a node less shows at the end of the fault.
    fn is_slow_after(
        &self,
        within: Duration,
        before: Duration,
        done: &[Done],
        span: &Span,
    ) -> Option<String> {
        let half = span.went_wrong + self.scenario.during() / 2;
        let soon = load::p99(done, span.went_wrong + within, half);
        let late = load::p99(done, half, span.until);
        let normal = before.max(late);
        let plus = normal + Duration::from_millis(self.scenario.normal_plus_ms);
        let limit = normal.mul_f64(self.scenario.normal_times).max(plus);
        println!("  p99 from {within:?} on {soon:?}, at the end {late:?} (limit {limit:?})");
        (soon > limit).then(|| format!("p99 is {soon:?} from {within:?} after the fault on; limit {limit:?}"))
    }
}

struct Span {
    begun: Tick,
    went_wrong: Tick,
    until: Tick,
}

fn token(machine: &Machine) -> anyhow::Result<String> {
    let made = machine.json(&["token", "create"])?;
    made["token"].as_str().map(Into::into).context("no token was printed")
}

fn break_it(machine: &mut Machine, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Kill => machine.kill(),
        Kind::Stop => machine.signal(Signal::STOP),
        Kind::Unplug => machine.port.break_it(Trouble::Unplugged)?,
        Kind::Mute => machine.port.break_it(Trouble::Mute)?,
        Kind::Deaf => machine.port.break_it(Trouble::Deaf)?,
        Kind::Loss => machine.port.break_it(Trouble::Loss)?,
    }
    Ok(())
}

fn mend(machine: &mut Machine, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Kill => machine.start(None),
        Kind::Stop => {
            machine.signal(Signal::CONT);
            Ok(())
        }
        _ => machine.port.mend(),
    }
}
