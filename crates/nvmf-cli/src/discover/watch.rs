//! `nvmf discover --watch`

use std::time::Duration;

use nvmf::host::discovery::{Discoverer, DiscoveryEvent, WalkLimits};
use nvmf::spec::print::Json;
use nvmf::{Deadline, Error};

use super::beginnings::Beginnings;
use super::mdns::Mdns;
use super::shown::{self, EventFields};
use crate::args::Format;
use crate::output;
use crate::stop::Stop;

/// How soon it is noticed that it is to end, and what multicast DNS tells.
const GLANCE: Duration = Duration::from_millis(100);

/// Prints what happens, until it is asked to end.
pub(super) fn run(
    discoverer: &Discoverer,
    mut beginnings: Beginnings,
    limits: &WalkLimits,
    format: Format,
) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let mut watch = discoverer.watch(beginnings.all(), limits);
    while !stop.is_asked() {
        if beginnings.mdns.as_mut().is_some_and(Mdns::has_changed) {
            watch.set_beginnings(beginnings.all());
        }
        let Some(watched) = watch.next(Deadline::after(GLANCE)) else { continue };
        if let (true, DiscoveryEvent::Lost { error: Error::NotDiscovery { .. } }) =
            (beginnings.single, &watched.event)
        {
            return Err(super::leave_out(&watched.controller));
        }
        match format {
            Format::Json => output::print(Json(&EventFields(&watched)))?,
            Format::Normal => output::print(shown::event(&watched))?,
        }
    }
    Ok(())
}
