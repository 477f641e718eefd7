//! The controllers that nvmf(4) has: how they stand, and their end.

use nvme_spec::Nqn;

use super::kernel::{ControllerName, Kernel, KernelError};
use super::reconnect::{ConnectionStatus, ReconnectParams, StatusError};

/// What a controller's association was made with, for [`HandoffHost::reconnect`].
///
/// # Errors
///
/// The kernel refuses, or says what cannot be.
///
/// [`HandoffHost::reconnect`]: super::HandoffHost::reconnect
pub fn reconnect_params(
    controller: &ControllerName,
    kernel: &mut dyn Kernel,
) -> Result<ReconnectParams, StatusError> {
    let packed =
        kernel.reconnect_params(controller).map_err(KernelError::of("NVMF_RECONNECT_PARAMS"))?;
    ReconnectParams::from_packed(&packed)
}

/// Whether a controller has an association.
///
/// # Errors
///
/// As [`reconnect_params`].
pub fn connection_status(
    controller: &ControllerName,
    kernel: &mut dyn Kernel,
) -> Result<ConnectionStatus, StatusError> {
    let packed =
        kernel.connection_status(controller).map_err(KernelError::of("NVMF_CONNECTION_STATUS"))?;
    ConnectionStatus::from_packed(&packed)
}

/// Ends a controller, its disks with it.
///
/// # Errors
///
/// There is none of this name, or the kernel cannot end it.
pub fn disconnect(controller: &ControllerName, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    kernel.disconnect_host(controller.as_str()).map_err(KernelError::of("NVMF_DISCONNECT_HOST"))
}

/// Ends the controllers of a subsystem.
///
/// # Errors
///
/// As [`disconnect`].
pub fn disconnect_subsystem(subsystem: &Nqn, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    kernel.disconnect_host(subsystem.as_str()).map_err(KernelError::of("NVMF_DISCONNECT_HOST"))
}

/// Ends all controllers.
///
/// # Errors
///
/// There is none, or the kernel cannot end one.
pub fn disconnect_all(kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    kernel.disconnect_all().map_err(KernelError::of("NVMF_DISCONNECT_ALL"))
}
