//! What clients do while the cluster is ill-treated: registers whose history is checked, a list that is only appended to, and
//! a lock that must have one holder at a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{Clock, Tick};
use tutti_store::{Check, Key, LeaseId, Op, Store, StoreError, Txn};

use crate::checker::{Act, Done};
use crate::world::World;

pub(crate) const REGISTERS: usize = 4;
/// The most operations on one register.
const REGISTER_OPS_MAX: usize = 100;
const LOCK_TTL: Duration = Duration::from_millis(600);

/// What happened.
#[derive(Default)]
pub(crate) struct History {
    time: Cell<u64>,
    next: Cell<u64>,
    pub(crate) registers: [RefCell<Vec<Done>>; REGISTERS],
    /// Values whose append was acknowledged, and those whose answer was lost.
    pub(crate) appended: RefCell<Vec<u64>>,
    pub(crate) unsure: RefCell<Vec<u64>>,
    /// From the acknowledgement until its holder had to stop, and its token.
    pub(crate) held: RefCell<Vec<(Tick, Tick, u64)>>,
    pub(crate) is_over: Cell<bool>,
}

impl History {
    fn tick(&self) -> u64 {
        self.time.set(self.time.get() + 1);
        self.time.get()
    }
    fn value(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("sim", name)
}

pub(crate) fn number(store: &dyn Store, at: &Key) -> Result<u64, StoreError> {
    let entry = store.get(at)?;
    Ok(entry.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().expect("a number")))
}

/// Uses the registers through any node until the history is over.
pub(crate) async fn use_registers(world: Rc<RefCell<World>>, history: Rc<History>, seed: u64) {
    let mut rng = SplitMix::new(seed);
    while !history.is_over.get() {
        tokio::time::sleep(Duration::from_millis(15 + rng.below(60))).await;
        let store = world.borrow_mut().any();
        let Some(store) = store else { continue };
        let which = rng.below(REGISTERS as u64) as usize;
        if history.registers[which].borrow().len() >= REGISTER_OPS_MAX {
            continue;
        }
        let at = key(&format!("r{which}"));
        let begin = history.tick();
        let note = |act, end| history.registers[which].borrow_mut().push(Done { act, begin, end });
        match rng.below(3) {
            0 => {
                let value = history.value();
                match store.commit(Txn::of([Op::put(at, value.to_string())])).await {
                    Ok(_) => note(Act::Write(value), Some(history.tick())),
                    Err(StoreError::Unknown) => note(Act::Write(value), None),
                    // Nothing was written: so it says, and so it is checked.
                    Err(_) => {}
                }
            }
            1 => {
                let Ok(old) = number(&*store, &at) else { continue };
                let value = history.value();
                let condition = match old {
                    0 => Check::Absent(at.clone()),
                    old => Check::Equals(at.clone(), old.to_string().into()),
                };
                match store.commit(Txn::of([Op::put(at, value.to_string())]).when(condition)).await {
                    Ok(commit) => {
                        let swapped = Some(commit.done().is_some());
                        note(Act::Swap(old, value, swapped), Some(history.tick()));
                    }
                    Err(StoreError::Unknown) => note(Act::Swap(old, value, None), None),
                    Err(_) => {}
                }
            }
            _ => {
                if store.linearize().await.is_ok()
                    && let Ok(value) = number(&*store, &at)
                {
                    note(Act::Read(value), Some(history.tick()));
                }
            }
        }
    }
}

/// Appends to one list through any node until the history is over.
pub(crate) async fn append(world: Rc<RefCell<World>>, history: Rc<History>, seed: u64) {
    let mut rng = SplitMix::new(seed);
    while !history.is_over.get() {
        tokio::time::sleep(Duration::from_millis(20 + rng.below(60))).await;
        let store = world.borrow_mut().any();
        let Some(store) = store else { continue };
        let at = key("list");
        let Ok(entry) = store.get(&at) else { continue };
        let value = history.value();
        let (list, condition) = match entry {
            None => (value.to_string(), Check::Absent(at.clone())),
            Some(entry) => {
                let list = format!("{} {value}", String::from_utf8_lossy(&entry.value));
                (list, Check::Modified(at.clone(), entry.modified))
            }
        };
        match store.commit(Txn::of([Op::put(at, list)]).when(condition)).await {
            Ok(commit) if commit.done().is_some() => history.appended.borrow_mut().push(value),
            Err(StoreError::Unknown) => history.unsure.borrow_mut().push(value),
            _ => {}
        }
    }
}

/// Takes a lock, holds it for a while by keeping its lease alive, and loses it by not doing so any more.
pub(crate) async fn hold(world: Rc<RefCell<World>>, history: Rc<History>, seed: u64) {
    let mut rng = SplitMix::new(seed);
    while !history.is_over.get() {
        tokio::time::sleep(Duration::from_millis(20 + rng.below(60))).await;
        let store = world.borrow_mut().any();
        let Some(store) = store else { continue };
        let clock = world.borrow().clock;
        let asked = clock.now();
        let Ok(lease) = store.grant(LOCK_TTL).await else { continue };
        let op = Op::Put { at: key("lock"), value: "held".into(), lease: Some(lease.id) };
        let taken = store.commit(Txn::of([op]).when(Check::Absent(key("lock")))).await;
        if !taken.is_ok_and(|commit| commit.done().is_some()) {
            let _ = store.revoke(lease.id).await;
            continue;
        }
        let from = clock.now();
        let until = keep(&world, &history, lease.id, asked + LOCK_TTL, &mut rng).await;
        if from < until {
            history.held.borrow_mut().push((from, until, lease.id.token()));
        }
    }
}

/// Keeps `lease` alive a few times; until when its holder may believe in it.
async fn keep(
    world: &Rc<RefCell<World>>,
    history: &History,
    lease: LeaseId,
    mut until: Tick,
    rng: &mut SplitMix,
) -> Tick {
    let clock = world.borrow().clock;
    for _ in 0..rng.below(12) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        if clock.now() >= until || history.is_over.get() {
            break;
        }
        let store = world.borrow_mut().any();
        let Some(store) = store else { continue };
        let asked = clock.now();
        let kept = tokio::time::timeout(until.since(asked), store.keep_alive(lease)).await;
        if kept.is_ok_and(|kept| kept.is_ok()) {
            until = asked + LOCK_TTL;
        }
    }
    let now = clock.now();
    if now < until {
        tokio::time::sleep(until.since(now)).await;
    }
    until
}
