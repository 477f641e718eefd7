//! Names that stay the same: of namespaces over restarts, of the subsystem on this machine.

use std::fs;

use nvme_spec::Nqn;
use uuid::Uuid;

/// The UUID of a namespace for which none was configured: it follows from its subsystem and from
/// where its blocks are ([`Backend::location`](nvmf_storage::Backend::location)).
pub fn namespace_uuid(subsystem: &Nqn, location: &str) -> [u8; 16] {
    let subsystem = Uuid::new_v5(&Uuid::NAMESPACE_URL, subsystem.as_bytes());
    Uuid::new_v5(&subsystem, location.as_bytes()).into_bytes()
}

/// The NGUID of a namespace, which follows from its UUID.
pub fn namespace_nguid(uuid: [u8; 16]) -> [u8; 16] {
    Uuid::new_v5(&Uuid::from_bytes(uuid), b"nguid").into_bytes()
}

/// The name of a subsystem for which none was configured: the same after every restart, another
/// on every machine.
///
/// It is of the form `nqn.2014-08.org.nvmexpress:uuid:…` with a UUID that follows from the
/// machine's identifier (`/etc/machine-id`, else the firmware's, else the host name), but is not
/// that identifier: machine-id(5) asks not to send it over a network.
pub fn default_subsystem_nqn() -> Nqn {
    let places = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid"];
    let machine = places
        .iter()
        .chain(["/proc/sys/kernel/hostname", "/etc/hostname"].iter())
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty() && text != "uninitialized")
        .unwrap_or_default();
    subsystem_nqn_of(&machine)
}

fn subsystem_nqn_of(machine: &str) -> Nqn {
    let own = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"subsystem.nvmf");
    Nqn::from_uuid(Uuid::new_v5(&own, machine.as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_what_they_were_in_every_earlier_version() {
        // Hosts drop disks whose identifiers changed: these bytes are a promise.
        let nqn = Nqn::parse_strict("nqn.2026-01.org.example:one").unwrap();
        let uuid = namespace_uuid(&nqn, "file:/srv/disk.img");
        assert_eq!(Uuid::from_bytes(uuid).to_string(), "46b27e81-b38c-56d0-85e9-0b57b532e84e");
        assert_eq!(
            Uuid::from_bytes(namespace_nguid(uuid)).to_string(),
            "4c17ef1f-23c4-5de1-9e98-52a36ec5bfc6"
        );
        assert_eq!(
            subsystem_nqn_of("0123").as_str(),
            "nqn.2014-08.org.nvmexpress:uuid:595a3a33-a705-5672-b15c-efcd73dcab34"
        );
    }

    #[test]
    fn subsystem_and_place_tell_namespaces_apart() {
        let one = Nqn::parse_strict("nqn.2026-01.org.example:one").unwrap();
        let two = Nqn::parse_strict("nqn.2026-01.org.example:two").unwrap();
        let ids = [
            namespace_uuid(&one, "mem:1"),
            namespace_uuid(&one, "mem:2"),
            namespace_uuid(&two, "mem:1"),
        ];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }

    #[test]
    fn the_default_name_is_valid_and_stays() {
        let nqn = default_subsystem_nqn();
        assert_eq!(nqn, default_subsystem_nqn());
        assert!(Nqn::parse_strict(nqn.as_str()).is_ok());
        assert_ne!(subsystem_nqn_of("a"), subsystem_nqn_of("b"));
    }
}
