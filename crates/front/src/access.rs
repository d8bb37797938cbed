//! The access log: what is logged, how a line looks, and the buffers that carry lines to a writer of their own. Never
//! blocks a front thread: what the writer cannot keep up with is dropped and counted.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tutti_base::{RequestId, Wall};
use tutti_telemetry::Counter;

use crate::config::ConfigError;
use crate::text::{push_hex, push_millis, push_number};

/// Settings of the access log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Which requests are logged.
    pub mode: LogMode,
    /// In mode `sampled`: one in so many requests that are neither errors nor slow.
    pub sample: u64,
    /// From how many ms on a request is slow and always logged, unless the mode is `off`.
    pub slow_ms: u64,
    /// How a line looks.
    pub format: LogFormat,
    /// How many bytes of lines a thread gathers before it hands them over; it does so each second too.
    pub buffer_bytes: usize,
    /// How many such buffers may wait to be written; more are dropped.
    pub buffers: usize,
}

/// Which requests are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// None.
    Off,
    /// Errors, slow requests, and some of the others.
    Sampled,
    /// Every one.
    All,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Words for people.
    Human,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            mode: LogMode::Sampled,
            sample: 100,
            slow_ms: 1000,
            format: LogFormat::Json,
            buffer_bytes: 64 * 1024,
            buffers: 16,
        }
    }
}

impl LogConfig {
    /// Checks every key by itself.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let checks = [
            ("log.sample", self.sample, 1..=u64::MAX, "1 or more"),
            ("log.buffer_bytes", self.buffer_bytes as u64, 1024..=1 << 24, "1024 to 16777216"),
            ("log.buffers", self.buffers as u64, 1..=1024, "1 to 1024"),
        ];
        for (key, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(ConfigError { key, value, range });
            }
        }
        Ok(())
    }
}

/// What a line says.
pub(crate) struct Line<'a> {
    pub(crate) stamp: &'a [u8],
    pub(crate) wall: Wall,
    pub(crate) id: RequestId,
    pub(crate) peer: &'a str,
    pub(crate) method: &'static str,
    pub(crate) host: &'a str,
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) service: &'a str,
    pub(crate) cache: &'static str,
    /// What only the log gets.
    pub(crate) cause: Option<&'a str>,
}

/// One thread's lines.
pub(crate) struct LogBuffer {
    config: LogConfig,
    slow: Duration,
    buffer: Vec<u8>,
    lines: u64,
    passed: u64,
    /// None: nothing is logged.
    out: Option<SyncSender<Vec<u8>>>,
    dropped: Counter,
}

impl LogBuffer {
    /// An empty one that hands its buffers to `out`.
    pub(crate) fn new(config: LogConfig, out: Option<SyncSender<Vec<u8>>>, dropped: Counter) -> Self {
        let slow = Duration::from_millis(config.slow_ms);
        let out = out.filter(|_| config.mode != LogMode::Off);
        Self { config, slow, buffer: Vec::new(), lines: 0, passed: 0, out, dropped }
    }

    /// Whether a request with this outcome is logged. Counts the ones that are passed over.
    pub(crate) fn wants(&mut self, status: u16, elapsed: Duration) -> bool {
        if self.out.is_none() {
            return false;
        }
        if self.config.mode == LogMode::All || status >= 400 || elapsed >= self.slow {
            return true;
        }
        self.passed += 1;
        if self.passed < self.config.sample {
            return false;
        }
        self.passed = 0;
        true
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &Line<'_>) {
        match self.config.format {
            LogFormat::Json => push_json(&mut self.buffer, line),
            LogFormat::Human => push_human(&mut self.buffer, line),
        }
        self.lines += 1;
        if self.buffer.len() >= self.config.buffer_bytes {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.config.buffer_bytes + 1024));
        let lines = std::mem::take(&mut self.lines);
        let sent = self.out.as_ref().map(|out| out.try_send(full));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            self.dropped.inc_by(lines);
        }
    }
}

/// Starts the writer: it ends, with everything written, when the last sender is gone.
pub(crate) fn start_writer(
    config: &LogConfig,
    mut out: Box<dyn Write + Send>,
) -> std::io::Result<(SyncSender<Vec<u8>>, JoinHandle<()>)> {
    let (sender, buffers): (_, Receiver<Vec<u8>>) = sync_channel(config.buffers);
    let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || {
        let mut failed = false;
        for buffer in buffers {
            let result = out.write_all(&buffer).and_then(|()| out.flush());
            if let Err(error) = &result
                && !failed
            {
                tracing::warn!(%error, "the access log cannot be written");
            }
            failed = result.is_err();
        }
    })?;
    Ok((sender, writer))
}

fn push_time(out: &mut Vec<u8>, line: &Line<'_>) {
    out.extend_from_slice(line.stamp);
    let millis = line.wall.0 % 1000;
    out.push(b'.');
    out.extend_from_slice(&[100, 10, 1].map(|unit| b'0' + (millis / unit % 10) as u8));
    out.push(b'Z');
}

fn push_json(out: &mut Vec<u8>, line: &Line<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    push_time(out, line);
    out.extend_from_slice(b"\",\"id\":\"");
    push_hex(out, line.id.0);
    for (key, value) in [
        ("\",\"peer\":\"", line.peer),
        ("\",\"method\":\"", line.method),
        ("\",\"host\":\"", line.host),
        ("\",\"target\":\"", line.target),
        ("\",\"service\":\"", line.service),
        ("\",\"cache\":\"", line.cache),
    ] {
        out.extend_from_slice(key.as_bytes());
        push_escaped(out, value);
    }
    if let Some(cause) = line.cause {
        out.extend_from_slice(b"\",\"cause\":\"");
        push_escaped(out, cause);
    }
    out.extend_from_slice(b"\",\"status\":");
    push_number(out, u64::from(line.status));
    out.extend_from_slice(b",\"bytes\":");
    push_number(out, line.bytes);
    out.extend_from_slice(b",\"ms\":");
    push_millis(out, line.elapsed.as_micros() as u64);
    out.extend_from_slice(b"}\n");
}

fn push_human(out: &mut Vec<u8>, line: &Line<'_>) {
    push_time(out, line);
    for word in [line.peer, line.method, line.host, line.target] {
        out.push(b' ');
        push_escaped(out, if word.is_empty() { "-" } else { word });
    }
    out.push(b' ');
    push_number(out, u64::from(line.status));
    out.push(b' ');
    push_number(out, line.bytes);
    out.extend_from_slice(b"B ");
    push_millis(out, line.elapsed.as_micros() as u64);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(line.service.as_bytes());
    out.push(b' ');
    out.extend_from_slice(line.cache.as_bytes());
    out.push(b' ');
    push_hex(out, line.id.0);
    if let Some(cause) = line.cause {
        out.extend_from_slice(b" \"");
        push_escaped(out, cause);
        out.push(b'"');
    }
    out.push(b'\n');
}

/// Appends `text` so that it can neither end its JSON string nor its line, nor steer a terminal.
fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let needs = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\' || byte >= 0x7f;
    if !text.bytes().any(needs) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if !needs(byte) => out.push(byte),
            _ => out.extend_from_slice(format!("\\u{unit:04x}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Line<'_> {
        Line {
            stamp: b"2026-11-24T18:00:00",
            wall: Wall(1_795_543_200_007),
            id: RequestId(255),
            peer: "[::1]:5",
            method: "GET",
            host: "h",
            target,
            status: 200,
            bytes: 12,
            elapsed: Duration::from_micros(1230),
            service: "image",
            cache: "hit",
            cause: Some("it \"broke\""),
        }
    }

    #[test]
    fn lines_cannot_be_forged() {
        let evil = "/a\"\n{\"x\":1}\\\u{1b}[2Jé";
        let mut out = Vec::new();
        push_json(&mut out, &line(evil));
        let value: serde_json::Value = serde_json::from_slice(&out).expect("one JSON object");
        assert_eq!(value["target"], evil);
        assert_eq!(value["time"], "2026-11-24T18:00:00.007Z");
        assert_eq!((&value["ms"], &value["status"]), (&1.23.into(), &200.into()));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        out.clear();
        push_human(&mut out, &line(evil));
        assert!(out.is_ascii() && !out.contains(&0x1b));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    fn buffer(mode: LogMode, out: Option<SyncSender<Vec<u8>>>) -> LogBuffer {
        let config = LogConfig { mode, sample: 3, buffer_bytes: 1024, ..LogConfig::default() };
        LogBuffer::new(config, out, Counter::default())
    }

    #[test]
    fn errors_and_slow_requests_are_always_wanted_and_others_one_in_so_many() {
        let (sender, _receiver) = sync_channel(1);
        let mut sampled = buffer(LogMode::Sampled, Some(sender.clone()));
        assert!(sampled.wants(404, Duration::ZERO) && sampled.wants(200, Duration::from_secs(1)));
        let wanted: Vec<_> = (0..6).map(|_| sampled.wants(200, Duration::ZERO)).collect();
        assert_eq!(wanted, [false, false, true, false, false, true]);
        assert!(buffer(LogMode::All, Some(sender.clone())).wants(200, Duration::ZERO));
        assert!(!buffer(LogMode::Off, Some(sender)).wants(500, Duration::ZERO));
    }

    #[test]
    fn what_the_writer_cannot_take_is_dropped_and_counted() {
        let (sender, receiver) = sync_channel(1);
        let mut log = buffer(LogMode::All, Some(sender));
        for _ in 0..3 {
            log.add(&line("/"));
            log.flush();
        }
        assert_eq!(log.dropped.get(), 2);
        assert_eq!(receiver.try_iter().count(), 1);
    }
}
