//! A sandbox that forbids io_uring, as containers' do.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used, reason = "the sandbox is made by a system call")]

use std::io;
use std::sync::{Arc, Mutex};

use nvmf_engine::{EngineChoice, EngineKind};

/// Makes `io_uring_setup` fail for this thread, with what seccomp profiles answer.
fn forbid_io_uring() {
    fn statement(code: u32, jump: (u8, u8), k: u32) -> libc::sock_filter {
        let code = u16::try_from(code).unwrap();
        libc::sock_filter { code, jt: jump.0, jf: jump.1, k }
    }
    let setup = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), setup),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), errno),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the first call takes numbers only; the second reads the filter, whose program lives
    // until it returns.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn without_io_uring_sockets_are_polled_and_one_line_says_so() {
    let uring = EngineChoice::Only(EngineKind::Uring);
    assert_eq!(
        EngineKind::probe(uring).unwrap(),
        EngineKind::Uring,
        "this test needs io_uring, to take it away: Linux 6.0 or later that permits it"
    );
    forbid_io_uring();
    let lines = Lines::default();
    let for_log = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || for_log.clone()).finish();
    tracing::subscriber::with_default(log, || {
        assert_eq!(EngineKind::probe(EngineChoice::Auto).unwrap(), EngineKind::Poll);
    });
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("no io_uring here") && said.contains("not permitted"), "{said}");
    let refused = EngineKind::probe(uring).unwrap_err().to_string();
    assert!(refused.contains("not permitted") && refused.contains("`poll`"), "{refused}");
}
