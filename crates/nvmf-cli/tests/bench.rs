//! `nvmf bench`: what it does to a target, what it says, and how it fails.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::controlled::{CONFIG, Controlled};
use common::{Server, fails, image, json, ok, run, text};
use serde_json::Value;

/// A short benchmark, its results in JSON.
fn bench(target: &str, args: &[&str]) -> Value {
    bench_for("0.3", target, args)
}

/// One that is measured for so many seconds.
fn bench_for(seconds: &str, target: &str, args: &[&str]) -> Value {
    let bench = ["bench", target, "--time", seconds, "--warmup", "0.05", "-o", "json"];
    json(&ok(&[&bench[..], args].concat()))
}

fn count(results: &Value, kind: &str) -> u64 {
    results[kind]["ios"].as_u64().unwrap()
}

#[test]
fn every_kind_of_workload_does_what_its_name_says_and_is_verified() {
    let server = Server::start(&["mem:8M", "mem:8M,bs=512"]);
    for (rw, reads, writes) in [
        ("read", true, false),
        ("write", false, true),
        ("randread", true, false),
        ("randwrite", false, true),
        ("rw", true, true),
        ("randrw", true, true),
    ] {
        for (nsid, more) in [
            (1, &["--queues", "2", "--cores", "2", "--bs", "8k", "--pin", "0,1"][..]),
            (2, &["--hdgst", "--ddgst", "--qd", "5"]),
        ] {
            let args = [&["--rw", rw, "--verify", "--size", "2M"][..], more].concat();
            let results = bench(&server.namespace(nsid), &args);
            let what = format!("{rw} of namespace {nsid}: {results}");
            assert_eq!(count(&results, "read") > 0, reads, "{what}");
            assert_eq!(count(&results, "write") > 0, writes, "{what}");
            let both = count(&results, "read") + count(&results, "write");
            assert_eq!(count(&results, "total"), both, "{what}");
            assert_eq!((&results["errors"], &results["mismatches"]), (&0.into(), &0.into()));
        }
    }
    // Nothing beside the range was touched.
    let rest = ok(&["read", &server.namespace(1), "--offset", "2M"]);
    assert!(rest.iter().all(|byte| *byte == 0));
}

#[test]
fn large_commands_and_both_engines_move_the_same_bytes() {
    let server = Server::start(&["mem:32M"]);
    for engine in ["auto", "poll"] {
        for bs in ["16k", "256k", "1M"] {
            let args = ["--rw", "randrw", "--verify", "--bs", bs, "--qd", "8", "--engine", engine];
            let results = bench(&server.target(), &args);
            assert!(count(&results, "total") > 0);
            assert_eq!((&results["errors"], &results["mismatches"]), (&0.into(), &0.into()));
        }
    }
}

#[test]
fn the_results_are_in_json_with_these_names() {
    let server = Server::start(&["mem:4M"]);
    let results = bench(&server.target(), &["--rw", "randrw", "--mix", "60", "--seed", "9"]);
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let all = "target workload total read write cpu errors errors_by_status mismatches \
               reconnects lost";
    assert_eq!(names(&results), all.split_whitespace().collect::<Vec<_>>());
    let workload = "rw mix block_size queue_depth queues seconds rate verify header_digest \
                    data_digest seed";
    assert_eq!(names(&results["workload"]), workload.split_whitespace().collect::<Vec<_>>());
    assert_eq!(results["workload"]["mix"], 60);
    assert_eq!(results["workload"]["seed"], 9);
    assert_eq!(results["workload"]["rate"], Value::Null);
    assert_eq!(results["target"], format!("{}/1", server.target()));
    for kind in ["total", "read", "write"] {
        assert_eq!(names(&results[kind]), ["ios", "iops", "bytes_per_second", "latency_us"]);
        let latency = &results[kind]["latency_us"];
        let times = ["mean", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        assert_eq!(names(latency), times);
        let time = |name: &str| latency[name].as_f64().unwrap();
        assert!(time("min") > 0.0 && time("min") <= time("mean"), "{latency}");
        assert!(times[1..].windows(2).all(|pair| time(pair[0]) <= time(pair[1])), "{latency}");
        let (ios, iops) = (count(&results, kind), results[kind]["iops"].as_f64().unwrap());
        let bytes = results[kind]["bytes_per_second"].as_f64().unwrap();
        assert!((iops * 4096.0 - bytes).abs() < 1.0 && ios > 0);
    }
    assert_eq!(names(&results["cpu"]), ["user_seconds", "system_seconds", "us_per_io"]);
    assert!(results["cpu"]["us_per_io"].as_f64().unwrap() > 0.0);
    let pure = |rw: &str| bench(&server.target(), &["--rw", rw])["workload"]["mix"].clone();
    assert_eq!((pure("read"), pure("randwrite")), (100.into(), 0.into()));
}

#[test]
fn the_results_are_a_table_for_people_and_nothing_else_is_said() {
    let server = Server::start(&["mem:4M"]);
    let output = run(&["bench", &server.target(), "--time", "0.2", "--rw", "rw"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in ["rw (70 % reads) of 4096 bytes", "IOPS", "p99.99", "\n read", "total", "CPU of"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn a_rate_is_kept() {
    let server = Server::start(&["null:1G"]);
    let args = ["--rate", "300", "--queues", "2", "--cores", "2"];
    let results = bench_for("1", &server.target(), &args);
    let ios = count(&results, "total");
    // Never faster; slower only on a machine that has much else to do.
    assert!((200..330).contains(&ios), "{ios} in a second");
    assert_eq!(results["workload"]["rate"], 300);
}

#[test]
fn commands_that_fail_are_counted_and_the_status_is_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let server = Server::start(&[&image(&path, 4 << 20)]);
    // The file gets shorter than the namespace.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    // Slowly: the target has something to say of each.
    let slowly = ["--time", "0.3", "--rate", "200", "-o", "json"];
    let output = run(&[&["bench", &server.target()], &slowly[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    common::one_line(&said);
    assert!(said.contains("commands failed: "), "{said}");
    let results = json(&output.stdout);
    assert!(results["errors"].as_u64().unwrap() > 0);
    assert_eq!(results["errors_by_status"].as_object().unwrap().len(), 1);
}

/// A proxy before a target that does something to what passes.
struct Proxy {
    port: u16,
    connections: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Mischief {
    /// Flips a bit of the host's bytes now and then, far behind any header.
    Flip,
    /// Cuts I/O connections after so many bytes of the host's.
    Cut(usize),
}

impl Proxy {
    fn start(to: u16, mischief: Mischief) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for host in listener.incoming() {
                let Ok(host) = host else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                let Ok(target) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let back = (target.try_clone().unwrap(), host.try_clone().unwrap());
                thread::spawn(move || pass(host, target, Some(mischief)));
                thread::spawn(move || pass(back.0, back.1, None));
            }
        });
        Self { port, connections }
    }

    fn target(&self) -> String {
        format!("nvme+tcp://127.0.0.1:{}/{}", self.port, common::NQN)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mischief: Option<Mischief>) {
    let (mut buffer, mut passed) = (vec![0; 1 << 20], 0);
    loop {
        let n = match from.read(&mut buffer) {
            Ok(n) if n > 0 => n,
            _ => break,
        };
        match mischief {
            // Long pieces are payload for the most part; the last byte of a write is always.
            Some(Mischief::Flip) if n > 60_000 => buffer[n - 1] ^= 1,
            Some(Mischief::Cut(after)) if passed + n > after => break,
            _ => {}
        }
        passed += n;
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn bytes_that_change_on_their_way_are_found() {
    let server = Server::start(&["mem:64M"]);
    let proxy = Proxy::start(server.port, Mischief::Flip);
    let args = ["--rw", "write", "--verify", "--bs", "1M", "--qd", "1", "--time", "0.3"];
    let output = run(&[&["bench", &proxy.target(), "-o", "json"], &args[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    common::one_line(&said);
    for part in ["something else than was written: LBA ", "expected", "found", "it is damaged"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(json(&output.stdout)["mismatches"].as_u64().unwrap() > 0);
    // With data digests the target finds out, and the commands fail.
    let output = run(&[&["bench", &proxy.target(), "--ddgst"], &args[..]].concat());
    let said = text(&output.stderr);
    assert!(said.contains("commands failed: Transient Transport Error"), "{said}");
}

#[test]
fn connections_that_are_cut_are_made_again_and_nothing_that_was_acknowledged_is_lost() {
    let server = Server::start(&["mem:16M"]);
    let proxy = Proxy::start(server.port, Mischief::Cut(20_000_000));
    let args = ["--rw", "randrw", "--mix", "20", "--verify", "--bs", "16k"];
    let more = ["--reconnect", "10", "--queues", "2"];
    let results = bench_for("2", &proxy.target(), &[&args[..], &more].concat());
    assert!(results["reconnects"].as_u64().unwrap() > 0, "{results}");
    assert!(results["lost"].as_u64().unwrap() > 0, "{results}");
    assert_eq!((&results["errors"], &results["mismatches"]), (&0.into(), &0.into()));
    assert!(proxy.connections.load(Ordering::Relaxed) > 3);
}

#[test]
fn two_targets_are_two_paths_to_one_namespace() {
    let config =
        CONFIG.replace("[[subsystem]]", "[[port]]\nlisten = \"127.0.0.1:0\"\n[[subsystem]]");
    let target = Controlled::start(&config);
    let proxies = [1, 2].map(|port| {
        let address = target.address(port);
        Proxy::start(address.rsplit(':').next().unwrap().parse().unwrap(), Mischief::Cut(9_000_000))
    });
    let log = target.path("latencies");
    let args = ["--rw", "randrw", "--verify", "--bs", "16k", proxies[1].target().as_str()]
        .map(str::to_owned);
    let more = ["--latency-log".to_owned(), log.to_str().unwrap().to_owned()];
    let args: Vec<_> = args.iter().chain(&more).map(String::as_str).collect();
    let results = bench_for("1.5", &proxies[0].target(), &args);
    assert!(results["reconnects"].as_u64().unwrap() > 0, "{results}");
    assert_eq!((&results["errors"], &results["mismatches"]), (&0.into(), &0.into()));
    assert!(proxies.iter().all(|proxy| proxy.connections.load(Ordering::Relaxed) > 3));
    let log = std::fs::read_to_string(log).unwrap();
    let commands = |line: &str| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!(results["total"]["ios"], log.lines().map(commands).sum::<u64>());
    let error = fails(2, &["bench", &proxies[0].target(), "nvme+tcp://127.0.0.1/nqn.2026-01.a:b"]);
    assert!(error.contains("are not two paths to one namespace"), "{error}");
}

/// A namespace in a file, by which a test sees that a benchmark that writes has begun.
struct Disk {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
    spec: String,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let spec = image(&path, 4 << 20);
        Self { _directory: directory, path, spec }
    }

    /// Waits until something is written.
    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::read(&self.path).unwrap().iter().all(|byte| *byte == 0) {
            assert!(Instant::now() < end, "nothing is written");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_target_that_is_killed_and_started_again_has_what_it_acknowledged() {
    let disk = Disk::new();
    let server = Server::start_apart(&[&disk.spec]);
    let (target, listen) = (server.target(), format!("{}:{}", server.host, server.port));
    let restarting = thread::spawn(move || {
        let mut server = server;
        disk.wait();
        for _ in 0..3 {
            server.kill();
            thread::sleep(Duration::from_millis(100));
            let args = ["--nqn", common::NQN, "--namespace", &disk.spec];
            server = Server::start_at(&listen, &args);
            thread::sleep(Duration::from_millis(500));
        }
        (server, disk)
    });
    let args = ["--rw", "randrw", "--verify", "--reconnect", "30"];
    let results = bench_for("2.5", &target, &args);
    restarting.join().unwrap();
    assert!(results["reconnects"].as_u64().unwrap() > 0, "{results}");
    assert_eq!((&results["errors"], &results["mismatches"]), (&0.into(), &0.into()));
}

#[test]
fn a_connection_that_ends_ends_the_benchmark_unless_it_is_to_be_made_again() {
    let disk = Disk::new();
    let server = Server::start_apart(&[&disk.spec]);
    let target = server.target();
    let killer = thread::spawn(move || {
        disk.wait();
        server.kill();
    });
    let error = fails(1, &["bench", &target, "--rw", "write", "--time", "20"]);
    killer.join().unwrap();
    assert!(error.contains("closed the connection") || error.contains("reset"), "{error}");
    assert!(error.contains(common::NQN) && error.contains("I/O queue 1"), "{error}");
    let start = Instant::now();
    let error = fails(1, &["bench", &target, "--reconnect", "20"]);
    assert!(error.contains("refused"), "never connected: {error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_target_that_stays_away_is_given_up() {
    let disk = Disk::new();
    let server = Server::start_apart(&[&disk.spec]);
    let target = server.target();
    let killer = thread::spawn(move || {
        disk.wait();
        server.kill();
    });
    let write = ["--rw", "write", "--time", "20", "--reconnect", "0.5"];
    let error = fails(1, &[&["bench", &target], &write[..]].concat());
    killer.join().unwrap();
    assert!(error.contains("no path to the namespace: 127."), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_target_that_falls_silent_is_given_up_and_the_limit_is_said() {
    let disk = Disk::new();
    let server = Server::start(&[&disk.spec]);
    let target = server.target();
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            disk.wait();
            server.pause();
        });
        fails(1, &["bench", &target, "--rw", "write", "--time", "20", "--timeout", "1.5"])
    });
    assert!(error.contains("no answer") && error.contains("(1.5s; --timeout"), "{error}");
}

#[test]
fn what_does_not_fit_the_namespace_is_said() {
    let server = Server::start(&["mem:1M", "mem:1M,bs=512"]);
    let directory = tempfile::tempdir().unwrap();
    let spec = image(&directory.path().join("disk"), 1 << 20);
    let protected = Server::start(&[&format!("{spec},ro")]);
    let one = server.namespace(1);
    for (target, args, part) in [
        (&one, &["--bs", "512"][..], "blocks of 4096 bytes, and --bs 512 is no multiple"),
        (&one, &["--bs", "0"], "--bs 0 is no multiple"),
        (&one, &["--bs", "2M"], "one command may move only"),
        (&one, &["--offset", "100"], "--offset 100 is no multiple"),
        (&one, &["--offset", "4k", "--size", "1M"], "1048576 bytes at offset 4096 are not all in"),
        (&one, &["--size", "1k"], "not enough for --cores 1"),
        (&server.namespace(3), &[], "no namespace 3"),
        (&protected.target(), &["--rw", "rw"], "namespace 1 is write protected"),
        (&protected.target(), &["--verify"], "--verify writes what it reads"),
    ] {
        let error = fails(1, &[&["bench", target], args].concat());
        assert!(error.contains(part), "{args:?}: {error}");
    }
    assert!(ok(&["read", &one]).iter().all(|byte| *byte == 0), "something was written");
}

#[test]
fn numbers_that_do_not_go_together_are_wrong_usage() {
    let url = format!("nvme+tcp://127.0.0.1/{}", common::NQN);
    for (args, part) in [
        (&["--qd", "2", "--queues", "3"][..], "--qd 2 is for all queues together"),
        (&["--cores", "2"], "--cores 2 has a thread without a queue"),
        (&["--rw", "sideways"], "sideways"),
        (&["--mix", "101"], "101"),
        (&["--rate", "0"], "--rate"),
        (&["--pin", "x"], "CPUs are numbers"),
        (&["--pin", "0", "--cores", "2", "--queues", "2"], "--pin names 1 CPUs"),
        (&["--engine", "steam"], "there is no engine `steam`"),
        (&["--time", "0"], "--time"),
    ] {
        let error = fails(2, &[&["bench", &url], args].concat());
        assert!(error.contains(part), "{args:?}: {error}");
    }
    let error = fails(2, &["bench", &url, "-a", "127.0.0.1"]);
    assert!(error.contains("too many") || error.contains("TARGET and -a"), "{error}");
}

#[test]
fn idle_associations_are_opened_and_kept() {
    let server = Server::start(&["mem:1M"]);
    let results = bench(&server.target(), &["--idle", "20"]);
    assert_eq!(results["idle"], 20);
    let said = text(&ok(&["bench", &server.target(), "--idle", "2", "--time", "0.1"]));
    assert!(said.starts_with("2 associations with an I/O queue each were opened in"), "{said}");
}

#[test]
fn an_interrupt_ends_it_early_with_what_was_measured() {
    let server = Server::start(&["null:1G"]);
    let mut command = common::nvmf();
    command.args(["bench", &server.target(), "--time", "60", "-o", "json"]).args(common::HOST);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(1500));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let results = json(&output.stdout);
    let seconds = results["workload"]["seconds"].as_f64().unwrap();
    assert!(seconds > 0.1 && seconds < 30.0, "{seconds}");
    assert!(count(&results, "total") > 0);
}
