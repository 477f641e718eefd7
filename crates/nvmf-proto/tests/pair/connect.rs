//! Connect: every check, its place, and the order of checks.

use nvme_spec::fabrics::{Connect, ConnectData, InvalidParameter};
use nvme_spec::{Cqe, Sqe, Status, opcode};
use nvmf_proto::connect::{
    Accepted, ConnectCommand, ConnectError, ConnectLimits, ControllerChoice, ControllerModel,
    Refusal, judge_command, judge_data, judge_response,
};
use nvmf_proto::queue::{QueueSize, SQHD_FLOW_CONTROL_OFF};
use nvmf_proto::tcp::DataLocation;
use zerocopy::{FromBytes, IntoBytes};

use crate::pair::{Pair, Setup, connect_data};
use crate::target::{CNTLID, Target};

const IN_CAPSULE: DataLocation = DataLocation::InCapsule { length: 1024 };

fn admin() -> Connect {
    Connect::new(0, 31, 0, 5_000)
}

fn io() -> Connect {
    Connect::new(1, 127, 0, 0)
}

fn judge(connect: Connect) -> Result<ConnectCommand, Refusal> {
    judge_command(&connect.to_sqe(), IN_CAPSULE, &Target::limits())
}

/// Where a refusal points: in the data or in the command, and the offset.
fn points_at<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> (bool, u16) {
    match refused {
        Err(Refusal::Invalid { parameter, reason }) => {
            assert!(!reason.is_empty());
            (parameter.in_data, parameter.offset)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_right_command_is_understood() {
    let command = judge(Connect { cattr: 4, ..admin() }).unwrap();
    let size = QueueSize::new(32).unwrap();
    let expected = ConnectCommand { qid: 0, size, kato_ms: 5_000, disable_flow_control: true };
    assert_eq!(command, expected);
    assert_eq!(judge(io()).unwrap().size.entries(), 128);
}

#[test]
fn any_other_command_is_out_of_sequence() {
    let keep_alive = Sqe::new(opcode::admin::KEEP_ALIVE);
    let get = nvme_spec::fabrics::PropertyGet::new(0, true).to_sqe();
    for sqe in [keep_alive, get] {
        let refusal = judge_command(&sqe, IN_CAPSULE, &Target::limits()).unwrap_err();
        assert_eq!(refusal, Refusal::NotConnect);
        assert_eq!(refusal.cqe().status(), Status::new(0, 0x0c).with_dnr(true));
    }
}

#[test]
fn an_unknown_record_format_has_a_status_of_its_own() {
    let refusal = judge(Connect { recfmt: 1.into(), ..admin() }).unwrap_err();
    assert_eq!(refusal, Refusal::Format(1));
    assert_eq!(refusal.cqe().status(), Status::new(1, 0x80).with_dnr(true));
}

#[test]
fn every_wrong_field_of_the_command_is_pointed_at() {
    assert_eq!(points_at(judge(Connect { sqsize: 0.into(), ..admin() })), (false, 44));
    assert_eq!(points_at(judge(Connect { sqsize: 4096.into(), ..admin() })), (false, 44));
    assert!(judge(Connect { sqsize: 4095.into(), ..admin() }).is_ok());
    // Reserved on an I/O queue; SPDK's host sends it all the same.
    assert_eq!(judge(Connect { kato: 1.into(), ..io() }).unwrap().kato_ms, 0);
    let small = ConnectLimits { io_entries: QueueSize::new(128), ..Target::limits() };
    let judge_small = |connect: Connect| judge_command(&connect.to_sqe(), IN_CAPSULE, &small);
    assert!(judge_small(io()).is_ok());
    assert_eq!(points_at(judge_small(Connect { sqsize: 128.into(), ..io() })), (false, 44));
    let discovery = ConnectLimits { io_entries: None, ..Target::limits() };
    assert_eq!(points_at(judge_command(&io().to_sqe(), IN_CAPSULE, &discovery)), (false, 42));
}

#[test]
fn connect_data_of_any_other_length_is_refused_at_the_sgl() {
    for length in [1, 1023, 1025, u32::MAX] {
        for data in [DataLocation::InCapsule { length }, DataLocation::Transport { length }] {
            let judged = judge_command(&admin().to_sqe(), data, &Target::limits());
            assert_eq!(points_at(judged), (false, 24));
        }
    }
    let judged = judge_command(&admin().to_sqe(), DataLocation::None, &Target::limits());
    assert_eq!(points_at(judged), (false, 24));
    let transport = DataLocation::Transport { length: 1024 };
    assert!(judge_command(&admin().to_sqe(), transport, &Target::limits()).is_ok());
}

#[test]
fn fields_of_the_command_are_judged_in_their_order() {
    let mut connect =
        Connect { recfmt: 2.into(), qid: 1.into(), sqsize: 0.into(), kato: 1.into(), ..io() };
    let limits = |io| ConnectLimits { io_entries: io, ..Target::limits() };
    let judge =
        |connect: &Connect, io| judge_command(&connect.to_sqe(), DataLocation::None, &limits(io));
    assert_eq!(judge(&connect, None), Err(Refusal::Format(2)));
    connect.recfmt.set(0);
    assert_eq!(points_at(judge(&connect, None)), (false, 42));
    let some = QueueSize::new(64);
    assert_eq!(points_at(judge(&connect, some)), (false, 44));
    connect.sqsize.set(63);
    assert_eq!(points_at(judge(&connect, some)), (false, 24));
}

/// Data of a right admin Connect, with something changed.
fn data(change: impl FnOnce(&mut ConnectData)) -> Vec<u8> {
    let mut data = ConnectData::read_from_bytes(&connect_data(0xffff)).unwrap();
    change(&mut data);
    data.as_bytes().to_vec()
}

#[test]
fn every_wrong_field_of_the_data_is_pointed_at() {
    let command = judge(admin()).unwrap();
    let judge = |data: &[u8]| judge_data(command, data, &Target::limits());
    assert!(judge(&data(|_| {})).is_ok());
    assert_eq!(points_at(judge(&data(|d| d.hostid = [0; 16]))), (true, 0));
    assert_eq!(points_at(judge(&data(|d| d.subnqn = [0; 256]))), (true, 256));
    assert_eq!(points_at(judge(&data(|d| d.subnqn = [b'a'; 256]))), (true, 256));
    assert_eq!(points_at(judge(&data(|d| d.subnqn[..224].fill(b'a')))), (true, 256));
    assert_eq!(points_at(judge(&data(|d| d.subnqn[0] = 0xff))), (true, 256));
    assert_eq!(points_at(judge(&data(|d| d.hostnqn = [0; 256]))), (true, 512));
    assert_eq!(points_at(judge(&data(|d| d.hostnqn = [b'a'; 256]))), (true, 512));
    assert_eq!(points_at(judge_data(command, &[0; 1023], &Target::limits())), (false, 24));
}

#[test]
fn an_admin_queue_asks_for_a_new_controller_where_the_model_is_dynamic() {
    let command = judge(admin()).unwrap();
    let fixed = ConnectLimits { model: ControllerModel::Static, ..Target::limits() };
    let either = ConnectLimits { model: ControllerModel::OfSubsystem, ..Target::limits() };
    for (cntlid, dynamic, static_) in
        [(0xffff, true, false), (0xfffe, false, true), (1, false, true), (0xffef, false, true)]
    {
        let data = data(|d| d.cntlid.set(cntlid));
        assert_eq!(judge_data(command, &data, &Target::limits()).is_ok(), dynamic);
        assert_eq!(judge_data(command, &data, &fixed).is_ok(), static_);
        assert!(judge_data(command, &data, &either).is_ok());
    }
    for cntlid in [0, 0xfff0, 0xfffd] {
        let data = data(|d| d.cntlid.set(cntlid));
        assert_eq!(points_at(judge_data(command, &data, &Target::limits())), (true, 16));
        assert_eq!(points_at(judge_data(command, &data, &fixed)), (true, 16));
        assert_eq!(points_at(judge_data(command, &data, &either)), (true, 16));
    }
}

#[test]
fn an_io_queue_asks_for_its_associations_controller() {
    let command = judge(io()).unwrap();
    for cntlid in [0, 0xfff0, 0xfffe, 0xffff] {
        let data = data(|d| d.cntlid.set(cntlid));
        assert_eq!(points_at(judge_data(command, &data, &Target::limits())), (true, 16));
    }
    let request = judge_data(command, &connect_data(7), &Target::limits()).unwrap();
    assert_eq!(request.controller, ControllerChoice::Id(7));
    assert_eq!(request.subsystem.as_str(), "nqn.2024-01.com.example:disk");
    assert_eq!(request.host.as_str(), "nqn.2024-01.com.example:host");
}

#[test]
fn fields_of_the_data_are_judged_in_their_order() {
    let command = judge(admin()).unwrap();
    let mut bytes = vec![0; 1024];
    let judge = |bytes: &[u8]| points_at(judge_data(command, bytes, &Target::limits()));
    assert_eq!(judge(&bytes), (true, 0));
    bytes[0] = 1;
    assert_eq!(judge(&bytes), (true, 16));
    bytes[16..18].fill(0xff);
    assert_eq!(judge(&bytes), (true, 256));
    bytes[256] = b'n';
    assert_eq!(judge(&bytes), (true, 512));
    bytes[512] = b'n';
    assert!(judge_data(command, &bytes, &Target::limits()).is_ok());
}

#[test]
fn refusals_have_their_status_and_tell_hosts_whether_to_retry() {
    let status = |refusal: Refusal| refusal.cqe().status();
    let permanent = |sc| Status::new(1, sc).with_dnr(true);
    assert_eq!(status(Refusal::command(44, "x")), permanent(0x82));
    assert_eq!(status(Refusal::data(256, "x")), permanent(0x82));
    assert_eq!(status(Refusal::Host), permanent(0x84));
    assert_eq!(status(Refusal::Busy), Status::new(1, 0x81), "may be tried again");
    assert_eq!(status(Refusal::Status(Status::INTERNAL_ERROR)), Status::INTERNAL_ERROR);
    assert_eq!(Refusal::command(44, "x").cqe().dw0.get(), 44);
    assert_eq!(Refusal::data(256, "x").cqe().dw0.get(), 0x1_0100);
}

#[test]
fn a_refusal_names_the_parameter() {
    let refusal = judge(Connect { sqsize: 0.into(), ..admin() }).unwrap_err();
    assert_eq!(refusal.to_string(), "invalid sqsize: 1 entries; 2 to 4096 are possible");
}

#[test]
fn a_hosts_connect_error_names_the_parameter_and_its_place() {
    let cqe = Refusal::data(512, "not known").cqe();
    let error = judge_response(&cqe, false).unwrap_err();
    let parameter = InvalidParameter { in_data: true, offset: 512 };
    assert_eq!(error, ConnectError::Invalid(parameter));
    let text = error.to_string();
    assert_eq!(text, "the controller calls hostnqn invalid (offset 512 of the Connect data)");
    let text = judge_response(&Refusal::command(44, "").cqe(), false).unwrap_err().to_string();
    assert_eq!(text, "the controller calls sqsize invalid (offset 44 of the command)");
}

#[test]
fn a_hosts_connect_error_names_the_status() {
    let error = judge_response(&Refusal::Host.cqe(), false).unwrap_err();
    assert_eq!(error, ConnectError::Status(Status::new(1, 0x84).with_dnr(true)));
    assert!(error.to_string().contains("Host"), "{error}");
}

#[test]
fn a_success_that_cannot_be_used_is_an_error() {
    let answer = |dw0: u32, sqhd: u16, off: bool| {
        let mut cqe = Cqe::with_dw0(0, dw0);
        cqe.sqhd.set(sqhd);
        judge_response(&cqe, off)
    };
    assert_eq!(answer(7, 0, false), Ok(Accepted { cntlid: 7, sqhd: 0 }));
    assert_eq!(answer(7, 1, true), Ok(Accepted { cntlid: 7, sqhd: 1 }), "stays on");
    let off = SQHD_FLOW_CONTROL_OFF;
    assert_eq!(answer(7, off, true), Ok(Accepted { cntlid: 7, sqhd: off }));
    assert_eq!(answer(7, off, false), Err(ConnectError::FlowControl));
    assert_eq!(answer(0x2_0007, 0, false), Err(ConnectError::Authentication));
    for cntlid in [0, 0xfff0, 0xffff] {
        assert_eq!(answer(cntlid.into(), 0, false), Err(ConnectError::ControllerId(cntlid)));
    }
}

#[test]
fn connect_is_exchanged_with_and_without_flow_control() {
    for flow_control in [true, false] {
        let setup = Setup { flow_control, entries: 128, ..Setup::default() };
        let mut pair = Pair::new(setup);
        pair.handshake();
        let accepted = pair.connect().unwrap();
        assert_eq!(accepted.cntlid, CNTLID);
        assert_eq!(accepted.sqhd == SQHD_FLOW_CONTROL_OFF, !flow_control);
        assert_eq!(pair.target.controller.queue().flow_control(), flow_control);
        assert_eq!(pair.target.controller.queue().size().entries(), 128);
        assert_eq!(pair.host.host.queue().capacity(), 127);
        pair.assert_idle();
    }
}

#[test]
fn a_refused_connect_may_be_tried_again_on_the_same_connection() {
    let mut pair = Pair::new(Setup::default());
    pair.handshake();
    let sqe = Connect::new(1, 15, 0, 0).to_sqe();
    let refused = pair.exchange(sqe, vec![0; 1024]);
    let parameter = InvalidParameter { in_data: true, offset: 0 };
    assert_eq!(judge_response(&refused.cqe, false), Err(ConnectError::Invalid(parameter)));
    pair.connect().unwrap();
    pair.assert_idle();
}

#[test]
fn a_connect_whose_data_arrived_wrong_can_be_retried() {
    use crate::link::Fault;
    use nvmf_proto::tcp::HostConfig;
    let host = HostConfig { header_digest: true, data_digest: true, ..Default::default() };
    let mut pair = Pair::new(Setup { host, ..Setup::default() });
    pair.handshake();
    pair.to_controller.fault = Some(Fault::Flip(pair.to_controller.sent + 500, 1));
    let failed = pair.connect().unwrap_err();
    assert_eq!(failed, ConnectError::Status(Status::TRANSIENT_TRANSPORT_ERROR));
    assert!(pair.target.connected.is_none());
    pair.connect().unwrap();
    pair.assert_idle();
}
