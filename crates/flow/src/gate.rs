//! The gate: admission and the cost model behind a lock that is never held while anything waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tutti_base::{Clock, Kind, Problem};
use tutti_dispatch::{Admission, CostModel, Known, Limits, Load, Shortage, Ticket, Verdict};
use tutti_service::plan::Cost;

use crate::meter::Meter;

/// Admission on this machine.
pub struct Gate {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    meter: Meter,
}

struct State {
    admission: Admission,
    model: CostModel,
}

/// Whether work is what was asked for or a cheaper rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rank {
    /// As asked.
    Full,
    /// A cheaper rung.
    Cheaper,
}

/// A place that admitted work holds until it is dropped.
pub struct Place {
    gate: Arc<Gate>,
    ticket: Option<Ticket>,
    class: &'static str,
    /// What was predicted, by what was known then.
    predicted: Vec<(Known, f32)>,
    rank: Rank,
}

impl Gate {
    /// A gate with these limits.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>, meter: Meter) -> Self {
        let admission = Admission::new(limits, clock.now());
        Self { state: Mutex::new(State { admission, model: CostModel::default() }), clock, meter }
    }

    /// Decides whether a job of `class` that costs `cost` and has `left` until its deadline gets in.
    pub fn enter(
        self: &Arc<Self>,
        class: &'static str,
        cost: &Cost,
        left: Duration,
        rank: Rank,
    ) -> Result<Place, Shortage> {
        let mut state = self.state();
        let load = load_of(&state.model, class, (Known::Request, cost), left, rank);
        match state.admission.decide(load, self.clock.now()) {
            Verdict::Admit(ticket) => {
                self.show(&state.admission);
                let (ticket, predicted) = (Some(ticket), vec![(Known::Request, cost.cpu_ms)]);
                Ok(Place { gate: Arc::clone(self), ticket, class, predicted, rank })
            }
            Verdict::Short(shortage) => {
                Meter::count(&self.meter.shed, shortage.word());
                Err(shortage)
            }
        }
    }

    /// The refusal that a shortage ends in when no rung fits.
    pub fn refusal(&self, shortage: Shortage) -> Problem {
        let detail = match shortage {
            Shortage::Cpu => "no capacity: this would not be done in time; try again later",
            Shortage::Memory => "no capacity: the memory set aside for jobs is in use; try again later",
            Shortage::Jobs => "no capacity: too many jobs are waiting; try again later",
        };
        let after = self.state().admission.retry_after();
        Problem::new(Kind::Overloaded, detail).about(shortage.word()).retry_after(after)
    }

    /// What admission holds now: (predicted wait, mean wait, jobs, bytes).
    pub fn load(&self) -> (Duration, Duration, usize, u64) {
        let state = self.state();
        let (jobs, bytes) = state.admission.admitted();
        (state.admission.wait(), state.admission.mean_wait(), jobs, bytes)
    }

    /// The CPU time to expect of a job, in ms.
    pub fn expect_ms(&self, class: &'static str, cost: &Cost) -> f32 {
        self.state().model.expect(class, Known::Request, cost.cpu_ms)
    }

    /// The same, once the facts of its inputs are known.
    pub fn expect_refined_ms(&self, class: &'static str, cost: &Cost) -> f32 {
        self.state().model.expect(class, Known::Facts, cost.cpu_ms)
    }

    /// Notes what other nodes give to jobs, in cores, and the work that they have from elsewhere, in CPU ms.
    pub fn note_others(&self, (cpu, backlog_ms): (f64, f64)) {
        self.state().admission.note_others(cpu, backlog_ms);
    }

    /// Changes the limits in force.
    pub fn set_limits(&self, limits: Limits) {
        self.state().admission.set_limits(limits);
    }

    fn show(&self, admission: &Admission) {
        self.meter.wait_ms.set(i64::try_from(admission.wait().as_millis()).unwrap_or(i64::MAX));
        self.meter.bytes.set(i64::try_from(admission.admitted().1).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Corrects what it is held for when the facts are known. On a shortage it stays as it was.
    pub fn correct(&mut self, class: &'static str, cost: &Cost, left: Duration) -> Result<(), Shortage> {
        let Some(ticket) = self.ticket.take() else { return Ok(()) };
        let mut state = self.gate.state();
        let load = load_of(&state.model, class, (Known::Facts, cost), left, self.rank);
        let (ticket, verdict) = match state.admission.correct(ticket, load, self.gate.clock.now()) {
            Ok(ticket) => (ticket, Ok(())),
            Err((ticket, shortage)) => (ticket, Err(shortage)),
        };
        drop(state);
        self.ticket = Some(ticket);
        if let Err(shortage) = verdict {
            Meter::count(&self.gate.meter.shed, shortage.word());
            return Err(shortage);
        }
        self.class = class;
        self.predicted.push((Known::Facts, cost.cpu_ms));
        Ok(())
    }

    /// Learns what the job really took, in ms of CPU.
    pub fn learn(&self, measured_ms: f32) {
        let mut state = self.gate.state();
        for (known, predicted_ms) in &self.predicted {
            state.model.learn(self.class, *known, *predicted_ms, measured_ms);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut state = self.gate.state();
            state.admission.finish(ticket, self.gate.clock.now());
            self.gate.show(&state.admission);
        }
    }
}

fn load_of(
    model: &CostModel,
    class: &'static str,
    (known, cost): (Known, &Cost),
    left: Duration,
    rank: Rank,
) -> Load {
    let cpu_ms = f64::from(model.expect(class, known, cost.cpu_ms));
    Load { cpu_ms, bytes: cost.bytes, left, cheaper: rank == Rank::Cheaper }
}
