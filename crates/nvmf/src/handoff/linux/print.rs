//! Subsystems as JSON, with the names of `nvme list -v -o json`.

use std::collections::BTreeSet;

use nvme_spec::print::{FieldSink, Fields};

use super::kernel::Made;
use super::topology::{Controller, Namespace, NamespacePath, Subsystem};

/// Subsystems by the host that this machine is to them, as `nvme list -v -o json` has them: `Devices` is
/// a list of hosts, each with `Subsystems`, these with `Controllers` and `Namespaces`, and each of these
/// with its `Paths`.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a>(pub &'a [Subsystem]);

/// The NQN and the identifier of a host, as the kernel tells them.
type HostNames<'a> = (Option<&'a str>, Option<&'a str>);

fn host_of(controller: &Controller) -> HostNames<'_> {
    (controller.host.as_deref(), controller.host_id.as_deref())
}

impl Fields for Listing<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let hosts: BTreeSet<_> =
            self.0.iter().flat_map(|subsystem| &subsystem.controllers).map(host_of).collect();
        let subsystems = self.0;
        out.objects("Devices", hosts.iter().map(|names| HostFields { names: *names, subsystems }));
    }
}

struct HostFields<'a> {
    names: HostNames<'a>,
    subsystems: &'a [Subsystem],
}

impl Fields for HostFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        optional(out, "HostNQN", self.names.0);
        optional(out, "HostID", self.names.1);
        let of_host = |subsystem: &&Subsystem| {
            subsystem.controllers.iter().any(|controller| host_of(controller) == self.names)
        };
        let subsystems = self.subsystems.iter().filter(of_host);
        out.objects("Subsystems", subsystems.map(|of| SubsystemFields { of, host: self.names }));
    }
}

struct SubsystemFields<'a> {
    of: &'a Subsystem,
    host: HostNames<'a>,
}

impl Fields for SubsystemFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        let Self { of, host } = *self;
        out.text("Subsystem", &of.name);
        out.text("SubsystemNQN", &of.nqn);
        optional(out, "IOPolicy", of.io_policy.as_deref());
        optional(out, "Type", of.kind.as_deref());
        let controllers = of.controllers.iter().filter(|controller| host_of(controller) == host);
        out.objects(
            "Controllers",
            controllers
                .map(|controller| ControllerFields { controller, namespaces: &of.namespaces }),
        );
        out.objects("Namespaces", of.namespaces.iter());
    }
}

struct ControllerFields<'a> {
    controller: &'a Controller,
    namespaces: &'a [Namespace],
}

impl Fields for ControllerFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        self.controller.fields(out);
        let paths = self.namespaces.iter().flat_map(|namespace| {
            let of_it =
                namespace.paths.iter().filter(move |path| path.controller == self.controller.name);
            of_it.map(move |path| PathFields { path, nsid: namespace.nsid })
        });
        out.objects("Paths", paths);
    }
}

impl Fields for Controller {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("Controller", &self.name);
        number(out, "Cntlid", self.cntlid);
        optional(out, "SerialNumber", self.serial.as_deref());
        optional(out, "ModelNumber", self.model.as_deref());
        optional(out, "Firmware", self.firmware.as_deref());
        out.text("Transport", &self.transport);
        out.text("Address", self.address.as_str());
        out.text("State", &self.state);
        optional(out, "Type", self.kind.as_deref());
        number(out, "QueueCount", self.queue_count);
        number(out, "QueueSize", self.queue_size);
        number(out, "KeepAliveTimeout", self.keep_alive);
        optional(out, "CtrlLossTimeout", self.ctrl_loss_tmo.as_deref());
        optional(out, "ReconnectDelay", self.reconnect_delay.as_deref());
        optional(out, "FastIOFailTimeout", self.fast_io_fail_tmo.as_deref());
    }
}

impl Fields for Namespace {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("NameSpace", &self.name);
        number(out, "NSID", self.nsid);
        out.number("PhysicalSize", self.bytes);
        out.number("SectorSize", self.block_size);
        out.flag("ReadOnly", self.read_only);
        out.flag("HasDevice", self.has_device);
        optional(out, "UUID", self.uuid.as_deref());
        optional(out, "NGUID", self.nguid.as_deref());
        optional(out, "WWID", self.wwid.as_deref());
        out.objects("Paths", self.paths.iter());
    }
}

impl Fields for NamespacePath {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("Path", &self.name);
        out.text("Controller", &self.controller);
        optional(out, "ANAState", self.ana_state.as_deref());
        number(out, "ANAGroup", self.ana_group);
    }
}

/// A path as it stands below its controller.
struct PathFields<'a> {
    path: &'a NamespacePath,
    nsid: Option<u32>,
}

impl Fields for PathFields<'_> {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("Path", &self.path.name);
        number(out, "NSID", self.nsid);
        optional(out, "ANAState", self.path.ana_state.as_deref());
    }
}

/// What was made: `device`, as nvme-cli has it, and more.
impl Fields for Made {
    fn fields(&self, out: &mut dyn FieldSink) {
        out.text("device", self.connected.device());
        out.number("cntlid", self.connected.cntlid);
        out.text("SubsystemNQN", &self.options.nqn);
        out.text("Transport", &self.options.transport);
        optional(out, "traddr", self.options.traddr.as_deref());
        optional(out, "trsvcid", self.options.trsvcid.as_deref());
        out.objects("Namespaces", self.namespaces.iter());
        out.numbers("Missing", self.missing.iter().copied());
    }
}

/// What the kernel does not tell is left out.
fn optional(out: &mut dyn FieldSink, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        out.text(name, text);
    }
}

fn number(out: &mut dyn FieldSink, name: &'static str, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        out.number(name, value.into());
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::print::Json;

    use super::super::Sysfs;
    use super::super::testing::{HOST, Machine, NQN};
    use super::*;

    #[test]
    fn hosts_have_their_subsystems_with_controllers_namespaces_and_paths() {
        let machine = Machine::new();
        machine.subsystem(0, NQN);
        machine.controller(0, 0, "192.0.2.7");
        machine.controller(1, 0, "192.0.2.8");
        machine
            .files(&Machine::controller_directory(1), &[("hostnqn", "nqn.2026-01.org.example:h")]);
        machine.head(0, 1, 1);
        machine.path(0, 0, 1, 1, "optimized");
        machine.path(0, 1, 1, 1, "inaccessible");
        let found = Sysfs::at(machine.root()).subsystems().unwrap();
        let json = Json(&Listing(&found)).to_string();
        for part in [
            &format!(
                r#"{{"Devices":[{{"HostNQN":"{HOST}","HostID":"00112233-4455-6677-8899-aabbccddeeff","Subsystems":[{{"Subsystem":"nvme-subsys0","SubsystemNQN":"{NQN}","IOPolicy":"numa","Controllers":[{{"Controller":"nvme0","Cntlid":7,"#
            ),
            r#"{"HostNQN":"nqn.2026-01.org.example:h","#,
            r#""Transport":"tcp","Address":"traddr=192.0.2.7,trsvcid=4420,src_addr=192.0.2.1","State":"live""#,
            r#""Paths":[{"Path":"nvme0c0n1","NSID":1,"ANAState":"optimized"}]}],"#,
            r#""Namespaces":[{"NameSpace":"nvme0n1","NSID":1,"PhysicalSize":1048576,"SectorSize":4096,"#,
            r#""Paths":[{"Path":"nvme0c0n1","Controller":"nvme0","ANAState":"optimized","ANAGroup":1},{"#,
        ] {
            assert!(json.contains(part), "no {part} in {json}");
        }
        // A host has its own controllers only.
        assert_eq!(json.matches(r#""Controller":"nvme1","Cntlid""#).count(), 1);
    }

    #[test]
    fn without_subsystems_there_are_no_devices() {
        assert_eq!(Json(&Listing(&[])).to_string(), r#"{"Devices":[]}"#);
    }
}
