//! Commands that are over the limits of their namespaces, and wait.

use std::collections::VecDeque;
use std::time::Instant;

use nvmf_engine::Engine;

use super::ending::Life;
use super::entry::Fused;
use super::{Connection, Stage};
use crate::io::fused::ALONE;
use crate::limit::Direction;
use crate::serve::core::Context;
use crate::subsystem::{Namespace, View};

/// The commands of a queue that wait for limits: a line for each namespace and way. In a line they
/// keep their order; all others pass.
#[derive(Debug, Default)]
pub(super) struct Limited {
    lines: Vec<Line>,
}

/// None is empty.
#[derive(Debug)]
struct Line {
    nsid: u32,
    direction: Direction,
    /// When the first is to ask again.
    ready: Instant,
    /// With the bytes that they move.
    commands: VecDeque<(u16, u64)>,
}

impl Limited {
    /// Lets a command through, or keeps it.
    pub(super) fn admits(
        &mut self,
        ns: &Namespace,
        (direction, bytes): (Direction, u64),
        slot: u16,
        now: Instant,
    ) -> bool {
        let nsid = ns.nsid();
        let same = |line: &&mut Line| line.nsid == nsid && line.direction == direction;
        if let Some(line) = self.lines.iter_mut().find(same) {
            line.commands.push_back((slot, bytes));
            return false;
        }
        let Err(ready) = ns.limiter().admit(direction, bytes, now) else { return true };
        let commands = [(slot, bytes)].into();
        self.lines.push(Line { nsid, direction, ready, commands });
        false
    }

    /// Takes the next command that waits no longer.
    fn next(&mut self, view: &View, now: Instant) -> Option<u16> {
        for at in 0..self.lines.len() {
            let line = &mut self.lines[at];
            let Some((slot, bytes)) = line.commands.front().copied() else { continue };
            if line.ready > now {
                continue;
            }
            // Without the namespace the command fails, which needs no leave.
            if let Some(visible) = view.get(line.nsid)
                && let Err(ready) = visible.namespace.limiter().admit(line.direction, bytes, now)
            {
                line.ready = ready;
                continue;
            }
            line.commands.pop_front();
            if line.commands.is_empty() {
                self.lines.swap_remove(at);
            }
            return Some(slot);
        }
        None
    }

    /// All ask again at once.
    fn ask_again(&mut self, now: Instant) {
        self.lines.iter_mut().for_each(|line| line.ready = now);
    }

    /// When the next is to ask again.
    pub(super) fn ready(&self) -> Option<Instant> {
        self.lines.iter().map(|line| line.ready).min()
    }

    /// A command waits no more.
    pub(super) fn forget(&mut self, slot: u16) {
        for line in &mut self.lines {
            line.commands.retain(|(other, _)| *other != slot);
        }
        self.lines.retain(|line| !line.commands.is_empty());
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> Vec<u16> {
        let lines = std::mem::take(&mut self.lines);
        lines.into_iter().flat_map(|line| line.commands).map(|(slot, _)| slot).collect()
    }
}

impl Connection {
    /// Limits changed: who waits asks again.
    pub(super) fn limits_changed<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        if let (Life::Serving, Stage::Io(stage)) = (self.life, &mut self.stage) {
            stage.limited.ask_again(cx.now);
            self.limits_due(cx, engine);
        }
    }

    /// Goes on with commands that have waited long enough.
    pub(super) fn limits_due<E: Engine>(&mut self, cx: &mut Context, engine: &mut E) {
        while let Stage::Io(stage) = &mut self.stage
            && let Some(slot) = stage.limited.next(stage.view.load(), cx.now)
        {
            let entry = self.entries.get(slot);
            entry.admitted = true;
            if entry.arrived && entry.fused == Fused::No {
                let length = entry.data.length() as usize;
                self.hold(slot, length);
                self.io_execute(cx, engine, slot, None);
            } else {
                self.io_command(cx, engine, slot);
            }
        }
        self.arm_limits(cx);
    }

    /// Sets the timer for who waits.
    pub(super) fn arm_limits(&mut self, cx: &mut Context) {
        // When it ends, the timer is for that.
        if let (Life::Serving, Stage::Io(stage)) = (self.life, &self.stage) {
            let ready = stage.limited.ready();
            self.arm(cx, ready);
        }
    }

    /// The target stops: what would still wait for long fails. A host may send it again.
    pub(super) fn give_up_waiting(&mut self) {
        let Stage::Io(stage) = &mut self.stage else { return };
        let first = stage.take_first();
        for slot in stage.limited.take_all() {
            self.abort(slot, nvme_spec::Status::COMMAND_INTERRUPTED);
        }
        if let Some(first) = first {
            self.io_fail(first, ALONE);
        }
    }
}
