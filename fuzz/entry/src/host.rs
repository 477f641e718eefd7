//! What a host makes of Identify data: sizes and identifiers of a namespace.

use nvme_spec::identify::IdentifyNamespace;
use nvmf::host::{NamespaceIds, NamespaceInfo};
use zerocopy::FromBytes;

use crate::spec::page;

/// A namespace as a host takes it from Identify Namespace and its descriptors.
pub fn namespace(data: &[u8]) {
    let page = page(data);
    let identify = IdentifyNamespace::ref_from_bytes(&page).unwrap();
    match NamespaceInfo::new(1, identify) {
        Ok(info) => {
            assert!(info.block_size.is_power_of_two());
            assert!((512..=1 << 20).contains(&info.block_size) && info.blocks > 0);
            assert_eq!(info.bytes() / u64::from(info.block_size), info.blocks);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match NamespaceIds::parse(data) {
        Ok(ids) => assert!(ids.may_be(&ids) && ids.may_be(&NamespaceIds::default())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
