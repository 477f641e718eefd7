use super::*;
use crate::host::identity::Identity;
use proptest::prelude::*;

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

#[track_caller]
fn one(line: &str) -> Connection {
    let conf = DiscoveryConf::parse(line);
    assert_eq!(conf.errors, [], "{line}");
    assert_eq!(conf.connections.len(), 1, "{line}");
    conf.connections.into_iter().next().unwrap()
}

#[track_caller]
fn wrong(line: &str) -> String {
    let conf = DiscoveryConf::parse(line);
    assert_eq!((conf.connections, conf.errors.len()), (vec![], 1), "{line}");
    conf.errors[0].to_string()
}

#[test]
fn a_file_as_people_write_it_is_read() {
    let conf = DiscoveryConf::parse(
        "# Used for extracting default parameters for discovery\n\
         #\n\
         # --transport=<trtype> --traddr=<traddr> --trsvcid=<trsvcid>\n\
         \n\
         -t tcp -a 192.0.2.33 -s 8009 -q nqn.2014-08.com.example:nvme:host-sn-d78432\n   \n\
         --transport=tcp --traddr=2001:db8::4 --host-traddr=2001:db8::1 --host-iface=eth0\n\
         --transport=rdma --traddr=192.0.2.34\r\n",
    );
    assert_eq!(conf.errors, []);
    let [first, second, third] = &conf.connections[..] else { panic!("{conf:?}") };
    assert_eq!((first.place.as_str(), second.place.as_str()), ("line 5", "line 7"));
    let host = first.hostnqn.as_ref().unwrap().as_str();
    assert_eq!(host, "nqn.2014-08.com.example:nvme:host-sn-d78432");
    assert_eq!(first.discovery_controller().unwrap().to_string(), "nvme+tcp://192.0.2.33:8009");
    let url = second.discovery_controller().unwrap().to_string();
    assert_eq!(url, "nvme+tcp://[2001:db8::4]:8009");
    assert_eq!(second.host_traddr.as_deref(), Some("2001:db8::1"));
    assert_eq!(second.host_iface.as_deref(), Some("eth0"));
    assert_eq!(third.traddr.as_deref(), Some("192.0.2.34"), "without the end of the line");
    assert!(third.discovery_controller().is_err());
}

#[test]
fn every_option_of_a_connection_has_its_place() {
    let all = one(&format!(
        "-t tcp -a h -s 1 -w a -f b -n nqn.n -q nqn.q -I {UUID} -S DHHC-1:00:ab==: -C c --keyring k \
         --tls_key t --tls-key-identity u -i 1 -W 2 -P 3 -Q 4 -k 5 -c 6 -l -1 -F -1 -T 0x10 -D -gG \
         --disable-sqflow --tls --concat -p -o json -v --force"
    ));
    let text = |text: &str| Some(text.to_owned());
    let expected = Connection {
        place: "line 1".to_owned(),
        transport: text("tcp"),
        traddr: text("h"),
        trsvcid: text("1"),
        host_traddr: text("a"),
        host_iface: text("b"),
        nqn: Some(Nqn::lenient("nqn.n").unwrap()),
        hostnqn: Some(Nqn::lenient("nqn.q").unwrap()),
        hostid: Some(UUID.parse().unwrap()),
        hostsymname: None,
        dhchap_secret: Some(Secret::new("DHHC-1:00:ab==:")),
        dhchap_ctrl_secret: Some(Secret::new("c")),
        keyring: text("k"),
        tls_key: Some(Secret::new("t")),
        tls_key_identity: text("u"),
        nr_io_queues: Some(1),
        nr_write_queues: Some(2),
        nr_poll_queues: Some(3),
        queue_size: Some(4),
        keep_alive_tmo: Some(5),
        reconnect_delay: Some(6),
        ctrl_loss_tmo: Some(-1),
        fast_io_fail_tmo: Some(-1),
        tos: Some(16),
        duplicate_connect: true,
        disable_sqflow: true,
        hdr_digest: true,
        data_digest: true,
        tls: true,
        concat: true,
        persistent: true,
        discovery: true,
    };
    assert_eq!(all, expected);
}

#[test]
fn options_may_be_written_as_getopt_takes_them() {
    for line in [
        "-t tcp -a h",
        "-ttcp -ah",
        "-t=tcp -a=h",
        "--transport tcp --traddr h",
        "--transport=tcp --trad=h",
        "\t--transport\ttcp\t--traddr=h",
    ] {
        assert_eq!(one(line), one("-t tcp -a h"), "{line}");
    }
    assert!(one("-t tcp -a h --hdr_digest").hdr_digest);
    assert!(one("-t tcp -a h --hdr").hdr_digest);
}

#[test]
fn a_line_that_is_wrong_says_what_and_the_others_count() {
    let conf = DiscoveryConf::parse("-t tcp -a one\n--frobnicate\n-t tcp -a two\n");
    assert_eq!(conf.connections.len(), 2);
    assert_eq!(conf.errors[0].to_string(), "line 2: there is no option `--frobnicate`");
    for (line, said) in [
        ("-t tcp -a h -z", "line 1: there is no option `-z`"),
        ("-t tcp -a", "line 1: --traddr has no value"),
        ("-t tcp --traddr=", "line 1: --traddr has no value"),
        ("-t tcp -a h --host x", "line 1: `--host` could be several options"),
        ("-t tcp -a h --tls=1", "line 1: --tls has no value, and `1` is one"),
        ("tcp h", "line 1: `tcp` belongs to no option"),
        ("-t tcp -a h -", "line 1: `-` belongs to no option"),
        ("-t tcp -a h --", "line 1: there is no option `--`"),
        ("-t tcp -a h --=x", "line 1: there is no option `--=x`"),
        ("-t tcp -a h -\u{1b}[0m", "line 1: there is no option `-\\u{1b}`"),
    ] {
        assert_eq!(wrong(line), said, "{line}");
    }
    let zero = "00000000-0000-0000-0000-000000000000";
    for (line, option) in [
        ("-k x", "--keep-alive-tmo"),
        ("-k -1", "--keep-alive-tmo"),
        ("-i 4294967296", "--nr-io-queues"),
        ("-Q 0x", "--queue-size"),
        ("-Q 0x+1", "--queue-size"),
        ("-l 99999999999999999999", "--ctrl-loss-tmo"),
        (&format!("-I {zero}"), "--hostid"),
        ("-I 12", "--hostid"),
        (&format!("-q {}", "n".repeat(224)), "--hostnqn"),
    ] {
        let said = wrong(&format!("-t tcp -a h {line}"));
        assert!(said.contains(&format!("is no value of {option}: ")), "{line}: {said}");
    }
}

#[test]
fn a_line_that_names_no_controller_is_left_out() {
    let conf = DiscoveryConf::parse("-k 5\n--persistent\n");
    assert_eq!(conf, DiscoveryConf::default());
}

#[test]
fn a_line_may_say_as_whom_to_ask() {
    let this = || Ok(Identity::named(Nqn::lenient("nqn.this").unwrap()));
    assert_eq!(one("-t tcp -a h").identity(this).unwrap(), None);
    let other = one("-t tcp -a h -q nqn.other").identity(this).unwrap();
    assert_eq!(other, Some(Identity::named(Nqn::lenient("nqn.other").unwrap())));
    let id = one(&format!("-t tcp -a h -I {UUID}")).identity(this).unwrap().unwrap();
    assert_eq!((id.host.as_str(), id.host_id), ("nqn.this", UUID.parse().unwrap()));
}

#[test]
fn every_option_has_a_name_of_its_own() {
    for (at, (letter, name, _)) in OPTIONS.iter().enumerate() {
        assert!(name.starts_with("--") && !name.contains('_'), "{name}");
        assert!(OPTIONS[..at].iter().all(|(_, other, _)| other != name), "{name}");
        let taken = OPTIONS[..at].iter().any(|(other, ..)| other == letter);
        assert!(!taken || *letter == '\0', "{letter}");
    }
}

proptest! {
    #[test]
    fn any_text_is_connections_and_errors(text in "(-[a-zA-Z]|--[a-z-]{0,9}|[ =\n\t#x0-9é\\PC]){0,60}") {
        let conf = DiscoveryConf::parse(&text);
        prop_assert!(conf.connections.len() + conf.errors.len() <= text.lines().count());
    }
}
