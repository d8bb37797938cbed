//! `tutti engine NAME`: the child process that touches untrusted bytes.

use std::ffi::OsStr;
use std::process::ExitCode;

use crate::build::Services;

/// Becomes an engine of the service `name`. No thread has been started yet.
pub(crate) fn run(name: Option<&OsStr>) -> ExitCode {
    let Some(service) = name.and_then(OsStr::to_str).and_then(Services::find) else {
        eprintln!("tutti engine: give the name of a service");
        return ExitCode::from(2);
    };
    tutti_worker::run_engine(&*service)
}
