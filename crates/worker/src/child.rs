//! A service's engine program in its child process: what `tutti engine NAME` runs.

use std::process::ExitCode;

use tutti_process::engine::child;
use tutti_service::{EngineInput, Service};

use crate::reply;

/// Makes this process an engine of `service`, until the server goes. Call it before any thread is started.
pub fn run_engine(service: &dyn Service) -> ExitCode {
    let Some(mut program) = service.engine() else {
        eprintln!("tutti engine: service `{}` has no engine", service.describe().name);
        return ExitCode::from(2);
    };
    child::serve(&mut |params, inputs, out| {
        let inputs: Vec<EngineInput<'_>> = inputs.iter().map(|&bytes| EngineInput { bytes }).collect();
        let outcome = program.run(params, &inputs, out);
        if outcome.is_err() {
            out.clear();
        }
        reply::encode(&outcome)
    })
}
