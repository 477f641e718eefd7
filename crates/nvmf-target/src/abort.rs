//! Whether a command was aborted: told once, from one queue to another.

use std::fmt;

/// Takes the word of an I/O queue that was asked to abort a command. Dropped, it says that the
/// command was not aborted: whoever asked is told whatever becomes of the queue.
pub(crate) struct AbortReply(Option<Box<dyn FnOnce(bool) + Send>>);

impl AbortReply {
    /// `tell`, which must not block, is told whether the command was aborted.
    pub(crate) fn new(tell: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Says whether the command was aborted.
    pub(crate) fn send(mut self, aborted: bool) {
        if let Some(tell) = self.0.take() {
            tell(aborted);
        }
    }
}

impl Drop for AbortReply {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(false);
        }
    }
}

impl fmt::Debug for AbortReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortReply").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn who_asked_is_told_once_even_if_nobody_says_anything() {
        let (tell, told) = mpsc::channel();
        let reply = || {
            let tell = tell.clone();
            AbortReply::new(move |aborted| tell.send(aborted).unwrap())
        };
        reply().send(true);
        drop(reply());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [true, false]);
    }
}
