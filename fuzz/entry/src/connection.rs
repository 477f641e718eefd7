//! stub
pub fn host_connection(_: &[u8]) {}
pub fn controller_connection(_: &[u8]) {}
