//! Tests of frames: whatever the cuts, whatever the bytes.

use super::*;

fn flat(frame: &Outgoing) -> Vec<u8> {
    [frame.built.as_slice(), &frame.body].concat()
}

fn only(bytes: &[u8]) -> Frame {
    let mut reader = FrameReader::new(FRAME_MAX);
    reader.push(bytes).unwrap();
    reader.next().expect("one frame")
}

#[test]
fn frames_are_read_however_they_were_cut() {
    let body = Bytes::from(vec![7; 1000]);
    let call = CallFrame::frame(4, 9, Duration::from_millis(1500), b"head", &body);
    let stream = [flat(&call), flat(&Outgoing::new(FrameKind::Ack, 0, 9, &[])), flat(&call)].concat();
    for step in [1, 3, 11, 12, 13, 500, stream.len()] {
        let mut reader = FrameReader::new(FRAME_MAX);
        stream.chunks(step).for_each(|chunk| reader.push(chunk).unwrap());
        let kinds: Vec<FrameKind> = std::iter::from_fn(|| reader.next()).map(|frame| frame.kind).collect();
        assert_eq!(kinds, [FrameKind::Call, FrameKind::Ack, FrameKind::Call]);
        assert!(!reader.is_amid());
    }
    let frame = only(&flat(&call));
    assert_eq!((frame.topic, frame.call), (4, 9));
    let read = CallFrame::read(frame.payload).unwrap();
    assert_eq!(
        (read.within, &*read.head, read.body),
        (Duration::from_millis(1500), b"head".as_slice(), body)
    );
}

#[test]
fn a_frame_at_the_limit_is_read_and_one_beyond_it_is_refused_unread() {
    let mut reader = FrameReader::new(100);
    reader.push(&flat(&Outgoing::new(FrameKind::Cast, 1, 0, &[1; 100]))).unwrap();
    assert_eq!(reader.next().unwrap().payload.len(), 100);
    let long = flat(&Outgoing::new(FrameKind::Cast, 1, 0, &[1; 101]));
    assert_eq!(reader.push(&long), Err(FrameError::TooLong { length: 101, limit: 100 }));
}

#[test]
fn an_unknown_kind_is_skipped() {
    let mut bytes = flat(&Outgoing::new(FrameKind::Cast, 1, 0, b"of a later revision"));
    bytes[4] = 99;
    bytes.extend(flat(&Outgoing::new(FrameKind::Beat, 0, 0, &[])));
    assert_eq!(only(&bytes).kind, FrameKind::Beat);
}

#[test]
fn an_answer_is_read_as_it_was_written_and_damage_is_found() {
    let whole = flat(&ReplyFrame::whole(1, b"head", Bytes::from_static(b"body")));
    let read = ReplyFrame::read(only(&whole).payload).unwrap();
    assert!(matches!(read.body, ReplyBody::Whole(body) if &*body == b"body"));
    let mut damaged = whole;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(ReplyFrame::read(only(&damaged).payload).unwrap_err(), FrameError::Damaged);

    let hash = ContentHash::of(b"long");
    let pieces = flat(&ReplyFrame::pieces(1, b"head", Some(5), Some(hash)));
    let read = ReplyFrame::read(only(&pieces).payload).unwrap();
    assert_eq!(&*read.head, b"head");
    assert!(matches!(read.body, ReplyBody::Pieces { len: Some(5), hash: Some(h) } if h == hash));
}

#[test]
fn no_bytes_make_reading_panic() {
    for length in 0..64 {
        for fill in [0, 1, 7, 255] {
            let payload = Bytes::from(vec![fill; length]);
            let _ = CallFrame::read(payload.clone());
            let _ = ReplyFrame::read(payload.clone());
            let _ = read_failed(&payload);
        }
    }
}

#[test]
fn a_hello_of_the_revision_before_and_one_with_fields_of_a_later_one_are_read() {
    let now = Hello::of(NodeId(5), Lane::Bulk);
    let before = Hello { revision: REVISION - 1, ..now.clone() };
    assert_eq!(Hello::read(&only(&flat(&before.frame()))).unwrap().revision, REVISION - 1);

    #[derive(Serialize, Deserialize)]
    struct Later(Hello, u64);
    impl Versioned for Later {
        const KIND: u8 = Hello::KIND;
        const VERSION: u16 = Hello::VERSION;
    }
    let later = envelope::seal(&Later(now.clone(), 77));
    assert_eq!(Hello::read(&only(&flat(&Outgoing::new(FrameKind::Hello, 0, 0, &later)))).unwrap(), now);
}

#[test]
fn a_problem_arrives_as_it_was() {
    let problem = Problem::new(tutti_base::Kind::Overloaded, "full").retry_after(Duration::from_secs(2));
    let frame = only(&flat(&failed(3, problem.clone())));
    assert_eq!(read_failed(&frame.payload).unwrap(), problem);
}
