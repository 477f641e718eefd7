//! What was saved is served as it was, and what cannot be is said.

use proptest::prelude::*;
use serde_json::json;

use super::super::testing::any_text;
use super::super::{Layout, Problem};
use super::*;

const A: &str = "nqn.2026-01.org.example:alpha";
const HOST: &str = "nqn.2026-01.org.example:host";
const UUID: &str = "5f2ca0b7-1f6c-4d2e-9a07-c5d10f7d8a31";

/// What nvmetcli saves of a target with one subsystem on one port.
fn saved() -> Value {
    json!({
        "hosts": [{ "nqn": HOST }],
        "ports": [{
            "addr": {
                "adrfam": "ipv4", "traddr": "192.0.2.7", "treq": "not specified",
                "trsvcid": "4420", "trtype": "tcp"
            },
            "ana_groups": [
                { "ana": { "state": "optimized" }, "grpid": 1 },
                { "ana": { "state": "inaccessible" }, "grpid": 2 }
            ],
            "param": { "inline_data_size": "16384", "pi_enable": "0" },
            "portid": 3,
            "referrals": [],
            "subsystems": [A]
        }],
        "subsystems": [{
            "allowed_hosts": [HOST],
            "attr": {
                "allow_any_host": "0", "cntlid_max": "65519", "cntlid_min": "100",
                "firmware": "6.1", "model": "Linux", "pi_enable": "0", "qid_max": "128",
                "serial": "8d1c55c72c1d5a0f3c17"
            },
            "namespaces": [
                {
                    "ana_grpid": 2,
                    "device": {
                        "nguid": "ef90689c-6c46-d44c-89c1-4067801309a8",
                        "path": "/dev/vg0/alpha", "uuid": UUID
                    },
                    "enable": 1,
                    "nsid": 5
                },
                {
                    "ana_grpid": 1,
                    "buffered_io": 1,
                    "device": {
                        "nguid": "00000000-0000-0000-0000-000000000000",
                        "path": "/srv/a,b.img", "uuid": ""
                    },
                    "enable": "1",
                    "nsid": 6
                }
            ],
            "nqn": A
        }]
    })
}

fn imported(saved: &Value) -> (Config, Vec<String>) {
    let (config, warnings) = import(&saved.to_string()).unwrap();
    (config, warnings.iter().map(Warning::to_string).collect())
}

/// What there is to say of the file, changed, that there is not to say of it unchanged.
fn warned(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let usual = imported(&saved()).1;
    let mut changed = saved();
    change(&mut changed);
    imported(&changed).1.into_iter().filter(|warning| !usual.contains(warning)).collect()
}

#[test]
fn a_saved_target_is_taken_over_with_its_identities() {
    let (config, warnings) = imported(&saved());
    let wanted = format!(
        r#"
[[port]]
id = 3
listen = "192.0.2.7:4420"
subsystems = ["{A}"]
[port.ana]
2 = "inaccessible"

[[subsystem]]
nqn = "{A}"
serial = "8d1c55c72c1d5a0f3c17"
model = "Linux"
firmware = "6.1"
hosts = ["{HOST}"]
cntlid-min = 100

[[subsystem.namespace]]
id = 5
source = "file:/dev/vg0/alpha,bs=512,direct"
uuid = "{UUID}"
nguid = "ef90689c6c46d44c89c14067801309a8"
ana-group = 2

[[subsystem.namespace]]
id = 6
source = "file:/srv/a,b.img"
"#
    );
    assert_eq!(config, Config::from_toml(&wanted).unwrap(), "{}", config.to_toml());
    assert!(Layout::from_toml(&config.to_toml()).is_ok());
    // Of nothing but the sizes of blocks, which the file does not tell.
    let starts = [
        format!("subsystem {A}, namespace 5: blocks of 512 bytes"),
        format!("subsystem {A}, namespace 6: blocks of 4096 bytes"),
    ];
    assert_eq!(warnings.len(), starts.len(), "{warnings:#?}");
    for (warning, start) in warnings.iter().zip(starts) {
        assert!(warning.starts_with(&start), "{warning}");
    }
}

#[test]
fn what_has_no_counterpart_is_named() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 15] = [
        (
            |s| s["ports"][0]["param"]["inline_data_size"] = "much".into(),
            "port 3: inline_data_size = \"much\" is left out",
        ),
        (
            |s| s["ports"][0]["param"]["pi_enable"] = "1".into(),
            "port 3: pi_enable = \"1\" is left out",
        ),
        (
            |s| s["ports"][0]["addr"]["tsas"] = "tls1.3".into(),
            "port 3: tsas = \"tls1.3\" is left out",
        ),
        (
            |s| s["ports"][0]["addr"]["treq"] = "required".into(),
            "port 3: treq = \"required\" is left out",
        ),
        (
            |s| s["ports"][0]["ana_groups"][1]["grpid"] = 33.into(),
            "port 3: ANA group 33, which is inaccessible, is left out; there are 1 to 32",
        ),
        (
            |s| s["hosts"][0]["dhchap_key"] = "DHHC-1:00:secret".into(),
            "host nqn.2026-01.org.example:host: its keys are left out: hosts are not \
             authenticated here",
        ),
        (
            |s| s["subsystems"][0]["attr"]["version"] = "1.3".into(),
            "subsystem nqn.2026-01.org.example:alpha: version = \"1.3\" is left out",
        ),
        (
            |s| {
                s["subsystems"][0]["passthru"] = json!({ "device_path": "/dev/nvme0", "enable": 1 })
            },
            "subsystem nqn.2026-01.org.example:alpha: passthru = \
             {\"device_path\":\"/dev/nvme0\",\"enable\":1} is left out",
        ),
        (
            |s| s["subsystems"][0]["attr"]["serial"] = "".into(),
            "subsystem nqn.2026-01.org.example:alpha: it has no serial number here, \
             so that it gets another than hosts know",
        ),
        (
            |s| s["subsystems"][0]["attr"]["allow_any_host"] = "1".into(),
            "subsystem nqn.2026-01.org.example:alpha: its allowed_hosts are left out, \
             since any host may connect",
        ),
        (
            |s| s["subsystems"][0]["allowed_hosts"][0] = "hostnqn".into(),
            "subsystem nqn.2026-01.org.example:alpha: host `hostnqn` is left out and \
             cannot connect: the NQN does not start with \"nqn.\"",
        ),
        (
            |s| s["subsystems"][0]["namespaces"][1]["enable"] = 0.into(),
            "subsystem nqn.2026-01.org.example:alpha, namespace 6: it is left out, \
             because it is not enabled",
        ),
        (
            |s| s["subsystems"][0]["namespaces"][1]["resv_enable"] = 1.into(),
            "subsystem nqn.2026-01.org.example:alpha, namespace 6: resv_enable = 1 is left out",
        ),
        (
            |s| s["subsystems"][0]["namespaces"][0]["ana_grpid"] = 40.into(),
            "subsystem nqn.2026-01.org.example:alpha, namespace 5: its ANA group 40 \
             is left out; there are 1 to 32",
        ),
        (
            |s| s["subsystems"][0]["namespaces"][1]["device"]["path"] = "/srv/a,ro".into(),
            "subsystem nqn.2026-01.org.example:alpha, namespace 6: it is left out, \
             because there is no source for the path `/srv/a,ro`; make a link to it",
        ),
    ];
    for (edit, wanted) in cases {
        assert_eq!(warned(edit), [wanted]);
    }
}

#[test]
fn data_in_capsules_is_the_most_that_a_port_has() {
    let with = |sizes: &[&str]| {
        let mut saved = saved();
        let mut ports = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let mut port = saved["ports"][0].clone();
            port["portid"] = (i + 1).into();
            port["addr"]["trsvcid"] = (4420 + i).into();
            port["param"]["inline_data_size"] = (*size).into();
            ports.push(port);
        }
        saved["ports"] = ports.into();
        let (config, warnings) = imported(&saved);
        let about = |warning: &String| warning.contains("inline_data_size");
        let warnings: Vec<String> = warnings.into_iter().filter(about).collect();
        (config.transport.in_capsule.clone(), config.resolve().is_ok(), warnings)
    };
    let size = |bytes: u64| Some(Size::from(bytes));
    let becomes = |port: u32, bytes: u32, all: u32| {
        format!("port {port}: inline_data_size = {bytes} becomes {all}, as for all ports")
    };
    assert_eq!(with(&["16384"]), (None, true, vec![]));
    assert_eq!(with(&["-1"]), (None, true, vec![]), "what the kernel has then");
    assert_eq!(with(&["8192", "8192"]), (size(8192), true, vec![]));
    assert_eq!(with(&["0"]), (size(0), true, vec![]));
    assert_eq!(with(&["4096", "8192"]), (size(8192), true, vec![becomes(1, 4096, 8192)]));
    assert_eq!(with(&["4096", "-1"]), (None, true, vec![becomes(1, 4096, 16384)]));
    assert_eq!(with(&["65536"]), (None, true, vec![becomes(1, 65536, 16384)]));
    assert_eq!(with(&["1000"]), (size(992), true, vec![becomes(1, 1000, 992)]));
}

#[test]
fn everybody_is_let_in_only_where_everybody_was() {
    let hosts = |any: &str, allowed: Value| {
        let mut saved = saved();
        saved["subsystems"][0]["attr"]["allow_any_host"] = any.into();
        saved["subsystems"][0]["allowed_hosts"] = allowed;
        imported(&saved).0.subsystems[0].hosts.clone()
    };
    assert_eq!(hosts("1", json!([])), Some(HostList::Any));
    assert_eq!(hosts("0", json!([])), Some(HostList::Only(vec![])));
    assert_eq!(hosts("", json!([])), Some(HostList::Only(vec![])));
    assert_eq!(hosts("0", json!(["hostnqn"])), Some(HostList::Only(vec![])));
}

#[test]
fn ports_of_other_transports_are_left_out_unless_nothing_is_left() {
    let mut saved = saved();
    let mut rdma = saved["ports"][0].clone();
    rdma["portid"] = 4.into();
    rdma["addr"]["trtype"] = "rdma".into();
    saved["ports"].as_array_mut().unwrap().push(rdma);
    let (config, warnings) = imported(&saved);
    assert_eq!(config.ports.len(), 1);
    let wanted = "port 4: it is left out, because its transport is `rdma` and not tcp";
    assert!(warnings.contains(&wanted.to_owned()), "{warnings:#?}");

    saved["ports"].as_array_mut().unwrap().remove(0);
    let error = import(&saved.to_string()).unwrap_err();
    assert!(matches!(&error, ImportError::NoPort { warnings } if warnings.len() == 3));
    assert_eq!(error.to_string(), format!("there is no port to listen on over TCP: {wanted}"));
}

#[test]
fn ports_that_are_nowhere_or_offer_nothing_are_left_out() {
    for (edit, wanted) in [
        (json!({ "traddr": "localhost" }), "`localhost` with the service `4420` is no address"),
        (json!({ "traddr": "fe80::1%eth0" }), "`fe80::1%eth0` with"),
        (json!({ "trsvcid": "70000" }), "`192.0.2.7` with the service `70000`"),
    ] {
        let mut saved = saved();
        let addr = saved["ports"][0]["addr"].as_object_mut().unwrap();
        addr.extend(edit.as_object().unwrap().clone());
        let error = import(&saved.to_string()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let mut empty = saved();
    empty["ports"][0]["subsystems"] = json!([]);
    let error = import(&empty.to_string()).unwrap_err().to_string();
    assert!(error.contains("offers no subsystem"), "{error}");
    // People write numbers by hand, and IPv6.
    let mut by_hand = saved();
    by_hand["ports"][0]["addr"]["trsvcid"] = 4421.into();
    by_hand["ports"][0]["addr"]["traddr"] = "2001:db8::7".into();
    assert_eq!(imported(&by_hand).0.ports[0].listen, "[2001:db8::7]:4421");
}

#[test]
fn a_subsystem_whose_name_is_no_nqn_is_left_out() {
    let mut saved = saved();
    saved["subsystems"][0]["nqn"] = "testnqn".into();
    saved["ports"][0]["subsystems"][0] = "testnqn".into();
    let (config, warnings) = imported(&saved);
    assert_eq!(
        (config.subsystems.len(), config.ports[0].subsystems.as_deref()),
        (0, Some(&[][..]))
    );
    assert!(warnings[0].starts_with("subsystem testnqn: it is left out"), "{warnings:#?}");
}

#[test]
fn referrals_are_taken_over_each_once() {
    let mut saved = saved();
    let mut other = saved["ports"][0].clone();
    other["portid"] = 4.into();
    other["addr"]["trsvcid"] = "4421".into();
    let referral = |name: &str, enable: u32, trtype: &str| {
        json!({ "name": name, "enable": enable, "addr": {
            "adrfam": "ipv4", "traddr": "192.0.2.9", "treq": "not specified", "trsvcid": "8009",
            "trtype": trtype, "portid": "7"
        }})
    };
    saved["ports"][0]["referrals"] = json!([
        referral("a", 1, "tcp"),
        referral("b", 1, "tcp"),
        referral("c", 0, "tcp"),
        referral("d", 1, "rdma")
    ]);
    let (config, warnings) = imported(&saved);
    let wanted = Referral { address: "192.0.2.9:8009".into(), nqn: None, port_id: Some(7) };
    assert_eq!(config.discovery.referrals, [wanted]);
    for said in ["referral c: it is left out", "referral d: it is left out"] {
        assert!(warnings.iter().any(|w| w.contains(said)), "no {said:?} in {warnings:#?}");
    }
    assert!(!warnings.iter().any(|w| w.contains("on every port")), "there is one: {warnings:#?}");
    saved["ports"].as_array_mut().unwrap().push(other);
    let said = "port 3, referral a: hosts are told of it on every port, not on this one only";
    let (config, warnings) = imported(&saved);
    assert!(warnings.iter().any(|w| w == said), "{warnings:#?}");
    assert_eq!(config.discovery.referrals.len(), 1);
}

#[test]
fn a_group_that_a_port_does_not_have_is_inaccessible_there() {
    let mut saved = saved();
    let mut other = saved["ports"][0].clone();
    other["portid"] = 4.into();
    other["addr"]["trsvcid"] = "4421".into();
    other["ana_groups"] = json!([{ "ana": { "state": "optimized" }, "grpid": 1 }]);
    saved["ports"].as_array_mut().unwrap().push(other);
    saved["ports"][0]["ana_groups"][1]["ana"]["state"] = "optimized".into();
    let (config, _) = imported(&saved);
    assert!(config.ports[0].ana.is_empty());
    assert_eq!(config.ports[1].ana, BTreeMap::from([("2".into(), "inaccessible".into())]));
}

#[test]
fn a_device_through_the_page_cache_is_a_file_to_the_kernel() {
    let mut saved = saved();
    saved["subsystems"][0]["namespaces"][0]["buffered_io"] = 1.into();
    assert_eq!(imported(&saved).0.subsystems[0].namespaces[0].source, "file:/dev/vg0/alpha");
}

#[test]
fn where_one_can_look_the_sizes_of_blocks_are_those_that_are_there() {
    let saved = saved();
    let root = saved.as_object().unwrap();
    let sources = |blocks: Blocks<'_>| {
        let (config, warnings) = convert(root, Some(blocks)).unwrap();
        let namespaces = config.subsystems[0].namespaces.iter();
        (namespaces.map(|ns| ns.source.clone()).collect::<Vec<_>>(), warnings)
    };
    let (found, warnings) = sources(&|path, buffered| match (path, buffered) {
        ("/dev/vg0/alpha", false) => Some(4096),
        ("/srv/a,b.img", true) => Some(512),
        _ => None,
    });
    assert_eq!(found, ["file:/dev/vg0/alpha,direct", "file:/srv/a,b.img,bs=512"]);
    assert_eq!(warnings, []);
    let (found, warnings) = sources(&|_, _| Some(1024));
    assert!(found.is_empty() && warnings.len() == 2, "{warnings:#?}");
    assert!(warnings[0].message.starts_with("it is left out, because of its blocks: "));
}

#[test]
fn what_does_not_fit_is_left_to_do_by_hand() {
    let warnings = warned(|saved| {
        let path = saved["subsystems"][0]["namespaces"][0]["device"]["path"].clone();
        saved["subsystems"][0]["namespaces"][1]["device"]["path"] = path;
    });
    assert!(
        warnings
            .iter()
            .any(|w| w.starts_with("subsystem[0].namespace[1].source: to be settled by hand: ")),
        "{warnings:#?}"
    );
}

#[test]
fn what_nvmetcli_did_not_save_is_refused() {
    assert!(matches!(import("{\n]"), Err(ImportError::Json { line: 2, .. })));
    for text in ["[]", "{}", "{\"ports\": {}, \"subsystems\": []}", "7"] {
        assert_eq!(import(text), Err(ImportError::Other), "{text}");
    }
    assert!(matches!(
        import("{\"ports\": [], \"subsystems\": []}"),
        Err(ImportError::NoPort { .. })
    ));
}

/// Replaces the value that a walk through the tree comes to.
fn disturb(value: &mut Value, walk: &[usize], with: Value) {
    let children: Vec<&mut Value> = match value {
        Value::Array(all) => all.iter_mut().collect(),
        Value::Object(all) => all.values_mut().collect(),
        _ => Vec::new(),
    };
    match walk.split_first() {
        Some((step, rest)) if !children.is_empty() => {
            let step = step % children.len();
            if let Some(child) = children.into_iter().nth(step) {
                disturb(child, rest, with);
            }
        }
        _ => *value = with,
    }
}

proptest! {
    #[test]
    fn no_file_makes_the_import_panic_and_what_comes_of_it_is_right_or_said(
        walk in proptest::collection::vec(0_usize..12, 0..6),
        text in any_text(),
        kind in 0..4,
    ) {
        let with = match kind {
            0 => Value::Null,
            1 => json!(-7),
            2 => json!([{}, []]),
            _ => json!(text),
        };
        let mut saved = saved();
        disturb(&mut saved, &walk, with);
        if let Ok((config, warnings)) = import(&saved.to_string()) {
            let problems = config.resolve().err();
            let problems = problems.iter().flat_map(|error| error.problems());
            for Problem { key, .. } in problems {
                prop_assert!(warnings.iter().any(|w| w.about == *key), "{}", key);
            }
        }
    }
}
