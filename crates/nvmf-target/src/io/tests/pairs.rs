//! Compare and Write, fused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::io::fused::{ALONE, Both, OTHER_FAILED, plan_pair};

fn compare(slba: u64, blocks: u32) -> Sqe {
    let mut sqe = command(opcode::nvm::COMPARE, 1, slba, blocks);
    sqe.flags |= fused::FIRST;
    sqe
}

fn second(slba: u64, blocks: u32) -> Sqe {
    let mut sqe = write(slba, blocks);
    sqe.flags |= fused::SECOND;
    sqe
}

fn pair(a: &Association, expected: &mut [u8], new: &mut [u8]) -> Both {
    let length = u32::try_from(new.len()).unwrap();
    let blocks = length / 512;
    let (first, second) = ((compare(0, blocks), length), (second(0, blocks), length));
    match plan_pair(a, &a.view(), &first, &second) {
        Ok(pair) => {
            let by = By { association: a, counters: &Counters::default() };
            pair.execute(expected, new, &by)
        }
        Err(both) => both,
    }
}

const DONE: Both = Both { first: Ok(()), second: Ok(()) };

#[test]
fn it_writes_if_the_blocks_are_as_expected() {
    let a = association(&subsystem());
    assert_eq!(pair(&a, &mut [0; 512], &mut [1; 512]), DONE);
    let miss = pair(&a, &mut [0; 512], &mut [2; 512]);
    assert_eq!(miss, Both::first_failed(Status::COMPARE_FAILURE.with_dnr(true)));
    assert_eq!(miss.second, Err(OTHER_FAILED.into()));
    let mut back = [0; 512];
    run(&a, &read(0, 1), &mut back).unwrap();
    assert_eq!(back, [1; 512]);
}

#[test]
fn two_that_do_not_fit_are_both_invalid() {
    let a = association(&subsystem());
    let view = a.view();
    let invalid = |first: Sqe, second: Sqe| {
        let both = plan_pair(&a, &view, &(first, 512), &(second, 512)).unwrap_err();
        let status = Err(Status::INVALID_FIELD.with_dnr(true).into());
        assert_eq!(both, Both { first: status, second: status });
    };
    invalid(compare(0, 1), second(1, 1));
    invalid(compare(0, 1), second(0, 2));
    invalid(second(0, 1), compare(0, 1));
    invalid(compare(0, 1), compare(0, 1));
    let mut other = second(0, 1);
    other.nsid.set(3);
    invalid(compare(0, 1), other);
    assert_ne!(ALONE, OTHER_FAILED);
}

#[test]
fn what_is_wrong_with_one_fails_the_other() {
    let a = association(&subsystem());
    let view = a.view();
    let judge = |first: &(Sqe, u32), second: &(Sqe, u32)| {
        plan_pair(&a, &view, first, second).map(drop).unwrap_err()
    };
    let length = Status::DATA_SGL_LENGTH_INVALID.with_dnr(true);
    let both = judge(&(compare(0, 1), 511), &(second(0, 1), 512));
    assert_eq!(both, Both::first_failed(length));
    let both = judge(&(compare(0, 1), 512), &(second(0, 1), 511));
    assert_eq!(both, Both::second_failed(length));
    let range = judge(&(compare(2048, 1), 512), &(second(2048, 1), 512));
    assert_eq!(range, Both::first_failed(Status::LBA_OUT_OF_RANGE.with_dnr(true)));
}

#[test]
fn more_than_identify_says_is_too_much() {
    let subsystem = subsystem();
    let a = association(&subsystem);
    let most = u32::from(subsystem.namespace(1).unwrap().description().namespace().nacwu.get()) + 1;
    let length = most * 512;
    let (mut expected, mut new) = (vec![0; length as usize], vec![1; length as usize]);
    assert_eq!(pair(&a, &mut expected, &mut new), DONE);
    let length = length + 512;
    let (mut expected, mut new) = (vec![0; length as usize], vec![1; length as usize]);
    let status = Err(Status::ATOMIC_WRITE_UNIT_EXCEEDED.with_dnr(true).into());
    assert_eq!(pair(&a, &mut expected, &mut new), Both { first: status, second: status });
}

#[test]
fn a_write_that_fails_leaves_the_compare_as_it_went() {
    let (backend, a) = faulty();
    backend.inject(Fault::on(Stored::Write).times(1).failing(Failure::Io));
    let both = pair(&a, &mut [0; 512], &mut [1; 512]);
    assert_eq!(both, Both { first: Ok(()), second: Err(Status::WRITE_FAULT.into()) });
    backend.inject(Fault::on(Stored::Read).times(1).failing(Failure::Io));
    let both = pair(&a, &mut [0; 512], &mut [1; 512]);
    assert_eq!(both, Both::first_failed(Status::UNRECOVERED_READ_ERROR));
}

/// Counts up in a block by Compare and Write, on storage that takes its time, so that others come
/// between if they can; one writes other blocks meanwhile. No increment may be lost.
#[test]
fn no_increment_by_compare_and_write_is_lost() {
    const EACH: u64 = 40;
    let (backend, first) = faulty();
    backend.inject(Fault::on(Stored::Write).within(0..512).delayed(Duration::from_millis(1)));
    let subsystem = first.subsystem();
    let stop = AtomicBool::new(false);
    let value = |n: u64| n.to_le_bytes().repeat(64);
    let found = |a: &Association| {
        let mut back = vec![0; 512];
        run(a, &read(0, 1), &mut back).unwrap();
        let n = u64::from_le_bytes(back[..8].try_into().unwrap());
        assert_eq!(back, value(n), "torn");
        n
    };
    thread::scope(|scope| {
        let count = |host| {
            let a = crate::testing::connect(subsystem, host);
            let mut seen = 0;
            for _ in 0..EACH {
                while pair(&a, &mut value(seen), &mut value(seen + 1)) != DONE {
                    seen = found(&a);
                }
                seen += 1;
            }
        };
        let counting = [2, 3].map(|host| scope.spawn(move || count(host)));
        let (a, stop) = (crate::testing::connect(subsystem, 4), &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                run(&a, &write(4, 2), &mut [7; 1024]).unwrap();
            }
        });
        let done = counting.map(|thread| thread.join());
        stop.store(true, Ordering::Relaxed);
        done.into_iter().for_each(Result::unwrap);
    });
    assert_eq!(found(&first), 2 * EACH);
}
