//! An NVM subsystem: a name, and namespaces under it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use nvme_spec::fabrics::ConnectData;
use nvme_spec::identify::NSID_ALL;
use nvme_spec::{Nqn, Status};
use nvmf::controller::SerialNumber;
use nvmf::controller::identify::NamespaceDescription;
use nvmf_proto::connect::{ConnectRequest, Refusal};
use nvmf_storage::{Backend, NamespaceSpec, OpenError};

use crate::association::Association;
use crate::identity::{namespace_nguid, namespace_uuid};
use crate::io::storage_status;
use crate::limits;
use crate::statistics::{Snapshot, Statistics};

/// A namespace of a [`Subsystem`]: an identifier, and the blocks behind it.
#[derive(Debug)]
pub struct Namespace {
    nsid: u32,
    backend: Arc<dyn Backend>,
    uuid: [u8; 16],
    nguid: [u8; 16],
}

impl Namespace {
    /// The namespace identifier, from 1.
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Where the blocks are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The UUID, in the order it is written.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The NGUID, in the order it is written.
    pub fn nguid(&self) -> [u8; 16] {
        self.nguid
    }

    /// The namespace as Identify tells of it.
    pub fn description(&self) -> NamespaceDescription {
        let geometry = self.backend.geometry();
        NamespaceDescription {
            blocks: geometry.blocks(),
            block_shift: geometry.block_shift(),
            read_only: geometry.read_only(),
            uuid: self.uuid,
            nguid: self.nguid,
        }
    }
}

/// An NVM subsystem: what hosts connect to by its NQN.
///
/// Its controllers come into being with each host that connects (the dynamic controller model),
/// and all of them have all of its namespaces.
///
/// ```
/// use nvme_spec::Nqn;
/// use nvmf_target::Subsystem;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subsystem = Subsystem::builder(Nqn::parse_strict("nqn.2026-01.org.example:disks")?)
///     .open(&"mem:1M".parse()?)?
///     .open(&"null:1G,bs=512".parse()?)?
///     .build()?;
/// assert_eq!(subsystem.namespaces().len(), 2);
/// assert_eq!(subsystem.namespace(2).map(|ns| ns.backend().geometry().block_size()), Some(512));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subsystem {
    nqn: Nqn,
    serial: SerialNumber,
    /// In ascending order of their identifiers.
    namespaces: Vec<Namespace>,
    max_io_queues: u16,
    started: Instant,
    statistics: Statistics,
    controllers: Mutex<Controllers>,
}

/// The controllers there are, by CNTLID.
#[derive(Debug, Default)]
struct Controllers {
    by_id: BTreeMap<u16, Weak<Association>>,
    last: u16,
}

impl Subsystem {
    /// A subsystem of this name, without namespaces yet.
    pub fn builder(nqn: Nqn) -> SubsystemBuilder {
        SubsystemBuilder {
            serial: SerialNumber::derived(&nqn),
            nqn,
            namespaces: Vec::new(),
            max_io_queues: limits::IO_QUEUES,
        }
    }

    /// The discovery subsystem: its controllers have no namespaces and no I/O queues.
    pub(crate) fn discovery() -> Arc<Self> {
        Self::new(SubsystemBuilder {
            serial: SerialNumber::derived(&Nqn::DISCOVERY),
            nqn: Nqn::DISCOVERY,
            namespaces: Vec::new(),
            max_io_queues: 0,
        })
    }

    fn new(builder: SubsystemBuilder) -> Arc<Self> {
        let SubsystemBuilder { nqn, serial, namespaces, max_io_queues } = builder;
        let mut namespaces: Vec<Namespace> = namespaces
            .into_iter()
            .map(|Proposed { nsid, backend, uuid }| {
                let uuid = uuid.unwrap_or_else(|| namespace_uuid(&nqn, &backend.location()));
                Namespace { nsid, backend, uuid, nguid: namespace_nguid(uuid) }
            })
            .collect();
        namespaces.sort_by_key(|ns| ns.nsid);
        Arc::new(Self {
            nqn,
            serial,
            namespaces,
            max_io_queues,
            started: Instant::now(),
            statistics: Statistics::default(),
            controllers: Mutex::default(),
        })
    }

    /// The name.
    pub fn nqn(&self) -> &Nqn {
        &self.nqn
    }

    /// The serial number.
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The namespaces, in ascending order of their identifiers.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// The namespace of this identifier.
    pub fn namespace(&self, nsid: u32) -> Option<&Namespace> {
        let at = self.namespaces.binary_search_by_key(&nsid, |ns| ns.nsid).ok()?;
        self.namespaces.get(at)
    }

    /// NN: the greatest namespace identifier that is valid.
    pub fn max_nsid(&self) -> u32 {
        self.namespaces.last().map_or(0, |ns| ns.nsid)
    }

    /// The most I/O queues that a controller grants.
    pub fn max_io_queues(&self) -> u16 {
        self.max_io_queues
    }

    /// Whether a write to some namespace can be lost before a Flush.
    pub fn volatile_write_cache(&self) -> bool {
        self.namespaces.iter().any(|ns| ns.backend.volatile_write_cache())
    }

    /// What the hosts did with the subsystem since it was made.
    pub fn statistics(&self) -> Snapshot {
        self.statistics.snapshot()
    }

    /// Makes durable what was written to any namespace. Flushes all of them even if one fails.
    ///
    /// # Errors
    ///
    /// The status of the first that failed, as a Flush command would be answered.
    pub fn flush(&self) -> Result<(), Status> {
        let mut result = Ok(());
        for ns in &self.namespaces {
            if let Err(error) = ns.backend.flush() {
                tracing::error!(nqn = %self.nqn, nsid = ns.nsid, %error, "flush failed");
                result = result.and(Err(storage_status(&error, true)));
            }
        }
        result
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn books(&self) -> &Statistics {
        &self.statistics
    }

    pub(crate) fn is_discovery(&self) -> bool {
        self.nqn.is_discovery()
    }

    /// The controllers there are now.
    pub(crate) fn controller_ids(&self) -> Vec<u16> {
        self.controllers().by_id.keys().copied().collect()
    }

    /// Makes a controller for a host that connects its admin queue.
    pub(crate) fn connect_admin(
        self: &Arc<Self>,
        request: &ConnectRequest,
    ) -> Result<Arc<Association>, Refusal> {
        let mut controllers = self.controllers();
        // Identifiers go round before one comes again, so that a host that lags behind does not
        // meet another's controller.
        let last = controllers.last;
        let cntlid = (last.saturating_add(1)..=ConnectData::CNTLID_MAX)
            .chain(1..=last.min(ConnectData::CNTLID_MAX))
            .find(|id| !controllers.by_id.contains_key(id))
            .ok_or(Refusal::Busy)?;
        let association = Arc::new(Association::new(
            cntlid,
            request.host.clone(),
            request.host_id,
            Arc::clone(self),
        ));
        controllers.by_id.insert(cntlid, Arc::downgrade(&association));
        controllers.last = cntlid;
        drop(controllers);
        self.statistics.connected(&request.host);
        Ok(association)
    }

    /// Finds the controller to which a host connects an I/O queue, if it is that host's own.
    pub(crate) fn find_controller(
        &self,
        cntlid: u16,
        request: &ConnectRequest,
    ) -> Result<Arc<Association>, Refusal> {
        let association =
            self.controllers().by_id.get(&cntlid).and_then(Weak::upgrade).ok_or_else(|| {
                let reason = format!("there is no controller {cntlid}");
                Refusal::data(ConnectData::OFFSET_CNTLID, reason)
            })?;
        if association.host_id() != request.host_id {
            let reason = "not the host identifier of the admin queue";
            return Err(Refusal::data(ConnectData::OFFSET_HOSTID, reason));
        }
        if *association.host() != request.host {
            let reason = "not the host NQN of the admin queue";
            return Err(Refusal::data(ConnectData::OFFSET_HOSTNQN, reason));
        }
        Ok(association)
    }

    /// An association is gone with all its queues: its identifier may be given out again.
    pub(crate) fn forget_controller(&self, cntlid: u16) {
        self.controllers().by_id.remove(&cntlid);
    }

    fn controllers(&self) -> MutexGuard<'_, Controllers> {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace whose identity may have yet to be derived.
#[derive(Debug)]
struct Proposed {
    nsid: u32,
    backend: Arc<dyn Backend>,
    uuid: Option<[u8; 16]>,
}

/// Collects what a [`Subsystem`] is made of.
#[derive(Debug)]
#[must_use]
pub struct SubsystemBuilder {
    nqn: Nqn,
    serial: SerialNumber,
    namespaces: Vec<Proposed>,
    max_io_queues: u16,
}

impl SubsystemBuilder {
    /// The serial number, where the one that follows from the name will not do.
    pub fn serial(mut self, serial: SerialNumber) -> Self {
        self.serial = serial;
        self
    }

    /// Adds a namespace whose UUID and NGUID follow from the subsystem's name and
    /// [`Backend::location`].
    pub fn namespace(mut self, nsid: u32, backend: Arc<dyn Backend>) -> Self {
        self.namespaces.push(Proposed { nsid, backend, uuid: None });
        self
    }

    /// Adds a namespace with this UUID, in the order it is written.
    pub fn namespace_with_uuid(
        mut self,
        nsid: u32,
        backend: Arc<dyn Backend>,
        uuid: [u8; 16],
    ) -> Self {
        self.namespaces.push(Proposed { nsid, backend, uuid: Some(uuid) });
        self
    }

    /// Opens what the spec says and adds it under the next free identifier.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`NamespaceSpec::open_as`].
    pub fn open(mut self, spec: &NamespaceSpec) -> Result<Self, OpenError> {
        let last = self.namespaces.iter().map(|ns| ns.nsid).max();
        let nsid = last.unwrap_or(0).saturating_add(1);
        let backend = Arc::from(spec.open_as(nsid)?);
        self.namespaces.push(Proposed { nsid, backend, uuid: spec.uuid });
        Ok(self)
    }

    /// The most I/O queues a controller grants, at least 1; each is a thread. 128 if not given.
    pub fn max_io_queues(mut self, queues: u16) -> Self {
        self.max_io_queues = queues.max(1);
        self
    }

    /// The subsystem.
    ///
    /// # Errors
    ///
    /// [`SubsystemError`] if names or identifiers clash.
    pub fn build(self) -> Result<Arc<Subsystem>, SubsystemError> {
        if self.nqn.is_discovery() {
            return Err(SubsystemError::DiscoveryName);
        }
        if let Some(wrong) = self.namespaces.iter().find(|ns| matches!(ns.nsid, 0 | NSID_ALL)) {
            return Err(SubsystemError::Nsid { nsid: wrong.nsid });
        }
        let subsystem = Subsystem::new(self);
        let namespaces = subsystem.namespaces();
        for (ns, next) in namespaces.iter().zip(namespaces.iter().skip(1)) {
            if ns.nsid == next.nsid {
                return Err(SubsystemError::NsidTwice { nsid: ns.nsid });
            }
        }
        for (i, ns) in namespaces.iter().enumerate() {
            if let Some(other) = namespaces[..i].iter().find(|other| other.uuid == ns.uuid) {
                return Err(SubsystemError::SameIdentity {
                    first: other.nsid,
                    second: ns.nsid,
                    location: ns.backend.location(),
                });
            }
        }
        Ok(subsystem)
    }
}

/// Why namespaces do not make a [`Subsystem`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubsystemError {
    /// The well-known discovery name belongs to the discovery subsystem that every target has.
    #[error("{} is the name of the discovery subsystem; choose another NQN", Nqn::DISCOVERY)]
    DiscoveryName,
    /// 0 and FFFFFFFFh are not identifiers of a namespace.
    #[error("{nsid:#x} is not a namespace identifier; use 1 to 0xfffffffe")]
    Nsid {
        /// The identifier.
        nsid: u32,
    },
    /// Two namespaces have the same identifier.
    #[error("there are two namespaces {nsid}")]
    NsidTwice {
        /// The identifier.
        nsid: u32,
    },
    /// Two namespaces have the same UUID, mostly because they are the same file: a host would
    /// take them for one disk, and its file systems for each other's.
    #[error(
        "namespaces {first} and {second} have the same UUID ({location}); serve it once, or give one a `uuid=` of its own"
    )]
    SameIdentity {
        /// The one.
        first: u32,
        /// The other.
        second: u32,
        /// Where the blocks of the other are.
        location: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NQN, nqn, request};

    fn spec(text: &str) -> NamespaceSpec {
        text.parse().unwrap()
    }

    fn build(specs: &[&str]) -> Arc<Subsystem> {
        let mut builder = Subsystem::builder(nqn(NQN));
        for text in specs {
            builder = builder.open(&spec(text)).unwrap();
        }
        builder.build().unwrap()
    }

    #[test]
    fn namespaces_are_numbered_in_their_order() {
        let subsystem = build(&["mem:1M", "null:1M"]);
        assert_eq!(subsystem.max_nsid(), 2);
        assert_eq!(subsystem.namespace(1).unwrap().backend().location(), "mem:1");
        assert_eq!(subsystem.namespace(2).unwrap().backend().location(), "null:2");
        assert!(subsystem.namespace(0).is_none() && subsystem.namespace(3).is_none());
    }

    #[test]
    fn identifiers_are_the_same_after_a_restart() {
        let (before, after) = (build(&["mem:1M", "null:1M"]), build(&["mem:1M", "null:1M"]));
        for (a, b) in before.namespaces().iter().zip(after.namespaces()) {
            assert_eq!((a.uuid(), a.nguid()), (b.uuid(), b.nguid()));
            assert_ne!(a.uuid(), a.nguid());
        }
        assert_ne!(before.namespaces()[0].uuid(), before.namespaces()[1].uuid());
        assert_eq!(before.serial(), after.serial());
    }

    #[test]
    fn a_configured_uuid_is_kept() {
        let subsystem = build(&["mem:1M,uuid=00112233-4455-6677-8899-aabbccddeeff"]);
        assert_eq!(subsystem.namespaces()[0].uuid()[..3], [0x00, 0x11, 0x22]);
        let backend = Arc::new(nvmf_storage::Null::new(
            nvmf_storage::Geometry::new(nvmf_storage::BlockSize::B512, 8).unwrap(),
        ));
        let subsystem =
            Subsystem::builder(nqn(NQN)).namespace_with_uuid(5, backend, [7; 16]).build().unwrap();
        let ns = subsystem.namespace(5).unwrap();
        assert_eq!(ns.uuid(), [7; 16]);
        assert_ne!(ns.nguid(), [7; 16]);
    }

    #[test]
    fn clashes_are_refused() {
        let backend = || Arc::from(spec("mem:1M").open().unwrap());
        let builder = || Subsystem::builder(nqn(NQN));
        let error = |builder: SubsystemBuilder| builder.build().unwrap_err();
        assert_eq!(error(Subsystem::builder(Nqn::DISCOVERY)), SubsystemError::DiscoveryName);
        for nsid in [0, NSID_ALL] {
            assert_eq!(error(builder().namespace(nsid, backend())), SubsystemError::Nsid { nsid });
        }
        let other = Arc::from(spec("null:1M").open().unwrap());
        assert_eq!(
            error(builder().namespace(7, backend()).namespace(7, other)),
            SubsystemError::NsidTwice { nsid: 7 }
        );
        assert_eq!(
            error(builder().namespace(1, backend()).namespace(2, backend())),
            SubsystemError::SameIdentity { first: 1, second: 2, location: "mem:1".into() }
        );
    }

    #[test]
    fn controllers_get_identifiers_that_no_live_one_has() {
        let subsystem = build(&["mem:1M"]);
        let one = subsystem.connect_admin(&request(1)).unwrap();
        let two = subsystem.connect_admin(&request(2)).unwrap();
        assert_eq!((one.cntlid(), two.cntlid()), (1, 2));
        drop(one);
        assert_eq!(subsystem.controller_ids(), [2]);
        assert_eq!(subsystem.connect_admin(&request(1)).unwrap().cntlid(), 3, "not 1 again");
        subsystem.controllers().last = ConnectData::CNTLID_MAX;
        assert_eq!(subsystem.connect_admin(&request(1)).unwrap().cntlid(), 1, "around");
        subsystem.controllers().last = 1;
        assert_eq!(subsystem.connect_admin(&request(1)).unwrap().cntlid(), 3, "2 lives");
    }

    #[test]
    fn without_a_free_identifier_the_subsystem_is_busy() {
        let subsystem = build(&["mem:1M"]);
        let all = (1..=ConnectData::CNTLID_MAX).map(|id| (id, Weak::new()));
        subsystem.controllers().by_id.extend(all);
        assert_eq!(subsystem.connect_admin(&request(1)).unwrap_err(), Refusal::Busy);
    }

    #[test]
    fn an_io_queue_finds_the_controller_of_its_own_host_only() {
        let subsystem = build(&["mem:1M"]);
        let association = subsystem.connect_admin(&request(1)).unwrap();
        assert!(subsystem.find_controller(1, &request(1)).is_ok());
        let offset = |cntlid, request: &ConnectRequest| match subsystem
            .find_controller(cntlid, request)
            .unwrap_err()
        {
            Refusal::Invalid { parameter, .. } => {
                assert!(parameter.in_data);
                parameter.offset
            }
            other => panic!("{other}"),
        };
        assert_eq!(offset(2, &request(1)), 16);
        assert_eq!(offset(1, &request(2)), 0);
        let mut other_name = request(1);
        other_name.host = nqn(&format!("{}x", association.host()));
        assert_eq!(offset(1, &other_name), 512);
    }
}
