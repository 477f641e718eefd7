//! Back to TOML, as a person would have written it.

use std::fmt::{Display, Write};

use super::{Config, HostList, Limits, Namespace, Port, Referral, Size, Subsystem, Transport};

/// What stands at the top of what is saved.
const HEAD: &str = "# A target of nvmf. `nvmf config check FILE` says what is wrong with it.\n";

impl Config {
    /// The configuration as TOML, which [`Config::from_toml`] reads back to the same.
    ///
    /// Comments and the order of keys in a file that was read are not kept.
    ///
    /// ```
    /// use nvmf_target::config::Config;
    ///
    /// let config = Config::from_toml("port = [{ listen = \"127.0.0.1:4420\" }]").unwrap();
    /// assert!(config.to_toml().ends_with("\n[[port]]\nlisten = \"127.0.0.1:4420\"\n"));
    /// ```
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = Out(HEAD.to_owned());
        let discovery = &self.discovery;
        if discovery.nqn.is_some() || discovery.mdns {
            out.table("[discovery]");
            out.text("nqn", discovery.nqn.as_ref());
            out.bare("mdns", discovery.mdns.then_some(true));
        }
        for Referral { address, nqn, port_id } in &discovery.referrals {
            out.table("[[discovery.referral]]");
            out.text("address", Some(address));
            out.text("nqn", nqn.as_ref());
            out.bare("port-id", *port_id);
        }
        if let Some(metrics) = &self.metrics {
            out.table("[metrics]");
            out.text("listen", Some(&metrics.listen));
        }
        out.transport(&self.transport);
        self.ports.iter().for_each(|port| out.port(port));
        self.subsystems.iter().for_each(|subsystem| out.subsystem(subsystem));
        out.0
    }
}

/// The text so far. Writing to a string does not fail.
struct Out(String);

impl Out {
    fn table(&mut self, header: &str) {
        let _ = writeln!(self.0, "\n{header}");
    }

    /// A number or a truth value.
    fn bare(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let _ = writeln!(self.0, "{key} = {value}");
        }
    }

    fn text(&mut self, key: &str, value: Option<&String>) {
        self.bare(key, value.map(|value| quoted(value)));
    }

    /// One to a line, if there are more.
    fn texts(&mut self, key: &str, values: Option<&Vec<String>>) {
        let Some(values) = values else { return };
        match &values[..] {
            [] => self.bare(key, Some("[]")),
            [value] => self.bare(key, Some(format!("[{}]", quoted(value)))),
            values => {
                let _ = writeln!(self.0, "{key} = [");
                for value in values {
                    let _ = writeln!(self.0, "    {},", quoted(value));
                }
                self.0.push_str("]\n");
            }
        }
    }

    fn transport(&mut self, transport: &Transport) {
        if *transport == Transport::default() {
            return;
        }
        let Transport { in_capsule, header_digest, data_digest, max_connections } = transport;
        self.table("[transport]");
        self.bare("in-capsule", in_capsule.as_ref().map(size));
        self.bare("header-digest", *header_digest);
        self.bare("data-digest", *data_digest);
        self.bare("max-connections", *max_connections);
    }

    fn port(&mut self, port: &Port) {
        let Port { id, listen, subsystems, ana } = port;
        self.table("[[port]]");
        self.bare("id", *id);
        self.text("listen", Some(listen));
        self.texts("subsystems", subsystems.as_ref());
        if !ana.is_empty() {
            self.0.push_str("[port.ana]\n");
            for (group, state) in ana {
                let bare = !group.is_empty() && group.bytes().all(|c| c.is_ascii_digit());
                let key = if bare { group.clone() } else { quoted(group) };
                self.text(&key, Some(state));
            }
        }
    }

    fn subsystem(&mut self, subsystem: &Subsystem) {
        let Subsystem { nqn, serial, model, firmware, hosts, namespaces, .. } = subsystem;
        self.table("[[subsystem]]");
        self.text("nqn", Some(nqn));
        self.text("serial", serial.as_ref());
        self.text("model", model.as_ref());
        self.text("firmware", firmware.as_ref());
        match hosts {
            None => {}
            Some(HostList::Any) => self.bare("hosts", Some(quoted(HostList::ANY))),
            Some(HostList::Only(hosts)) => self.texts("hosts", Some(hosts)),
        }
        self.bare("max-io-queues", subsystem.max_io_queues);
        self.bare("max-transfer", subsystem.max_transfer.as_ref().map(size));
        self.bare("max-queue-entries", subsystem.max_queue_entries);
        self.bare("static-controllers", subsystem.static_controllers);
        self.bare("cntlid-min", subsystem.cntlid_min);
        self.bare("cntlid-max", subsystem.cntlid_max);
        namespaces.iter().for_each(|namespace| self.namespace(namespace));
    }

    fn namespace(&mut self, namespace: &Namespace) {
        let Namespace { id, source, uuid, nguid, eui64, ana_group, read_only, hosts, limits } =
            namespace;
        self.table("[[subsystem.namespace]]");
        self.bare("id", *id);
        self.text("source", Some(source));
        self.text("uuid", uuid.as_ref());
        self.text("nguid", nguid.as_ref());
        self.text("eui64", eui64.as_ref());
        self.bare("ana-group", *ana_group);
        self.bare("read-only", read_only.then_some(true));
        self.texts("hosts", hosts.as_ref());
        if *limits != Limits::default() {
            self.0.push_str("[subsystem.namespace.limits]\n");
            self.bare("iops", limits.iops);
            self.bare("read-iops", limits.read_iops);
            self.bare("write-iops", limits.write_iops);
            self.bare("bandwidth", limits.bandwidth.as_ref().map(size));
            self.bare("read-bandwidth", limits.read_bandwidth.as_ref().map(size));
            self.bare("write-bandwidth", limits.write_bandwidth.as_ref().map(size));
        }
    }
}

fn size(size: &Size) -> String {
    size.plain().map_or_else(|| quoted(size.as_str()), |bytes| bytes.to_string())
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{EVERYTHING, any_config, everything};
    use super::*;

    proptest! {
        #[test]
        fn what_is_saved_reads_back_to_the_same(config in any_config()) {
            let text = config.to_toml();
            let read = Config::from_toml(&text);
            prop_assert_eq!(read.as_ref(), Ok(&config), "{}", text);
        }

        #[test]
        fn json_reads_back_to_the_same(config in any_config()) {
            let text = serde_json::to_string(&config).unwrap();
            let read: Config = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, config, "{}", text);
        }
    }

    #[test]
    fn what_is_saved_looks_like_what_was_written() {
        let saved = Config::from_toml(EVERYTHING).unwrap().to_toml();
        let lines = |text: &str| {
            let lines = text.replace("[\n    ", "[").replace(",\n    ", ", ").replace(",\n]", "]");
            let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&saved), lines(EVERYTHING), "{saved}");
        assert!(saved.starts_with("# "), "{saved}");
    }

    #[test]
    fn what_is_the_default_is_not_saved() {
        let saved = everything().config().to_toml();
        let last = saved.rsplit("[[subsystem]]").next().unwrap();
        let wanted = "\nnqn = \"nqn.2026-01.org.example:b\"\nhosts = \"any\"\n\n\
                      [[subsystem.namespace]]\nid = 1\nsource = \"mem:1M\"\n";
        assert_eq!(last, wanted);
    }
}
