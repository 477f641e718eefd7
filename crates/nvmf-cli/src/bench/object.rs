//! A benchmark on a namespace object: its paths may come and go.

use std::num::NonZeroU16;
use std::sync::mpsc::Receiver;

use super::args::Bench;
use super::crew::Crew;
use super::job::Job;
use super::plan::Measured;
use super::{Done, With};
use crate::connect::Connector;
use crate::paths::{PathOptions, Paths};
use nvmf_host::{Event, Namespace};

/// A namespace object, and what happens to it.
pub(crate) struct Object {
    pub name: String,
    nsid: u32,
    namespace: Namespace,
    events: Receiver<Event>,
}

impl Object {
    pub(crate) fn connect(args: &Bench, connectors: Vec<Connector>) -> anyhow::Result<Self> {
        let nsid = connectors.first().map_or(1, Connector::nsid);
        let options = PathOptions {
            ctrl_loss_tmo: args.reconnect.unwrap_or(args.paths.ctrl_loss_tmo),
            ..args.paths.clone()
        };
        let mut paths = Paths::of(connectors, &options)?.engine(args.engine.engine);
        if let Some(queues) = NonZeroU16::new(args.queues) {
            paths = paths.queues(queues);
        }
        let namespace = paths.connect()?;
        let events = namespace.events();
        Ok(Self { name: paths.name(), nsid, namespace, events })
    }

    pub(crate) fn measured(&self) -> Measured {
        let geometry = self.namespace.geometry();
        Measured {
            nsid: self.nsid,
            block_size: geometry.block_size,
            blocks: geometry.blocks,
            write_protected: geometry.read_only,
            max_transfer: geometry.max_transfer,
        }
    }

    /// Lets the threads do their jobs, and gives these back.
    pub(crate) fn run(self, with: &With<'_>, jobs: Vec<Job>) -> anyhow::Result<Done> {
        let Self { namespace, events, .. } = self;
        let mut crew = Crew::new(with);
        for job in jobs {
            let depth = with.plan.depth_of(job.number);
            let (namespace, handle) = (namespace.clone(), with.shared.handle.clone());
            crew.start(job, move |job| Ok(namespace.drive(job, depth, &handle)?));
        }
        let (mut reconnects, mut lost) = (0, 0);
        let mut gone = std::collections::HashSet::new();
        let mut count = || {
            for event in events.try_iter() {
                match event {
                    Event::Lost { path, commands, .. } => {
                        lost += u64::try_from(commands).unwrap_or(u64::MAX);
                        gone.insert(path);
                    }
                    Event::Connected { path, .. } => reconnects += u64::from(gone.remove(&path)),
                    _ => {}
                }
            }
        };
        let (jobs, result) = crew.attend(|| {
            count();
            Ok(())
        });
        count();
        namespace.close();
        Ok(Done { jobs, reconnects, lost, result })
    }
}
