//! The notifications that a controller has for its host (Base 2.1, section 5.1.12.1.32).
#![cfg_attr(not(test), expect(dead_code, reason = "for the log page"))]

use std::collections::VecDeque;

use nvme_spec::log::ReservationNotification;
use nvme_spec::reservation::Notification;

use crate::limits::RESERVATION_NOTIFICATIONS;

/// The Reservation Notification log pages of a controller that were not read yet.
#[derive(Debug, Default)]
pub(crate) struct ReservationLog {
    pages: VecDeque<Page>,
    /// The Log Page Count given last; 0 if none was.
    count: u64,
}

#[derive(Debug)]
struct Page {
    count: u64,
    nsid: u32,
    what: Notification,
}

impl ReservationLog {
    /// Notes a notification that is not masked, about this namespace.
    ///
    /// Returns whether it is the first that waits to be read, so that the host is to be sent the
    /// event. One for which there is no room is lost; the count of the last page tells the host.
    pub(crate) fn push(&mut self, nsid: u32, what: Notification) -> bool {
        // 0 is the count of the empty page.
        self.count = self.count.checked_add(1).unwrap_or(1);
        let count = self.count;
        if self.pages.len() >= RESERVATION_NOTIFICATIONS {
            if let Some(last) = self.pages.back_mut() {
                last.count = count;
            }
            return false;
        }
        self.pages.push_back(Page { count, nsid, what });
        self.pages.len() == 1
    }

    /// Takes the oldest page out of the log; a page of zeroes if there is none.
    pub(crate) fn pop(&mut self) -> ReservationNotification {
        let mut page = ReservationNotification::default();
        if let Some(oldest) = self.pages.pop_front() {
            page.count.set(oldest.count);
            page.rn_type = oldest.what.to_wire();
            page.num_logs = u8::try_from(self.pages.len()).unwrap_or(u8::MAX);
            page.nsid.set(oldest.nsid);
        }
        page
    }

    /// Whether nothing waits to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn pages_are_read_in_the_order_in_which_they_came() {
        let mut log = ReservationLog::default();
        assert!(log.push(9, Notification::ReservationReleased));
        assert!(!log.push(2, Notification::RegistrationPreempted));
        let page = log.pop();
        assert_eq!(page.as_bytes()[..16], [1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 9, 0, 0, 0]);
        assert!(!log.is_empty());
        let page = log.pop();
        assert_eq!(page.as_bytes()[..16], [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert!(log.is_empty());
        assert_eq!(log.pop().as_bytes(), [0; 64]);
        // The count goes on where it was, and the host is to be told again.
        assert!(log.push(1, Notification::ReservationPreempted));
        let page = log.pop();
        assert_eq!((page.count.get(), page.rn_type), (3, 3));
    }

    #[test]
    fn a_full_log_counts_what_it_loses_in_its_last_page() {
        let mut log = ReservationLog::default();
        for nsid in 1..=260 {
            assert_eq!(log.push(nsid, Notification::ReservationReleased), nsid == 1);
        }
        let pages: Vec<_> = (0..255).map(|_| log.pop()).collect();
        assert!(log.is_empty());
        assert_eq!((pages[0].count.get(), pages[0].num_logs), (1, 254));
        assert_eq!((pages[253].count.get(), pages[253].num_logs), (254, 1));
        assert_eq!((pages[254].count.get(), pages[254].nsid.get()), (260, 255));
        log.push(1, Notification::ReservationReleased);
        assert_eq!(log.pop().count, 261);
    }

    #[test]
    fn the_count_is_never_zero_again() {
        let mut log = ReservationLog { count: u64::MAX - 1, ..Default::default() };
        log.push(1, Notification::ReservationReleased);
        log.push(1, Notification::ReservationReleased);
        assert_eq!((log.pop().count.get(), log.pop().count.get()), (u64::MAX, 1));
    }
}
