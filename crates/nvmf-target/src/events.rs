//! What a controller has to tell its host: asynchronous events (Base 2.1, section 5.1.2).

use std::collections::BTreeSet;
use std::fmt;

use nvme_spec::event::{Event, kind, notice};
use nvme_spec::feature::AsyncEventConfig;
use nvme_spec::log::ChangedNamespaceList;

/// The namespaces that a Changed Namespace List has room for.
const MOST_CHANGED: usize = 1024;

/// The events of a controller that wait to be told, and what it remembers of those that were.
///
/// An event that was told is not told again before the host has read the log page that it points
/// to: what happens meanwhile is in there.
#[derive(Default)]
pub(crate) struct Events {
    /// Asynchronous Event Configuration.
    config: u32,
    waiting: Vec<Event>,
    told: Vec<Event>,
    changed_namespaces: BTreeSet<u32>,
    /// Wakes the admin queue.
    wake: Option<Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("config", &self.config)
            .field("waiting", &self.waiting)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Has `wake` called, which must not block, when there may be something to tell.
    pub(crate) fn wake_by(&mut self, wake: impl Fn() + Send + 'static) {
        self.wake = Some(Box::new(wake));
    }

    /// Asynchronous Event Configuration: which events the host wants.
    pub(crate) fn config(&self) -> u32 {
        self.config
    }

    pub(crate) fn configure(&mut self, config: u32) {
        self.config = config;
        self.waiting.retain(|event| is_wanted(*event, config));
    }

    /// A controller reset: nothing is waiting, nothing is wanted.
    pub(crate) fn reset(&mut self) {
        self.config = 0;
        self.waiting.clear();
        self.told.clear();
    }

    /// Something happened.
    pub(crate) fn raise(&mut self, event: Event) {
        let known = self.waiting.contains(&event) || self.told.contains(&event);
        if !known && is_wanted(event, self.config) {
            self.waiting.push(event);
            if let Some(wake) = &self.wake {
                wake();
            }
        }
    }

    /// These namespaces are not what they were.
    pub(crate) fn namespaces_changed(&mut self, nsids: &[u32]) {
        if !nsids.is_empty() {
            self.changed_namespaces.extend(nsids);
            // Of more than the page has room for it says only that they are too many.
            while self.changed_namespaces.len() > MOST_CHANGED + 1 {
                self.changed_namespaces.pop_last();
            }
            self.raise(Event::NAMESPACE_ATTRIBUTE_CHANGED);
        }
    }

    /// The Changed Namespace List; the host has read it if `clear`.
    pub(crate) fn changed_namespaces(&mut self, clear: bool) -> ChangedNamespaceList {
        let list = ChangedNamespaceList::new(self.changed_namespaces.iter().copied());
        if clear {
            self.changed_namespaces.clear();
        }
        list
    }

    /// The next event to answer an Asynchronous Event Request with.
    pub(crate) fn next(&mut self) -> Option<Event> {
        if self.waiting.is_empty() {
            return None;
        }
        let event = self.waiting.remove(0);
        self.told.push(event);
        Some(event)
    }

    /// The host has read a log page without asking to retain its event: there may be others.
    pub(crate) fn log_was_read(&mut self, lid: u8) {
        self.told.retain(|event| event.lid != lid);
        self.waiting.retain(|event| event.lid != lid);
    }
}

/// Whether a host that configured this wants to be told.
fn is_wanted(event: Event, config: u32) -> bool {
    let bit = match (event.kind, event.info) {
        (kind::HEALTH, info) => 1u32.checked_shl(info.into()).unwrap_or(0),
        (kind::NOTICE, notice::DISCOVERY_LOG_CHANGED) => AsyncEventConfig::DISCOVERY_LOG,
        (kind::NOTICE, info) => 0x100u32.checked_shl(info.into()).unwrap_or(0),
        // The others have no switch here.
        _ => return true,
    };
    config & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::log::lid;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn wanting(config: u32) -> Events {
        let mut events = Events::default();
        events.configure(config);
        events
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let mut events = wanting(AsyncEventConfig::ANA_CHANGE);
        events.raise(Event::DISCOVERY_LOG_CHANGED);
        events.namespaces_changed(&[1]);
        assert_eq!(events.next(), None);
        events.raise(Event::ANA_CHANGE);
        assert_eq!(events.next(), Some(Event::ANA_CHANGE));
        assert_eq!(
            events.changed_namespaces(false).changed().unwrap().collect::<Vec<_>>(),
            [1],
            "kept"
        );
    }

    #[test]
    fn an_event_is_told_once_until_its_page_is_read() {
        let mut events = wanting(u32::MAX);
        events.raise(Event::ANA_CHANGE);
        events.raise(Event::ANA_CHANGE);
        assert_eq!(events.next(), Some(Event::ANA_CHANGE));
        events.raise(Event::ANA_CHANGE);
        assert_eq!(events.next(), None);
        events.log_was_read(lid::CHANGED_NAMESPACES);
        events.raise(Event::ANA_CHANGE);
        assert_eq!(events.next(), None, "that was another page");
        events.log_was_read(lid::ANA);
        assert_eq!(events.next(), None, "it was in the page");
        events.raise(Event::ANA_CHANGE);
        assert_eq!(events.next(), Some(Event::ANA_CHANGE));
    }

    #[test]
    fn who_waits_is_woken_for_what_is_wanted() {
        let mut events = wanting(AsyncEventConfig::NAMESPACE_ATTRIBUTE);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        events.wake_by(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        events.raise(Event::ANA_CHANGE);
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        events.namespaces_changed(&[2, 1]);
        events.namespaces_changed(&[3]);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(
            events.changed_namespaces(true).changed().unwrap().collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(events.changed_namespaces(true).changed().unwrap().count(), 0);
    }

    #[test]
    fn a_reset_forgets_what_was_wanted() {
        let mut events = wanting(u32::MAX);
        events.raise(Event::ANA_CHANGE);
        events.reset();
        assert_eq!((events.next(), events.config()), (None, 0));
    }
}
