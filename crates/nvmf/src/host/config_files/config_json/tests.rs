use super::*;

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

#[track_caller]
fn wrong(text: &str) -> String {
    ConfigJson::parse(text).unwrap_err().to_string()
}

#[test]
fn a_file_as_libnvme_writes_it_is_read() {
    let config = ConfigJson::parse(
        r#"[
  {
    "hostnqn":"nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff",
    "hostid":"00112233-4455-6677-8899-aabbccddeeff",
    "dhchap_key":"DHHC-1:00:host:",
    "hostsymname":"left",
    "required":[ "hostnqn" ],
    "subsystems":[
      {
        "nqn":"nqn.2026-01.example:disks",
        "ports":[
          {
            "transport":"tcp",
            "traddr":"192.0.2.7",
            "trsvcid":"4420",
            "host_iface":"eth0",
            "dhchap_key":"DHHC-1:00:port:",
            "dhchap_ctrl_key":"DHHC-1:00:ctrl:",
            "nr_io_queues":8,
            "keep_alive_tmo":"15",
            "ctrl_loss_tmo":-1,
            "hdr_digest":true
          },
          { "transport":"tcp", "traddr":"192.0.2.8", "trsvcid":4421, "nr_io_queues":null }
        ]
      },
      {
        "nqn":"nqn.2014-08.org.nvmexpress.discovery",
        "ports":[ { "transport":"tcp", "traddr":"192.0.2.7", "persistent":true } ]
      }
    ]
  },
  { "hostnqn":"nqn.2026-01.example:other", "subsystems":[
    { "nqn":"nqn.2026-01.example:own", "ports":[
      { "transport":"tcp", "traddr":"storage.example", "discovery":true },
      { "transport":"rdma", "traddr":"192.0.2.9" }
    ] }
  ] }
]"#,
    )
    .unwrap();
    let [first, second, third, fourth, fifth] = &config.connections[..] else { panic!() };
    assert_eq!(first.tcp_address(), Ok(("192.0.2.7", 4420)));
    assert_eq!(first.hostid, Some(UUID.parse().unwrap()));
    assert_eq!(first.hostsymname.as_deref(), Some("left"));
    assert_eq!(first.nqn.as_ref().unwrap().as_str(), "nqn.2026-01.example:disks");
    assert_eq!((first.nr_io_queues, first.keep_alive_tmo), (Some(8), Some(15)));
    assert_eq!((first.ctrl_loss_tmo, first.host_iface.as_deref()), (Some(-1), Some("eth0")));
    assert!(first.hdr_digest && !first.data_digest && !first.is_discovery());
    let secret = |secret: &Option<Secret>| secret.clone().unwrap().expose().to_owned();
    assert_eq!(secret(&first.dhchap_secret), "DHHC-1:00:port:");
    assert_eq!(secret(&first.dhchap_ctrl_secret), "DHHC-1:00:ctrl:");
    assert_eq!(secret(&second.dhchap_secret), "DHHC-1:00:host:");
    assert_eq!((second.tcp_address(), second.nr_io_queues), (Ok(("192.0.2.8", 4421)), None));
    assert_eq!(second.place, "[0].subsystems[0].ports[1]");
    assert!(third.is_discovery() && third.persistent);
    assert_eq!(third.tcp_address(), Ok(("192.0.2.7", 8009)));
    let url = fourth.discovery_controller().unwrap().to_string();
    assert_eq!(url, "nvme+tcp://storage.example:8009/nqn.2026-01.example:own");
    assert_eq!(fourth.hostnqn.as_ref().unwrap().as_str(), "nqn.2026-01.example:other");
    assert!(fifth.tcp_address().is_err() && fifth.hostid.is_none());
}

#[test]
fn hosts_may_be_in_an_object_as_the_schema_says() {
    let hosts = r#"{"hosts": [{"subsystems": [
        {"nqn": "nqn.a", "ports": [{"traddr": "no transport"}, {"transport": "tcp"}]},
        {"ports": [{"transport": "tcp"}]}
    ]}], "other": [1, {}]}"#;
    let config = ConfigJson::parse(hosts).unwrap();
    let places: Vec<_> = config.connections.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["hosts[0].subsystems[0].ports[1]"]);
    assert!(ConfigJson::parse("[]").unwrap().connections.is_empty());
    assert!(ConfigJson::parse("{}").unwrap().connections.is_empty());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let port = |port: &str| {
        format!(
            "[{{\"subsystems\": [{{\"nqn\": \"nqn.a\",\n\"ports\": [{{\"transport\": \"tcp\", {port}}}]}}]}}]"
        )
    };
    for (text, parts) in [
        (port("\"nr_io_queues\": \"many\""), ["[0].subsystems[0].ports[0].nr_io_queues", "number"]),
        (port("\"nr_io_queues\": -1"), ["nr_io_queues: ", "too large"]),
        (port("\"queue_size\": 18446744073709551615"), ["queue_size", "too large"]),
        (port("\"queue_size\": 1.5"), ["queue_size", "expected a number"]),
        (port("\"hdr_digest\": 1"), ["hdr_digest", "line 2"]),
        (port("\"traddr\": []"), ["ports[0].traddr", "line 2"]),
        ("[{\"hostnqn\": \"\"}]".to_owned(), ["[0].hostnqn", "empty"]),
        ("[{\"hostid\": \"12\"}]".to_owned(), ["[0].hostid", "line 1"]),
        (format!("[{{\"hostid\": \"{}\"}}]", "0".repeat(32)), ["[0].hostid", "no host"]),
        ("[{\"subsystems\": {}}]".to_owned(), ["[0].subsystems", "line 1"]),
        ("5".to_owned(), ["a list of hosts", "line 1"]),
        ("".to_owned(), ["EOF", "line 1"]),
        ("[] []".to_owned(), ["trailing", "line 1"]),
        (format!("{{\"other\": {}", "[".repeat(10_000)), ["EOF", "line 1"]),
    ] {
        let said = wrong(&text);
        for part in parts {
            assert!(said.contains(part), "no {part:?} in {said:?}");
        }
    }
}
