//! The judgement of Connect, both ways.

use nvme_spec::fabrics::ConnectData;
use nvme_spec::{Cqe, Sqe};
use nvmf_proto::connect::{
    ConnectLimits, ControllerModel, DATA_LEN, Refusal, judge_command, judge_data, judge_response,
};
use nvmf_proto::queue::QueueSize;
use nvmf_proto::tcp::DataLocation;
use zerocopy::{FromBytes, IntoBytes};

use crate::bytes::Bytes;

/// A Connect command, its data, and an answer to it.
pub fn connect(data: &[u8]) {
    let mut bytes = Bytes(data);
    let limits = ConnectLimits {
        admin_entries: QueueSize::new(bytes.u32()).unwrap_or(QueueSize::MAX_ADMIN),
        io_entries: QueueSize::new(bytes.u32()),
        model: if bytes.flag() { ControllerModel::Dynamic } else { ControllerModel::Static },
    };
    let right_length = bytes.flag();
    let cqe = Cqe::read_from_bytes(&bytes.array::<16>()).unwrap();
    if let Ok(accepted) = judge_response(&cqe, right_length) {
        assert!((1..=0xffef).contains(&accepted.cntlid));
        assert!(cqe.status().is_success());
    }
    let mut sqe = Sqe::read_from_bytes(&bytes.array::<64>()).unwrap();
    if bytes.flag() {
        // Past the first hurdle.
        sqe.opcode = nvme_spec::opcode::FABRICS;
        sqe.nsid.set(nvme_spec::opcode::fabrics::CONNECT.into());
    }
    let length = if right_length { DATA_LEN } else { bytes.u32() };
    let command = match judge_command(&sqe, DataLocation::InCapsule { length }, &limits) {
        Ok(command) => command,
        Err(refusal) => return check_refusal(&refusal, 64),
    };
    assert_eq!(length, DATA_LEN);
    let most = if command.qid == 0 { limits.admin_entries } else { limits.io_entries.unwrap() };
    assert!(command.size <= most);
    assert!(command.qid == 0 || command.kato_ms == 0);
    assert!(command.qid != 0 || command.size <= QueueSize::MAX_ADMIN);
    let mut data = [0; 1024];
    let len = bytes.0.len().min(1024);
    data[..len].copy_from_slice(&bytes.0[..len]);
    match judge_data(command, &data, &limits) {
        Err(refusal) => check_refusal(&refusal, 1024),
        Ok(request) => {
            // What was understood is what was said.
            let cntlid = request.controller.to_wire();
            let again =
                ConnectData::new(request.host_id, cntlid, &request.subsystem, &request.host);
            let again = judge_data(command, again.as_bytes(), &limits);
            assert_eq!(again.as_ref(), Ok(&request));
        }
    }
    // Any other length is refused, not misread.
    assert!(judge_data(command, &data[..bytes.0.len().min(1023)], &limits).is_err());
}

fn check_refusal(refusal: &Refusal, end: u16) {
    let cqe = refusal.cqe();
    assert!(!cqe.status().is_success());
    assert!(!refusal.to_string().is_empty());
    if let Refusal::Invalid { parameter, .. } = refusal {
        assert!(parameter.offset < end);
        assert_ne!(parameter.name(), "unknown");
        assert_eq!(cqe.dw0.get(), parameter.to_dw0());
    }
}
