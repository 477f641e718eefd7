//! What load generators print.

use nvmf_benches::report::{LatencyUs, Part, Report};

use crate::plan::Format;

/// Reads a load generator's standard output.
pub(crate) fn parse(format: Format, text: &str) -> Result<Report, String> {
    let report = match format {
        Format::Nvmf | Format::Raw => {
            serde_json::from_str(text).map_err(|e| format!("not a report in JSON: {e}"))?
        }
        Format::Spdk => spdk(text)?,
    };
    let Report { total, errors, mismatches, .. } = &report;
    if *errors > 0 || *mismatches > 0 {
        return Err(format!("{errors} I/Os failed, {mismatches} had wrong data"));
    }
    if total.iops.is_nan() || total.iops <= 0.0 {
        return Err("not a single I/O was done".to_owned());
    }
    Ok(report)
}

/// The line of totals and, by `-L`, the table of percentiles of `spdk_nvme_perf`.
fn spdk(text: &str) -> Result<Report, String> {
    let total = text
        .lines()
        .find(|line| line.starts_with("Total "))
        .and_then(|line| line.split_once(':'))
        .ok_or("no line of totals")?;
    let columns: Vec<f64> =
        total.1.split_ascii_whitespace().filter_map(|column| column.parse().ok()).collect();
    let &[iops, mib_per_second, mean, min, max] = columns.as_slice() else {
        return Err(format!("the line of totals has other columns than five: {}", total.1.trim()));
    };
    let percentile = |wanted: f64| spdk_percentile(text, wanted);
    Ok(Report {
        total: Part {
            ios: 0,
            iops,
            bytes_per_second: mib_per_second * f64::from(1 << 20),
            latency_us: LatencyUs {
                mean,
                min,
                p50: percentile(50.0)?,
                p90: percentile(90.0)?,
                p99: percentile(99.0)?,
                p99_9: percentile(99.9)?,
                p99_99: percentile(99.99)?,
                max,
            },
        },
        ..Report::default()
    })
}

/// The largest value of a percentile: there is a table for each core and namespace.
fn spdk_percentile(text: &str, wanted: f64) -> Result<f64, String> {
    text.lines()
        .filter_map(|line| {
            let (percent, value) = line.split_once('%')?;
            let percent: f64 = percent.trim().parse().ok()?;
            let value = value.trim().strip_prefix(':')?.trim().strip_suffix("us")?;
            ((percent - wanted).abs() < 1e-6).then_some(value.parse::<f64>().ok()?)
        })
        .reduce(f64::max)
        .ok_or_else(|| format!("no percentile {wanted}; is it run with -L?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPDK: &str = "\
Initializing NVMe Controllers
Attached to NVMeoF Controller at TCP (addr:127.0.0.1 subnqn:nqn.2016-06.io.spdk:cnode1)
Initialization complete. Launching workers.
========================================================
                                                                       Latency(us)
Device Information                       :       IOPS      MiB/s    Average        min        max
TCP (addr:127.0.0.1) NSID 1 from core  1:  293856.00    1147.88     108.88      70.95    2729.78
========================================================
Total                                    :  293856.00    1147.88     108.88      70.95    2729.78

Summary latency data for TCP (addr:127.0.0.1 subnqn:nqn.2016-06.io.s from core 1:
=================================================================================
  1.00000% :    75.338us
 50.00000% :   100.582us
 90.00000% :   156.986us
 99.00000% :   203.530us
 99.90000% :   255.596us
 99.99000% :  1956.412us
 99.99999% :  2738.976us
";

    #[test]
    fn the_table_of_spdk_is_read() {
        let total = parse(Format::Spdk, SPDK).unwrap().total;
        assert_eq!(total.iops, 293_856.0);
        assert_eq!(total.bytes_per_second.round(), (1147.88 * 1_048_576.0f64).round());
        let l = total.latency_us;
        assert_eq!((l.mean, l.min, l.max), (108.88, 70.95, 2729.78));
        assert_eq!((l.p50, l.p99, l.p99_99), (100.582, 203.53, 1956.412));
    }

    #[test]
    fn of_several_tables_of_spdk_the_slowest_counts() {
        let text = format!("{SPDK}\nSummary\n 99.00000% :   303.5us\n");
        assert_eq!(parse(Format::Spdk, &text).unwrap().total.latency_us.p99, 303.5);
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |text: &str| parse(Format::Spdk, text).unwrap_err();
        assert_eq!(error("Attached\n"), "no line of totals");
        assert!(error("Total : 1.0 2.0 3.0\n").contains("five"));
        let without_summary = &SPDK[..SPDK.find("Summary").unwrap()];
        assert!(error(without_summary).contains("-L"));
    }

    #[test]
    fn a_report_in_json_is_read_unless_something_failed() {
        let json =
            r#"{"total":{"ios":9,"iops":3.0,"latency_us":{"mean":1.5,"p99":2.0}},"errors":0}"#;
        let report = parse(Format::Nvmf, json).unwrap();
        assert_eq!((report.total.iops, report.total.latency_us.p99), (3.0, 2.0));
        assert!(parse(Format::Raw, &json.replace("\"errors\":0", "\"errors\":2")).is_err());
        assert!(parse(Format::Raw, "{}").unwrap_err().contains("not a single"));
        assert!(parse(Format::Nvmf, "error: no such command").is_err());
    }
}
