//! The printers, for whatever bytes a peer sends.

use nvme_spec::event::Event;
use nvme_spec::fabrics::ConnectData;
use nvme_spec::feature::{
    Arbitration, AsyncEventConfig, ErrorRecovery, HostBehaviorSupport, KeepAliveTimer,
    NumberOfQueues, PowerManagement, SupportedCapabilities, TemperatureThreshold, Timestamp,
    VolatileWriteCache, WriteAtomicity,
};
use nvme_spec::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, IdentifyController, IdentifyControllerNvm,
    IdentifyNamespace, IdentifyNamespaceNvm, IndependentNamespace,
};
use nvme_spec::print::{
    AdminCommand, DescriptorFields, Fields, IoCommand, Json, Line, LogPageFields, PduFields,
    PropertyValue, Table,
};
use nvme_spec::{Cqe, Sqe};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::bytes::Bytes;

/// A structure, printed as a line, as a table and as JSON: nothing that steers a terminal or
/// breaks a line comes out, and the JSON is JSON.
pub fn print(data: &[u8]) {
    let mut bytes = Bytes(data);
    let choice = bytes.u8();
    let page = bytes.0;
    match choice % 19 {
        0 => whole::<IdentifyController>(page),
        1 => whole::<IdentifyNamespace>(page),
        2 => whole::<IndependentNamespace>(page),
        3 => whole::<IdentifyNamespaceNvm>(page),
        4 => whole::<IdentifyControllerNvm>(page),
        5 => whole::<ActiveNamespaceList>(page),
        6 => whole::<ControllerList>(page),
        7 => whole::<CommandSetList>(page),
        8 => show(&DescriptorFields(page)),
        9 => whole::<ConnectData>(page),
        10 => whole::<Cqe>(page),
        11 | 12 => {
            let sqe = Sqe::read_from_bytes(&Bytes(page).array::<64>()).unwrap();
            show(&sqe);
            show(&AdminCommand(&sqe));
            show(&IoCommand(&sqe));
        }
        13 => show(&PduFields(page)),
        14 => {
            let (offset, value) = (bytes.u8().into(), u64::from_le_bytes(bytes.array()));
            show(&PropertyValue { offset, value });
        }
        15 => feature(bytes.u8(), bytes.u32()),
        16 => whole::<HostBehaviorSupport>(page),
        17 => whole::<Timestamp>(page),
        _ => {
            let lid = bytes.u8();
            show(&LogPageFields { lid, page: bytes.0 });
        }
    }
}

/// The value of a feature, or an event.
fn feature(which: u8, value: u32) {
    match which % 11 {
        0 => show(&Arbitration(value)),
        1 => show(&PowerManagement(value)),
        2 => show(&TemperatureThreshold(value)),
        3 => show(&ErrorRecovery(value)),
        4 => show(&VolatileWriteCache(value)),
        5 => show(&WriteAtomicity(value)),
        6 => show(&KeepAliveTimer(value)),
        7 => show(&AsyncEventConfig(value)),
        8 => show(&SupportedCapabilities(value)),
        9 => show(&NumberOfQueues::from_dw0(value)),
        _ => show(&Event::from_dw0(value)),
    }
}

/// The input as the beginning of a structure that is otherwise 0.
fn whole<T: Fields + FromBytes + KnownLayout + Immutable>(data: &[u8]) {
    let mut bytes = vec![0; size_of::<T>()];
    let len = data.len().min(bytes.len());
    bytes[..len].copy_from_slice(&data[..len]);
    show(&T::read_from_bytes(&bytes).unwrap());
}

fn show(fields: &impl Fields) {
    let line = Line(fields).to_string();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let table = Table(fields).to_string();
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
    for json in [Json(fields).to_string(), format!("{:#}", Json(fields))] {
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert!(value.is_object());
    }
}
