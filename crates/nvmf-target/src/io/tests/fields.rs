//! What of each command's fields is refused, and how.

use super::*;

/// A change to a command that is right, and its status then; `None`: it is right all the same.
type Case = (&'static str, fn(&mut Sqe), Option<Status>);

const CONFLICT_NSID: [Case; 3] = [
    ("no namespace", |sqe| sqe.nsid.set(0), Some(Status::INVALID_NAMESPACE)),
    ("inactive namespace", |sqe| sqe.nsid.set(2), Some(Status::INVALID_FIELD)),
    ("half of two", |sqe| sqe.flags |= 3, Some(Status::INVALID_FIELD)),
];

const BROADCAST: Case =
    ("all namespaces", |sqe| sqe.nsid.set(NSID_ALL), Some(Status::INVALID_NAMESPACE));

fn or_dword(sqe: &mut Sqe, n: usize, bits: u32) {
    sqe.set_cdw(n, sqe.cdw(n) | bits);
}

/// Fields of commands on SLBA and NLB that mean nothing where there is no protection information.
const IGNORED: [Case; 4] = [
    ("limited retry", |sqe| or_dword(sqe, 12, 1 << 31), None),
    ("PRINFO", |sqe| or_dword(sqe, 12, 0xf << 26), None),
    ("storage tag check", |sqe| or_dword(sqe, 12, 1 << 24), None),
    ("tags", |sqe| (14..16).for_each(|n| or_dword(sqe, n, u32::MAX)), None),
];

const PAST_THE_END: Case =
    ("past the end", |sqe| sqe.set_slba(2048), Some(Status::LBA_OUT_OF_RANGE));
const OVERFLOW: Case =
    ("no such block", |sqe| sqe.set_slba(u64::MAX), Some(Status::LBA_OUT_OF_RANGE));
const DIRECTIVE: Case =
    ("a directive", |sqe| or_dword(sqe, 12, 1 << 20), Some(Status::INVALID_FIELD));

#[track_caller]
fn check(name: &str, sqe: &Sqe, data_len: u32, cases: &[&[Case]]) {
    let a = association(&subsystem());
    let view = a.view();
    assert!(plan(&a, &view, sqe, data_len).is_ok(), "{name}");
    let all = CONFLICT_NSID.iter().chain(cases.iter().copied().flatten());
    for (what, change, status) in all {
        let mut changed = *sqe;
        change(&mut changed);
        let planned = plan(&a, &view, &changed, data_len).map(drop);
        let expected = status.map_or(Ok(()), |status| Err(status.with_dnr(true)));
        assert_eq!(planned, expected, "{name}: {what}");
    }
    for length in [data_len + 1, data_len.wrapping_sub(1)] {
        let planned = plan(&a, &view, sqe, length).map(drop);
        let expected = Err(Status::DATA_SGL_LENGTH_INVALID.with_dnr(true));
        // Lists may be longer than they need to be.
        let list = length == data_len + 1
            && matches!(sqe.opcode, opcode::nvm::COPY | opcode::nvm::DATASET_MANAGEMENT);
        assert_eq!(planned, if list { Ok(()) } else { expected }, "{name}: {length} bytes");
    }
}

#[test]
fn of_commands_that_read() {
    for (name, opcode, length) in [
        ("Read", opcode::nvm::READ, 1024),
        ("Compare", opcode::nvm::COMPARE, 1024),
        ("Verify", opcode::nvm::VERIFY, 0),
    ] {
        let cases = [PAST_THE_END, OVERFLOW, BROADCAST];
        check(name, &command(opcode, 1, 5, 2), length, &[&cases, &IGNORED]);
    }
}

#[test]
fn of_commands_that_write() {
    for (name, opcode, length) in [
        ("Write", opcode::nvm::WRITE, 1024),
        ("Write Zeroes", opcode::nvm::WRITE_ZEROES, 0),
        ("Write Uncorrectable", opcode::nvm::WRITE_UNCORRECTABLE, 0),
    ] {
        let cases = [PAST_THE_END, OVERFLOW, BROADCAST, DIRECTIVE];
        let hints: [Case; 2] = [
            ("directive specific", |sqe| or_dword(sqe, 13, 0xffff << 16), None),
            ("access hints", |sqe| or_dword(sqe, 13, 0xff), None),
        ];
        check(name, &command(opcode, 1, 5, 2), length, &[&cases, &IGNORED, &hints]);
    }
}

#[test]
fn of_flush() {
    let reserved: [Case; 1] =
        [("reserved dwords", |sqe| (10..16).for_each(|n| or_dword(sqe, n, u32::MAX)), None)];
    check("Flush", &command(opcode::nvm::FLUSH, 1, 0, 1), 0, &[&reserved]);
}

#[test]
fn of_dataset_management() {
    let cases: [Case; 3] = [
        ("access hints", |sqe| or_dword(sqe, 11, 3), None),
        ("reserved bits", |sqe| or_dword(sqe, 10, 0xffff_ff00), None),
        ("more ranges", |sqe| sqe.set_cdw(10, 2), Some(Status::DATA_SGL_LENGTH_INVALID)),
    ];
    check("Dataset Management", &trim(2), 32, &[&cases, &[BROADCAST]]);
}

#[test]
fn of_copy() {
    let mut sqe = Sqe::new(opcode::nvm::COPY);
    sqe.nsid.set(1);
    sqe.set_cdw(12, 1);
    let cases: [Case; 7] = [
        ("format 1", |sqe| or_dword(sqe, 12, 1 << 8), Some(Status::INVALID_FIELD)),
        ("format 2", |sqe| or_dword(sqe, 12, 2 << 8), Some(Status::INVALID_FIELD)),
        ("more ranges", |sqe| sqe.set_cdw(12, 2), Some(Status::DATA_SGL_LENGTH_INVALID)),
        ("too many ranges", |sqe| sqe.set_cdw(12, 128), Some(Status::COMMAND_SIZE_LIMIT_EXCEEDED)),
        ("PRINFOR", |sqe| or_dword(sqe, 12, 0xf << 12), None),
        ("PRINFOW", |sqe| or_dword(sqe, 12, 0xf << 26), None),
        ("a directive", |sqe| or_dword(sqe, 12, 1 << 20), Some(Status::INVALID_FIELD)),
    ];
    check("Copy", &sqe, 64, &[&cases, &[BROADCAST]]);
}

#[test]
fn of_the_reservation_commands() {
    let sqe = |opcode, cdw10| {
        let mut sqe = Sqe::new(opcode);
        sqe.nsid.set(1);
        sqe.set_cdw(10, cdw10);
        sqe
    };
    let register: [Case; 3] = [
        ("no such action", |sqe| sqe.set_cdw(10, 3), Some(Status::INVALID_FIELD)),
        ("reserved CPTPL", |sqe| or_dword(sqe, 10, 1 << 30), Some(Status::INVALID_FIELD)),
        ("IEKEY", |sqe| or_dword(sqe, 10, 1 << 3), None),
    ];
    let command = sqe(opcode::nvm::RESERVATION_REGISTER, 0);
    check("Register", &command, 16, &[&register, &[BROADCAST]]);
    let typed: [Case; 3] = [
        ("no such action", |sqe| sqe.set_cdw(10, 0x107), Some(Status::INVALID_FIELD)),
        ("no such type", |sqe| sqe.set_cdw(10, 0x700), Some(Status::INVALID_FIELD)),
        ("IEKEY", |sqe| or_dword(sqe, 10, 1 << 3), Some(Status::INVALID_FIELD)),
    ];
    let command = sqe(opcode::nvm::RESERVATION_ACQUIRE, 0x100);
    check("Acquire", &command, 16, &[&typed, &[BROADCAST]]);
    let command = sqe(opcode::nvm::RESERVATION_RELEASE, 0x100);
    check("Release", &command, 8, &[&typed, &[BROADCAST]]);
    let mut report = sqe(opcode::nvm::RESERVATION_REPORT, 15);
    report.set_cdw(11, 1);
    let cases: [Case; 3] = [
        ("EDS = 0", |sqe| sqe.set_cdw(11, 0), Some(Status::HOST_IDENTIFIER_INCONSISTENT)),
        ("NUMD", |sqe| sqe.set_cdw(10, 16), Some(Status::DATA_SGL_LENGTH_INVALID)),
        ("too long", |sqe| sqe.set_cdw(10, u32::MAX), Some(Status::INVALID_FIELD)),
    ];
    check("Report", &report, 64, &[&cases, &[BROADCAST]]);
}
