//! Waiting for the disks of a controller that has just been made.

use std::thread;
use std::time::{Duration, Instant};

use super::sysfs::{Sysfs, SysfsError};
use super::topology::Namespace;
use crate::Deadline;

/// How long nothing may come any more where it is not known what will.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Sysfs {
    /// Waits until the namespaces of a controller have their block devices, which the kernel makes some
    /// time after it has connected, and gives them, each with its path by this controller. Those that
    /// no path can be used of ([`Namespace::is_inaccessible`]) are not waited for.
    ///
    /// `wanted` are the namespaces' identifiers; where they are not known, it is waited until none has
    /// come for a second. At the deadline it gives what there is.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoController`] if there is no such controller, or not any more.
    pub fn wait_for_namespaces(
        &self,
        controller: &str,
        wanted: Option<&[u32]>,
        deadline: Deadline,
    ) -> Result<Vec<Namespace>, SysfsError> {
        let mut last = (Instant::now(), Vec::new());
        loop {
            let found = self.namespaces_of(controller)?;
            let is_there = |nsid: &u32| {
                let mut of_it = found.iter().filter(|namespace| namespace.nsid == Some(*nsid));
                of_it.any(|namespace| namespace.has_device || namespace.is_inaccessible())
            };
            let complete = match wanted {
                Some(wanted) => wanted.iter().all(is_there),
                None => found == last.1 && last.0.elapsed() >= SETTLED,
            };
            if found != last.1 {
                last = (Instant::now(), found.clone());
            }
            match deadline.remaining() {
                Some(left) if !complete => thread::sleep(left.min(PAUSE)),
                _ => return Ok(found),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Machine, NQN};
    use super::*;

    fn machine() -> Machine {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(0, 0, "192.0.2.7");
        machine
    }

    fn names(found: &[Namespace]) -> Vec<&str> {
        found.iter().map(|namespace| namespace.name.as_str()).collect()
    }

    #[test]
    fn disks_that_come_later_are_waited_for() {
        let machine = machine();
        let sysfs = Sysfs::at(machine.root());
        thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..3 {
                    thread::sleep(Duration::from_millis(100));
                    match step {
                        0 => machine.path(0, 0, 2, 7, "inaccessible"),
                        // A path that can be used is not a disk yet.
                        1 => machine.path(0, 0, 1, 1, "optimized"),
                        _ => machine.head(0, 1, 1),
                    }
                }
            });
            let deadline = Deadline::after(Duration::from_secs(20));
            let found = sysfs.wait_for_namespaces("nvme0", Some(&[1, 7]), deadline).unwrap();
            assert_eq!(names(&found), ["nvme0n1", "nvme0n2"]);
            assert_eq!(found.iter().map(|n| n.has_device).collect::<Vec<_>>(), [true, false]);
            assert!(!deadline.has_passed());
        });
    }

    #[test]
    fn at_the_deadline_there_is_what_there_is() {
        let machine = machine();
        machine.path(0, 0, 1, 1, "optimized");
        machine.head(0, 1, 1);
        let sysfs = Sysfs::at(machine.root());
        let deadline = Deadline::after(Duration::from_millis(100));
        let found = sysfs.wait_for_namespaces("nvme0", Some(&[1, 2]), deadline).unwrap();
        assert!(deadline.has_passed());
        assert_eq!(names(&found), ["nvme0n1"]);
    }

    #[test]
    fn where_it_is_not_known_what_comes_a_second_of_quiet_is_enough() {
        let machine = machine();
        machine.path(0, 0, 1, 1, "optimized");
        machine.head(0, 1, 1);
        let deadline = Deadline::after(Duration::from_secs(20));
        let start = Instant::now();
        let found = Sysfs::at(machine.root()).wait_for_namespaces("nvme0", None, deadline).unwrap();
        assert_eq!(names(&found), ["nvme0n1"]);
        assert!(start.elapsed() >= SETTLED && !deadline.has_passed());
    }

    #[test]
    fn a_controller_that_goes_is_not_waited_for() {
        let sysfs = Sysfs::at(Machine::new().root());
        let deadline = Deadline::after(Duration::from_secs(20));
        assert!(sysfs.wait_for_namespaces("nvme0", Some(&[1]), deadline).is_err());
        assert!(!deadline.has_passed());
    }
}
