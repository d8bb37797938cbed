//! What an engine says of a job, and what a client may read of it. An engine's words are as untrusted as its output.

use tutti_base::http::Field;
use tutti_base::{Kind, Problem};
use tutti_service::{EngineFailure, EngineOutput};

/// The most fields that an engine may add to its output.
const FIELDS_MAX: usize = 16;

/// The longest words of an engine that are passed on, in characters.
const WORDS_MAX: usize = 300;

pub(crate) fn encode(outcome: &Result<EngineOutput, EngineFailure>) -> Vec<u8> {
    postcard::to_stdvec(outcome).expect("postcard writes any of our plain types to a vector")
}

/// What an engine said, where it makes sense; else why not.
pub(crate) fn decode(header: &[u8]) -> Result<Result<EngineOutput, EngineFailure>, &'static str> {
    match postcard::take_from_bytes(header) {
        Ok((Ok(output), [])) => check(output).map(Ok),
        Ok((Err(failure), [])) => Ok(Err(failure)),
        _ => Err("its reply cannot be read"),
    }
}

fn check(output: EngineOutput) -> Result<EngineOutput, &'static str> {
    if output.content_type.is_empty() || !is_value(&output.content_type) {
        return Err("its media type is not one");
    }
    if output.fields.len() > FIELDS_MAX || !output.fields.iter().all(is_field) {
        return Err("its header fields are none");
    }
    Ok(output)
}

fn is_field((name, value): &Field) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && is_value(value)
}

fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// The problem that an engine's failure is.
pub(crate) fn problem(failure: EngineFailure) -> Problem {
    let words = plain(&failure.detail);
    if failure.kind != Kind::Unprocessable {
        return Problem::new(Kind::Internal, "the work failed; this is a defect of the server")
            .because(words);
    }
    let mut problem = Problem::new(Kind::Unprocessable, words);
    if let Some(subject) = &failure.subject {
        problem = problem.about(plain(subject));
    }
    if failure.of_input { problem.of_input() } else { problem }
}

fn plain(words: &str) -> String {
    words.chars().filter(|char| !char.is_control()).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: Kind, of_input: bool) -> EngineFailure {
        EngineFailure {
            kind,
            of_input,
            detail: "the file\r\nends early".into(),
            subject: Some("jpeg".into()),
        }
    }

    #[test]
    fn what_an_engine_says_round_trips() {
        let fields = vec![("X-Width".to_owned(), "12".to_owned())];
        let output = Ok(EngineOutput { content_type: "image/webp".into(), fields });
        assert_eq!(decode(&encode(&output)), Ok(output));
        let failed = Err(failure(Kind::Unprocessable, true));
        assert_eq!(decode(&encode(&failed)), Ok(failed));
    }

    #[test]
    fn fields_that_would_break_a_response_are_refused() {
        let with = |name: &str, value: &str| EngineOutput {
            content_type: "a/b".into(),
            fields: vec![(name.into(), value.into())],
        };
        let bad_type = EngineOutput { content_type: "a/b\r\nSet-Cookie: x".into(), fields: vec![] };
        let many = EngineOutput { content_type: "a/b".into(), fields: vec![("A".into(), "b".into()); 17] };
        for output in [
            with("A: b\r\nC", "d"),
            with("", "d"),
            with("A", "b\nc"),
            bad_type,
            many,
            EngineOutput::default(),
        ] {
            assert!(decode(&encode(&Ok(output.clone()))).is_err(), "{output:?}");
        }
        assert!(decode(&encode(&Ok(with("X-Fine", "yes")))).is_ok());
        assert!(decode(b"\x09nonsense").is_err());
        assert!(decode(&[encode(&Err(failure(Kind::Internal, false))), vec![0]].concat()).is_err());
    }

    #[test]
    fn blame_is_kept_and_an_engine_cannot_choose_another_status() {
        let of_input = problem(failure(Kind::Unprocessable, true));
        assert!(of_input.of_input);
        assert_eq!(
            (of_input.detail.as_ref(), of_input.subject.as_deref()),
            ("the fileends early", Some("jpeg"))
        );
        assert!(!problem(failure(Kind::Unprocessable, false)).of_input);
        assert_eq!(problem(failure(Kind::OriginStatus(200), true)).kind, Kind::Internal);
    }
}
