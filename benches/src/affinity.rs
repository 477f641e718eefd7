//! On which cores this thread runs.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this thread may run on.
///
/// # Errors
///
/// As the system says.
pub fn get() -> io::Result<CpuSet> {
    Ok(sched_getaffinity(None)?)
}

/// Lets this thread run on these cores.
///
/// # Errors
///
/// If this process may run on none of them.
pub fn set(cores: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(None, cores)?)
}

/// Lets this thread run on one core only.
///
/// # Errors
///
/// If there is no such core, or not for this process.
pub fn set_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such core"));
    }
    let mut only = CpuSet::new();
    only.set(core);
    set(&only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_put_on_one_core_and_back() {
        let all = get().unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&core| all.is_set(core)).unwrap();
        set_core(first).unwrap();
        assert_eq!(get().unwrap().count(), 1);
        set(&all).unwrap();
        assert_eq!(get().unwrap().count(), all.count());
        assert!(set_core(usize::MAX).is_err());
    }
}
