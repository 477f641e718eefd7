//! Write Uncorrectable.

use nvme_spec::copy::CopyRequest;

use super::*;

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
        marks.uncorrectable().mark(8 + n * 2 - 1, 1).unwrap();
    }
    marks.uncorrectable().mark(0, 3).unwrap();
    let full = Err(Status::NOT_ENOUGH_RESOURCES);
    assert_eq!(run(&a, &mark(5, 1), &mut []), full);
    assert_eq!(run(&a, &write(1, 1), &mut [0; 512]), full);
    run(&a, &write(0, 1), &mut [0; 512]).unwrap();
}
