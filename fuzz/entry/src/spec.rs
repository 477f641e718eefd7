//! The structures that peers send: whatever their bytes are, reading and printing them works.

use std::fmt::Display;

use nvme_spec::identify::{
    ActiveNamespaceList, CommandSetList, ControllerList, DescriptorList, Descriptors,
    IdentifyController, IdentifyNamespace,
};
use nvme_spec::log::{
    AnaGroups, ChangedNamespaceList, DiscoveryEntry, DiscoveryLog, ErrorLogEntry, FirmwareSlotLog,
    GetLogPage, SupportedLogPages,
};
use nvme_spec::nqn::NQN_FIELD;
use nvme_spec::{HostId, Nqn, Sqe};
use zerocopy::FromBytes;

use crate::bytes::Bytes;

/// NVMe Qualified Names and host identifiers, from the wire and from text.
pub fn nqn(data: &[u8]) {
    let mut field = [0; NQN_FIELD];
    let len = data.len().min(NQN_FIELD);
    field[..len].copy_from_slice(&data[..len]);
    match Nqn::from_wire(&field) {
        Ok(nqn) => {
            assert!((1..=223).contains(&nqn.as_str().len()));
            assert_eq!(Nqn::from_wire(&nqn.to_wire()).unwrap(), nqn);
            assert_eq!(Nqn::lenient(nqn.as_str()).unwrap(), nqn);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let Ok(text) = str::from_utf8(data) else { return };
    match Nqn::parse_strict(text) {
        Ok(nqn) => {
            assert_eq!(nqn.as_str(), text);
            assert_eq!(Nqn::lenient(text).unwrap(), nqn);
            if let Some(uuid) = nqn.uuid() {
                assert!(Nqn::from_uuid(&uuid).as_str().eq_ignore_ascii_case(text));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match text.parse::<HostId>() {
        Ok(id) => assert_eq!(id.to_string().parse::<HostId>().unwrap(), id),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Identify data: controller, namespace, lists.
pub fn identify(data: &[u8]) {
    let page = page(data);
    let controller = IdentifyController::ref_from_bytes(&page).unwrap();
    for text in
        [controller.serial_number(), controller.model_number(), controller.firmware_revision()]
    {
        assert!(text.as_bytes().len() <= 40);
        printable(&text);
    }
    if let Ok(nqn) = controller.subsystem_nqn() {
        assert!((1..=223).contains(&nqn.as_str().len()));
    }
    for page in [0, 4096, u32::MAX] {
        let _ = controller.max_transfer(page);
    }
    assert!(controller.in_capsule_data() <= u64::from(u32::MAX) * 16);
    let namespace = IdentifyNamespace::ref_from_bytes(&page).unwrap();
    if let Some(size) = namespace.block_size() {
        assert!(size.is_power_of_two());
    }
    let _ = namespace.format();
    let list = ActiveNamespaceList::ref_from_bytes(&page).unwrap();
    assert!(list.iter().all(|id| id != 0) && list.iter().count() <= ActiveNamespaceList::MAX);
    assert_eq!(list.is_full(), list.iter().count() == ActiveNamespaceList::MAX);
    assert!(ControllerList::ref_from_bytes(&page).unwrap().iter().count() <= 2047);
    assert!(CommandSetList::ref_from_bytes(&page).unwrap().combinations().count() <= 512);
}

/// The namespace descriptor list.
pub fn identify_descriptors(data: &[u8]) {
    let mut descriptors = Descriptors::new(data);
    let mut rebuilt = DescriptorList::new();
    let mut fits = true;
    let mut before = 0;
    while let Some(descriptor) = descriptors.next() {
        let at = descriptors.position();
        assert!(at <= data.len());
        match descriptor {
            Ok(id) => {
                assert!(at >= before + 5, "no progress");
                assert_eq!(id.value(), &data[before + 4..at]);
                fits &= rebuilt.push(id).is_ok();
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(descriptors.next().is_none(), "something follows an error");
                break;
            }
        }
        before = at;
    }
    if fits {
        let want = Descriptors::new(data).take_while(Result::is_ok);
        assert!(Descriptors::new(rebuilt.as_bytes()).eq(want));
    }
}

/// The discovery log page, of plain entries or extended ones as its header says.
pub fn discovery_log(data: &[u8]) {
    let Some(log) = DiscoveryLog::parse(data) else { return assert!(data.len() < 1024) };
    let extended = log.header.is_extended();
    let least = if extended { 1032 } else { 1024 };
    let (mut records, mut used, mut count) = (log.records(), 1024, 0);
    let mut whole = true;
    for record in records.by_ref() {
        let Ok(record) = record else {
            whole = false;
            break;
        };
        count += 1;
        used += least;
        for attribute in record.attributes {
            assert!(extended, "a plain entry has an attribute");
            assert!(!attribute.value.is_empty() && attribute.value.len().is_multiple_of(4));
            used += 4 + attribute.value.len();
        }
        assert!(used <= data.len(), "more came out than went in");
        discovery_entry(record.entry);
    }
    assert!(records.next().is_none(), "something follows an error");
    assert_eq!(whole, log.header.numrec.get() == count);
    assert_eq!(log.is_complete(), whole);
    assert_eq!(log.entries().count() as u64, count);
}

fn discovery_entry(entry: &DiscoveryEntry) {
    assert!(entry.address().as_bytes().len() <= 256);
    assert!(entry.service().as_bytes().len() <= 32);
    printable(&entry.address());
    printable(&entry.service());
    if let Ok(nqn) = entry.subsystem_nqn() {
        assert!((1..=223).contains(&nqn.as_str().len()));
    }
    let _ = (entry.port(), entry.sectype());
}

/// The Asymmetric Namespace Access log page.
pub fn ana_log(data: &[u8]) {
    let Some((header, groups)) = AnaGroups::parse(data) else { return assert!(data.len() < 16) };
    let mut groups = groups;
    let (mut used, mut count) = (16, 0);
    for group in groups.by_ref() {
        count += 1;
        let Ok(group) = group else { break };
        used += 32 + 4 * group.nsids.len();
        assert!(used <= data.len(), "more came out than went in");
        let _ = group.state();
    }
    assert!(count <= header.ngrps.get());
    assert!(groups.next().is_none(), "something follows an error");
}

/// The other log pages.
pub fn log_pages(data: &[u8]) {
    let page = page(data);
    let changed = ChangedNamespaceList::ref_from_bytes(&page).unwrap();
    assert!(changed.changed().is_none_or(|ids| ids.count() <= 1024));
    let firmware = FirmwareSlotLog::ref_from_bytes(&page[..512]).unwrap();
    for (slot, revision) in firmware.slots() {
        assert!((1..=7).contains(&slot));
        printable(&revision);
    }
    let supported = SupportedLogPages::ref_from_bytes(&page[..1024]).unwrap();
    assert!(supported.supported().count() <= 256);
    let error = ErrorLogEntry::ref_from_bytes(&page[..64]).unwrap();
    assert!(!error.status().name().is_empty());
}

/// The Get Log Page command.
pub fn get_log_page(data: &[u8]) {
    let sqe = Sqe::read_from_bytes(&Bytes(data).array::<64>()).unwrap();
    let get = GetLogPage::from_sqe(&sqe);
    assert!((4..=1 << 34).contains(&get.len()) && get.len().is_multiple_of(4));
    assert_eq!(GetLogPage::from_sqe(&get.to_sqe()), get);
    if let Some(new) = GetLogPage::new(get.lid, get.offset, get.len()) {
        assert_eq!(GetLogPage::from_sqe(&new.to_sqe()), new);
    }
}

/// A page of 4096 bytes that begins with the input.
pub(crate) fn page(data: &[u8]) -> [u8; 4096] {
    let mut page = [0; 4096];
    let len = data.len().min(page.len());
    page[..len].copy_from_slice(&data[..len]);
    page
}

/// Nothing that steers a terminal comes out.
fn printable(text: &dyn Display) {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
