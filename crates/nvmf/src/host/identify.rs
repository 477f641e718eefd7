//! The Identify command (Base 2.1, section 5.1.13).

use std::io::IoSliceMut;

use nvme_spec::identify::{
    ActiveNamespaceList, Descriptors, IDENTIFY_LEN, IdentifyNamespace, NamespaceId, cns,
};
use nvme_spec::{Sqe, opcode};
use zerocopy::FromBytes;

use super::association::Association;
use crate::{Error, Transfer};

/// What a host has to know of a namespace to read and write it, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceInfo {
    /// The namespace's identifier.
    pub nsid: u32,
    /// Bytes of a block, a power of two from 512 to 1 MiB.
    pub block_size: u32,
    /// The number of blocks, at least 1; all of them together are less than 2⁶⁴ bytes.
    pub blocks: u64,
    /// Bytes of metadata of a block. NVMe/TCP has no way to move it.
    pub metadata_size: u16,
    /// Writes are refused.
    pub write_protected: bool,
}

/// The most bytes of a block: one has to fit into a command.
const MOST_BLOCK: u32 = super::association::MOST_TRANSFER;

impl NamespaceInfo {
    /// From what Identify Namespace said.
    ///
    /// # Errors
    ///
    /// [`Error::NoNamespace`] for the zeroes that stand for a namespace that is not there,
    /// [`Error::InvalidData`] for sizes that cannot be.
    pub fn new(nsid: u32, identify: &IdentifyNamespace) -> Result<Self, Error> {
        let invalid = |reason: String| Err(Error::invalid("Identify Namespace", reason));
        let blocks = identify.nsze.get();
        if blocks == 0 {
            return Err(Error::NoNamespace { nsid });
        }
        let index = identify.format_index();
        let formats = u16::from(identify.nlbaf) + u16::from(identify.nulbaf) + 1;
        if u16::from(index) >= formats {
            return invalid(format!("LBA format {index} is in use, and there are {formats}"));
        }
        let format = identify.format();
        let Some(block_size) = format.block_size() else {
            return invalid(format!("LBA format {index} has blocks of 2^{} bytes", format.ds));
        };
        if block_size > MOST_BLOCK {
            return invalid(format!(
                "blocks of {block_size} bytes; more than {MOST_BLOCK} are none"
            ));
        }
        if blocks.checked_mul(u64::from(block_size)).is_none() {
            return invalid(format!("{blocks} blocks of {block_size} bytes"));
        }
        Ok(Self {
            nsid,
            block_size,
            blocks,
            metadata_size: format.ms.get(),
            write_protected: identify.nsattr & IdentifyNamespace::NSATTR_WRITE_PROTECTED != 0,
        })
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// The identifiers that a namespace keeps for life, in the order in which they are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NamespaceIds {
    /// IEEE Extended Unique Identifier.
    pub eui64: Option<[u8; 8]>,
    /// Namespace Globally Unique Identifier.
    pub nguid: Option<[u8; 16]>,
    /// UUID.
    pub uuid: Option<[u8; 16]>,
    /// Command Set Identifier.
    pub csi: Option<u8>,
}

impl NamespaceIds {
    /// From a Namespace Identification Descriptor list.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidData`] for a malformed list.
    pub fn parse(list: &[u8]) -> Result<Self, Error> {
        let mut ids = Self::default();
        for id in Descriptors::new(list) {
            match id.map_err(|e| Error::invalid("namespace descriptor list", e))? {
                NamespaceId::Eui64(id) => ids.eui64 = Some(id),
                NamespaceId::Nguid(id) => ids.nguid = Some(id),
                NamespaceId::Uuid(id) => ids.uuid = Some(id),
                NamespaceId::Csi(csi) => ids.csi = Some(csi),
                _ => {}
            }
        }
        Ok(ids)
    }

    /// Whether these can be the identifiers of the same namespace: whatever both have is equal.
    pub fn may_be(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        agree(self.uuid, other.uuid)
            && agree(self.nguid, other.nguid)
            && agree(self.eui64, other.eui64)
    }
}

/// The most namespaces that a list is followed to.
const MOST_NAMESPACES: usize = 1 << 16;

impl Association {
    /// Any Identify data structure, unparsed: [`cns`] has their numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn identify(
        &mut self,
        cns: u8,
        nsid: u32,
        cntid: u16,
    ) -> Result<Box<[u8; IDENTIFY_LEN]>, Error> {
        let mut page = Box::new([0; IDENTIFY_LEN]);
        let mut sqe = Sqe::new(opcode::admin::IDENTIFY);
        sqe.nsid.set(nsid);
        sqe.set_cdw(10, u32::from(cns) | u32::from(cntid) << 16);
        self.execute(sqe, Transfer::Read(&mut [IoSliceMut::new(&mut page[..])]))?;
        Ok(page)
    }

    /// Identify Namespace; all zero for a namespace that is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers.
    pub fn identify_namespace(&mut self, nsid: u32) -> Result<Box<IdentifyNamespace>, Error> {
        let page = self.identify(cns::NAMESPACE, nsid, 0)?;
        IdentifyNamespace::read_from_bytes(&page[..])
            .map(Box::new)
            .map_err(|_| Error::invalid("Identify Namespace", "its length is wrong"))
    }

    /// What is needed to read and write a namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers, and those of [`NamespaceInfo::new`].
    pub fn namespace(&mut self, nsid: u32) -> Result<NamespaceInfo, Error> {
        match self.identify_namespace(nsid) {
            Ok(identify) => NamespaceInfo::new(nsid, &identify),
            Err(error) if error.has_status(nvme_spec::Status::INVALID_NAMESPACE) => {
                Err(Error::NoNamespace { nsid })
            }
            Err(error) => Err(error),
        }
    }

    /// The identifiers of the active namespaces, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers; [`Error::InvalidData`] for a list that does
    /// not ascend, or does not end before the 65,536th.
    pub fn active_namespaces(&mut self) -> Result<Vec<u32>, Error> {
        const WHAT: &str = "active namespace list";
        let mut found: Vec<u32> = Vec::new();
        loop {
            let mut last = found.last().copied().unwrap_or(0);
            let page = self.identify(cns::ACTIVE_NAMESPACES, last, 0)?;
            let list = ActiveNamespaceList::ref_from_bytes(&page[..])
                .map_err(|_| Error::invalid(WHAT, "its length is wrong"))?;
            for nsid in list.iter() {
                if nsid <= last {
                    return Err(Error::invalid(WHAT, format!("{nsid} after {last}")));
                }
                if found.len() == MOST_NAMESPACES {
                    return Err(Error::invalid(WHAT, format!("over {MOST_NAMESPACES} entries")));
                }
                found.push(nsid);
                last = nsid;
            }
            // 0xffffffff is all namespaces, and nothing can follow the one before it.
            if !list.is_full() || last >= u32::MAX - 1 {
                return Ok(found);
            }
        }
    }

    /// The identifiers a namespace keeps for life.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] as the controller answers; [`Error::InvalidData`] for a malformed list.
    pub fn namespace_ids(&mut self, nsid: u32) -> Result<NamespaceIds, Error> {
        NamespaceIds::parse(&self.identify(cns::NAMESPACE_DESCRIPTORS, nsid, 0)?[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::identify::LbaFormat;

    fn identify(blocks: u64, ds: u8) -> IdentifyNamespace {
        let mut identify = IdentifyNamespace::default();
        identify.nsze.set(blocks);
        identify.lbaf[0] = LbaFormat::new(ds);
        identify
    }

    #[test]
    fn a_namespace_of_usual_size_is_as_identify_says() {
        let mut identify = identify(2048, 12);
        identify.nsattr = IdentifyNamespace::NSATTR_WRITE_PROTECTED;
        let info = NamespaceInfo::new(7, &identify).unwrap();
        assert_eq!((info.nsid, info.block_size, info.bytes()), (7, 4096, 8 << 20));
        assert!(info.write_protected);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let refused = |identify: &IdentifyNamespace| NamespaceInfo::new(1, identify).unwrap_err();
        assert!(matches!(refused(&identify(0, 9)), Error::NoNamespace { nsid: 1 }));
        for ds in [0, 8, 21, 30, 31, 32, 255] {
            let error = refused(&identify(1, ds));
            assert!(matches!(error, Error::InvalidData { .. }), "{ds}: {error}");
        }
        let huge = refused(&identify(u64::MAX, 9));
        assert!(huge.to_string().contains("18446744073709551615 blocks"), "{huge}");
        let mut beyond = identify(1, 9);
        (beyond.flbas, beyond.lbaf[1]) = (1, LbaFormat::new(9));
        assert!(refused(&beyond).to_string().contains("LBA format 1"));
    }
}
