//! Services for the cases: one with a well-behaved or misbehaving engine, one without, one whose engine never starts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::{BoxFuture, Kind, Problem};
use tutti_service::plan::Response;
use tutti_service::{
    Action, Capability, Description, EngineFailure, EngineInput, EngineOutput, EngineProgram, Head,
    JobContext, Output, OwnedInput, Plan, Refined, Registry, Service, Tenant,
};

pub(crate) fn registry() -> Registry {
    let service = |name, engine| Arc::new(Words { description: describe(name, engine) }) as Arc<dyn Service>;
    Registry::new(vec![service("words", true), service("ghost", true), service("sleeper", false)])
}

struct Words {
    description: Description,
}

fn describe(name: &'static str, engine: bool) -> Description {
    Description {
        name,
        summary: "a test",
        mounts: Vec::new(),
        classes: Vec::new(),
        capabilities: if engine { vec![Capability::Engine] } else { Vec::new() },
        deadline: Duration::from_secs(10),
        epoch: 1,
    }
}

impl Service for Words {
    fn describe(&self) -> &Description {
        &self.description
    }
    fn plan(&self, _head: &Head<'_>, _tenant: &Tenant) -> Result<Plan, Problem> {
        Ok(Plan::of(Action::Respond(Response {
            status: 204,
            content_type: String::new(),
            body: Bytes::new(),
        })))
    }
    fn run<'a>(
        &'a self,
        job: Refined,
        inputs: Vec<OwnedInput>,
        context: &'a dyn JobContext,
    ) -> BoxFuture<'a, Result<Output, Problem>> {
        match (self.description.name, &job.params[..]) {
            ("sleeper", b"for ever") => Box::pin(std::future::pending()),
            // Two at once on one permit: they must take turns.
            (_, b"twice") => Box::pin(async move {
                let pid = Refined { params: Bytes::from_static(b"pid"), ..job };
                let (one, other) = tokio::join!(
                    context.engine(pid.clone(), Vec::new()),
                    context.engine(pid.clone(), Vec::new())
                );
                let (one, other) = (one?.body, other?.body);
                assert_eq!(format!("{one:?}"), format!("{other:?}"));
                context.engine(pid, Vec::new()).await
            }),
            _ => context.engine(job, inputs),
        }
    }
    fn engine(&self) -> Option<Box<dyn EngineProgram>> {
        Some(Box::new(Program { jobs: 0 }))
    }
}

struct Program {
    jobs: u32,
}

impl EngineProgram for Program {
    fn run(
        &mut self,
        params: &[u8],
        inputs: &[EngineInput<'_>],
        out: &mut Vec<u8>,
    ) -> Result<EngineOutput, EngineFailure> {
        self.jobs += 1;
        let mut content_type = "text/plain";
        match params {
            b"echo" => inputs.iter().for_each(|input| out.extend_from_slice(input.bytes)),
            b"pid" => out.extend_from_slice(std::process::id().to_string().as_bytes()),
            b"fragile" if self.jobs > 1 => std::process::abort(),
            b"fragile" => out.extend_from_slice(b"whole"),
            b"crash" => std::process::abort(),
            b"spin" => loop {
                std::hint::spin_loop();
            },
            b"fill" => out.resize(100_000, 1),
            b"untyped" => content_type = "",
            other => {
                out.extend_from_slice(b"half a result");
                return Err(failure(other));
            }
        }
        Ok(EngineOutput {
            content_type: content_type.into(),
            fields: vec![("X-Jobs".into(), self.jobs.to_string())],
        })
    }
}

fn failure(params: &[u8]) -> EngineFailure {
    EngineFailure {
        kind: if params == b"defect" { Kind::Internal } else { Kind::Unprocessable },
        of_input: params == b"malformed",
        detail: format!("no: {}", String::from_utf8_lossy(params)),
        subject: Some("words".into()),
    }
}
