//! What is tried, with which load, and what must come of it: the file of scenarios.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

/// All of one file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// How many nodes: the last is the victim.
    pub(crate) nodes: usize,
    /// What each may use of one core, in percent.
    pub(crate) quota_pct: u64,
    /// The load, in percent of what all nodes together can do.
    pub(crate) load_pct: u64,
    /// How many nodes have the originals in a folder.
    pub(crate) originals_on: usize,
    before_s: u64,
    during_s: u64,
    /// How many times slower than before is still as fast.
    pub(crate) normal_times: f64,
    /// How many milliseconds slower than before is still as fast.
    pub(crate) normal_plus_ms: u64,
    /// What goes wrong, one after the other.
    #[serde(rename = "fault")]
    pub(crate) faults: Vec<Fault>,
}

/// What goes wrong.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) fronts: Fronts,
    normal_within_ms: Option<u64>,
}

/// How it goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Kill,
    Stop,
    Unplug,
    Mute,
    Deaf,
    Loss,
}

/// Whom clients ask.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fronts {
    /// All nodes but the victim.
    Others,
    /// All nodes.
    All,
}

impl Scenario {
    /// Errors: it cannot be read, or has a key that is not known.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let scenario: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        if !(3..=9).contains(&scenario.nodes) || scenario.originals_on > scenario.nodes {
            anyhow::bail!("{}: `nodes` is 3 to 9, and `originals_on` at most as many", path.display());
        }
        Ok(scenario)
    }

    pub(crate) fn before(&self) -> Duration {
        Duration::from_secs(self.before_s)
    }

    pub(crate) fn during(&self) -> Duration {
        Duration::from_secs(self.during_s)
    }
}

impl Fault {
    /// How soon requests must be as fast as before; none: nobody asks.
    pub(crate) fn normal_within(&self) -> Option<Duration> {
        self.normal_within_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_of_this_package_can_be_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/faults.toml");
        let scenario = Scenario::read(Path::new(path)).unwrap();
        assert_eq!(
            (scenario.nodes, scenario.quota_pct, scenario.load_pct),
            (3, 25, 55),
            "row 2 of the table"
        );
        for kind in [Kind::Kill, Kind::Stop, Kind::Unplug, Kind::Mute, Kind::Deaf, Kind::Loss] {
            assert!(scenario.faults.iter().any(|fault| fault.kind == kind), "{kind:?}");
        }
    }
}
