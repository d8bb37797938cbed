//! Explaining: what would be done for a URL and why, without doing it.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::Deadline;
use tutti_dispatch::Considered;
use tutti_service::{Action, Rung};

use crate::seats::Wish;
use crate::{Flow, Planned};

/// One line of an explanation: a section, a name, a value.
pub type Line = (&'static str, String, String);

impl Flow {
    /// Says what answering `planned` would take: keys, look-up, sources, cost, admission, ladder.
    pub async fn explain(self: &Arc<Self>, planned: &Arc<Planned>) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut say = |section, name: &str, value: String| lines.push((section, name.to_owned(), value));
        let service = self.registry.get(planned.service);
        say("plan", "service", service.describe().name.into());
        say("plan", "tenant", planned.tenant.to_string());
        let action = match &planned.plan.action {
            Action::Respond(_) => "answer at once".to_owned(),
            Action::Gather(gather) => format!("gather {} parts", gather.parts.len()),
            Action::Job(job) => format!("job of class {}", job.class),
        };
        say("plan", "action", action);
        say("plan", "reads", planned.plan.reads.join(", "));
        planned.sources.iter().for_each(|(_, source)| say("plan", "original", source.to_string()));
        if let Some(key) = &planned.key {
            say("look-up", "request key", key.hex());
            let kept = self.outside.results.find(key).await;
            let now = self.outside.clock.wall();
            let state = match &kept {
                None => "not in the results (render cache)".to_owned(),
                Some(entry) if !self.purges.spares(entry, key) => "purged".to_owned(),
                Some(entry) if now < entry.binding.fresh_until => {
                    format!("fresh for another {} s", entry.binding.fresh_until.since(now).as_secs())
                }
                Some(_) => "expired".to_owned(),
            };
            say("look-up", "results (render cache)", state);
            if let Some(entry) = kept {
                say("look-up", "result key", entry.binding.result.hex());
                say("look-up", "bytes", entry.meta.len.to_string());
                say("look-up", "tags", entry.binding.tags.join(" "));
            }
        }
        if let Some(job) = planned.job() {
            let (wait, mean, jobs, bytes) = self.gate.load();
            say("cost", "predicted CPU", format!("{:.1} ms", self.gate.expect_ms(job.class, &job.cost)));
            say("cost", "estimated memory", format!("{} kB", job.cost.bytes / 1024));
            say("admission", "wait now", format!("{} ms (mean {} ms)", wait.as_millis(), mean.as_millis()));
            say("admission", "admitted", format!("{jobs} jobs, {} kB", bytes / 1024));
        }
        self.explain_choice(planned, &mut lines);
        let mut say = |section, name: &str, value: String| lines.push((section, name.to_owned(), value));
        for rung in &planned.plan.ladder {
            let word = match rung {
                Rung::Stale => "an expired copy".to_owned(),
                Rung::Cheaper { word, .. } => format!("the same size, cheaper by {word}"),
            };
            say("ladder", "when capacity is short", word);
        }
        lines
    }

    /// Who owns the answer.
    fn explain_choice(&self, planned: &Planned, lines: &mut Vec<Line>) {
        let owners = self.owners_of(planned);
        let names: Vec<String> = match owners.is_empty() {
            true => vec![self.me.to_string()],
            false => owners.iter().map(|node| self.mesh.name(*node).to_string()).collect(),
        };
        lines.push(("owner", "nodes".into(), names.join(", ")));
    }

    /// Which node would get the job of `planned`, and what led to it; none where no other may have it.
    pub fn choice(&self, planned: &Planned) -> Option<Choice> {
        let job = planned.job()?;
        let wish = Wish {
            service: self.registry.get(planned.service).describe().name,
            class: job.class,
            cpu_ms: f64::from(self.gate.expect_ms(job.class, &job.cost)),
            bytes: job.cost.bytes,
            inputs: Vec::new(),
            deadline: Deadline::after(self.outside.clock.now(), Duration::from_secs(10)),
            tried: Vec::new(),
        };
        let explained = self.seats.explain(&wish)?;
        let service = self.registry.get(planned.service).describe().name;
        let name = |seen: &Considered| {
            let name = self.mesh.name(seen.node).to_string();
            let word = if self.seats.is_off(service, &name) { "off" } else { seen.standing.word() };
            (name, *seen, word)
        };
        let nodes = explained.considered.iter().map(name).collect();
        let chosen = explained.chosen.map(|node| self.mesh.name(node).to_string());
        Some(Choice { policy: explained.policy.to_string(), reason: explained.reason.word(), chosen, nodes })
    }
}

/// A choice of a node, by names.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// The policy's name.
    pub policy: String,
    /// Why the chosen node.
    pub reason: &'static str,
    /// The chosen node; none where the job would wait.
    pub chosen: Option<String>,
    /// The candidates, each with its terms and how it stands: `open`, `full`, `off` and so on.
    pub nodes: Vec<(String, Considered, &'static str)>,
}
