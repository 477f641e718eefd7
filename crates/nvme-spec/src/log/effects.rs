//! What is supported, and what using it does: commands (LID 05h), features (LID 12h) and log pages
//! (LID 00h; Base 2.1, section 5.1.12).

use zerocopy::little_endian::U32;

use crate::wire::wire;

wire! {
    /// Commands Supported and Effects log page: a dword for each opcode.
    pub struct CommandEffects: 4096 bytes {
        /// Admin Command Supported, by opcode.
        0 => acs: [U32; 256],
        /// I/O Command Supported, by opcode, for the command set the page was asked for.
        1024 => iocs: [U32; 256],
        /// Reserved.
        2048 => reserved: [u8; 2048],
    }
}

impl CommandEffects {
    /// The command is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// The command may change user data.
    pub const CHANGES_DATA: u32 = 1 << 1;
    /// The command may change capabilities of a namespace.
    pub const CHANGES_NAMESPACE: u32 = 1 << 2;
    /// The command may change which namespaces there are.
    pub const CHANGES_INVENTORY: u32 = 1 << 3;
    /// The command may change capabilities of the controller.
    pub const CHANGES_CONTROLLER: u32 = 1 << 4;
    /// No other command to the same namespace while this one runs (CSE 18:16 = 001b).
    pub const EXCLUSIVE_NAMESPACE: u32 = 0b001 << 16;
    /// No other command to any namespace while this one runs (CSE 18:16 = 010b).
    pub const EXCLUSIVE: u32 = 0b010 << 16;
    /// A UUID may select the command's meaning.
    pub const UUID_SELECTION: u32 = 1 << 19;

    /// Says what an Admin command does, and that it is supported.
    pub fn set_admin(&mut self, opcode: u8, effects: u32) {
        self.acs[usize::from(opcode)].set(Self::SUPPORTED | effects);
    }

    /// Says what an I/O command does, and that it is supported.
    pub fn set_io(&mut self, opcode: u8, effects: u32) {
        self.iocs[usize::from(opcode)].set(Self::SUPPORTED | effects);
    }
}

wire! {
    /// Feature Identifiers Supported and Effects log page: a dword for each identifier.
    pub struct FeatureEffects: 1024 bytes {
        /// By Feature Identifier.
        0 => fids: [U32; 256],
    }
}

impl FeatureEffects {
    /// The feature is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// Changing it may change user data.
    pub const CHANGES_DATA: u32 = 1 << 1;
    /// Changing it may change capabilities of a namespace.
    pub const CHANGES_NAMESPACE: u32 = 1 << 2;
    /// Each namespace has a value of its own (FSP 31:20, bit 0).
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// Each controller has a value of its own (FSP 31:20, bit 1).
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;

    /// Says what changing a feature does, and that it is supported.
    pub fn set(&mut self, fid: u8, effects: u32) {
        self.fids[usize::from(fid)].set(Self::SUPPORTED | effects);
    }
}

wire! {
    /// Supported Log Pages log page: a dword for each identifier.
    pub struct SupportedLogPages: 1024 bytes {
        /// By Log Page Identifier.
        0 => lids: [U32; 256],
    }
}

impl SupportedLogPages {
    /// LSUPP: the page is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// IOS: an offset may count entries.
    pub const INDEX_OFFSET: u32 = 1 << 1;
    /// LIDSP of the Discovery page, bit 0: extended entries can be asked for.
    pub const DISCOVERY_EXTENDED: u32 = 1 << 16;
    /// LIDSP of the Discovery page, bit 1: only entries of one port can be asked for.
    pub const DISCOVERY_PORT_LOCAL: u32 = 1 << 17;

    /// Says that these pages are supported.
    pub fn of(lids: impl IntoIterator<Item = u8>) -> Self {
        let mut pages = Self::default();
        for lid in lids {
            pages.lids[usize::from(lid)].set(Self::SUPPORTED);
        }
        pages
    }

    /// The identifiers of the supported pages.
    pub fn supported(&self) -> impl Iterator<Item = u8> + Clone + '_ {
        (0..=u8::MAX)
            .zip(&self.lids)
            .filter(|(_, page)| page.get() & Self::SUPPORTED != 0)
            .map(|(lid, _)| lid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn io_commands_follow_the_admin_commands() {
        let mut log = CommandEffects::default();
        log.set_admin(0x06, 0);
        log.set_admin(0x80, CommandEffects::CHANGES_DATA | CommandEffects::EXCLUSIVE);
        log.set_io(0x01, CommandEffects::CHANGES_DATA);
        let bytes = log.as_bytes();
        assert_eq!(bytes[24..28], [1, 0, 0, 0]);
        assert_eq!(bytes[512..516], [3, 0, 2, 0]);
        assert_eq!(bytes[1028..1032], [3, 0, 0, 0]);
    }

    #[test]
    fn supported_pages_read_back() {
        let pages = SupportedLogPages::of([0x70, 0x00, 0xff]);
        assert_eq!(pages.as_bytes()[0x70 * 4], 1);
        assert!(pages.supported().eq([0x00, 0x70, 0xff]));
        let mut features = FeatureEffects::default();
        features.set(6, FeatureEffects::SCOPE_CONTROLLER);
        assert_eq!(features.as_bytes()[24..28], [1, 0, 0x20, 0]);
    }
}
