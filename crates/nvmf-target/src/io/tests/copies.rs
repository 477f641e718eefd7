//! Copy.

use nvme_spec::copy::{CopyRequest, SourceRange};
use zerocopy::IntoBytes;

use super::*;

fn copy(to: u64, ranges: &[(u64, u32)]) -> (Sqe, Vec<u8>) {
    let nr = u8::try_from(ranges.len() - 1).unwrap();
    let mut sqe = CopyRequest { sdlba: to, nr, ..CopyRequest::default() }.to_sqe();
    sqe.nsid.set(1);
    let list = ranges.iter().flat_map(|(slba, blocks)| {
        let mut range = SourceRange::default();
        range.slba.set(*slba);
        range.nlb.set(u16::try_from(blocks - 1).unwrap());
        range.as_bytes().to_vec()
    });
    (sqe, list.collect())
}

fn try_copy(a: &Association, to: u64, ranges: &[(u64, u32)]) -> Result<(), Failed> {
    let (sqe, mut list) = copy(to, ranges);
    attempt(a, &sqe, &mut list)
}

fn first_bytes(a: &Association, slba: u64, blocks: u32) -> Vec<u8> {
    let mut data = vec![0; blocks as usize * 512];
    run(a, &read(slba, blocks), &mut data).unwrap();
    data.chunks(512).map(|block| block[0]).collect()
}

/// Blocks 0 to 7 begin with 1 to 8.
fn numbered(a: &Association) {
    let mut data: Vec<u8> = (1..=8).flat_map(|n| [n; 512]).collect();
    run(a, &write(0, 8), &mut data).unwrap();
}

#[test]
fn ranges_lie_one_after_the_other_where_they_were_copied_to() {
    let a = association(&subsystem());
    numbered(&a);
    try_copy(&a, 100, &[(5, 2), (0, 1), (7, 1)]).unwrap();
    assert_eq!(first_bytes(&a, 99, 6), [0, 6, 7, 1, 8, 0]);
}

#[test]
fn nothing_is_copied_if_a_range_is_wrong() {
    let a = association(&subsystem());
    numbered(&a);
    let out = Failed::from(Status::LBA_OUT_OF_RANGE.with_dnr(true));
    for (to, ranges) in [
        (100, [(0, 1), (2048, 1)]),
        (100, [(0, 1), (2047, 2)]),
        (100, [(0, 1), (u64::MAX, 1)]),
        (2047, [(0, 1), (1, 1)]),
        (u64::MAX, [(0, 1), (1, 1)]),
    ] {
        assert_eq!(try_copy(&a, to, &ranges), Err(out));
    }
    assert_eq!(first_bytes(&a, 100, 2), [0, 0]);
    assert_eq!(first_bytes(&a, 2047, 1), [0]);
}

#[test]
fn what_identify_says_is_the_most_is() {
    let backend = Arc::from(
        "null:64M,bs=512".parse::<nvmf_storage::NamespaceSpec>().unwrap().open().unwrap(),
    );
    let subsystem = Subsystem::builder(nqn(NQN)).namespace(1, backend).build().unwrap();
    let a = association(&subsystem);
    let told = subsystem.namespace(1).unwrap().description().namespace();
    let (longest, most) = (u32::from(told.mssrl.get()), told.mcl.get());
    assert!(longest <= most);
    try_copy(&a, 60_000, &[(0, longest)]).unwrap();
    let too_large = Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED.with_dnr(true).into());
    assert_eq!(try_copy(&a, 60_000, &[(0, longest + 1)]), too_large);
    let half = most / 2;
    try_copy(&a, 60_000, &[(0, half), (0, most - half)]).unwrap();
    assert_eq!(try_copy(&a, 60_000, &[(0, half), (0, most - half), (0, 1)]), too_large);
    let all = vec![(0, 1); usize::from(told.msrc) + 1];
    try_copy(&a, 1000, &all).unwrap();
    let more = vec![(0, 1); usize::from(told.msrc) + 2];
    assert_eq!(try_copy(&a, 1000, &more), too_large);
}

#[test]
fn dword_0_says_which_range_was_not_copied() {
    let (backend, a) = faulty();
    backend.inject(Fault::on(Stored::Write).within(5 * 512..6 * 512).failing(Failure::NoSpace));
    let failed = try_copy(&a, 4, &[(0, 1), (1, 1), (2, 1)]).unwrap_err();
    assert_eq!(failed, Failed { status: Status::CAPACITY_EXCEEDED.with_dnr(true), dw0: 1 });
}

#[test]
fn a_copy_that_is_to_be_durable_is() {
    let (backend, a) = faulty();
    try_copy(&a, 4, &[(0, 1), (1, 1)]).unwrap();
    assert_eq!(backend.count(Stored::Flush), 0);
    let (mut sqe, mut list) = copy(4, &[(0, 1), (1, 1)]);
    sqe.set_cdw(12, sqe.cdw(12) | FUA);
    run(&a, &sqe, &mut list).unwrap();
    assert_eq!(backend.count(Stored::Flush), 1);
}

#[test]
fn a_copy_costs_what_it_moves() {
    let a = association(&subsystem());
    let (sqe, list) = copy(100, &[(0, 3), (7, 1)]);
    let view = a.view();
    let Plan::Execute(operation) = plan(&a, &view, &sqe, 64).unwrap() else { panic!() };
    assert_eq!(operation.cost(&list), Some((crate::limit::Direction::Write, 2048)));
}
