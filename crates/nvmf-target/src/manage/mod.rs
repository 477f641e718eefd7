//! A target that is what its configuration says, and stays so while that changes.
//!
//! A [`Manager`] has a [`Layout`] and the [`Target`] that it describes. Every change is another
//! layout: [`Manager::apply`] takes the [differences](crate::config::diff) one after the other, and
//! [`Manager::edit`] is for who wants to change one thing. What can fail is tried before anything is
//! changed: files are opened and addresses bound first. What is then told to be done, is done, and
//! with a [state file](StateFile) it is there again after a crash.
//!
//! ```
//! use nvmf_target::config::Layout;
//! use nvmf_target::manage::Manager;
//! use nvmf_target::Target;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layout = Layout::from_toml(
//!     r#"
//!     [[port]]
//!     listen = "127.0.0.1:0"
//!     [[subsystem]]
//!     nqn = "nqn.2026-01.org.example:disks"
//!     "#,
//! )?;
//! let (target, manager) = Manager::start(layout, Target::builder(), None)?;
//! let running = std::thread::spawn(|| target.run());
//!
//! manager.edit(|config| {
//!     config.subsystems[0].namespaces.push(nvmf_target::config::Namespace {
//!         source: "mem:64M".into(),
//!         ..Default::default()
//!     });
//!     Ok(())
//! })?;
//! assert!(manager.handle().subsystems()[0].namespace(1).is_some());
//!
//! manager.handle().shutdown();
//! running.join().expect("the target does not panic")?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod build;
mod error;
mod services;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvme_spec::Nqn;
use nvmf_storage::Geometry;

use crate::config::{Config, Layout};
use crate::{Handle, Target, TargetBuilder};

use services::{PreparedMetrics, Services};

pub use error::ManageError;
pub use state::{StateError, StateFile};

/// Keeps a target what its configuration says.
#[derive(Debug)]
pub struct Manager {
    handle: Handle,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    state: Option<StateFile>,
    services: Services,
}

/// What came of a change that took place.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// How many things were changed; 0 if all was as asked for already.
    pub changes: usize,
    /// What else is to be known: something that was taken away could not be made durable, or is
    /// still in use.
    pub warnings: Vec<String>,
}

impl Manager {
    /// Makes the target that the layout describes; `builder` says the rest of it, and has neither
    /// subsystems nor ports. What it says of what is in the layout's
    /// [transport](crate::config::layout::Transport) counts before that.
    ///
    /// # Errors
    ///
    /// [`ManageError`] if a namespace cannot be opened or an address not be listened on.
    pub fn start(
        layout: Layout,
        builder: TargetBuilder,
        state: Option<StateFile>,
    ) -> Result<(Target, Arc<Self>), ManageError> {
        let builder = builder.configured(layout.transport());
        let mut builder = build::discovery(builder, layout.discovery());
        for subsystem in layout.subsystems().values() {
            builder = builder.subsystem(build::subsystem(subsystem, state.as_ref())?);
        }
        for port in layout.ports().values() {
            builder = builder.port(build::port(port));
        }
        if let Some(state) = &state {
            state.save(&layout, &[])?;
        }
        let target = builder.bind()?;
        let handle = target.handle();
        let mut services = Services::default();
        if let Some(listen) = layout.metrics() {
            services.serve_metrics(PreparedMetrics::start(&handle, listen)?);
        }
        services.announce(&handle, &layout)?;
        let inner = Mutex::new(Inner { layout, state, services });
        Ok((target, Arc::new(Self { handle, inner })))
    }

    /// The target.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where metrics are served, with the port that port 0 became.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.inner().services.metrics_address()
    }

    /// What it is now.
    pub fn layout(&self) -> Layout {
        self.inner().layout.clone()
    }

    /// Makes the target what this layout says. Connections that no difference concerns go on.
    ///
    /// # Errors
    ///
    /// [`ManageError`]; then nothing is changed, unless it is [`ManageError::Partly`].
    pub fn apply(&self, layout: Layout) -> Result<Applied, ManageError> {
        apply::apply(&self.handle, &mut self.inner(), layout)
    }

    /// The same with what the target would be started with now: a configuration file that was
    /// edited. What was changed while the target ran and is not in there is gone.
    ///
    /// # Errors
    ///
    /// As [`Manager::apply`].
    pub fn reload(&self, layout: Layout) -> Result<Applied, ManageError> {
        let mut inner = self.inner();
        let applied = apply::apply(&self.handle, &mut inner, layout.clone())?;
        let Inner { layout: running, state, .. } = &mut *inner;
        if let Some(state) = state {
            state.set_base(&layout);
            state.save(running, &[])?;
        }
        Ok(applied)
    }

    /// Changes the configuration, in which every identifier is written out, and then the target.
    ///
    /// # Errors
    ///
    /// What `change` says, [`ManageError::Config`] if the outcome is not right, and as
    /// [`Manager::apply`].
    pub fn edit(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), ManageError>,
    ) -> Result<Applied, ManageError> {
        let mut inner = self.inner();
        let mut config = inner.layout.config();
        change(&mut config)?;
        apply::apply(&self.handle, &mut inner, config.resolve()?)
    }

    /// Makes a namespace larger: to so many bytes, or, if none are given, as large as what is
    /// behind it has become.
    ///
    /// # Errors
    ///
    /// [`ManageError`]; then nothing is changed.
    pub fn resize(
        &self,
        nqn: &Nqn,
        nsid: u32,
        bytes: Option<u64>,
    ) -> Result<Geometry, ManageError> {
        apply::resize(&self.handle, &mut self.inner(), nqn, nsid, bytes)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
