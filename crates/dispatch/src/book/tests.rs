//! Tests of the book: what of a report is ours, what is remembered, what is bounded.

use super::*;
use crate::candidate::tests::candidate;

fn at(ms: u64) -> Tick {
    Tick(0) + Duration::from_millis(10_000 + ms)
}

fn job(ms: f64) -> JobAsk {
    JobAsk::new("resize", ms, at(60_000))
}

fn report(sequence: u64, jobs: u16, age_ms: u64) -> Candidate {
    Candidate { sequence, age: Duration::from_millis(age_ms), ..candidate(1, jobs) }
}

fn account(book: &Book) -> &Account {
    book.account(NodeId(1)).unwrap()
}

#[test]
fn of_a_report_that_is_ours_which_was_sent_before_it_was_written() {
    let mut book = Book::new();
    book.look(&[report(1, 0, 0)], at(0));
    book.sent(&job(100.0), NodeId(1), 100.0, 100.0, at(10));
    book.sent(&job(100.0), NodeId(1), 100.0, 100.0, at(60));
    // Written at 50 ms, heard at 80.
    book.look(&[report(2, 3, 30)], at(80));
    assert_eq!(account(&book).reported.jobs, 1.0);
    assert!((account(&book).reported.left_ms - 60.0).abs() < 1e-6, "the rest has been worked off");
    assert_eq!(account(&book).own(at(80)).jobs, 2.0);
    let others = Others::of(&report(2, 3, 30), account(&book).reported);
    assert_eq!((others.jobs, others.left_ms), (2.0, 90.0));
}

#[test]
fn work_that_ended_while_a_report_was_under_way_was_ours_in_it() {
    let mut book = Book::new();
    book.look(&[report(1, 0, 0)], at(0));
    let sent = book.sent(&job(50.0), NodeId(1), 50.0, 50.0, at(10));
    assert!(book.ended(sent, Outcome::Done { measured_ms: 50.0 }, at(60)));
    book.look(&[report(2, 1, 30)], at(70));
    assert_eq!((account(&book).reported.jobs, account(&book).in_flight()), (1.0, 0));
    book.look(&[report(3, 0, 0)], at(100));
    assert_eq!(account(&book).reported.jobs, 0.0);
}

#[test]
fn what_is_overdue_still_counts_and_says_by_how_much_it_is_late() {
    let mut book = Book::new();
    book.sent(&job(100.0), NodeId(1), 100.0, 100.0, at(0));
    let own = account(&book).own(at(400));
    assert_eq!((own.left_ms, own.late_ms), (10.0, 300.0));
}

#[test]
fn a_node_that_had_no_place_is_left_alone_until_there_is_news_or_a_moment_has_passed() {
    let mut book = Book::new();
    book.look(&[report(1, 4, 0)], at(0));
    let bounce = |book: &mut Book| {
        let sent = book.sent(&job(50.0), NodeId(1), 50.0, 50.0, at(0));
        assert!(book.ended(sent, Outcome::Full, at(1)));
    };
    bounce(&mut book);
    assert!(account(&book).is_full(at(50)) && !account(&book).is_full(at(102)));
    book.look(&[report(2, 4, 0)], at(20));
    assert!(!account(&book).is_full(at(50)));
}

#[test]
fn ending_twice_and_ending_what_is_unknown_does_nothing() {
    let mut book = Book::new();
    let sent = book.sent(&job(50.0), NodeId(1), 50.0, 50.0, at(0));
    assert!(book.ended(sent, Outcome::Cancelled, at(1)));
    assert!(!book.ended(sent, Outcome::Failed { retry_after: None }, at(1)));
    assert_eq!(account(&book).history.penalty_ms(at(1)), 0.0);
}

#[test]
fn the_book_is_bounded_and_keeps_nodes_that_have_work_of_ours() {
    let mut book = Book::new();
    book.look(&[candidate(1, 0)], at(0));
    book.sent(&job(50.0), NodeId(1), 50.0, 50.0, at(0));
    for node in 2..NODES_MAX as u64 + 10 {
        book.look(&[candidate(node, 0)], at(node));
    }
    assert_eq!(book.accounts().count(), NODES_MAX);
    assert!(book.account(NodeId(1)).is_some() && book.account(NodeId(2)).is_none());
}

#[test]
fn finished_jobs_are_remembered_up_to_a_limit() {
    let mut book = Book::new();
    for _ in 0..LANDED_MAX + 5 {
        let sent = book.sent(&job(50.0), NodeId(1), 50.0, 50.0, at(0));
        book.ended(sent, Outcome::Cancelled, at(1));
    }
    assert_eq!(account(&book).landed.len(), LANDED_MAX);
}

#[test]
fn nodes_of_the_first_look_are_not_new_and_later_ones_and_returning_ones_are() {
    let mut book = Book::new();
    book.look(&[candidate(1, 0)], at(0));
    book.look(&[candidate(1, 0), candidate(2, 0)], at(5));
    assert_eq!((account(&book).joined, book.account(NodeId(2)).unwrap().joined), (None, Some(at(5))));
    book.look(&[Candidate { state: NodeState::Down, ..candidate(1, 0) }], at(9));
    assert_eq!(account(&book).joined, Some(at(9)));
}
