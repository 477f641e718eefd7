//! Commands that this library knows nothing of, sent as their caller has them.
//!
//! What is judged is only what the transport has to know: which way the data flows, which is in bits
//! 1:0 of every opcode (Base 2.1, figure 91), and how much it is.
//!
//! ```no_run
//! use nvmf::Deadline;
//! use nvmf::host::{Association, HostOptions, passthru::Passthru};
//! use nvmf::spec::{Nqn, Sqe};
//!
//! # let subsystem = Nqn::parse_strict("nqn.2026-01.com.example:disk")?;
//! let options = HostOptions::from_system()?;
//! let deadline = Deadline::after(options.timeout);
//! let mut association = Association::connect_tcp("192.0.2.7:4420", &subsystem, options)?;
//! let mut identify = Sqe::new(0x06);
//! identify.set_cdw(10, 1);
//! let identify = Passthru::new(identify, None, 4096)?;
//! identify.check_length(association.max_transfer())?;
//! let room = vec![0; 4096];
//! let completion = identify.execute(association.admin(), room, deadline)?;
//! println!("{}: {} bytes", completion.status(), completion.data.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use bytes::BytesMut;
use nvme_spec::{DataDirection, Sqe};

use super::queue_pair::{Completion, QueuePair};
use crate::{Data, Deadline, Error};

/// A command with the way and the length of its data.
#[derive(Clone, Debug)]
pub struct Passthru {
    sqe: Sqe,
    direction: DataDirection,
    length: u32,
}

/// Why a command cannot be sent as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassthruError {
    /// The opcode says that data flows another way than the caller does.
    #[error("{} by bits 1:0 of its opcode ({code:#04x}), and cannot {}", moves(*.by_opcode), verb(*.wanted))]
    Direction {
        /// The opcode, or a Fabrics command's type.
        code: u8,
        /// What it says.
        by_opcode: DataDirection,
        /// What the caller says.
        wanted: DataDirection,
    },
    /// The opcode says that there is no data, and there is some.
    #[error(
        "a command moves no data by bits 1:0 of its opcode ({code:#04x}), and {length} bytes are some"
    )]
    NoData {
        /// The opcode, or a Fabrics command's type.
        code: u8,
        /// How much there is, in bytes.
        length: u32,
    },
    /// The opcode says that data flows both ways, which no command over fabrics can do.
    #[error(
        "a command moves data both ways by bits 1:0 of its opcode ({code:#04x}), which none can over fabrics"
    )]
    Bidirectional {
        /// The opcode, or a Fabrics command's type.
        code: u8,
    },
    /// The flags say that the data pointer is no SGL.
    #[error(
        "the flags ({flags:#04x}) want PRPs or another SGL (PSDT); over fabrics bits 7:6 are 00b or 01b"
    )]
    DataPointer {
        /// The flags.
        flags: u8,
    },
    /// More data than one command of this controller may move.
    #[error("{length} bytes are more than the {most} that one command may move (MDTS)")]
    TooLong {
        /// How much it is, in bytes.
        length: u32,
        /// How much it may be.
        most: u32,
    },
}

impl Passthru {
    /// A command with `length` bytes of data. `wanted` is the way that the caller says, if it says
    /// any; identifier and data pointer of `sqe` are of no matter.
    ///
    /// # Errors
    ///
    /// [`PassthruError`] if its fields contradict each other.
    pub fn new(
        sqe: Sqe,
        wanted: Option<DataDirection>,
        length: u32,
    ) -> Result<Self, PassthruError> {
        let code = if sqe.is_fabrics() { sqe.fctype() } else { sqe.opcode };
        let by_opcode = sqe.data_direction();
        if by_opcode == DataDirection::Bidirectional {
            return Err(PassthruError::Bidirectional { code });
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != by_opcode) {
            return Err(PassthruError::Direction { code, by_opcode, wanted });
        }
        if by_opcode == DataDirection::None && length != 0 {
            return Err(PassthruError::NoData { code, length });
        }
        if !matches!(sqe.flags & Sqe::PSDT_MASK, 0 | Sqe::PSDT_SGL) {
            return Err(PassthruError::DataPointer { flags: sqe.flags });
        }
        let flags = sqe.flags | Sqe::PSDT_SGL;
        Ok(Self { sqe: Sqe { flags, ..sqe }, direction: by_opcode, length })
    }

    /// The command.
    pub fn sqe(&self) -> &Sqe {
        &self.sqe
    }

    /// Which way its data flows; [`DataDirection::None`] if it has none.
    pub fn direction(&self) -> DataDirection {
        self.direction
    }

    /// How much data there is, in bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Whether a controller takes so much at once: `most` is
    /// [`Association::max_transfer`](super::Association::max_transfer).
    ///
    /// # Errors
    ///
    /// [`PassthruError::TooLong`].
    pub fn check_length(&self, most: u32) -> Result<(), PassthruError> {
        match self.length {
            length if length > most => Err(PassthruError::TooLong { length, most }),
            _ => Ok(()),
        }
    }

    /// Sends the command and waits for its answer, whatever its status is. `buffer` has
    /// [`length`](Self::length) bytes: the data for the controller, or the room for the
    /// controller's, which the completion then has.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] if the buffer has another length; what the connection fails with. After a
    /// wait that timed out the command is given up.
    pub fn execute(
        &self,
        queue: &mut QueuePair,
        buffer: Vec<u8>,
        deadline: Deadline,
    ) -> Result<Completion, Error> {
        if u32::try_from(buffer.len()) != Ok(self.length) {
            return Err(Error::TooLong { length: buffer.len() });
        }
        let data = match self.direction {
            _ if buffer.is_empty() => Data::None,
            DataDirection::ToController => Data::write(buffer),
            _ => Data::Read(vec![BytesMut::from(&buffer[..])]),
        };
        let id = queue.submit(self.sqe, data)?;
        queue.wait(id, deadline).inspect_err(|_| queue.forget(id))
    }
}

/// What commands of this direction do.
fn moves(direction: DataDirection) -> &'static str {
    match direction {
        DataDirection::None => "a command moves no data",
        DataDirection::ToController => "a command sends data",
        DataDirection::ToHost => "a command receives data",
        DataDirection::Bidirectional => "a command moves data both ways",
    }
}

fn verb(direction: DataDirection) -> &'static str {
    match direction {
        DataDirection::None => "be without",
        DataDirection::ToController => "send any",
        DataDirection::ToHost => "receive any",
        DataDirection::Bidirectional => "move any both ways",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::opcode::{FABRICS, admin, fabrics, nvm};

    const READ: Option<DataDirection> = Some(DataDirection::ToHost);
    const WRITE: Option<DataDirection> = Some(DataDirection::ToController);

    fn said(sqe: Sqe, wanted: Option<DataDirection>, length: u32) -> String {
        Passthru::new(sqe, wanted, length).unwrap_err().to_string()
    }

    #[test]
    fn the_way_of_the_data_is_in_the_opcode() {
        for wanted in [None, READ] {
            let identify = Passthru::new(Sqe::new(admin::IDENTIFY), wanted, 4096).unwrap();
            assert_eq!(identify.direction(), DataDirection::ToHost);
        }
        let write = Passthru::new(Sqe::new(nvm::WRITE), None, 512).unwrap();
        assert_eq!((write.direction(), write.length()), (DataDirection::ToController, 512));
        assert!(Passthru::new(Sqe::new(nvm::FLUSH), None, 0).is_ok());
        assert!(Passthru::new(Sqe::fabrics(fabrics::PROPERTY_GET), None, 0).is_ok());
    }

    #[test]
    fn contradictions_are_refused_and_named() {
        let error = said(Sqe::new(admin::IDENTIFY), WRITE, 4096);
        assert!(error.contains("receives data") && error.contains("cannot send any"), "{error}");
        assert!(error.contains("0x06"), "{error}");
        let error = said(Sqe::new(nvm::FLUSH), READ, 0);
        assert!(error.contains("moves no data") && error.contains("cannot receive any"), "{error}");
        let error = said(Sqe::new(nvm::FLUSH), None, 512);
        assert!(error.contains("moves no data") && error.contains("512 bytes"), "{error}");
        let error = said(Sqe::new(0xc3), None, 0);
        assert!(error.contains("both ways") && error.contains("0xc3"), "{error}");
        let connect = Sqe::fabrics(fabrics::CONNECT);
        assert_eq!(connect.opcode, FABRICS);
        assert!(said(connect, READ, 0).contains("(0x01)"));
    }

    #[test]
    fn the_data_pointer_is_an_sgl() {
        let with = |flags| Passthru::new(Sqe { flags, ..Sqe::new(nvm::READ) }, None, 512);
        assert_eq!(with(0).unwrap().sqe().flags, 0x40);
        assert_eq!(with(0x41).unwrap().sqe().flags, 0x41);
        assert_eq!(with(0x80).unwrap_err(), PassthruError::DataPointer { flags: 0x80 });
    }

    #[test]
    fn a_length_over_that_of_one_command_says_how_much_there_may_be() {
        let read = Passthru::new(Sqe::new(nvm::READ), None, 131_073).unwrap();
        let error = read.check_length(131_072).unwrap_err().to_string();
        assert!(error.contains("131073") && error.contains("131072"), "{error}");
        assert!(read.check_length(131_073).is_ok());
    }
}
