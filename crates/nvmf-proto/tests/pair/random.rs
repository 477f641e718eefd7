//! Whole conversations at random.

use std::collections::HashMap;

use nvme_spec::Status;
use nvme_spec::fabrics::Disconnect;
use nvmf_proto::Violation;
use nvmf_proto::tcp::{ControllerConfig, HostConfig};
use proptest::prelude::*;

use crate::host_app::{Done, Op, region_data};
use crate::link::Fault;
use crate::pair::{Pair, Setup};
use crate::target::Behaviour;

fn host_config() -> impl Strategy<Value = HostConfig> {
    let in_capsule = prop_oneof![Just(8192u32), Just(0), 0..=8192u32];
    (0..=31u8, any::<bool>(), any::<bool>(), 1..6u32, in_capsule).prop_map(
        |(hpda, header_digest, data_digest, r2ts_per_command, in_capsule)| HostConfig {
            hpda,
            header_digest,
            data_digest,
            r2ts_per_command,
            in_capsule,
        },
    )
}

fn controller_config() -> impl Strategy<Value = ControllerConfig> {
    let length = || prop_oneof![512..9000u32, Just(4096), Just(1 << 20)];
    // Each digest is permitted most of the time, so that the four combinations share evenly.
    let permit = || prop::bool::weighted(0.8);
    (0..=31u8, permit(), permit(), 0..5000u32, 1..6u32, length(), length()).prop_map(
        |(cpda, header_digest, data_digest, maxh2cdata, r2ts_per_command, r2t, c2h)| {
            ControllerConfig {
                cpda,
                header_digest,
                data_digest,
                maxh2cdata: 4096 + maxh2cdata,
                r2ts_per_command,
                r2t_length: r2t,
                c2h_data_length: c2h,
            }
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    let segment = || prop_oneof![1..80usize, 1..5000usize, Just(1 << 20)];
    let entries = prop_oneof![Just(2u32), Just(3), 2..40u32];
    let failing = prop_oneof![Just(0usize), Just(30)];
    (
        any::<u64>(),
        host_config(),
        controller_config(),
        failing,
        entries,
        any::<bool>(),
        (segment(), segment()),
        prop_oneof![Just(0u64), 0..5000u64],
    )
        .prop_map(
            |(seed, host, controller, failing, entries, flow_control, segments, delay_us)| {
                // Connect comes before the in-capsule size is settled, and has its own limit.
                let behaviour = Behaviour { in_capsule: host.in_capsule, failing, answers: true };
                Setup {
                    seed,
                    host,
                    controller,
                    behaviour,
                    entries,
                    flow_control,
                    segments,
                    delay_us,
                }
            },
        )
}

/// Sizes around all limits of this setup.
fn length(pair: &mut Pair) -> u32 {
    let Setup { host, controller, .. } = pair.setup;
    let limits = [
        host.in_capsule,
        controller.maxh2cdata & !3,
        controller.r2t_length,
        controller.c2h_data_length,
        controller.r2t_length.saturating_mul(controller.r2ts_per_command),
        controller.r2t_length.saturating_mul(host.r2ts_per_command),
        1,
        512,
    ];
    let near = limits[pair.rng.below(limits.len())].min(30_000);
    (near + 2).saturating_sub(u32::try_from(pair.rng.below(4)).unwrap()).max(1)
}

/// What the host knows of the target's memory.
#[derive(Default)]
struct Model {
    /// Length last written by region; `None` while a write is under way or has failed.
    regions: HashMap<u32, Option<u32>>,
    /// What each outstanding or finished command is, by the order of its submission.
    ops: HashMap<u16, Op>,
    submitted: usize,
    succeeded: usize,
    failed: usize,
}

impl Model {
    fn submit(&mut self, pair: &mut Pair) {
        let length = length(pair);
        let readable: Vec<(u32, u32)> =
            self.regions.iter().filter_map(|(region, len)| Some((*region, (*len)?))).collect();
        let op = match pair.rng.below(7) {
            0 => Op::Flush,
            1..=3 => {
                let region = u32::try_from(self.submitted).unwrap();
                self.regions.insert(region, None);
                Op::Write { region, length }
            }
            4 if !readable.is_empty() => {
                let (region, length) = readable[pair.rng.below(readable.len())];
                Op::Read { region, length }
            }
            _ => Op::Read { region: 1_000_000 + u32::try_from(self.submitted).unwrap(), length },
        };
        pair.host.at_once = pair.rng.below(2) == 0;
        let cid = pair.host.submit_op(op);
        assert!(self.ops.insert(cid, op).is_none(), "identifier in use");
        self.submitted += 1;
    }

    /// Checks each end that came.
    fn collect(&mut self, pair: &mut Pair) {
        for done in std::mem::take(&mut pair.host.done) {
            let op = self.ops.remove(&done.cid).expect("a command outstanding");
            if done.cqe.status().is_success() {
                self.succeeded += 1;
                self.check_success(op, &done, pair);
            } else {
                self.failed += 1;
                let expected = match done.violation {
                    Some(_) => Status::TRANSIENT_TRANSPORT_ERROR,
                    None => Status::INTERNAL_ERROR,
                };
                let transient = done.cqe.status() == Status::TRANSIENT_TRANSPORT_ERROR;
                assert!(transient || done.cqe.status() == expected, "{:?}", done.cqe);
            }
        }
    }

    fn check_success(&mut self, op: Op, done: &Done, pair: &Pair) {
        match op {
            Op::Flush => {}
            Op::Write { region, length } => {
                assert!(
                    pair.target.memory[&region] == region_data(!region, length),
                    "written wrong"
                );
                self.regions.insert(region, Some(length));
            }
            Op::Read { region, length } => {
                let written = self.regions.contains_key(&region);
                let pattern = if written { !region } else { region };
                assert!(done.data == region_data(pattern, length), "read wrong");
            }
        }
    }

    /// Submits up to `ops` commands, as many at once as chance wants, until nothing moves.
    fn converse(&mut self, pair: &mut Pair, ops: usize) {
        loop {
            while self.submitted < ops && pair.host.has_room() && pair.rng.chance(60) {
                self.submit(pair);
            }
            let busy = pair.step();
            self.collect(pair);
            let ended = pair.host.host.has_ended() || pair.target.controller.has_ended();
            if !busy && (ended || self.submitted == ops || !pair.host.has_room()) {
                return;
            }
        }
    }
}

/// How far a run under a fault can go before it is clear that nothing more happens.
fn try_connect(pair: &mut Pair) -> bool {
    pair.run();
    if pair.host.host.negotiated().is_none() {
        return false;
    }
    let size = nvmf_proto::queue::QueueSize::new(pair.setup.entries).unwrap();
    let cattr = if pair.setup.flow_control { 0 } else { 4 };
    let sqe = nvme_spec::fabrics::Connect::new(1, size.zero_based(), cattr, 0).to_sqe();
    let transfer = nvmf_proto::tcp::Transfer::ToController { length: 1024 };
    let Ok(cid) = pair.host.submit(sqe, transfer, crate::pair::connect_data(7)) else {
        return false;
    };
    pair.run();
    let Some(done) = pair.host.take(cid) else { return false };
    let Ok(accepted) = nvmf_proto::connect::judge_response(&done.cqe, !pair.setup.flow_control)
    else {
        return false;
    };
    pair.host.host.establish(size, accepted.sqhd, false);
    true
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn every_command_completes_once_with_its_data_intact(setup in setup()) {
        let mut pair = Pair::connected(setup);
        let mut model = Model::default();
        model.converse(&mut pair, 60);
        prop_assert_eq!(model.succeeded + model.failed, 60);
        prop_assert!(setup.behaviour.failing > 0 || model.failed == 0);
        let bye = pair.exchange(Disconnect::new().to_sqe(), Vec::new());
        prop_assert!(bye.cqe.status().is_success());
        prop_assert!(pair.target.disconnected);
        pair.assert_idle();
    }

    #[test]
    fn a_connection_that_drops_anywhere_leaves_no_command_done_wrong(
        setup in setup(), at in 0..60_000usize, to_host in any::<bool>(),
    ) {
        let mut pair = Pair::new(setup);
        let stream = if to_host { &mut pair.to_host } else { &mut pair.to_controller };
        stream.fault = Some(Fault::Drop(at));
        let mut model = Model::default();
        if try_connect(&mut pair) {
            model.converse(&mut pair, 60);
        }
        // Silence is no violation: only the driver knows that the connection is gone.
        prop_assert_eq!(pair.host.ended, None);
        prop_assert_eq!(pair.target.ended, None);
        let dropped = pair.to_host.is_dropped() || pair.to_controller.is_dropped();
        prop_assert!(dropped || model.succeeded + model.failed == 60);
    }

    #[test]
    fn with_digests_no_flipped_bit_passes_for_data(
        setup in setup(), at in 128..60_000usize, bits in 1..=255u8, to_host in any::<bool>(),
    ) {
        let mut setup = setup;
        (setup.host.header_digest, setup.host.data_digest) = (true, true);
        (setup.controller.header_digest, setup.controller.data_digest) = (true, true);
        flipped(setup, at, bits, to_host);
    }

    #[test]
    fn a_flipped_bit_of_the_handshake_ends_or_does_no_harm(
        setup in setup(), at in 0..128usize, bits in 1..=255u8, to_host in any::<bool>(),
    ) {
        flipped(setup, at, bits, to_host);
    }
}

fn flipped(setup: Setup, at: usize, bits: u8, to_host: bool) {
    let mut pair = Pair::new(setup);
    pair.inspector.blind = at < 128;
    let stream = if to_host { &mut pair.to_host } else { &mut pair.to_controller };
    stream.fault = Some(Fault::Flip(at, bits));
    let mut model = Model::default();
    if try_connect(&mut pair) {
        model.converse(&mut pair, 60);
    }
    for violation in [pair.host.ended, pair.target.ended].into_iter().flatten() {
        assert!(violation.is_fatal(), "{violation:?}");
    }
    let corrupt = |v: &Violation| matches!(v, Violation::DataDigest { .. });
    assert!(pair.target.rejected.iter().all(|v| !corrupt(v)));
}
