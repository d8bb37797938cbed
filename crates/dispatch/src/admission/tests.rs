//! Admission under bursts, lasting overload, and at each limit.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { cpu: 2.0, bytes: 1000, jobs: 10_000, target_wait: Duration::from_millis(100) }
}

fn load(cpu_ms: f64) -> Load {
    Load { cpu_ms, bytes: 0, left: 10 * SECOND, cheaper: false }
}

fn admit(admission: &mut Admission, load: Load, now: Tick) -> Option<Ticket> {
    match admission.decide(load, now) {
        Verdict::Admit(ticket) => Some(ticket),
        Verdict::Short(_) => None,
    }
}

#[test]
fn a_burst_is_queued_up_to_the_deadline_and_no_further() {
    let mut admission = Admission::new(limits(), Tick(0));
    let admitted = (0..5000).filter_map(|_| admit(&mut admission, load(10.0), Tick(0))).count();
    // 10 s of two cores at 10 ms a job are 2,000 jobs, less one that would end too late.
    assert!((1990..=2000).contains(&admitted), "{admitted}");
}

#[test]
fn a_lasting_overload_keeps_the_queue_short_and_the_engines_busy() {
    let mut admission = Admission::new(limits(), Tick(0));
    let (mut running, mut done, mut now) = (std::collections::VecDeque::new(), 0u32, Tick(0));
    let mut wait_last_second = Duration::ZERO;
    // 1,000 arrivals a second of 10 ms each, on two cores that do 200 a second.
    for ms in 0..20_000u64 {
        now = Tick(ms * 1_000_000);
        running.extend(admit(&mut admission, load(10.0), now));
        if ms % 5 == 0
            && let Some(ticket) = running.pop_front()
        {
            admission.finish(ticket, now);
            done += u32::from(ms >= 10_000);
        }
        if ms > 19_000 {
            wait_last_second = wait_last_second.max(admission.wait());
        }
    }
    assert!(done >= 1990, "the engines starved: {done} of 2,000");
    assert!(wait_last_second <= Duration::from_millis(220), "{wait_last_second:?}");
    assert!(
        admission.retry_after() >= SECOND && admission.mean_wait() > Duration::from_millis(50),
        "{now:?}"
    );
}

#[test]
fn in_an_overload_cheaper_work_still_gets_in_where_full_work_does_not() {
    let mut admission = Admission::new(limits(), Tick(0));
    let _tickets: Vec<_> = (0..62).filter_map(|_| admit(&mut admission, load(10.0), Tick(0))).collect();
    let later = Tick(0) + 5 * SECOND;
    assert_eq!(admission.decide(load(10.0), later), Verdict::Short(Shortage::Cpu));
    let cheaper = admission.decide(Load { cheaper: true, ..load(2.0) }, later);
    assert!(
        matches!(cheaper, Verdict::Short(Shortage::Cpu)),
        "300 ms of wait are the cheaper rung's own limit"
    );
    let mut less = Admission::new(limits(), Tick(0));
    let _tickets: Vec<_> = (0..50).filter_map(|_| admit(&mut less, load(10.0), Tick(0))).collect();
    assert_eq!(less.decide(load(10.0), later), Verdict::Short(Shortage::Cpu));
    assert!(matches!(less.decide(Load { cheaper: true, ..load(2.0) }, later), Verdict::Admit(_)));
}

#[test]
fn bytes_are_accounted_and_given_back() {
    let mut admission = Admission::new(limits(), Tick(0));
    let big = Load { bytes: 600, ..load(1.0) };
    let first = admit(&mut admission, big, Tick(0)).expect("the first fits");
    assert_eq!(admission.decide(big, Tick(0)), Verdict::Short(Shortage::Memory));
    admission.finish(first, Tick(0));
    assert!(admit(&mut admission, big, Tick(0)).is_some());
    assert_eq!(admission.admitted(), (1, 600));
}

#[test]
fn the_number_of_jobs_is_a_limit_of_its_own() {
    let mut admission = Admission::new(Limits { jobs: 3, ..limits() }, Tick(0));
    assert_eq!((0..5).filter_map(|_| admit(&mut admission, load(0.1), Tick(0))).count(), 3);
    assert_eq!(admission.decide(load(0.1), Tick(0)), Verdict::Short(Shortage::Jobs));
}

#[test]
fn a_correction_that_no_longer_fits_gives_the_old_ticket_back() {
    let mut admission = Admission::new(limits(), Tick(0));
    let ticket = admit(&mut admission, Load { bytes: 10, ..load(1.0) }, Tick(0)).expect("fits");
    let (ticket, shortage) = admission
        .correct(ticket, Load { bytes: 5000, ..load(1.0) }, Tick(0))
        .expect_err("5,000 bytes do not fit into 1,000");
    assert_eq!((shortage, admission.admitted()), (Shortage::Memory, (1, 10)));
    let ticket = admission.correct(ticket, Load { bytes: 900, ..load(9.0) }, Tick(0)).expect("fits now");
    assert_eq!(admission.admitted(), (1, 900));
    admission.finish(ticket, Tick(0));
    assert_eq!((admission.admitted(), admission.wait()), ((0, 0), Duration::ZERO));
}

#[test]
fn work_for_an_idle_machine_is_not_kept_out_by_a_wrong_prediction() {
    let mut admission = Admission::new(limits(), Tick(0));
    assert!(admit(&mut admission, load(60_000.0), Tick(0)).is_some());
}
