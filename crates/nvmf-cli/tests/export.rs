//! `nvmf export nbd`, used by the programs that people use: nbdinfo, nbdcopy, qemu-img, qemu-io, fio.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::daemon::Daemon;
use common::{HOST, NQN, Random, Server, eventually, fails, image, json, nvmf, ok, text};
use tempfile::TempDir;

/// A running `nvmf export nbd`.
struct Exporter {
    daemon: Daemon,
    uri: String,
    said: Vec<String>,
}

impl Exporter {
    fn start(args: &[&str]) -> Self {
        let mut command = nvmf();
        command.args(["export", "nbd"]).args(args).args(HOST);
        let (daemon, said) = Daemon::try_start(command).unwrap_or_else(|error| panic!("{error}"));
        let ready = said.iter().find_map(|line| line.strip_prefix("Ready: ")).unwrap();
        Self { daemon, uri: ready.to_owned(), said }
    }

    /// Ends it in order.
    #[track_caller]
    fn stop(self) -> String {
        let (status, said) = self.daemon.signal("-TERM");
        assert!(status.success(), "{status}: {said}");
        said
    }

    #[track_caller]
    fn nbdinfo(&self) -> serde_json::Value {
        json(&tool("nbdinfo", &["--json", &self.uri]))["exports"][0].take()
    }

    /// Runs commands of qemu-io, which all have to succeed.
    #[track_caller]
    fn qemu_io(&self, more: &[&str], commands: &[&str]) -> String {
        let output = text(&tool("qemu-io", &self.qemu_io_args(more, commands)));
        assert!(!output.contains("failed"), "{output}");
        output
    }

    fn qemu_io_args<'a>(&'a self, more: &[&'a str], commands: &[&'a str]) -> Vec<&'a str> {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let fixed = ["-f", "raw", &self.uri];
        more.iter().copied().chain(fixed).chain(commands).collect()
    }
}

/// A disk in a file, a target that serves it, and an export of it on a Unix socket.
struct Setup {
    folder: TempDir,
    server: Server,
    export: Exporter,
}

impl Setup {
    fn new(spec: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&[spec]);
        let socket = path(&folder, "nbd.sock");
        let target = server.target();
        let export = Exporter::start(&[&[&target, "--socket", &socket], more].concat());
        Self { folder, server, export }
    }

    fn path(&self, name: &str) -> String {
        path(&self.folder, name)
    }

    /// What the namespace holds, by the way around NBD.
    fn content(&self) -> Vec<u8> {
        ok(&["read", &self.server.target()])
    }
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

/// Runs a program that has to be there.
fn try_tool(name: &str, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", name]).args(args);
    let output = command.output().unwrap();
    let missing = output.status.code() == Some(127);
    assert!(!missing, "no {name}: ./check packages installs what the tests need");
    output
}

/// Standard output of a program that has to succeed.
#[track_caller]
fn tool(name: &str, args: &[&str]) -> Vec<u8> {
    let output = try_tool(name, args);
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name} {args:?}: {said} {error}");
    output.stdout
}

#[test]
fn nbdinfo_shows_what_is_served() {
    let setup = Setup::new("mem:64M", &[]);
    let export = &setup.export;
    let info = export.nbdinfo();
    assert_eq!(info["export-size"], 64 << 20);
    let description = info["description"].as_str().unwrap();
    assert!(description.starts_with(&format!("namespace 1 of {NQN} at ")), "{description}");
    for can in [
        "can_cache",
        "can_df",
        "can_fast_zero",
        "can_flush",
        "can_fua",
        "can_multi_conn",
        "can_trim",
        "can_zero",
    ] {
        assert_eq!(info[can], true, "{can}: {info}");
    }
    assert_eq!(info["is_read_only"], false, "{info}");
    assert!(info.get("contexts").is_none_or(|list| list == &serde_json::json!([])), "{info}");
    let sizes = ["block_size_minimum", "block_size_preferred", "block_size_maximum"];
    assert_eq!(sizes.map(|size| info[size].as_u64().unwrap()), [1, 4096, 32 << 20]);
    let whole = json(&tool("nbdinfo", &["--json", &export.uri]));
    assert_eq!((&whole["structured"], &whole["TLS"]), (&true.into(), &false.into()), "{whole}");
}

#[test]
fn an_export_has_a_name_and_may_be_read_only() {
    let setup = Setup::new("mem:8M,bs=512", &["--name", "a disk/1", "--read-only"]);
    let (export, socket) = (&setup.export, setup.path("nbd.sock"));
    assert_eq!(export.uri, format!("nbd+unix:///a%20disk/1?socket={socket}"));
    assert!(export.said[0].contains("8388608 bytes, read-only"), "{:?}", export.said);
    let info = export.nbdinfo();
    assert_eq!((&info["export-name"], &info["is_read_only"]), (&"a disk/1".into(), &true.into()));
    assert_eq!((&info["can_trim"], &info["can_zero"]), (&false.into(), &false.into()));
    let list = text(&tool("nbdinfo", &["--list", &format!("nbd+unix:///?socket={socket}")]));
    assert!(list.contains("export=\"a disk/1\""), "{list}");
    let other = try_tool("nbdinfo", &[&format!("nbd+unix:///other?socket={socket}")]);
    assert!(!other.status.success() && text(&other.stderr).contains("other"));
    let written = try_tool("qemu-io", &export.qemu_io_args(&[], &["write 0 4k"]));
    assert!(!written.status.success(), "{}", text(&written.stdout));
    tool("qemu-io", &export.qemu_io_args(&["-r"], &["read -P 0 0 8M"]));
}

#[test]
fn nbdcopy_copies_both_ways() {
    let setup = Setup::new("mem:24M", &[]);
    let mut data = Random(11).bytes(24 << 20);
    // Holes, which nbdcopy writes as zeroes or trims.
    data[5 << 20..9 << 20].fill(0);
    let (source, copy) = (setup.path("source"), setup.path("copy"));
    fs::write(&source, &data).unwrap();
    tool("nbdcopy", &["--flush", &source, &setup.export.uri]);
    assert!(setup.content() == data, "what was written");
    tool("nbdcopy", &["--connections=4", &setup.export.uri, &copy]);
    assert!(fs::read(&copy).unwrap() == data, "what was read");
    // Old ways of talking: one connection, one request at a time.
    fs::remove_file(&copy).unwrap();
    tool("nbdcopy", &["--synchronous", &setup.export.uri, &copy]);
    assert!(fs::read(&copy).unwrap() == data, "one after the other");
}

#[test]
fn qemu_img_converts_compares_and_measures() {
    let setup = Setup::new("mem:16M,bs=512", &[]);
    let uri = &setup.export.uri;
    let (source, back) = (setup.path("source.qcow2"), setup.path("back.raw"));
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &source, "16M"]);
    let writes = ["write -P 0x5a 1M 2M", "write -P 0xa5 7777 99999", "write -z 2M 64k"];
    let commands = writes.iter().flat_map(|write| ["-c", write]);
    let args: Vec<_> = ["-f", "qcow2", &source].into_iter().chain(commands).collect();
    tool("qemu-io", &args);
    tool("qemu-img", &["convert", "-n", "-W", "-f", "qcow2", "-O", "raw", &source, uri]);
    tool("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &source, uri]);
    tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", uri, &back]);
    assert!(fs::read(&back).unwrap() == setup.content());
    let content = setup.content();
    assert_eq!((content[1 << 20], content[7777], content[2 << 20]), (0x5a, 0xa5, 0));
    let bench = |more: &[&str]| {
        let args = [&["bench", "-f", "raw", "-t", "none", "-c", "500", "-d", "16"], more, &[uri]];
        assert!(text(&tool("qemu-img", &args.concat())).contains("Run completed"));
    };
    bench(&["-s", "4k"]);
    bench(&["-w", "-s", "64k", "--flush-interval=50"]);
}

#[test]
fn qemu_io_writes_zeroes_trims_and_flushes_at_any_offset() {
    let setup = Setup::new("mem:8M", &[]);
    let said = setup.export.qemu_io(
        &["-t", "none", "-d", "unmap"],
        &[
            "write -P 1 0 1M",
            "write -f -P 2 4096 8192",
            "write -P 3 5001 3000",
            "write -P 4 1000000 7",
            "flush",
            "write -z 65536 4096",
            "write -z -u 131072 65536",
            "write -z -f 200001 999",
            "discard 262144 65536",
            "flush",
            "read -P 1 0 4096",
            "read -P 2 4096 905",
            "read -P 3 5001 3000",
            "read -P 2 8001 4287",
            "read -P 4 1000000 7",
            "read -P 1 1000007 10000",
            "read -P 0 65536 4096",
            "read -P 0 131072 65536",
            "read -P 0 200001 999",
            "read -P 1 201000 1000",
            "aio_write -P 9 2M 1M",
            "aio_write -P 8 3M 1M",
            "aio_flush",
            "read -P 9 2M 1M",
            "read -P 8 3M 1M",
        ],
    );
    assert!(!said.contains("Pattern verification"), "{said}");
    let content = setup.content();
    assert!(content[5001..8001].iter().all(|byte| *byte == 3));
    assert_eq!((content[5000], content[8001], content[1_000_006]), (2, 2, 4));
}

#[test]
fn a_namespace_that_is_read_only_is_so_over_nbd() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(&folder.path().join("disk"), 4 << 20);
    let setup = Setup::new(&format!("{disk},ro"), &[]);
    assert_eq!(setup.export.nbdinfo()["is_read_only"], true);
    tool("qemu-io", &setup.export.qemu_io_args(&["-r"], &["read -P 0 0 4M"]));
}

#[test]
fn each_request_is_the_command_that_it_means() {
    let folder = tempfile::tempdir().unwrap();
    let trace = path(&folder, "trace");
    let setup = Setup::new("mem:4M", &[&format!("--trace-pdus={trace}")]);
    let commands = || {
        let text = fs::read_to_string(&trace).unwrap();
        let sent =
            text.lines().filter(|line| line.contains("CapsuleCmd") && !line.contains("qid=0"));
        sent.map(str::to_owned).collect::<Vec<_>>()
    };
    for (command, wanted) in [
        ("write -f 4k 4k", &["(Write)", "slba=1 blocks=1", "fua=true"][..]),
        ("write -n -f -z 8k 4k", &["(Write Zeroes)", "slba=2", "fua=true", "deac=false"]),
        ("write -z -u 12k 4k", &["(Write Zeroes)", "slba=3", "fua=false", "deac=true"]),
        ("discard 16k 8k", &["(Dataset Management)", "deallocate"]),
        ("flush", &["(Flush)"]),
    ] {
        let before = commands().len();
        setup.export.qemu_io(&["-t", "none", "-d", "unmap"], &[command]);
        // qemu-io reads a little first, and flushes in the end.
        let sent = commands().split_off(before);
        let is_meant = |line: &&String| wanted.iter().all(|word| line.contains(word));
        assert!(sent.iter().any(|line| is_meant(&line)), "{command}: {sent:#?}");
    }
}

#[test]
fn fio_verifies_what_it_wrote_by_several_connections() {
    let setup = Setup::new("mem:32M", &["--requests", "8"]);
    let engines = text(&tool("fio", &["--enghelp"]));
    assert!(engines.lines().any(|line| line.trim() == "nbd"), "fio has no engine nbd: {engines}");
    let uri = format!("--uri={}", setup.export.uri);
    let result = setup.path("fio.json");
    let output = format!("--output={result}");
    let args = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        "--rw=randrw",
        "--bsrange=512-128k",
        "--blockalign=512",
        "--iodepth=16",
        "--numjobs=4",
        "--size=8M",
        "--offset_increment=8M",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        // It would leave files where it runs.
        "--verify_state_save=0",
        "--output-format=json",
        &output,
    ];
    tool("fio", &args);
    let report = json(&fs::read(&result).unwrap());
    let jobs = report["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 4);
    for job in jobs {
        assert_eq!(job["error"], 0, "{job}");
        assert!(job["write"]["total_ios"].as_u64().unwrap() > 50, "{}", job["write"]);
    }
}

#[test]
fn it_listens_on_tcp_and_its_clients_are_counted() {
    let server = Server::start(&["mem:4M"]);
    let target = server.target();
    let export =
        Exporter::start(&[&target, "--listen", "127.0.0.1:0", "--connections", "2", "--name", "x"]);
    let address = export.uri.strip_prefix("nbd://").unwrap().strip_suffix("/x").unwrap();
    assert_eq!(export.nbdinfo()["export-size"], 4 << 20);
    let greeted = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).map(|()| stream)
    };
    // nbdinfo's place is free again, sooner or later.
    let end = Instant::now() + Duration::from_secs(20);
    let mut clients = Vec::new();
    while clients.len() < 2 {
        assert!(Instant::now() < end, "there is no room for two clients");
        clients.extend(greeted());
    }
    assert!(greeted().is_err());
    eventually("it is told", || export.daemon.log().contains("too many NBD clients"));
    export.stop();
}

#[test]
fn it_ends_in_order_and_takes_its_socket_away() {
    let setup = Setup::new("mem:4M", &[]);
    let socket = setup.path("nbd.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // An idle client does not hold it up, nor is it a reason to complain.
    let mut idle = UnixStream::connect(&socket).unwrap();
    idle.read_exact(&mut [0; 18]).unwrap();
    setup.export.qemu_io(&[], &["write -P 7 0 64k"]);
    let said = setup.export.stop();
    assert_eq!(said, "");
    assert!(!Path::new(&socket).exists());
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(ok(&["read", &setup.server.target(), "--length", "2"]), [7, 7]);
}

#[test]
fn a_socket_that_is_left_is_replaced_and_one_in_use_is_not() {
    let server = Server::start(&["mem:1M"]);
    let folder = tempfile::tempdir().unwrap();
    let (target, socket) = (server.target(), path(&folder, "nbd.sock"));
    let args = [&target[..], "--socket", &socket];
    Exporter::start(&args).daemon.kill();
    assert!(Path::new(&socket).exists(), "it had no time to take it away");
    let export = Exporter::start(&args);
    let error = fails(1, &[&["export", "nbd"], &args[..]].concat());
    assert!(error.contains(&socket) && error.contains("listens"), "{error}");
    assert_eq!(export.nbdinfo()["export-size"], 1 << 20);
    export.stop();
    fs::write(&socket, "precious").unwrap();
    let error = fails(1, &[&["export", "nbd"], &args[..]].concat());
    assert!(error.contains("another file"), "{error}");
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
}

#[test]
fn a_target_that_comes_back_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(&folder.path().join("disk"), 8 << 20);
    let server = Server::start_apart(&[&disk]);
    let at = format!("{}:{}", server.host, server.port);
    let (target, socket) = (server.target(), path(&folder, "nbd.sock"));
    let export = Exporter::start(&[&target, "--socket", &socket]);
    export.qemu_io(&["-t", "none"], &["write -P 1 0 1M", "flush"]);
    server.kill();
    // What is asked for meanwhile waits, and is done then.
    let args: Vec<_> =
        export.qemu_io_args(&["-t", "none"], &["read -P 1 0 1M", "write -P 2 1M 1M"]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| text(&tool("qemu-io", &args)));
        thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished(), "there is no target");
        let _back = Server::start_at(&at, &["--nqn", NQN, "--namespace", &disk]);
        let said = waiting.join().unwrap();
        assert!(said.contains("wrote 1048576/1048576") && !said.contains("failed"), "{said}");
        assert_eq!(ok(&["read", &target, "--offset", "1M", "--length", "2"]), [2, 2]);
    });
}

#[test]
fn another_path_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[port]]\nlisten = \"127.0.0.1:0\"\n[[port]]\nlisten = \"127.0.0.1:0\"\n\
         [[subsystem]]\nnqn = \"{NQN}\"\nhosts = \"any\"\n\
         [[subsystem.namespace]]\nsource = \"mem:4M\"\n"
    );
    let target = common::controlled::Controlled::start(&config);
    let paths = [target.through(1), target.through(2)];
    let socket = path(&folder, "nbd.sock");
    let export = Exporter::start(&[&paths[0], &paths[1], "--socket", &socket]);
    eventually("both paths are there", || {
        target.json(&["controllers"]).as_array().unwrap().len() == 2
    });
    export.qemu_io(&["-t", "none"], &["write -P 3 0 1M"]);
    target.ctl(&["port", "remove", "1"]);
    export.qemu_io(
        &["-t", "none"],
        &["read -P 3 0 1M", "write -P 4 0 1M", "flush", "read -P 4 0 1M"],
    );
    eventually("it is told", || export.daemon.log().contains("lost"));
}

#[test]
fn where_all_paths_are_gone_requests_fail_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_apart(&["mem:1M"]);
    let (target, socket) = (server.target(), path(&folder, "nbd.sock"));
    let export = Exporter::start(&[&target, "--socket", &socket, "--fast-io-fail-tmo", "0.2"]);
    server.kill();
    let started = Instant::now();
    let failed = try_tool("qemu-io", &export.qemu_io_args(&[], &["read 0 4k"]));
    assert!(text(&failed.stdout).contains("Input/output error"), "{failed:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // What was written and is not flushed is not passed over in silence.
    let (status, said) = export.daemon.signal("-INT");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("could not be flushed"), "{said}");
    assert!(!PathBuf::from(socket).exists());
}

#[test]
fn wrong_usage_is_told_before_anything_is_touched() {
    let (url, other) =
        ("nvme+tcp://127.0.0.1:1/nqn.2026-01.a:b", "nvme+tcp://127.0.0.1:1/nqn.2026-01.a:c");
    let folder = tempfile::tempdir().unwrap();
    let socket = path(&folder, "nbd.sock");
    let name = "n".repeat(5000);
    for (args, word) in [
        (&[url][..], "--socket"),
        (&[url, "--socket", &socket, "--listen", "127.0.0.1"], "--listen"),
        (&["--socket", &socket], "no target"),
        (&["nvme+tcp://127.0.0.1:1", "--socket", &socket], "no subsystem"),
        (&[url, other, "--socket", &socket], "not two paths"),
        (&[url, "-a", "127.0.0.1", "--socket", &socket], "TARGET and -a"),
        (&[url, "--listen", "0.0.0.0"], "--allow any"),
        (&[url, "--listen", "::1"], "[::1]"),
        (&[url, "--listen", "127.0.0.1:99999"], "65535"),
        (&[url, "--socket", &socket, "--connections", "0"], "--connections"),
        (&[url, "--socket", &socket, "--ctrl-loss-tmo", "x"], "seconds"),
        (&[url, "--socket", &socket, "--name", &name], "4096"),
    ] {
        let error = fails(2, &[&["export", "nbd"], args].concat());
        assert!(error.contains(word), "{args:?}: {error}");
        assert!(!Path::new(&socket).exists());
    }
}

#[test]
fn why_there_is_no_namespace_is_told() {
    let server = Server::start(&["mem:1M"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = path(&folder, "nbd.sock");
    let run = |target: &str| fails(1, &["export", "nbd", target, "--socket", &socket]);
    let error = run(&server.namespace(7));
    assert!(error.contains("namespace 7"), "{error}");
    let error = run(&format!("{}/nqn.2026-01.org.example:none", server.portal()));
    assert!(error.contains("no such subsystem") && error.contains("nvmf discover"), "{error}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&format!("nvme+tcp://{free}/{NQN}"));
    assert!(error.contains("is a target listening there?"), "{error}");
    let long = path(&folder, &"s".repeat(200));
    let error = fails(1, &["export", "nbd", &server.target(), "--socket", &long]);
    assert!(error.contains("sss"), "{error}");
    assert!(!Path::new(&socket).exists());
}

#[test]
fn junk_on_the_socket_disturbs_nobody() {
    let setup = Setup::new("mem:4M", &[]);
    let socket = setup.path("nbd.sock");
    let mut random = Random(5);
    for round in 0..40 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let junk = match round % 4 {
            0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            1 => [&[0, 0, 0, 3][..], &random.bytes(100)].concat(),
            // Into transmission, and then nonsense.
            2 => [&b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0"[..], &random.bytes(500)].concat(),
            // Half a write.
            _ => [
                &b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0\x25\x60\x95\x13\0\0\0\x01"[..],
                &[0; 16],
                &[0, 1, 0, 0],
                &random.bytes(999),
            ]
            .concat(),
        };
        let _ = stream.write_all(&junk);
    }
    setup.export.qemu_io(&[], &["read -P 0 0 4M"]);
}
