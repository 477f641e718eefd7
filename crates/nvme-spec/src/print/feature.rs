//! Values of features and asynchronous events.

use super::identify::Celsius;
use super::{FieldSink, Fields, debug_as_line, give};
use crate::event::Event;
use crate::feature::{
    Arbitration, AsyncEventConfig, ErrorRecovery, HostBehaviorSupport, KeepAliveTimer,
    NumberOfQueues, PowerManagement, ReservationNotificationMask, ReservationPersistence,
    SupportedCapabilities, TemperatureThreshold, Timestamp, VolatileWriteCache, WriteAtomicity,
};
use crate::log;

debug_as_line! {
    Arbitration, AsyncEventConfig, ErrorRecovery, HostBehaviorSupport, KeepAliveTimer,
    NumberOfQueues, PowerManagement, ReservationNotificationMask, ReservationPersistence,
    SupportedCapabilities, TemperatureThreshold, Timestamp, VolatileWriteCache, WriteAtomicity,
}

impl Fields for Arbitration {
    fn fields(&self, out: &mut dyn FieldSink) {
        match self.burst() {
            7 => out.number_as("ab", 7u8, "no limit"),
            burst => out.number_as("ab", burst, format_args!("{} commands", 1 << burst)),
        }
        out.number("lpw", self.low());
        out.number("mpw", self.medium());
        out.number("hpw", self.high());
    }
}

impl Fields for PowerManagement {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("ps", self.power_state());
        out.number("wh", self.workload_hint());
    }
}

impl Fields for TemperatureThreshold {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number_as("tmpth", self.threshold(), Celsius(self.threshold()));
        out.number("tmpsel", self.sensor());
        out.number_as(
            "thsel",
            self.kind(),
            match self.kind() {
                0 => "over",
                1 => "under",
                _ => "reserved",
            },
        );
        out.number("tmpthh", self.hysteresis());
    }
}

impl Fields for ErrorRecovery {
    fn fields(&self, out: &mut dyn FieldSink) {
        let limit = u32::from(self.time_limit()) * 100;
        out.number_as("tler", self.time_limit(), format_args!("{limit} ms"));
        out.number("dulbe", self.deallocated_error());
    }
}

impl Fields for VolatileWriteCache {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("wce", self.enabled());
    }
}

impl Fields for WriteAtomicity {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("dn", self.disable_normal());
    }
}

impl Fields for KeepAliveTimer {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number_as("kato", self.0, "ms");
    }
}

impl Fields for AsyncEventConfig {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.bits(
            "aec",
            self.0,
            &[
                (0, "available spare"),
                (1, "temperature"),
                (2, "reliability"),
                (3, "read-only"),
                (4, "volatile memory backup"),
                (5, "persistent memory region"),
                (8, "namespace attribute"),
                (9, "firmware activation"),
                (10, "telemetry log"),
                (11, "ANA change"),
                (12, "predictable latency"),
                (13, "LBA status"),
                (14, "endurance group"),
                (15, "normal shutdown"),
                (27, "zone descriptor"),
                (31, "discovery log page"),
            ],
        );
    }
}

impl Fields for NumberOfQueues {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("submission", self.submission);
        out.number("completion", self.completion);
    }
}

impl Fields for SupportedCapabilities {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("saveable", self.saveable());
        out.number("namespace_specific", self.namespace_specific());
        out.number("changeable", self.changeable());
    }
}

impl Fields for ReservationNotificationMask {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("regpre", self.registration_preempted());
        out.number("resrel", self.reservation_released());
        out.number("respre", self.reservation_preempted());
    }
}

impl Fields for ReservationPersistence {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("ptpl", self.ptpl());
    }
}

impl Fields for Timestamp {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number_as("timestamp", self.milliseconds(), "ms since 1970");
        out.flag("set_by_host", self.set_by_host());
        out.flag("stopped", self.attributes & 1 != 0);
    }
}

impl Fields for HostBehaviorSupport {
    fn fields(&self, out: &mut dyn FieldSink) {
        give!(out, self; number: acre, etdas, lbafee, hdisns);
        out.bits("cdfe", self.cdfe, &[(2, "format 2h"), (3, "format 3h"), (4, "format 4h")]);
    }
}

impl Fields for Event {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.number("type", self.kind);
        out.hex_as("info", self.info, self.name());
        out.hex_as("lid", self.lid, log::name(self.lid));
    }
}
