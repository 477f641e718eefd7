//! Get Features and Set Features.

use std::time::Instant;

use nvme_spec::feature::{
    Arbitration, AsyncEventConfig, ErrorRecovery, GetFeatures, HOST_ID_EXTENDED, NumberOfQueues,
    PowerManagement, Select, SetFeatures, SupportedCapabilities, TemperatureThreshold,
    VolatileWriteCache, fid,
};
use nvme_spec::{Sqe, Status};

use super::{Controller, INVALID_FIELD, Outcome, Role, answer, check_length, success};
use crate::limits;

/// The values that are kept here; others belong to the association.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    arbitration: u32,
    workload_hint: u32,
    over_temperature: u16,
    under_temperature: u16,
    error_recovery: u32,
    write_atomicity: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            // 7: as many commands at once as there are.
            arbitration: Arbitration(0).with_burst(7).0,
            workload_hint: 0,
            over_temperature: u16::MAX,
            under_temperature: 0,
            error_recovery: 0,
            write_atomicity: 0,
        }
    }
}

impl Controller {
    /// Get Features.
    pub(super) fn features(&self, sqe: &Sqe, data_len: u32) -> Result<Outcome, Status> {
        let get = GetFeatures::from_cdw10(sqe.cdw(10)).ok_or(INVALID_FIELD)?;
        self.check_feature(get.fid)?;
        if get.select == Select::Supported {
            check_length(data_len, 0)?;
            let changeable = u8::from(get.fid != fid::HOST_IDENTIFIER);
            return Ok(answer(SupportedCapabilities(0).with_changeable(changeable).0));
        }
        if get.fid == fid::HOST_IDENTIFIER {
            // Over fabrics only the identifier of 128 bits exists.
            if sqe.cdw(11) & HOST_ID_EXTENDED == 0 {
                return Err(INVALID_FIELD);
            }
            check_length(data_len, 16)?;
            return Ok(Outcome::Data(self.association.host_id().as_bytes().to_vec()));
        }
        check_length(data_len, 0)?;
        match get.select {
            Select::Current => self.feature(get.fid, sqe.cdw(11), &self.features),
            // Nothing is saved, so the default is what would come back.
            _ => self.default_feature(get.fid, sqe.cdw(11)),
        }
        .map(answer)
    }

    /// Set Features.
    pub(super) fn set_features(&mut self, sqe: &Sqe, now: Instant) -> Result<Outcome, Status> {
        let set = SetFeatures::from_cdw10(sqe.cdw(10));
        self.check_feature(set.fid)?;
        if set.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr(true));
        }
        let value = sqe.cdw(11);
        match set.fid {
            fid::ARBITRATION => self.features.arbitration = value,
            fid::POWER_MANAGEMENT => {
                // There is one power state.
                if PowerManagement(value).power_state() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.features.workload_hint = value;
            }
            fid::TEMPERATURE_THRESHOLD => self.set_temperature(TemperatureThreshold(value))?,
            fid::ERROR_RECOVERY => {
                if ErrorRecovery(value).deallocated_error() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.features.error_recovery = value;
            }
            fid::VOLATILE_WRITE_CACHE => return self.set_write_cache(VolatileWriteCache(value)),
            fid::NUMBER_OF_QUEUES => return self.set_number_of_queues(value),
            fid::WRITE_ATOMICITY => self.features.write_atomicity = value & 1,
            fid::ASYNC_EVENT_CONFIG => {
                if value & !self.async_events() != 0 {
                    return Err(INVALID_FIELD);
                }
                self.association.events().configure(value);
            }
            fid::KEEP_ALIVE_TIMER => {
                self.watch.set_timeout(value, limits::KEEP_ALIVE_GRANULARITY, now);
            }
            // The Connect command told the host identifier; it stays.
            fid::HOST_IDENTIFIER => return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr(true)),
            _ => return Err(INVALID_FIELD),
        }
        Ok(success())
    }

    /// Whether there is such a feature.
    fn check_feature(&self, feature: u8) -> Result<(), Status> {
        let known = match feature {
            fid::ASYNC_EVENT_CONFIG | fid::KEEP_ALIVE_TIMER => true,
            fid::ARBITRATION
            | fid::POWER_MANAGEMENT
            | fid::TEMPERATURE_THRESHOLD
            | fid::ERROR_RECOVERY
            | fid::NUMBER_OF_QUEUES
            | fid::WRITE_ATOMICITY
            | fid::VOLATILE_WRITE_CACHE
            | fid::HOST_IDENTIFIER => matches!(self.role, Role::Io),
            _ => false,
        };
        if known { Ok(()) } else { Err(INVALID_FIELD) }
    }

    /// The value in effect, where the kept ones are `kept`.
    fn feature(&self, feature: u8, cdw11: u32, kept: &Features) -> Result<u32, Status> {
        Ok(match feature {
            fid::ARBITRATION => kept.arbitration,
            fid::POWER_MANAGEMENT => kept.workload_hint,
            fid::TEMPERATURE_THRESHOLD => {
                let asked = TemperatureThreshold(cdw11);
                match (asked.sensor(), asked.kind()) {
                    (0, 0) => kept.over_temperature.into(),
                    (0, 1) => kept.under_temperature.into(),
                    _ => return Err(INVALID_FIELD),
                }
            }
            fid::ERROR_RECOVERY => kept.error_recovery,
            fid::WRITE_ATOMICITY => kept.write_atomicity,
            fid::ASYNC_EVENT_CONFIG => self.association.events().config(),
            fid::VOLATILE_WRITE_CACHE => self.association.write_cache().into(),
            fid::NUMBER_OF_QUEUES => NumberOfQueues::pairs(self.association.granted()).to_dword(),
            fid::KEEP_ALIVE_TIMER => self
                .watch
                .timeout()
                .map_or(0, |timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)),
            _ => return Err(INVALID_FIELD),
        })
    }

    fn default_feature(&self, feature: u8, cdw11: u32) -> Result<u32, Status> {
        Ok(match feature {
            fid::VOLATILE_WRITE_CACHE => 1,
            fid::ASYNC_EVENT_CONFIG => 0,
            fid::NUMBER_OF_QUEUES => {
                NumberOfQueues::pairs(self.association.subsystem().max_io_queues()).to_dword()
            }
            fid::KEEP_ALIVE_TIMER => 0,
            _ => return self.feature(feature, cdw11, &Features::default()),
        })
    }

    fn set_temperature(&mut self, value: TemperatureThreshold) -> Result<(), Status> {
        // Only the composite temperature exists; Fh means all there are.
        let threshold = match (value.sensor(), value.kind()) {
            (0 | 0xf, 0) => &mut self.features.over_temperature,
            (0 | 0xf, 1) => &mut self.features.under_temperature,
            _ => return Err(INVALID_FIELD),
        };
        *threshold = value.threshold();
        Ok(())
    }

    fn set_write_cache(&self, value: VolatileWriteCache) -> Result<Outcome, Status> {
        let on = value.enabled() != 0;
        self.association.set_write_cache(on);
        if !on {
            // What the cache holds must not be lost by a host that takes it for switched off.
            self.association.subsystem().flush()?;
        }
        Ok(success())
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
