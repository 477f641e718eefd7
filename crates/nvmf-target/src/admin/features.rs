//! Get Features and Set Features.

use std::sync::Arc;
use std::time::Instant;

use nvme_spec::feature::{
    Arbitration, AsyncEventConfig, ErrorRecovery, GetFeatures, HOST_ID_EXTENDED,
    HostBehaviorSupport, NumberOfQueues, PowerManagement, ReservationNotificationMask,
    ReservationPersistence, Select, SetFeatures, SupportedCapabilities, TemperatureThreshold,
    Timestamp, VolatileWriteCache, fid,
};
use nvme_spec::identify::NSID_ALL;
use nvme_spec::log::FeatureEffects;
use nvme_spec::{Cqe, Sqe, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Chore, Controller, Data, INVALID_FIELD, INVALID_NAMESPACE, Outcome, Role, answer, check_length,
    success,
};
use crate::limits;
use crate::subsystem::Namespace;

/// A feature that there is.
#[derive(Clone, Copy, Debug)]
struct Feature {
    fid: u8,
    scope: Scope,
    /// Whether Set Features can change it.
    changeable: bool,
    /// The length of its value where that is data and no dword, in bytes.
    data: u32,
    /// Whether discovery controllers have it too.
    discovery: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// The controller has one value.
    Controller,
    /// Each namespace has a value.
    Namespace,
}

impl Feature {
    const fn new(fid: u8) -> Self {
        Self { fid, scope: Scope::Controller, changeable: true, data: 0, discovery: false }
    }
}

/// The features that there are.
const FEATURES: [Feature; 15] = [
    Feature::new(fid::ARBITRATION),
    Feature::new(fid::POWER_MANAGEMENT),
    Feature::new(fid::TEMPERATURE_THRESHOLD),
    Feature::new(fid::ERROR_RECOVERY),
    Feature::new(fid::VOLATILE_WRITE_CACHE),
    Feature::new(fid::NUMBER_OF_QUEUES),
    Feature::new(fid::WRITE_ATOMICITY),
    Feature { discovery: true, ..Feature::new(fid::ASYNC_EVENT_CONFIG) },
    Feature { data: 8, ..Feature::new(fid::TIMESTAMP) },
    Feature { discovery: true, ..Feature::new(fid::KEEP_ALIVE_TIMER) },
    Feature { data: 512, ..Feature::new(fid::HOST_BEHAVIOR_SUPPORT) },
    Feature { changeable: false, data: 16, ..Feature::new(fid::HOST_IDENTIFIER) },
    Feature { scope: Scope::Namespace, ..Feature::new(fid::RESERVATION_MASK) },
    Feature { scope: Scope::Namespace, ..Feature::new(fid::RESERVATION_PERSISTENCE) },
    Feature { scope: Scope::Namespace, ..Feature::new(fid::WRITE_PROTECTION) },
];

/// Bits of values that mean something; the others are reserved, are not looked at and read as 0.
const ARBITRATION_BITS: u32 = 0xffff_ff07;
const POWER_MANAGEMENT_BITS: u32 = 0xff;
const TIME_LIMIT_BITS: u32 = 0xffff;
const MASK_BITS: u32 = 0b1110;

/// Namespace Write Protection Config, bits 2:0: the states there are (NWPC).
const NO_WRITE_PROTECT: u32 = 0;
const WRITE_PROTECT: u32 = 1;

/// The values that are kept here; others belong to the association and its namespaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    arbitration: u32,
    workload_hint: u32,
    over_temperature: u16,
    under_temperature: u16,
    error_recovery: u32,
    write_atomicity: u32,
    clock: Clock,
    host_behavior: HostBehaviorSupport,
}

/// The Timestamp feature: a time, and when it was that time.
#[derive(Clone, Copy, Debug)]
struct Clock {
    milliseconds: u64,
    at: Instant,
    set_by_host: bool,
}

/// The value of a feature.
#[derive(Debug)]
enum Value {
    Dword(u32),
    Data(Vec<u8>),
}

impl Features {
    /// What they are after a reset.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            // 7: as many commands at once as there are.
            arbitration: Arbitration(0).with_burst(7).0,
            workload_hint: 0,
            over_temperature: u16::MAX,
            under_temperature: 0,
            error_recovery: 0,
            write_atomicity: 0,
            clock: Clock { milliseconds: 0, at: now, set_by_host: false },
            host_behavior: HostBehaviorSupport::default(),
        }
    }

    /// The threshold that a value of the feature is for.
    fn temperature(&mut self, value: TemperatureThreshold) -> Result<&mut u16, Status> {
        // Only the composite temperature exists; Fh means all there are.
        match (value.sensor(), value.kind()) {
            (0 | 0xf, 0) => Ok(&mut self.over_temperature),
            (0 | 0xf, 1) => Ok(&mut self.under_temperature),
            _ => Err(INVALID_FIELD),
        }
    }
}

impl Clock {
    fn timestamp(&self, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        // Bits 3:1, the origin: 0 a reset, 1 a host.
        let attributes = u8::from(self.set_by_host) << 1;
        Timestamp { attributes, ..Timestamp::new(self.milliseconds.saturating_add(passed)) }
    }
}

impl Controller {
    /// Get Features.
    pub(super) fn features(
        &self,
        sqe: &Sqe,
        data_len: u32,
        now: Instant,
    ) -> Result<Outcome, Status> {
        let get = GetFeatures::from_cdw10(sqe.cdw(10)).ok_or(INVALID_FIELD)?;
        let feature = self.known_feature(get.fid)?;
        if get.select == Select::Supported {
            check_length(data_len, 0)?;
            let capabilities = SupportedCapabilities(0)
                .with_changeable(feature.changeable.into())
                .with_namespace_specific((feature.scope == Scope::Namespace).into());
            return Ok(answer(capabilities.0));
        }
        let nsid = sqe.nsid.get();
        match feature.scope {
            Scope::Namespace => drop(self.active(nsid)?),
            // Of any namespace it is the controller's.
            Scope::Controller if matches!(nsid, 0 | NSID_ALL) => {}
            Scope::Controller => drop(self.valid_namespace(nsid)?),
        }
        let cdw11 = sqe.cdw(11);
        // Over fabrics only the identifier of 128 bits exists.
        if get.fid == fid::HOST_IDENTIFIER && cdw11 & HOST_ID_EXTENDED == 0 {
            return Err(INVALID_FIELD);
        }
        check_length(data_len, feature.data)?;
        let value = match get.select {
            Select::Current => self.feature(get.fid, cdw11, nsid, &self.features, now)?,
            // Nothing is saved, so the default is what would come back.
            _ => self.default_feature(get.fid, cdw11, nsid, now)?,
        };
        Ok(match value {
            Value::Dword(dword) => answer(dword),
            Value::Data(data) => Outcome::Data(data),
        })
    }

    /// Set Features.
    pub(super) fn set_features(
        &mut self,
        sqe: &Sqe,
        data: Data<'_>,
        now: Instant,
    ) -> Result<Outcome, Status> {
        let set = SetFeatures::from_cdw10(sqe.cdw(10));
        let feature = self.known_feature(set.fid)?;
        if set.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr(true));
        }
        let nsids = self.namespaces_to_set(feature.scope, sqe.nsid.get())?;
        if set.fid == fid::HOST_IDENTIFIER {
            // The Connect command told it; it stays.
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr(true));
        }
        check_length(data.length(), feature.data)?;
        let data = match data {
            Data::AtHost(0) => &[],
            Data::AtHost(length) => return Ok(Outcome::Receive(length)),
            Data::Here(data) => data,
        };
        let value = sqe.cdw(11);
        match set.fid {
            fid::ARBITRATION => self.features.arbitration = value & ARBITRATION_BITS,
            fid::POWER_MANAGEMENT => {
                // There is one power state.
                if PowerManagement(value).power_state() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.features.workload_hint = value & POWER_MANAGEMENT_BITS;
            }
            fid::TEMPERATURE_THRESHOLD => {
                let value = TemperatureThreshold(value);
                *self.features.temperature(value)? = value.threshold();
            }
            fid::ERROR_RECOVERY => {
                if ErrorRecovery(value).deallocated_error() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.features.error_recovery = value & TIME_LIMIT_BITS;
            }
            fid::VOLATILE_WRITE_CACHE => return Ok(self.set_write_cache(value)),
            fid::NUMBER_OF_QUEUES => return self.set_number_of_queues(value),
            fid::WRITE_ATOMICITY => self.features.write_atomicity = value & 1,
            fid::ASYNC_EVENT_CONFIG => {
                if value & !self.async_events() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.association.events().configure(value);
            }
            fid::TIMESTAMP => {
                let timestamp = Timestamp::read_from_bytes(data).map_err(|_| INVALID_FIELD)?;
                let milliseconds = timestamp.milliseconds();
                self.features.clock = Clock { milliseconds, at: now, set_by_host: true };
            }
            fid::KEEP_ALIVE_TIMER => {
                self.watch.set_timeout(value, limits::KEEP_ALIVE_GRANULARITY, now);
            }
            fid::HOST_BEHAVIOR_SUPPORT => self.set_host_behavior(data)?,
            fid::RESERVATION_MASK => {
                let mask = ReservationNotificationMask(value & MASK_BITS);
                nsids.iter().for_each(|nsid| self.association.set_reservation_mask(*nsid, mask));
            }
            fid::RESERVATION_PERSISTENCE => {
                let all = sqe.nsid.get() == NSID_ALL;
                return self.set_reservation_persistence(&nsids, all, value);
            }
            fid::WRITE_PROTECTION => return write_protection(nsids, value),
            _ => return Err(INVALID_FIELD),
        }
        Ok(success())
    }

    /// The Feature Identifiers Supported and Effects log page.
    pub(super) fn feature_effects(&self) -> FeatureEffects {
        let mut log = FeatureEffects::default();
        for feature in self.known_features() {
            let scope = match feature.scope {
                Scope::Controller => FeatureEffects::SCOPE_CONTROLLER,
                Scope::Namespace => FeatureEffects::SCOPE_NAMESPACE,
            };
            let effects = match feature.fid {
                fid::WRITE_PROTECTION => FeatureEffects::CHANGES_NAMESPACE,
                _ => 0,
            };
            log.set(feature.fid, scope | effects);
        }
        log
    }

    fn known_features(&self) -> impl Iterator<Item = &'static Feature> {
        let all = matches!(self.role, Role::Io);
        FEATURES.iter().filter(move |feature| all || feature.discovery)
    }

    fn known_feature(&self, fid: u8) -> Result<&'static Feature, Status> {
        self.known_features().find(|feature| feature.fid == fid).ok_or(INVALID_FIELD)
    }

    /// The namespaces whose value of a feature is to be set; none if the controller's is.
    fn namespaces_to_set(&self, scope: Scope, nsid: u32) -> Result<Vec<u32>, Status> {
        match (scope, nsid) {
            (Scope::Controller, 0 | NSID_ALL) => Ok(Vec::new()),
            (Scope::Controller, _) => {
                self.valid_namespace(nsid)?;
                Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.with_dnr(true))
            }
            (Scope::Namespace, NSID_ALL) => {
                Ok(self.association.view().namespaces().iter().map(|ns| ns.nsid()).collect())
            }
            (Scope::Namespace, _) => self.active(nsid).map(|_| vec![nsid]),
        }
    }

    /// Whether there is a namespace of this identifier.
    fn active(&self, nsid: u32) -> Result<(), Status> {
        match self.valid_namespace(nsid)? {
            Some(_) => Ok(()),
            None => Err(INVALID_FIELD),
        }
    }

    /// The value in effect, where the kept ones are `kept`.
    fn feature(
        &self,
        feature: u8,
        cdw11: u32,
        nsid: u32,
        kept: &Features,
        now: Instant,
    ) -> Result<Value, Status> {
        Ok(Value::Dword(match feature {
            fid::ARBITRATION => kept.arbitration,
            fid::POWER_MANAGEMENT => kept.workload_hint,
            fid::TEMPERATURE_THRESHOLD => {
                let asked = TemperatureThreshold(cdw11);
                if asked.sensor() != 0 {
                    return Err(INVALID_FIELD);
                }
                let mut kept = *kept;
                (*kept.temperature(asked)?).into()
            }
            fid::ERROR_RECOVERY => kept.error_recovery,
            fid::VOLATILE_WRITE_CACHE => self.association.write_cache().into(),
            fid::NUMBER_OF_QUEUES => NumberOfQueues::pairs(self.association.granted()).to_dword(),
            fid::WRITE_ATOMICITY => kept.write_atomicity,
            fid::ASYNC_EVENT_CONFIG => self.association.events().config(),
            fid::TIMESTAMP => return Ok(Value::Data(kept.clock.timestamp(now).as_bytes().into())),
            fid::KEEP_ALIVE_TIMER => self
                .watch
                .timeout()
                .map_or(0, |timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)),
            fid::HOST_BEHAVIOR_SUPPORT => {
                return Ok(Value::Data(kept.host_behavior.as_bytes().into()));
            }
            fid::HOST_IDENTIFIER => {
                return Ok(Value::Data(self.association.host_id().as_bytes().to_vec()));
            }
            fid::RESERVATION_MASK => self.association.reservation_mask(nsid).0,
            fid::RESERVATION_PERSISTENCE => {
                self.persistable(nsid)?.reservations().persistence().into()
            }
            fid::WRITE_PROTECTION => self.namespace(nsid)?.is_protected_by_host().into(),
            _ => return Err(INVALID_FIELD),
        }))
    }

    fn default_feature(
        &self,
        feature: u8,
        cdw11: u32,
        nsid: u32,
        now: Instant,
    ) -> Result<Value, Status> {
        Ok(Value::Dword(match feature {
            fid::VOLATILE_WRITE_CACHE => 1,
            fid::NUMBER_OF_QUEUES => {
                NumberOfQueues::pairs(self.association.subsystem().max_io_queues()).to_dword()
            }
            fid::ASYNC_EVENT_CONFIG | fid::KEEP_ALIVE_TIMER | fid::RESERVATION_MASK => 0,
            fid::RESERVATION_PERSISTENCE => self.persistable(nsid).map(|_| 0)?,
            fid::WRITE_PROTECTION => NO_WRITE_PROTECT,
            _ => return self.feature(feature, cdw11, nsid, &Features::new(now), now),
        }))
    }

    fn set_write_cache(&self, value: u32) -> Outcome {
        let on = VolatileWriteCache(value).enabled() != 0;
        self.association.set_write_cache(on);
        if on {
            return success();
        }
        // What the cache holds must not be lost by a host that takes it for switched off.
        chore(Chore::Flush)
    }

    fn set_number_of_queues(&self, value: u32) -> Result<Outcome, Status> {
        let asked = NumberOfQueues::from_request(value).ok_or(INVALID_FIELD)?;
        // Queues come in pairs, and there are as many pairs as the scarcer of the two.
        let granted = self
            .association
            .grant(asked.submission.min(asked.completion))
            .ok_or(Status::COMMAND_SEQUENCE_ERROR.with_dnr(true))?;
        Ok(answer(NumberOfQueues::pairs(granted).to_dword()))
    }

    fn set_host_behavior(&mut self, data: &[u8]) -> Result<(), Status> {
        let asked = HostBehaviorSupport::read_from_bytes(data).map_err(|_| INVALID_FIELD)?;
        let switches = [asked.acre, asked.etdas, asked.lbafee, asked.hdisns];
        // A format of Copy can be switched on if there is one; 0h and 1h always are.
        let copy_formats = self.identify_controller().ocfs.get() & !0b11;
        if switches.iter().any(|switch| *switch > 1) || asked.cdfe.get() & !copy_formats != 0 {
            return Err(INVALID_FIELD);
        }
        // What is reserved is not looked at, and reads as 0.
        self.features.host_behavior = HostBehaviorSupport { reserved: [0; 506], ..asked };
        Ok(())
    }

    /// Where nothing can be saved the feature is not there: of all namespaces those are passed over,
    /// and one that is named is refused (Base 2.1, section 5.1.25.1), as Reservation Register
    /// with CPTPL refuses it.
    fn set_reservation_persistence(
        &self,
        nsids: &[u32],
        all: bool,
        value: u32,
    ) -> Result<Outcome, Status> {
        let mut lasting = Vec::new();
        for nsid in nsids {
            match self.persistable(*nsid) {
                Ok(_) => lasting.push(*nsid),
                Err(_) if all => {}
                Err(status) => return Err(status),
            }
        }
        let on = ReservationPersistence(value).ptpl() != 0;
        Ok(chore(Chore::PersistReservations { nsids: lasting, on }))
    }

    /// A namespace whose reservations can outlast a restart.
    fn persistable(&self, nsid: u32) -> Result<Arc<Namespace>, Status> {
        let ns = self.namespace(nsid)?;
        if ns.reservations().can_persist() { Ok(ns) } else { Err(INVALID_FIELD) }
    }

    /// A namespace that the host sees.
    fn namespace(&self, nsid: u32) -> Result<Arc<Namespace>, Status> {
        let view = self.association.view();
        view.get(nsid).map(|ns| Arc::clone(&ns.namespace)).ok_or(INVALID_NAMESPACE)
    }

    /// The events that can be asked for.
    fn async_events(&self) -> u32 {
        const CRITICAL_WARNINGS: u32 = 0xff;
        match self.role {
            Role::Io => {
                CRITICAL_WARNINGS
                    | AsyncEventConfig::NAMESPACE_ATTRIBUTE
                    | AsyncEventConfig::ANA_CHANGE
            }
            Role::Discovery(_) => AsyncEventConfig::DISCOVERY_LOG,
        }
    }
}

fn write_protection(nsids: Vec<u32>, value: u32) -> Result<Outcome, Status> {
    let on = match value & 0x7 {
        NO_WRITE_PROTECT => false,
        WRITE_PROTECT => true,
        // Those that need more than NWPC offers.
        _ => return Err(INVALID_FIELD),
    };
    Ok(chore(Chore::Protect { nsids, on }))
}

/// Answers with success once this is done.
fn chore(chore: Chore) -> Outcome {
    Outcome::Chore(chore, Cqe::new(0, Status::SUCCESS))
}

// The mask has a bit for each kind of notification.
const _: () = assert!(
    ReservationNotificationMask(0)
        .with_registration_preempted(1)
        .with_reservation_released(1)
        .with_reservation_preempted(1)
        .0
        == MASK_BITS
);
