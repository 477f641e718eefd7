//! The tables of a controller's connection: commands by slot, R2Ts by transfer tag.

use nvme_spec::Cqe;

use crate::capsule::DataLocation;

/// A command from its capsule until its answer is sent; numbers are bytes of its data.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cid: u16,
    pub(super) data: DataLocation,
    /// Up to where the application asked for data.
    pub(super) requested: u32,
    /// Up to where R2Ts were sent.
    pub(super) solicited: u32,
    /// R2Ts outstanding.
    pub(super) r2ts: u32,
    /// Up to where the application gave data for the host.
    pub(super) sent: u32,
    /// A data digest was wrong.
    pub(super) corrupt: bool,
    /// The application has answered.
    pub(super) answered: bool,
    /// The answer, waiting for R2Ts to be done.
    pub(super) deferred: Option<Cqe>,
}

impl Slot {
    pub(super) fn new(cid: u16, data: DataLocation) -> Self {
        Self {
            cid,
            data,
            requested: 0,
            solicited: 0,
            r2ts: 0,
            sent: 0,
            corrupt: false,
            answered: false,
            deferred: None,
        }
    }
}

/// Commands by slot number.
#[derive(Debug, Default)]
pub(super) struct Slots(Table<Slot>);

impl Slots {
    /// `None` if all 65536 slots are in use.
    pub(super) fn insert(&mut self, slot: Slot) -> Option<u16> {
        self.0.insert(slot)
    }

    pub(super) fn get(&self, slot: u16) -> Option<&Slot> {
        self.0.entries.get(usize::from(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u16) -> Option<&mut Slot> {
        self.0.entries.get_mut(usize::from(slot))?.as_mut()
    }

    /// The command in this slot, if it is not answered yet.
    pub(super) fn live(&mut self, slot: u16) -> Option<&mut Slot> {
        self.get_mut(slot).filter(|s| !s.answered)
    }

    /// Where the command with this identifier is that is not answered yet. Looks at all of them:
    /// the way of every command stays free of a second table.
    pub(super) fn find(&self, cid: u16) -> Option<u16> {
        let wanted = |s: &Slot| s.cid == cid && !s.answered;
        let at = self.0.entries.iter().position(|entry| entry.as_ref().is_some_and(wanted))?;
        u16::try_from(at).ok()
    }

    pub(super) fn release(&mut self, slot: u16) {
        self.0.remove(slot);
    }
}

/// Data that was asked for: bytes `start..end` of a command's data, `next` being due.
#[derive(Debug)]
pub(super) struct R2t {
    pub(super) slot: u16,
    pub(super) cid: u16,
    pub(super) start: u32,
    pub(super) next: u32,
    pub(super) end: u32,
}

/// R2Ts by transfer tag.
#[derive(Debug, Default)]
pub(super) struct R2ts(Table<R2t>);

impl R2ts {
    /// `None` if all 65536 tags are in use.
    pub(super) fn insert(&mut self, slot: u16, cid: u16, start: u32, end: u32) -> Option<u16> {
        self.0.insert(R2t { slot, cid, start, next: start, end })
    }

    /// Whether a tag is free.
    pub(super) fn has_room(&self) -> bool {
        !self.0.free.is_empty() || u16::try_from(self.0.entries.len()).is_ok()
    }

    pub(super) fn get(&mut self, ttag: u16) -> Option<&mut R2t> {
        self.0.entries.get_mut(usize::from(ttag))?.as_mut()
    }

    pub(super) fn remove(&mut self, ttag: u16) {
        self.0.remove(ttag);
    }
}

/// Entries by number; the number freed last is used next, while its memory is warm.
#[derive(Debug)]
struct Table<T> {
    entries: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    fn insert(&mut self, entry: T) -> Option<u16> {
        if let Some(number) = self.free.pop() {
            self.entries[usize::from(number)] = Some(entry);
            return Some(number);
        }
        let number = u16::try_from(self.entries.len()).ok()?;
        self.entries.push(Some(entry));
        Some(number)
    }

    fn remove(&mut self, number: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(number))
            && entry.take().is_some()
        {
            self.free.push(number);
        }
    }
}
