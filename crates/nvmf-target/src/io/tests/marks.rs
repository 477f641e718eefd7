//! Write Uncorrectable.

use nvme_spec::copy::CopyRequest;

use super::*;
use crate::testing::Kept;

const UNREADABLE: Result<(), Status> = Err(Status::UNRECOVERED_READ_ERROR.with_dnr(true));

fn mark(slba: u64, blocks: u32) -> Sqe {
    command(opcode::nvm::WRITE_UNCORRECTABLE, 1, slba, blocks)
}

fn marked() -> Arc<Association> {
    let a = association(&subsystem());
    run(&a, &mark(4, 3), &mut []).unwrap();
    a
}

#[test]
fn marked_blocks_cannot_be_read_in_any_way() {
    let a = marked();
    for (opcode, length) in
        [(opcode::nvm::READ, 1024), (opcode::nvm::COMPARE, 1024), (opcode::nvm::VERIFY, 0)]
    {
        let mut data = vec![0; length];
        assert_eq!(run(&a, &command(opcode, 1, 3, 2), &mut data), UNREADABLE);
        run(&a, &command(opcode, 1, 2, 2), &mut data).unwrap();
        run(&a, &command(opcode, 1, 7, 2), &mut data).unwrap();
    }
    let mut copy = CopyRequest { sdlba: 100, ..CopyRequest::default() }.to_sqe();
    copy.nsid.set(1);
    let mut range = [0; 32];
    range[8] = 6;
    assert_eq!(run(&a, &copy, &mut range), UNREADABLE);
    range[8] = 7;
    run(&a, &copy, &mut range).unwrap();
}

#[test]
fn whatever_writes_a_block_takes_its_mark_away() {
    let ways: [fn(&Association); 4] = [
        |a| run(a, &write(5, 1), &mut [1; 512]).unwrap(),
        |a| run(a, &command(opcode::nvm::WRITE_ZEROES, 1, 5, 1), &mut []).unwrap(),
        |a| run(a, &trim(1), &mut ranges(&[(1, 5)])).unwrap(),
        |a| {
            let mut copy = CopyRequest { sdlba: 5, ..CopyRequest::default() }.to_sqe();
            copy.nsid.set(1);
            run(a, &copy, &mut [0; 32]).unwrap();
        },
    ];
    for way in ways {
        let a = marked();
        way(&a);
        run(&a, &read(5, 1), &mut [0; 512]).unwrap();
        for still in [4, 6] {
            assert_eq!(run(&a, &read(still, 1), &mut [0; 512]), UNREADABLE);
        }
    }
}

#[test]
fn a_write_that_failed_takes_no_mark_away() {
    let (backend, a) = faulty();
    run(&a, &mark(4, 1), &mut []).unwrap();
    backend.inject(Fault::on(Stored::Write).times(1).failing(Failure::Io));
    run(&a, &write(4, 1), &mut [0; 512]).unwrap_err();
    assert_eq!(run(&a, &read(4, 1), &mut [0; 512]), UNREADABLE);
}

#[test]
fn a_write_whose_mark_cannot_be_taken_away_does_not_succeed() {
    use nvmf_storage::Uncorrectable;
    let backend = Arc::from(
        "null:64M,bs=512".parse::<nvmf_storage::NamespaceSpec>().unwrap().open().unwrap(),
    );
    let subsystem = Subsystem::builder(nqn(NQN)).namespace(1, backend).build().unwrap();
    let a = association(&subsystem);
    let marks = subsystem.namespace(1).unwrap();
    for n in 1..Uncorrectable::MAX_RANGES as u64 {
        marks.marks().mark(8 + n * 2 - 1, 1).unwrap();
    }
    marks.marks().mark(0, 3).unwrap();
    let full = Err(Status::NOT_ENOUGH_RESOURCES);
    assert_eq!(run(&a, &mark(5, 1), &mut []), full);
    assert_eq!(run(&a, &write(1, 1), &mut [0; 512]), full);
    run(&a, &write(0, 1), &mut [0; 512]).unwrap();
}

/// A namespace whose marks are saved.
fn lasting(kept: &Arc<Kept>, marked: Vec<std::ops::Range<u64>>) -> Arc<Association> {
    let spec: nvmf_storage::NamespaceSpec = "mem:1M,bs=512".parse().unwrap();
    let ns = Namespace::open(1, &spec).unwrap().persistence(kept.clone()).uncorrectable(marked);
    association(&Subsystem::builder(nqn(NQN)).with(ns).build().unwrap())
}

#[test]
fn marks_are_saved_before_the_answer_and_restored() {
    let kept = Arc::new(Kept::default());
    let a = lasting(&kept, Vec::new());
    run(&a, &mark(4, 3), &mut []).unwrap();
    run(&a, &mark(5, 1), &mut []).unwrap();
    run(&a, &write(100, 1), &mut [1; 512]).unwrap();
    let marked: Vec<_> = std::iter::once(4..7).collect();
    assert_eq!(kept.uncorrectable(), [marked], "nothing that changes nothing");
    run(&a, &write(5, 1), &mut [1; 512]).unwrap();
    assert_eq!(kept.uncorrectable()[1..], [vec![4..5, 6..7]]);
    let again = lasting(&kept, kept.uncorrectable().pop().unwrap());
    assert_eq!(run(&again, &read(6, 1), &mut [0; 512]), UNREADABLE);
    run(&again, &read(5, 1), &mut [0; 512]).unwrap();
    run(&again, &command(opcode::nvm::WRITE_ZEROES, 1, 0, 8), &mut []).unwrap();
    assert_eq!(kept.uncorrectable()[2..], [vec![]]);
}

#[test]
fn marks_that_cannot_be_saved_stay_as_they_were() {
    let kept = Arc::new(Kept::default());
    let a = lasting(&kept, std::iter::once(4..5).collect());
    kept.fill_up();
    let failed = Err(Status::INTERNAL_ERROR);
    assert_eq!(run(&a, &mark(9, 1), &mut []), failed);
    run(&a, &read(9, 1), &mut [0; 512]).unwrap();
    assert_eq!(run(&a, &write(4, 1), &mut [1; 512]), failed);
    assert_eq!(run(&a, &read(4, 1), &mut [0; 512]), UNREADABLE);
}

#[test]
fn more_marks_than_there_can_be_are_not_restored() {
    use crate::subsystem::SubsystemError;
    let most = nvmf_storage::Uncorrectable::MAX_RANGES as u64;
    let build = |count| {
        let ns = Namespace::open(1, &"mem:1M".parse().unwrap()).unwrap();
        ns.uncorrectable((0..count).map(|n| n * 2..n * 2 + 1)).build(&nqn(NQN))
    };
    assert!(build(most).is_ok());
    let error = build(most + 1).unwrap_err();
    assert!(matches!(error, SubsystemError::Uncorrectable { nsid: 1, .. }), "{error}");
}

#[test]
fn what_is_written_over_a_mark_that_lasts_is_durable_before_the_mark_is_gone() {
    let kept = Arc::new(Kept::default());
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let spec = format!("file:{},bs=512", file.path().display());
    let spec: nvmf_storage::NamespaceSpec = spec.parse().unwrap();
    let backend = Arc::new(Faulty::new(spec.open().unwrap()));
    let ns = Namespace::builder(1, backend.clone()).persistence(kept.clone());
    let ns = ns.uncorrectable(std::iter::once(4..5));
    let a = association(&Subsystem::builder(nqn(NQN)).with(ns).build().unwrap());
    backend.inject(Fault::on(Stored::Flush).times(1).failing(Failure::Io));
    assert!(run(&a, &write(4, 1), &mut [1; 512]).is_err());
    assert_eq!(run(&a, &read(4, 1), &mut [0; 512]), UNREADABLE);
    assert_eq!(kept.uncorrectable().len(), 0);
    run(&a, &write(4, 1), &mut [1; 512]).unwrap();
    assert_eq!(kept.uncorrectable(), [vec![]]);
}
