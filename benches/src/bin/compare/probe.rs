//! What is measured of a target without load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nvmf::host::{Association, HostOptions};
use nvmf::spec::{HostId, Nqn};
use nvmf_benches::affinity;
use nvmf_benches::proc::{self, Memory};

use crate::children::Failure;
use crate::measure::Bench;
use crate::plan::{Probe, ProbeKind, Target};

/// What a target does after hosts have connected is over by then.
const SETTLE: Duration = Duration::from_secs(2);

const MIB: f64 = 1_048_576.0;

impl Bench<'_> {
    /// The values of a probe, by names with units.
    pub(crate) fn probe(
        &self,
        probe: &Probe,
        target: &Target,
        stem: &str,
    ) -> Result<BTreeMap<String, f64>, Failure> {
        match probe.kind {
            ProbeKind::IdleCpu => self.idle_cpu(probe, target, stem),
            ProbeKind::Memory => self.memory(probe, target, stem),
            ProbeKind::Start => self.start_time(target, stem),
        }
    }

    fn idle_cpu(
        &self,
        probe: &Probe,
        target: &Target,
        stem: &str,
    ) -> Result<BTreeMap<String, f64>, Failure> {
        let mut served = self.serve(target, stem)?;
        let hosts = (probe.hosts, probe.queues);
        let mut idle = self.idle_hosts(target, served.port, hosts, stem)?;
        self.sleep(SETTLE)?;
        let used = || proc::run_time(served.process.pid()).map_err(|e| e.to_string());
        let (start, before) = (Instant::now(), used()?);
        self.sleep(Duration::from_secs_f64(probe.seconds))?;
        let share = used()?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
        idle.must_run()?;
        served.process.must_run()?;
        Ok(BTreeMap::from([("% of a core".to_owned(), share * 100.0)]))
    }

    #[allow(clippy::cast_precision_loss, reason = "memory is shown in MiB")]
    fn memory(
        &self,
        probe: &Probe,
        target: &Target,
        stem: &str,
    ) -> Result<BTreeMap<String, f64>, Failure> {
        let mut served = self.serve(target, stem)?;
        let hosts = (probe.hosts, probe.queues);
        let mut idle = self.idle_hosts(target, served.port, hosts, stem)?;
        self.sleep(SETTLE)?;
        let memory = Memory::of(served.process.pid()).map_err(|e| e.to_string())?;
        idle.must_run()?;
        served.process.must_run()?;
        Ok(BTreeMap::from([
            ("VmRSS, MiB".to_owned(), memory.resident as f64 / MIB),
            ("RssAnon, MiB".to_owned(), memory.anonymous as f64 / MIB),
        ]))
    }

    /// Tries to connect all the time, from the load's core, and so not in the target's way.
    fn start_time(&self, target: &Target, stem: &str) -> Result<BTreeMap<String, f64>, Failure> {
        let subsystem = Nqn::lenient(&target.subnqn).map_err(|e| e.to_string())?;
        let start = Instant::now();
        let mut served = self.start(target, stem)?;
        let limit = Duration::from_secs_f64(target.ready_seconds);
        let address = format!("127.0.0.1:{}", served.port);
        let all = affinity::get().map_err(|e| e.to_string())?;
        affinity::set_core(self.load_core).map_err(|e| e.to_string())?;
        let connected = loop {
            let mut options = options(0);
            options.timeout = Duration::from_secs(1);
            match Association::connect_tcp(&address, &subsystem, options) {
                Ok(_) => break Ok(start.elapsed()),
                Err(error) if start.elapsed() > limit => {
                    break Err(served.process.failure(&format!("no connection: {error}")));
                }
                Err(_) => {
                    if let Err(failure) = served.process.must_run() {
                        break Err(failure);
                    }
                }
            }
        };
        affinity::set(&all).map_err(|e| e.to_string())?;
        Ok(BTreeMap::from([("ms".to_owned(), connected?.as_secs_f64() * 1e3)]))
    }

    fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}

/// Those of the host number `n`.
pub(crate) fn options(n: u32) -> HostOptions {
    let id = (u128::from(n) + 1).to_be_bytes();
    HostOptions::new(Nqn::from_uuid(&id), HostId(id))
}
