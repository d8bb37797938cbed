//! What each candidate would take for one job, and whether it could be chosen. Orders nothing, chooses nothing.

use std::time::Duration;

use tutti_base::{NodeId, NodeState, Tick};

use crate::book::{Account, Book, Others, Own};
use crate::breaker::Way;
use crate::candidate::Candidate;
use crate::explained::{Considered, Standing, Terms};
use crate::job::{JobAsk, Size, millis};

/// After this long, what is left of the difference between a report and the mean of all is 1 / e.
pub const AGE_TAU: Duration = Duration::from_millis(500);
/// A new node gets all its places only after this long.
pub const EASE_IN: Duration = Duration::from_secs(10);
/// The least part of a new node's capacity that is counted on.
const EASED_MIN: f64 = 0.02;
/// The least part of a node that counts as usually free.
const FREE_MIN: f64 = 0.1;
/// Heavy jobs that a node may have beyond those that it runs, so that it never idles for a round trip.
pub const HEAVY_BEYOND: f64 = 1.0;
/// Small jobs that a node may have beyond its permits.
pub const SMALL_BEYOND: f64 = 4.0;
/// Small jobs that run beside as many heavy ones as a node has permits for.
const SMALL_LANE: f64 = 1.0;
/// In the mean over all nodes, what is usual counts as much as this part of a fresh report.
const USUAL_WEIGHT: f64 = 0.5;
/// The others are not taken to send more than this many jobs for each of ours.
const CROWD_MAX: f64 = 4.0;

/// One candidate, judged for one job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) node: NodeId,
    pub(crate) terms: Terms,
    pub(crate) total_ms: f64,
    /// The job's cost there, in CPU ms of that node.
    pub(crate) expected_ms: f64,
    /// Jobs believed to be on it now.
    pub(crate) jobs: f64,
    /// The share of it that is used now, 0 to 1.
    pub(crate) used: f64,
    /// Cores of it that are free now.
    pub(crate) free: f64,
    /// Its cores, by configured weight.
    pub(crate) capacity: f64,
    /// What we gave it lately, in ms for each core that is usually free; none while it is new.
    pub(crate) given_ms: Option<f64>,
    /// When it was last given something.
    pub(crate) sampled: Tick,
    pub(crate) standing: Standing,
    /// Whether it has a place, were nothing else against it.
    places: Standing,
    /// Where it is ejected: until when.
    until: Tick,
}

impl Estimate {
    pub(crate) fn considered(&self) -> Considered {
        Considered {
            node: self.node,
            terms: self.terms,
            total_ms: self.total_ms,
            used_pct: self.used * 100.0,
            standing: self.standing,
        }
    }
    /// Whether it may have the job, now or when it has a place.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::Full)
    }
    /// Whether it may have the job now.
    pub(crate) fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }
}

/// All candidates, judged for one job.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) nodes: Vec<Estimate>,
    /// All nodes are suspect, so they are used anyway.
    pub(crate) panic: bool,
}

/// Judges all candidates. The book must have looked at them.
pub(crate) fn judge(job: &JobAsk, candidates: &[Candidate], book: &Book, now: Tick) -> Scene {
    let unknown = Account::new(None, now);
    let account = |candidate: &Candidate| book.account(candidate.node).unwrap_or(&unknown);
    let fleet = Fleet {
        mean: mean_of_others(candidates, book),
        crowd: ((1.0 - book.share()) / book.share().max(0.01)).min(CROWD_MAX),
        log_ratio: mean(candidates, |c| account(c).history.log_ratio(job.class, now).0),
        used: mean(candidates, |c| f64::from(c.used_pct) / 100.0),
    };
    let judged =
        candidates.iter().map(|candidate| Judged { job, candidate, account: account(candidate), now });
    let nodes = judged.map(|judged| judged.estimate(fleet));
    let mut scene = Scene { nodes: nodes.collect(), panic: false };
    readmit(&mut scene.nodes);
    if !scene.nodes.iter().any(Estimate::is_usable) {
        use_suspects(&mut scene);
    }
    scene
}

/// What is common to all candidates.
#[derive(Clone, Copy, Debug)]
struct Fleet {
    /// What the others have on a node, by permit and by core.
    mean: Others,
    /// Jobs that the others send for each of ours.
    crowd: f64,
    /// Mean logarithm of measured by predicted cost of the job's class.
    log_ratio: f64,
    /// Mean used part of a node, 0 to 1.
    used: f64,
}

fn mean(candidates: &[Candidate], of: impl Fn(&Candidate) -> f64) -> f64 {
    candidates.iter().map(of).sum::<f64>() / candidates.len().max(1) as f64
}

/// The mean of what the others have on a node: of the reports, each as far as it is trusted, and where all are old, of
/// what was usual.
fn mean_of_others(candidates: &[Candidate], book: &Book) -> Others {
    let (mut mean, mut weight) = (book.usual(), USUAL_WEIGHT);
    for candidate in candidates.iter().filter(|candidate| candidate.state == NodeState::Up) {
        let reported = book.account(candidate.node).map(|account| account.reported).unwrap_or_default();
        let trust = trust(candidate);
        weight += trust;
        mean = mean.toward(Others::of(candidate, reported).by_size(candidate), trust / weight);
    }
    mean
}

/// How much of a report's difference from the mean is still believed, 0 to 1 (Dahlin 2000).
fn trust(candidate: &Candidate) -> f64 {
    if candidate.sequence == 0 { 0.0 } else { (-candidate.age.div_duration_f64(AGE_TAU)).exp() }
}

/// No more than half of the nodes are left alone for their failures, and never all: those come back first whose time
/// is over first.
fn readmit(nodes: &mut [Estimate]) {
    let ejected = |node: &&mut Estimate| node.standing == Standing::Ejected;
    let usable = nodes.iter().filter(|node| node.is_usable()).count();
    let mut out: Vec<&mut Estimate> = nodes.iter_mut().filter(ejected).collect();
    let most = (usable + out.len()) / 2;
    let back = out.len().saturating_sub(most);
    if back > 0 {
        out.sort_unstable_by_key(|node| (node.until, node.node));
        out.into_iter().take(back).for_each(|node| node.standing = node.places);
    }
}

fn use_suspects(scene: &mut Scene) {
    for node in scene.nodes.iter_mut().filter(|node| node.standing == Standing::Suspect) {
        node.standing = node.places;
        scene.panic = true;
    }
}

/// A job and a node it may go to.
struct Judged<'a> {
    job: &'a JobAsk,
    candidate: &'a Candidate,
    account: &'a Account,
    now: Tick,
}

impl Judged<'_> {
    fn estimate(&self, fleet: Fleet) -> Estimate {
        let (candidate, own, eased) = (self.candidate, self.account.own(self.now), self.eased());
        let expected_ms = self.job.predicted_ms * self.log_ratio(fleet.log_ratio).exp();
        let all = self.all_work(own, fleet);
        let terms = self.terms(own, all, expected_ms);
        let places = if self.is_full(own, all, eased) { Standing::Full } else { Standing::Open };
        let (standing, until) = self.standing(places);
        Estimate {
            node: candidate.node,
            terms,
            total_ms: terms.total_ms(),
            expected_ms,
            jobs: all.jobs,
            used: (all.jobs / candidate.permits()).min(1.0),
            free: self.free_permits(all) / candidate.permits() * candidate.cores() * eased,
            capacity: candidate.capacity() * eased.max(EASED_MIN),
            given_ms: (eased >= 1.0).then(|| self.account.given_ms(self.now) / self.usually_free(fleet.used)),
            sampled: self.account.sampled,
            standing,
            places,
            until,
        }
    }

    /// What is on the node now: ours, which is known, and the others' by the last report, which has come nearer to the
    /// mean of all with its age. The other dispatchers read the same reports: what we sent more than usual since the
    /// last one, they sent too, each as its share is.
    fn all_work(&self, own: Own, fleet: Fleet) -> Others {
        let candidate = self.candidate;
        let trust = trust(candidate);
        let told = Others::of(candidate, self.account.reported);
        let (permits, cores) = (candidate.permits(), candidate.cores());
        let usual = Others { jobs: fleet.mean.jobs * permits, left_ms: fleet.mean.left_ms * cores };
        let aged = usual.toward(told, trust);
        let more = |now: f64, then: f64| (now - then) * fleet.crowd * trust;
        Others {
            jobs: own.jobs + (aged.jobs + more(own.jobs, self.account.reported.jobs)).max(0.0),
            left_ms: own.left_ms + (aged.left_ms + more(own.left_ms, self.account.reported.left_ms)).max(0.0),
        }
    }

    /// Logarithm of measured by predicted cost here. What may be chance is no difference from the other nodes: else the
    /// unlucky ones would be left alone, and then nothing would put them right.
    fn log_ratio(&self, mean: f64) -> f64 {
        let (log, chance) = self.account.history.log_ratio(self.job.class, self.now);
        let away = log - mean;
        mean + away.signum() * (away.abs() - chance).max(0.0)
    }

    fn terms(&self, own: Own, all: Others, expected_ms: f64) -> Terms {
        let (job, candidate) = (self.job, self.candidate);
        // More permits than cores: those that run share the cores.
        let running = (all.jobs + 1.0).min(candidate.permits());
        let stretch = (running / candidate.cores()).max(1.0);
        let network_ms = if candidate.is_me {
            0.0
        } else {
            millis(candidate.rtt) + job.bytes as f64 / candidate.bytes_per_ms.max(1.0)
        };
        Terms {
            heuristics_ms: job.predicted_ms,
            history_ms: expected_ms * stretch - job.predicted_ms,
            network_ms,
            original_ms: (1.0 - candidate.has_original.clamp(0.0, 1.0)) * job.original_ms,
            wait_ms: self.wait_ms(own, all),
            failures_ms: self.account.history.penalty_ms(self.now),
        }
    }

    /// The wait for a permit: of the work on the node, what is before the first free permit. None, while one is free.
    fn wait_ms(&self, own: Own, all: Others) -> f64 {
        let candidate = self.candidate;
        let (jobs, left_ms, servers) = match self.job.size() {
            Size::Heavy => (all.jobs, all.left_ms, candidate.permits()),
            Size::Small => {
                let heavy = all.jobs - own.small;
                (own.small, own.small_left_ms, (candidate.permits() - heavy).max(0.0) + SMALL_LANE)
            }
        };
        let before = ((jobs + 1.0 - servers) / jobs.max(1.0)).clamp(0.0, 1.0);
        let cores = candidate.cores().min(servers);
        // Work that is late says that the node is slower than all that is known of it.
        left_ms * before / cores + own.late_ms / candidate.permits()
    }

    fn is_full(&self, own: Own, all: Others, eased: f64) -> bool {
        let permits = self.candidate.permits();
        let (jobs, places) = match self.job.size() {
            Size::Heavy => (all.jobs - own.small, permits + HEAVY_BEYOND),
            Size::Small => (own.small, permits + SMALL_BEYOND),
        };
        self.account.is_full(self.now) || jobs + 1.0 > (places * eased).max(1.0)
    }

    /// Permits that are free for a job of this size.
    fn free_permits(&self, all: Others) -> f64 {
        let lane = if self.job.size() == Size::Small { SMALL_LANE } else { 0.0 };
        (self.candidate.permits() + lane - all.jobs).max(0.0)
    }

    /// Cores of the node that are usually free, by its last report as far as that is trusted.
    fn usually_free(&self, mean_used: f64) -> f64 {
        let told = f64::from(self.candidate.used_pct) / 100.0;
        let used = mean_used + (told - mean_used) * trust(self.candidate);
        self.candidate.cores() * (1.0 - used).max(FREE_MIN)
    }

    /// How much of its places a node that came lately gets, 0 to 1.
    fn eased(&self) -> f64 {
        let seen_for = self.account.joined.map_or(Duration::MAX, |joined| self.now.since(joined));
        let joined_for = self.candidate.joined_for.min(seen_for);
        joined_for.div_duration_f64(EASE_IN).min(1.0)
    }

    fn standing(&self, places: Standing) -> (Standing, Tick) {
        let way = self.account.breaker.way(self.now);
        let standing = match self.candidate.state {
            NodeState::Down => Standing::Down,
            NodeState::Draining => Standing::Draining,
            _ if self.job.tried.contains(&self.candidate.node) => Standing::Tried,
            NodeState::Suspect => Standing::Suspect,
            NodeState::Up => match way {
                Way::Open(_) => Standing::Ejected,
                Way::Trial if self.account.in_flight() > 0 => Standing::Ejected,
                _ => places,
            },
        };
        (standing, if let Way::Open(until) = way { until } else { self.now })
    }
}
