//! A benchmark on queues of one association.

use anyhow::{Context, ensure};
use nvmf::host::{Association, TcpQueue};
use nvmf::proto::queue::QueueSize;
use nvmf::spec::identify::IdentifyController;
use nvmf_host::{Options, Pace};

use super::crew::Crew;
use super::job::Job;
use super::plan::{Measured, Plan};
use super::{Done, With};
use crate::connect::Connector;

/// An association that is to be measured.
pub(crate) struct Session {
    association: Association,
    pub measured: Measured,
}

impl Session {
    /// Connects and looks at the namespace.
    pub(crate) fn connect(connector: &Connector) -> anyhow::Result<Self> {
        let mut association = connector.connect()?;
        let namespace = connector.namespace(&mut association)?;
        let measured = Measured {
            nsid: namespace.nsid,
            block_size: namespace.block_size,
            blocks: namespace.blocks,
            write_protected: namespace.write_protected,
            max_transfer: association.max_transfer(),
        };
        Ok(Self { association, measured })
    }

    /// Connects the I/O queues of each thread.
    fn queues(&mut self, plan: &Plan) -> anyhow::Result<Vec<Vec<TcpQueue>>> {
        let wanted = u16::try_from(plan.queues)?;
        let share = plan.share(0);
        let entries = u32::try_from(share).ok().and_then(|share| QueueSize::new(share + 1));
        let queues = self
            .association
            .connect_io_queues(wanted, Some(entries.unwrap_or(QueueSize::MAX_IO)))
            .context("cannot connect the I/O queues")?;
        let granted = queues.len();
        ensure!(
            granted == plan.queues,
            "the controller grants {granted} I/O queues, not {wanted}; see --queues"
        );
        let mut threads: Vec<Vec<_>> = (0..plan.threads).map(|_| Vec::new()).collect();
        for (at, queue) in queues.into_iter().enumerate() {
            let most = queue.capacity();
            ensure!(
                share <= usize::try_from(most)?,
                "an I/O queue of this controller takes {most} commands, not {share}; give more \
                 --queues or less --qd"
            );
            threads[at % plan.threads].push(queue.into_tcp()?);
        }
        Ok(threads)
    }

    /// Lets the threads do their jobs, and gives these back.
    pub(crate) fn run(mut self, with: &With<'_>, jobs: Vec<Job>) -> anyhow::Result<Done> {
        let queues = self.queues(with.plan)?;
        let mut association = self.association;
        let mut options = Options::new(1);
        options.engine = with.args.engine.engine;
        options.timeout = with.args.connect.host.timeout;
        options.pace = Pace::new(with.args.spin);
        options.handle = Some(with.shared.handle.clone());
        options.disconnect =
            association.controller().ofcs.get() & IdentifyController::OFCS_DISCONNECT != 0;
        let mut crew = Crew::new(with);
        for (job, queues) in jobs.into_iter().zip(queues) {
            let mut options = options.clone();
            options.depth = with.plan.depth_of(job.number);
            crew.start(job, move |job| Ok(nvmf_host::run(queues, job, &options)?));
        }
        let (jobs, result) =
            crew.attend(|| association.keep_alive_if_due().context("the admin queue failed"));
        // All was done: whether the controller takes its leave well is no matter any more.
        if result.is_ok()
            && let Err(error) = association.shutdown(Vec::new())
        {
            tracing::info!(%error, "the controller does not shut down");
        }
        Ok(Done { jobs, reconnects: 0, lost: 0, result })
    }
}
