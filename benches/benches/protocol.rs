//! What the protocol core takes for one PDU, and the digests.

#![allow(clippy::unwrap_used, reason = "a benchmark stops at a surprise")]
#![allow(missing_docs, reason = "the macros make public functions")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nvmf::proto::digest::crc32c;
use nvmf::proto::pdu::{Batch, PayloadSource};
use nvmf::proto::tcp::Controller;
use nvmf::spec::{Cqe, Status};
use nvmf_benches::pair::{Pair, Same, send, sent, take_commands, take_completions};

/// PDUs at once; times are for all of them.
const TOGETHER: u32 = 32;
const LENGTH: u32 = 4096;

/// A controller that has taken Reads or Flushes, and their slots.
fn busy(digests: bool, flushes: bool) -> (Pair, Vec<u16>) {
    let mut pair = Pair::connected(digests).unwrap();
    let bytes = match flushes {
        true => pair.flushes(TOGETHER),
        false => pair.reads(TOGETHER, LENGTH),
    };
    let mut slots = Vec::new();
    take_commands(&mut pair.controller, &bytes.unwrap(), &mut |c| slots.push(c.slot)).unwrap();
    (pair, slots)
}

/// The same, answered with data that is not yet encoded.
fn answered(digests: bool) -> Pair {
    let (mut pair, slots) = busy(digests, false);
    for slot in slots {
        pair.controller.send_data(slot, LENGTH, true).unwrap();
    }
    pair
}

fn encode(controller: &mut Controller, source: &dyn PayloadSource) -> usize {
    send(controller, source, &mut Batch::new()).unwrap()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(TOGETHER.into()));
    let source = Same(vec![0; LENGTH as usize]);
    for (name, digests) in [("", false), (", digests", true)] {
        group.bench_function(format!("CapsuleCmd{name}"), |b| {
            b.iter_batched_ref(
                || {
                    let mut pair = Pair::connected(digests).unwrap();
                    let bytes = pair.reads(TOGETHER, LENGTH).unwrap();
                    (pair, bytes)
                },
                |(pair, bytes)| {
                    let mut each = |command| {
                        let _ = black_box(command);
                    };
                    take_commands(&mut pair.controller, bytes, &mut each).unwrap();
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("C2HData of 4 KiB{name}"), |b| {
            b.iter_batched_ref(
                || {
                    let mut pair = answered(digests);
                    let bytes = sent(&mut pair.controller, &source).unwrap();
                    (pair, bytes)
                },
                |(pair, bytes)| take_completions(&mut pair.host, bytes).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn encode_answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(TOGETHER.into()));
    let source = Same(vec![0; LENGTH as usize]);
    for (name, digests) in [("", false), (", digests", true)] {
        group.bench_function(format!("CapsuleResp{name}"), |b| {
            b.iter_batched_ref(
                || {
                    let (mut pair, slots) = busy(digests, true);
                    for slot in slots {
                        pair.controller.respond(slot, Cqe::new(0, Status::SUCCESS));
                    }
                    pair
                },
                |pair| encode(&mut pair.controller, &source),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("C2HData of 4 KiB{name}"), |b| {
            b.iter_batched_ref(
                || answered(digests),
                |pair| encode(&mut pair.controller, &source),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    for (name, length) in [("header, 72 B", 72), ("4 KiB", 4 << 10), ("128 KiB", 128 << 10)] {
        let bytes = vec![0x5a; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(name, |b| b.iter(|| crc32c(black_box(&bytes))));
    }
    group.finish();
}

criterion_group!(protocol, decode, encode_answers, digests);
criterion_main!(protocol);
