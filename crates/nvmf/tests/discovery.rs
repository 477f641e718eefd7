//! Walking and watching discovery controllers, honest ones and liars.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may stop at a surprise")]

mod scripted;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nvmf::host::HostOptions;
use nvmf::host::discovery::{
    Discoverer, DiscoveryController, DiscoveryEvent, Reason, WalkLimits, Walked,
};
use nvmf::host::{DiscoveryLog, identity::Identity};
use nvmf::spec::identify::controller_type;
use nvmf::spec::log::{DiscoveryEntry, DiscoveryHeader, GetLogPage, adrfam, lid, subtype};
use nvmf::spec::opcode::admin;
use nvmf::spec::{HostId, Nqn, Sqe, Status};
use nvmf::{Deadline, Error};
use scripted::{Answer, Script, Shared, listen, nqn, options, script, soon};
use zerocopy::IntoBytes;

/// The part of a log page that a command asks for.
fn part(page: &[u8], sqe: &Sqe) -> Answer {
    let from = usize::try_from(GetLogPage::from_sqe(sqe).offset).unwrap();
    Answer::Data(page.get(from..).unwrap_or_default().to_vec())
}

/// A page of these entries.
fn page(generation: u64, entries: &[DiscoveryEntry]) -> Vec<u8> {
    let count = u64::try_from(entries.len()).unwrap();
    [DiscoveryHeader::new(generation, count).as_bytes(), entries.as_bytes()].concat()
}

fn referral(address: SocketAddr, name: &str) -> DiscoveryEntry {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    DiscoveryEntry::tcp(subtype::REFERRAL, &nqn(name), adrfam::IPV4, &ip, &port).unwrap()
}

/// A discovery controller that answers Get Log Page so, and knows little else.
fn controller(mut log: impl FnMut(&Sqe) -> Answer + Send + 'static) -> (SocketAddr, Shared) {
    let mut script = script(move |_, sqe| match sqe.opcode {
        admin::GET_LOG_PAGE if GetLogPage::from_sqe(sqe).lid == lid::DISCOVERY => log(sqe),
        admin::SET_FEATURES => Answer::Result(0),
        admin::ASYNC_EVENT_REQUEST => Answer::Silence,
        _ => Answer::Fail(Status::INVALID_OPCODE),
    });
    script.identify.cntrltype = controller_type::DISCOVERY;
    serve(script)
}

fn serve(script: Script) -> (SocketAddr, Shared) {
    let script = Arc::new(Mutex::new(script));
    (listen(&script), script)
}

fn at(address: SocketAddr) -> DiscoveryController {
    DiscoveryController::new(&address.ip().to_string(), address.port())
}

fn quick() -> HostOptions {
    let mut options = options();
    options.timeout = Duration::from_millis(300);
    options
}

fn walk(
    beginnings: &[SocketAddr],
    limits: &WalkLimits,
    options: HostOptions,
) -> Walked<DiscoveryLog, Error> {
    Discoverer::new(options).walk(beginnings.iter().map(|address| at(*address)), limits)
}

#[test]
fn a_controller_is_asked_as_the_host_that_it_is_to_be() {
    let (address, script) = controller(|sqe| part(&page(1, &[]), sqe));
    let host = Identity { host: nqn("nqn.2026-01.example:other"), host_id: HostId([5; 16]) };
    let own = nqn("nqn.2026-01.example:discovery");
    let controller = at(address).with_identity(host.clone()).with_subsystem(own.clone());
    let discoverer = Discoverer::new(options());
    assert_eq!(discoverer.log(&controller).unwrap().generation, 1);
    let script = script.lock().unwrap();
    let connect = &script.connects[0];
    assert_eq!((&connect.host, connect.host_id), (&host.host, host.host_id));
    assert_eq!(connect.subsystem, own);
}

#[test]
fn an_io_controller_is_no_discovery_controller() {
    let mut plain = scripted::plain();
    plain.identify.cntrltype = controller_type::IO;
    let (address, _script) = serve(plain);
    let error = Discoverer::new(options()).log(&at(address)).unwrap_err();
    assert!(matches!(error, Error::NotDiscovery { .. }), "{error}");
}

#[test]
fn liars_are_passed_over_each_with_its_error() {
    let generation = AtomicU64::new(0);
    let unsettled =
        controller(move |sqe| part(&page(generation.fetch_add(1, Ordering::Relaxed), &[]), sqe));
    let endless = controller(|sqe| part(DiscoveryHeader::new(1, 1 << 40).as_bytes(), sqe));
    let mute = controller(|_| Answer::Silence);
    let honest = controller(|sqe| part(&page(9, &[]), sqe));
    let all = [unsettled.0, endless.0, mute.0, honest.0];
    let begun = Instant::now();
    let [unsettled, endless, mute, honest] =
        walk(&all, &WalkLimits::default(), quick()).visits.try_into().unwrap();
    assert!(matches!(unsettled.log, Err(Error::DiscoveryUnstable { .. })), "{:?}", unsettled.log);
    assert!(matches!(endless.log, Err(Error::InvalidData { .. })), "{:?}", endless.log);
    assert!(mute.log.unwrap_err().is_timeout());
    assert_eq!(honest.log.unwrap().generation, 9);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_controller_that_answers_each_time_at_the_last_moment_is_not_waited_for_forever() {
    let entries = DiscoveryHeader::new(1, 16 << 10);
    let (address, script) = controller(move |sqe| {
        thread::sleep(Duration::from_millis(200));
        part(entries.as_bytes(), sqe)
    });
    // 8 KiB at a time: more than two thousand commands.
    script.lock().unwrap().identify.mdts = 1;
    let begun = Instant::now();
    let walked = walk(&[address], &WalkLimits::default(), quick());
    assert!(walked.visits[0].log.as_ref().unwrap_err().is_timeout());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_log_of_thousands_of_referrals_is_followed_no_further_than_the_limit() {
    let own: Arc<Mutex<Vec<u8>>> = Arc::default();
    let page_of = Arc::clone(&own);
    let (address, script) = controller(move |sqe| part(&page_of.lock().unwrap(), sqe));
    // All of them lead here, and each has another name.
    let many = 0..5000;
    let entries: Vec<_> = many.map(|n| referral(address, &format!("nqn.2026-01.a:{n}"))).collect();
    *own.lock().unwrap() = page(1, &entries);
    let mut limits = WalkLimits::default();
    limits.referred = 6;
    let walked = walk(&[address], &limits, options());
    assert_eq!(walked.visits.len(), 7);
    assert!(walked.visits.iter().all(|visit| visit.log.is_ok()));
    assert_eq!(walked.passed_over[0].reason, Reason::Referred(6));
    assert_eq!(walked.passed_over[0].count, 4994);
    assert_eq!(script.lock().unwrap().connects.len(), 7);
    // By the number of entries it is less.
    let mut limits = WalkLimits::default();
    limits.entries = 12_000;
    let walked = walk(&[address], &limits, options());
    assert_eq!(walked.visits.len(), 3);
    let entries = |reason| matches!(reason, Reason::Entries(12_000));
    assert!(walked.passed_over.iter().any(|one| entries(one.reason)), "{:?}", walked.passed_over);
}

/// The next event of a watch.
#[track_caller]
fn next(watch: &mut nvmf::host::discovery::DiscoveryWatch) -> DiscoveryEvent {
    watch.next(soon()).unwrap_or_else(|| panic!("nothing happens")).event
}

#[test]
fn a_watch_is_kept_alive_and_asks_for_the_event_that_it_wants() {
    let (address, script) = controller(|sqe| part(&page(1, &[]), sqe));
    script.lock().unwrap().identify.oaes.set(1 << 31);
    let mut options = options();
    options.keep_alive = Duration::from_secs(1);
    let mut watch = Discoverer::new(options).watch([at(address)], &WalkLimits::default());
    assert!(matches!(next(&mut watch), DiscoveryEvent::Connected { .. }));
    assert!(watch.next(Deadline::after(Duration::from_millis(1600))).is_none());
    let script = script.lock().unwrap();
    assert_eq!(script.connects[0].command.kato_ms, 1000);
    let count = |opcode| script.commands.iter().filter(|sqe| sqe.opcode == opcode).count();
    assert!((2..=4).contains(&count(admin::KEEP_ALIVE)), "{}", count(admin::KEEP_ALIVE));
    assert_eq!(count(admin::ASYNC_EVENT_REQUEST), 1);
    let set = script.commands.iter().find(|sqe| sqe.opcode == admin::SET_FEATURES).unwrap();
    assert_eq!((set.cdw(10), set.cdw(11)), (0x0b, 1 << 31));
}

#[test]
fn a_controller_that_tells_events_all_the_time_is_heard_now_and_then() {
    let looks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    let mut flooding = script(move |_, sqe| match sqe.opcode {
        admin::GET_LOG_PAGE => {
            let look = counted.fetch_add(1, Ordering::Relaxed);
            part(&page(look / 2, &[]), sqe)
        }
        admin::SET_FEATURES => Answer::Result(0),
        admin::ASYNC_EVENT_REQUEST => Answer::Result(0x70_f002),
        _ => Answer::Fail(Status::INVALID_OPCODE),
    });
    flooding.identify.cntrltype = controller_type::DISCOVERY;
    flooding.identify.oaes.set(1 << 31);
    let (address, _script) = serve(flooding);
    let mut watch = Discoverer::new(options()).watch([at(address)], &WalkLimits::default());
    assert!(matches!(next(&mut watch), DiscoveryEvent::Connected { .. }));
    // The log has no other entries, so there is nothing to tell.
    assert!(watch.next(Deadline::after(Duration::from_secs(1))).is_none());
    let looks = looks.load(Ordering::Relaxed) / 2;
    assert!((3..=14).contains(&looks), "{looks} looks in a second");
}

#[test]
fn one_that_refuses_is_told_of_once_and_tried_until_it_does_not() {
    let (address, script) = controller(|sqe| part(&page(1, &[]), sqe));
    let broken = Arc::clone(&script);
    script.lock().unwrap().identify.oaes.set(1 << 31);
    let mut watch = Discoverer::new(quick()).watch([at(address)], &WalkLimits::default());
    assert!(matches!(next(&mut watch), DiscoveryEvent::Connected { .. }));
    broken.lock().unwrap().refuse = Some(nvmf::proto::connect::Refusal::data(0, "not now"));
    watch.set_beginnings([at(address).with_subsystem(Nqn::lenient("nqn.a").unwrap())]);
    assert!(matches!(next(&mut watch), DiscoveryEvent::Left));
    assert!(matches!(next(&mut watch), DiscoveryEvent::Lost { error: Error::Connect(_) }));
    assert!(watch.next(Deadline::after(Duration::from_millis(900))).is_none(), "told once");
    broken.lock().unwrap().refuse = None;
    let DiscoveryEvent::Connected { log, changes } = next(&mut watch) else { panic!() };
    assert_eq!((log.generation, changes.is_empty()), (1, true));
}

#[test]
fn a_watch_that_is_over_leaves_no_connection() {
    let (address, script) = controller(|sqe| part(&page(1, &[]), sqe));
    let mut watch = Discoverer::new(options()).watch([at(address)], &WalkLimits::default());
    assert!(matches!(next(&mut watch), DiscoveryEvent::Connected { .. }));
    drop(watch);
    // The script is shared with the thread that serves the connection, as long as there is one.
    let end = Instant::now() + Duration::from_secs(10);
    while Arc::strong_count(&script) > 2 {
        assert!(Instant::now() < end, "it is still connected");
        thread::sleep(Duration::from_millis(10));
    }
}
