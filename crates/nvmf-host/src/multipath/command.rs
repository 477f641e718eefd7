//! One NVMe command of an operation, from the first try to the last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nvmf::spec::{Sqe, Status, opcode};

use super::retry::{RetryDelays, Verdict, judge};
use crate::namespace::error::IoError;
use crate::namespace::operation::Operation;
use crate::{Buffer, CommandError, Request};

/// A command's data, to be had again for another try.
#[derive(Debug)]
pub(crate) enum CommandData {
    None,
    /// Room for this many bytes; made anew if it was lost.
    Read {
        length: usize,
        room: Option<BytesMut>,
    },
    Write(Bytes),
}

/// A command's share in its operation, which waits for it: it is told of the command's end once,
/// whatever end that is.
#[derive(Debug)]
struct Share {
    operation: Arc<Operation>,
    /// Which of the operation's commands it is.
    part: usize,
    told: bool,
}

/// A command and how often it was tried.
#[derive(Debug)]
pub(crate) struct Command {
    share: Share,
    sqe: Sqe,
    data: CommandData,
    /// Tries that ended with a status after which another makes sense.
    retries: u8,
    /// Tries that ended with a status of the path.
    detours: u8,
    /// Not to be sent before this time.
    pub(crate) not_before: Option<Instant>,
    /// The path by which it went wrong: another one is better, if there is one.
    pub(crate) avoid: Option<usize>,
}

/// What becomes of a command that was answered.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is complete; its operation was told.
    Complete,
    /// It is to be sent again, by whatever path there is.
    Again(Command),
    /// The same; its path is in this state as far as it is concerned.
    Elsewhere(Command, Option<nvmf::spec::log::AnaState>),
}

impl Share {
    fn tell(&mut self, result: Result<BytesMut, IoError>) {
        if !std::mem::replace(&mut self.told, true) {
            self.operation.complete(self.part, result);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Only a panic on a path's thread comes here untold.
        let (asked, cause) = (self.operation.asked, "its thread has ended".to_owned());
        self.tell(Err(IoError::NoPath { asked, cause }));
    }
}

impl Command {
    pub(crate) fn new(operation: Arc<Operation>, part: usize, sqe: Sqe, data: CommandData) -> Self {
        let share = Share { operation, part, told: false };
        Self { share, sqe, data, retries: 0, detours: 0, not_before: None, avoid: None }
    }

    /// What is sent for it.
    pub(crate) fn request(&mut self) -> Request {
        let buffer = match &mut self.data {
            CommandData::None => Buffer::None,
            CommandData::Read { length, room } => {
                let room = room.take().filter(|room| room.len() == *length);
                Buffer::Read(room.unwrap_or_else(|| BytesMut::zeroed(*length)))
            }
            CommandData::Write(bytes) => Buffer::Write(bytes.clone()),
        };
        Request::new(self.sqe, buffer)
    }

    /// The error of a command that nobody wants any more, if it is one.
    pub(crate) fn is_cut(&self) -> Option<IoError> {
        self.share.operation.is_cut()
    }

    /// Whether anything is different after it.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self.sqe.opcode, opcode::nvm::READ | opcode::nvm::COMPARE | opcode::nvm::FLUSH)
    }

    /// Ends it without success, for its operation: a controller may still be busy with it.
    pub(crate) fn give_up(&mut self, error: IoError) {
        self.share.tell(Err(error));
    }

    /// Whether nobody is to be told of its end any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.share.told
    }

    /// Ends it without success.
    pub(crate) fn fail(mut self, error: IoError) {
        self.share.tell(Err(error));
    }

    /// Ends it so, with an error that says what was asked for.
    pub(crate) fn fail_with(self, error: impl FnOnce(crate::namespace::error::Asked) -> IoError) {
        let error = error(self.share.operation.asked);
        self.fail(error);
    }

    /// Keeps why it was not done this time, to be told if it is not done at all.
    pub(crate) fn note(&self, cause: String) {
        self.share.operation.note(cause);
    }

    /// It was answered, or its connection was lost: by which path, and when.
    pub(crate) fn answered(
        mut self,
        result: Result<(), CommandError>,
        buffer: Buffer,
        delays: RetryDelays,
        (path, now): (usize, Instant),
    ) -> Fate {
        if self.is_given_up() {
            return Fate::Complete;
        }
        let asked = self.share.operation.asked;
        let status = match result {
            Ok(()) => {
                let data = match buffer {
                    Buffer::Read(data) => data,
                    Buffer::Write(_) | Buffer::None => BytesMut::new(),
                };
                self.share.tell(Ok(data));
                return Fate::Complete;
            }
            Err(error) => {
                if let (CommandData::Read { room, .. }, Buffer::Read(data)) =
                    (&mut self.data, buffer)
                {
                    *room = Some(data);
                }
                error
            }
        };
        if let Some(error) = self.is_cut() {
            self.fail(error);
            return Fate::Complete;
        }
        let status = match status {
            CommandError::Lost => return Fate::Again(self),
            // What was damaged on its way may come whole the next time.
            CommandError::Damaged(violation) => {
                self.avoid = Some(path);
                self.note(violation.to_string());
                let again = judge(Status::TRANSIENT_TRANSPORT_ERROR, self.retries, delays);
                return match again {
                    Verdict::Again(pause) => self.again_after(pause, now),
                    _ => self.failed(IoError::Damaged { asked, violation }),
                };
            }
            CommandError::Status(status) => status,
        };
        self.note(status.to_string());
        match judge(status, self.retries, delays) {
            Verdict::Again(pause) => self.again_after(pause, now),
            Verdict::Elsewhere(state) => {
                // A target that says so of each of its paths is not to be asked without a pause.
                const LONGEST: Duration = Duration::from_secs(1);
                let pause = Duration::from_millis(5).saturating_mul(1 << self.detours.min(8));
                self.detours = self.detours.saturating_add(1);
                self.avoid = Some(path);
                self.not_before = (self.detours > 1).then(|| now + pause.min(LONGEST));
                Fate::Elsewhere(self, state)
            }
            Verdict::Failed if status.same_code(Status::COMPARE_FAILURE) => {
                self.failed(IoError::Mismatch { asked })
            }
            Verdict::Failed => self.failed(IoError::Status { asked, status }),
        }
    }

    fn again_after(mut self, pause: Duration, now: Instant) -> Fate {
        self.retries += 1;
        self.not_before = Some(now + pause);
        Fate::Again(self)
    }

    fn failed(self, error: IoError) -> Fate {
        self.fail(error);
        Fate::Complete
    }
}
