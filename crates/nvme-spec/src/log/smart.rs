//! SMART / Health Information log page (LID 02h; Base 2.1, section 5.1.12).

use zerocopy::little_endian::{U16, U32, U128};

use crate::wire::wire;

wire! {
    /// SMART / Health Information log page. Counters stop at their greatest value.
    pub struct SmartLog: 512 bytes {
        /// Critical Warning (`WARNING_*`).
        0 => critical_warning: u8,
        /// Composite Temperature, in kelvins.
        1 => temperature: U16,
        /// Available Spare, in percent.
        3 => avail_spare: u8,
        /// Available Spare Threshold, in percent.
        4 => spare_thresh: u8,
        /// Percentage Used, up to 255.
        5 => percent_used: u8,
        /// Endurance Group Critical Warning Summary.
        6 => endurance_grp_critical_warning_summary: u8,
        /// Reserved.
        7 => reserved1: [u8; 25],
        /// Data Units Read, in units of 512,000 bytes, rounded up.
        32 => data_units_read: U128,
        /// Data Units Written, in units of 512,000 bytes, rounded up.
        48 => data_units_written: U128,
        /// Host Read Commands.
        64 => host_read_commands: U128,
        /// Host Write Commands.
        80 => host_write_commands: U128,
        /// Controller Busy Time, in minutes.
        96 => controller_busy_time: U128,
        /// Power Cycles.
        112 => power_cycles: U128,
        /// Power On Hours.
        128 => power_on_hours: U128,
        /// Unsafe Shutdowns.
        144 => unsafe_shutdowns: U128,
        /// Media and Data Integrity Errors.
        160 => media_errors: U128,
        /// Number of Error Information Log Entries, over the life of the controller.
        176 => num_err_log_entries: U128,
        /// Warning Composite Temperature Time, in minutes.
        192 => warning_temp_time: U32,
        /// Critical Composite Temperature Time, in minutes.
        196 => critical_comp_time: U32,
        /// Temperature Sensors 1 to 8, in kelvins; 0: no such sensor.
        200 => temperature_sensors: [U16; 8],
        /// Thermal Management Temperature 1 Transition Count.
        216 => thm_temp1_trans_count: U32,
        /// Thermal Management Temperature 2 Transition Count.
        220 => thm_temp2_trans_count: U32,
        /// Total Time For Thermal Management Temperature 1, in seconds.
        224 => thm_temp1_total_time: U32,
        /// Total Time For Thermal Management Temperature 2, in seconds.
        228 => thm_temp2_total_time: U32,
        /// Reserved.
        232 => reserved2: [u8; 280],
    }
}

impl SmartLog {
    /// Available spare fell below its threshold.
    pub const WARNING_SPARE: u8 = 1 << 0;
    /// A temperature is beyond its threshold.
    pub const WARNING_TEMPERATURE: u8 = 1 << 1;
    /// The subsystem's reliability is degraded.
    pub const WARNING_RELIABILITY: u8 = 1 << 2;
    /// All media have become read-only.
    pub const WARNING_READ_ONLY: u8 = 1 << 3;
    /// The volatile memory backup failed.
    pub const WARNING_BACKUP: u8 = 1 << 4;
    /// The persistent memory region has become read-only or unreliable.
    pub const WARNING_PMR: u8 = 1 << 5;

    /// How many data units these bytes are: units of 512,000 bytes, rounded up.
    pub const fn data_units(bytes: u128) -> u128 {
        bytes.div_ceil(512_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn counters_lie_where_the_specification_puts_them() {
        let mut log = SmartLog { critical_warning: 1, avail_spare: 100, ..Default::default() };
        log.temperature.set(300);
        log.data_units_read.set(u128::MAX - 1);
        log.num_err_log_entries.set(7);
        log.temperature_sensors[7].set(0x0102);
        let bytes = log.as_bytes();
        assert_eq!(bytes[..4], [1, 0x2c, 1, 100]);
        assert_eq!(bytes[32..34], [0xfe, 0xff]);
        assert_eq!(bytes[47..49], [0xff, 0]);
        assert_eq!(bytes[176..178], [7, 0]);
        assert_eq!(bytes[214..216], [2, 1]);
    }

    #[test]
    fn data_units_round_up() {
        assert_eq!(SmartLog::data_units(0), 0);
        assert_eq!(SmartLog::data_units(1), 1);
        assert_eq!(SmartLog::data_units(512_000), 1);
        assert_eq!(SmartLog::data_units(512_001), 2);
        assert!(SmartLog::data_units(u128::MAX) > 0);
    }
}
