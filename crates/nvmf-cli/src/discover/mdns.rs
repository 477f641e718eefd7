//! Discovery controllers that announce themselves.

#[cfg(feature = "mdns")]
pub(super) use with::Mdns;
#[cfg(not(feature = "mdns"))]
pub(super) use without::Mdns;

#[cfg(feature = "mdns")]
mod with {
    use std::time::Duration;

    use anyhow::Context;
    use nvmf::Deadline;
    use nvmf::host::discovery::DiscoveryController;
    use nvmf::host::mdns::Browser;

    /// Who announces itself on the link.
    pub(in super::super) struct Mdns(Browser);

    impl Mdns {
        /// Looks for so long; what comes later is found later.
        pub(in super::super) fn start(time: Duration) -> anyhow::Result<Self> {
            let mut browser = Browser::start().context("cannot look for discovery controllers")?;
            browser.find(time);
            Ok(Self(browser))
        }

        /// Those that are there.
        pub(in super::super) fn found(&self) -> Vec<DiscoveryController> {
            self.0.found().into_iter().map(|(_, controller)| controller).collect()
        }

        /// Whether something changed since the last look.
        pub(in super::super) fn has_changed(&mut self) -> bool {
            let mut changed = false;
            while self.0.next(Deadline::after(Duration::ZERO)).is_some() {
                changed = true;
            }
            changed
        }
    }
}

#[cfg(not(feature = "mdns"))]
mod without {
    use std::time::Duration;

    use nvmf::host::discovery::DiscoveryController;

    use crate::failure::Usage;

    /// There is none.
    pub(in super::super) enum Mdns {}

    impl Mdns {
        pub(in super::super) fn start(_: Duration) -> anyhow::Result<Self> {
            Err(Usage::new("this nvmf was built without multicast DNS (feature mdns)").into())
        }

        pub(in super::super) fn found(&self) -> Vec<DiscoveryController> {
            match *self {}
        }

        pub(in super::super) fn has_changed(&mut self) -> bool {
            match *self {}
        }
    }
}
