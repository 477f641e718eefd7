//! A device by the name that clients know it by.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::device::{BlockSizes, Device};
use crate::protocol::{MAX_STRING, TransmissionFlags, cut};

/// An export's name as NBD has them: 4096 bytes at most, without the character NUL. It may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct ExportName(String);

/// Why a text is no name of an export.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is too long.
    #[error("an export's name has 4096 bytes at most, and this one has {0}")]
    Long(usize),
    /// NBD's strings have no zeroes.
    #[error("an export's name has no character NUL")]
    Nul,
}

impl FromStr for ExportName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            _ if text.len() > MAX_STRING => Err(NameError::Long(text.len())),
            _ if text.contains('\0') => Err(NameError::Nul),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl ExportName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client could not use the end of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the device's size, {size}, is no multiple of its smallest block, {minimum}")]
pub struct RaggedEnd {
    /// Its size in bytes.
    pub size: u64,
    /// Its smallest block in bytes.
    pub minimum: u32,
}

/// A device to be served, and its name. Clients that name none get it, too.
#[derive(Clone)]
pub struct Export {
    name: ExportName,
    description: String,
    device: Arc<dyn Device>,
    read_only: bool,
}

impl Export {
    /// A device by a name.
    ///
    /// # Errors
    ///
    /// [`RaggedEnd`], if the device's size is no number of whole blocks.
    pub fn new(name: ExportName, device: impl Device + 'static) -> Result<Self, RaggedEnd> {
        let (size, minimum) = (device.size(), device.block_sizes().minimum());
        if !size.is_multiple_of(minimum.into()) {
            return Err(RaggedEnd { size, minimum });
        }
        let (description, read_only) = (String::new(), false);
        Ok(Self { name, description, device: Arc::new(device), read_only })
    }

    /// The same with words for people, of which 4096 bytes are kept.
    #[must_use]
    pub fn with_description(mut self, description: &str) -> Self {
        cut(description).clone_into(&mut self.description);
        self
    }

    /// The same; if `read_only`, clients cannot write even where the device can.
    #[must_use]
    pub fn with_read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// Whether clients cannot write.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.device.is_read_only()
    }

    /// Its name.
    pub fn name(&self) -> &ExportName {
        &self.name
    }

    /// What is served.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// What a client is told now, and held to as long as it is connected.
    pub fn terms(&self, max_payload: u32) -> Terms {
        let device = &self.device;
        let mut flags = TransmissionFlags::HAS_FLAGS
            | TransmissionFlags::SEND_FLUSH
            | TransmissionFlags::SEND_FUA
            | TransmissionFlags::SEND_CACHE;
        if self.is_read_only() {
            flags = flags | TransmissionFlags::READ_ONLY;
        } else {
            flags =
                flags | TransmissionFlags::SEND_WRITE_ZEROES | TransmissionFlags::SEND_FAST_ZERO;
            if device.has_trim() {
                flags = flags | TransmissionFlags::SEND_TRIM;
            }
        }
        if device.is_consistent_between_connections() {
            flags = flags | TransmissionFlags::CAN_MULTI_CONN;
        }
        Terms {
            name: self.name.to_string(),
            description: self.description.clone(),
            size: device.size(),
            flags,
            block_sizes: device.block_sizes(),
            max_payload,
            fast_zeroes: device.has_fast_zeroes(),
        }
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("name", &self.name)
            .field("size", &self.device.size())
            .finish_non_exhaustive()
    }
}

/// What one client is told of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Terms {
    /// Its name.
    pub name: String,
    /// Words for people; there may be none.
    pub description: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it can do, where structured replies are not negotiated.
    pub flags: TransmissionFlags,
    /// How requests are aligned.
    pub block_sizes: BlockSizes,
    /// The most data of one request, in bytes.
    pub max_payload: u32,
    /// Whether requests for fast zeroes can be met.
    pub fast_zeroes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::Blank;

    #[test]
    fn names_are_those_that_clients_can_say() {
        let parse = |text: &str| text.parse::<ExportName>();
        assert_eq!(parse(""), Ok(ExportName::default()));
        assert_eq!(parse(&"n".repeat(4096)).unwrap().as_str().len(), 4096);
        assert_eq!(parse(&"n".repeat(4097)), Err(NameError::Long(4097)));
        assert_eq!(parse("a\0"), Err(NameError::Nul));
    }

    #[test]
    fn a_device_has_whole_blocks() {
        let sizes = BlockSizes::new(512, 512).unwrap();
        let ragged = Blank { size: 1000, sizes, ..Blank::default() };
        let error = Export::new(ExportName::default(), ragged).unwrap_err();
        assert_eq!(error, RaggedEnd { size: 1000, minimum: 512 });
    }

    #[test]
    fn flags_say_what_the_device_can_do() {
        let flags = |device: Blank| {
            Export::new(ExportName::default(), device).unwrap().terms(1 << 25).flags.to_wire(false)
        };
        // FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO
        assert_eq!(flags(Blank::default()), 0b1101_0110_1101);
        let read_only =
            Export::new(ExportName::default(), Blank::default()).unwrap().with_read_only(true);
        assert_eq!(read_only.terms(1 << 25).flags.to_wire(false), 0b0101_0000_1111);
        // READ_ONLY
        assert_eq!(flags(Blank { read_only: true, ..Blank::default() }), 0b0101_0000_1111);
        assert_eq!(flags(Blank { consistent: false, ..Blank::default() }), 0b1100_0110_1101);
        assert_eq!(flags(Blank { trim: false, ..Blank::default() }), 0b1101_0100_1101);
    }
}
