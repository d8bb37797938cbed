//! The settings of the worker: plain values with their limits.

use serde::{Deserialize, Serialize};
use tutti_process::EngineLimits;

/// How this machine does jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Jobs at once. Unset: one for each core that this process may use, a part of one counting as a whole.
    pub permits: Option<usize>,
    /// The share of the CPU that jobs are not planned to use, 0 to 0.9: it is there for the front.
    pub reserve: f32,
    /// The most of the CPU that jobs use on a node that answers clients and has other nodes to give work to, 0.1 to 1:
    /// status, health and answers at hand stay fast on it when all engines are busy.
    pub front_cap: f32,
    /// Memory that jobs may use together, in bytes. Unset: half of what this process may use.
    pub bytes: Option<u64>,
    /// The most jobs that wait for a permit; one more is refused at once.
    pub waiting_max: usize,
    /// Engines of each service that are started ahead of the first request.
    pub warm: usize,
    /// The most engines of each service, working and idle. Unset: twice the permits and one, so that tenants who take
    /// turns need not wait for an engine to start each time. Never fewer than the permits.
    pub engines_max: Option<usize>,
    /// Memory that one engine may allocate, in bytes.
    pub engine_memory_bytes: u64,
    /// The longest output of one job, in bytes.
    pub engine_output_bytes: u64,
    /// The inputs of one job together, in bytes.
    pub engine_input_bytes: u64,
    /// Resident memory after a job, in bytes, over which an engine is replaced.
    pub engine_grown_bytes: u64,
    /// Jobs after which an engine is replaced.
    pub engine_jobs_max: u32,
    /// Added to the server's niceness for engines, 0 to 19.
    pub engine_nice: u8,
    /// The first of 1,000 user ids that engines get where the server may give them; none may belong to anyone.
    pub engine_uid_first: u32,
}

impl Default for Config {
    fn default() -> Self {
        let limits = EngineLimits::default();
        Self {
            permits: None,
            reserve: 0.25,
            front_cap: 0.75,
            bytes: None,
            waiting_max: 1024,
            warm: 1,
            engines_max: None,
            engine_memory_bytes: limits.memory_bytes,
            engine_output_bytes: limits.output_bytes,
            engine_input_bytes: limits.input_bytes,
            engine_grown_bytes: limits.grown_bytes,
            engine_jobs_max: limits.jobs_max,
            engine_nice: 5,
            engine_uid_first: 64_000,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[worker] {0}")]
pub struct ConfigError(String);

impl Config {
    /// Checks every value; the message names the key and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const MIB: u64 = 1 << 20;
        let least = [
            ("permits", self.permits.unwrap_or(1) as u64, 1),
            ("bytes", self.bytes.unwrap_or(16 * MIB), 16 * MIB),
            ("waiting_max", self.waiting_max as u64, 1),
            ("engines_max", self.engines_max.unwrap_or(1) as u64, 1),
            ("engine_memory_bytes", self.engine_memory_bytes, 16 * MIB),
            ("engine_output_bytes", self.engine_output_bytes, 4096),
            ("engine_input_bytes", self.engine_input_bytes, 4096),
            ("engine_grown_bytes", self.engine_grown_bytes, 16 * MIB),
            ("engine_jobs_max", u64::from(self.engine_jobs_max), 1),
            ("engine_uid_first", u64::from(self.engine_uid_first), 1),
        ];
        for (key, value, least) in least {
            if value < least {
                return Err(ConfigError(format!("`{key}` is {value}; it must be at least {least}")));
            }
        }
        if !(0.0..=0.9).contains(&self.reserve) {
            return Err(ConfigError(format!("`reserve` is {}; it must be from 0 to 0.9", self.reserve)));
        }
        if !(0.1..=1.0).contains(&self.front_cap) {
            return Err(ConfigError(format!("`front_cap` is {}; it must be from 0.1 to 1", self.front_cap)));
        }
        if self.engine_nice > 19 {
            return Err(ConfigError(format!(
                "`engine_nice` is {}; it must be from 0 to 19",
                self.engine_nice
            )));
        }
        Ok(())
    }

    pub(crate) fn engine_limits(&self) -> EngineLimits {
        EngineLimits {
            memory_bytes: self.engine_memory_bytes,
            output_bytes: self.engine_output_bytes,
            input_bytes: self.engine_input_bytes,
            grown_bytes: self.engine_grown_bytes,
            jobs_max: self.engine_jobs_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named_with_its_bound() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { permits: Some(0), ..Config::default() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "[worker] `permits` is 0; it must be at least 1");
        let bad = Config { reserve: f32::NAN, ..Config::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("reserve"));
    }
}
