//! The smallest service: answers each part of its path by a plan of its own, gathered. Proves the contract; does no I/O.

use std::time::Duration;

use bytes::Bytes;
use tutti_base::http::Method;
use tutti_base::{Kind, Problem};
use tutti_service::{
    Action, CachePolicy, Description, Gather, Head, Lifetime, Mount, Part, Plan, Response, Service, Tenant,
};

/// The most parts of one request.
pub const MAX_PARTS: usize = 64;

/// Answers `/echo/a,b,c` with `a`, `b` and `c`, each from a plan of its own.
pub struct EchoService {
    description: Description,
}

impl EchoService {
    /// The service with its constant description.
    pub fn new() -> Self {
        let description = Description {
            name: "echo",
            summary: "answers the parts of its path, gathered: the smallest service",
            mounts: vec![Mount::at("/echo/")],
            classes: Vec::new(),
            capabilities: Vec::new(),
            deadline: Duration::from_secs(2),
            epoch: 1,
        };
        Self { description }
    }
}

impl Default for EchoService {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for EchoService {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn plan(&self, head: &Head<'_>, _tenant: &Tenant) -> Result<Plan, Problem> {
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Problem::new(Kind::MethodNotAllowed, "echo answers GET and HEAD only"));
        }
        let words = head.path.strip_prefix('/').unwrap_or(head.path);
        let parts: Vec<_> = words.split(',').map(part).collect();
        if parts.len() > MAX_PARTS {
            let detail = format!("echo has {} parts here; at most {MAX_PARTS} are allowed", parts.len());
            return Err(Problem::new(Kind::BadRequest, detail).about("parts"));
        }
        let mut plan = Plan::of(Action::Gather(Gather {
            at_least: parts.len(),
            parts,
            within: self.description.deadline,
            content_type: TEXT.into(),
            missing: Bytes::new(),
        }));
        plan.cache = brief();
        Ok(plan)
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn part(word: &str) -> Part {
    let body = Bytes::copy_from_slice(word.as_bytes());
    let mut plan = Plan::of(Action::Respond(Response { status: 200, content_type: TEXT.into(), body }));
    plan.cache = brief();
    Part { name: word.to_owned(), plan }
}

fn brief() -> CachePolicy {
    CachePolicy { lifetime: Lifetime::Fixed(Duration::from_secs(60)), ..CachePolicy::never() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(method: Method, path: &str) -> Result<Plan, Problem> {
        let head = Head { method, host: "localhost", path, query: None, fields: &() };
        EchoService::new().plan(&head, &Tenant::main())
    }

    /// The bodies that the parts of `path` answer with, in order.
    fn bodies(path: &str) -> Vec<String> {
        let Action::Gather(gather) = plan(Method::Get, path).unwrap().action else {
            panic!("{path} is not planned as a gather");
        };
        assert_eq!(gather.at_least, gather.parts.len(), "every part must answer");
        let answer = |part: &Part| match &part.plan.action {
            Action::Respond(response) if response.status == 200 => {
                String::from_utf8(response.body.to_vec()).unwrap()
            }
            other => panic!("part {} is planned as {other:?}", part.name),
        };
        gather.parts.iter().map(answer).collect()
    }

    #[test]
    fn each_part_answers_by_a_plan_of_its_own_and_in_order() {
        assert_eq!(bodies("/a,b,c"), ["a", "b", "c"]);
        assert_eq!(bodies("/one"), ["one"]);
        assert_eq!(bodies("/a,,c"), ["a", "", "c"]);
        assert_eq!(bodies("/"), [""]);
    }

    #[test]
    fn the_parts_are_limited_and_the_limit_itself_is_allowed() {
        let path = |parts: usize| format!("/{}", vec!["x"; parts].join(","));
        assert_eq!(bodies(&path(MAX_PARTS)).len(), MAX_PARTS);
        let problem = plan(Method::Get, &path(MAX_PARTS + 1)).unwrap_err();
        assert_eq!((problem.kind, problem.subject.as_deref()), (Kind::BadRequest, Some("parts")));
    }

    #[test]
    fn other_methods_are_refused_and_head_is_planned_as_get() {
        assert_eq!(plan(Method::Post, "/a").unwrap_err().kind, Kind::MethodNotAllowed);
        assert!(plan(Method::Head, "/a").is_ok());
    }

    #[test]
    fn equal_requests_give_equal_plans_and_read_no_fields() {
        let (one, two) = (plan(Method::Get, "/a,b").unwrap(), plan(Method::Get, "/a,b").unwrap());
        assert_eq!(format!("{one:?}"), format!("{two:?}"));
        assert!(one.reads.is_empty());
        assert_eq!(one.cache, brief());
    }
}
