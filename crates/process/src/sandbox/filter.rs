//! The system calls that an engine may make. Everything else kills it: a filter that answers errors invites trying.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::io::Errno;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{Layer, SandboxError, step};
use crate::engine::child::{ARENA_FD, SOCKET_FD, STATM_FD};

/// Calls that touch nothing but this process's own memory, time and end.
const ANY: [libc::c_long; 24] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    // glibc's qsort asks how much memory the machine has.
    libc::SYS_sysinfo,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// Applies the filter to this thread, the only one, for ever.
pub(super) fn apply() -> Result<Layer, SandboxError> {
    let program = compile(std::process::id()).map_err(step("compiling the system call filter"))?;
    match rustix::thread::secure_computing_mode() {
        Err(Errno::INVAL) => return Ok(Layer::Absent),
        Err(error) => return Err(step("asking for seccomp")(error)),
        Ok(_) => {}
    }
    seccompiler::apply_filter(&program).map_err(step("applying the system call filter"))?;
    Ok(Layer::Full)
}

fn compile(own_pid: u32) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ANY.iter().map(|&call| (call, Vec::new())).collect();
    let executable = libc::PROT_EXEC as u64;
    for (call, argument, comparison, value) in [
        (libc::SYS_mmap, 2, MaskedEq(executable), 0),
        (libc::SYS_mprotect, 2, MaskedEq(executable), 0),
        (libc::SYS_recvmsg, 0, Eq, SOCKET_FD as u64),
        (libc::SYS_sendmsg, 0, Eq, SOCKET_FD as u64),
        (libc::SYS_pwrite64, 0, Eq, ARENA_FD as u64),
        (libc::SYS_pread64, 0, Eq, STATM_FD as u64),
        (libc::SYS_write, 0, Eq, libc::STDERR_FILENO as u64),
        (libc::SYS_writev, 0, Eq, libc::STDERR_FILENO as u64),
        (libc::SYS_tgkill, 0, Eq, u64::from(own_pid)),
    ] {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}
