//! Reading the discovery log.
