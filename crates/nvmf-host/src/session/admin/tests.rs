use super::*;
use nvmf::spec::log::AnaGroupDescriptor;
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::IntoBytes;

const KEEP_ALIVE: Duration = Duration::from_secs(4);

fn admin(now: Instant) -> Admin {
    admin_with(KEEP_ALIVE, now)
}

fn admin_with(keep_alive: Duration, now: Instant) -> Admin {
    let controller = IdentifyController {
        cmic: IdentifyController::CMIC_ANA,
        nanagrpid: 2.into(),
        ..Default::default()
    };
    let facts = Facts {
        nsid: 1,
        configuration: Cc::ENABLE,
        events: 1,
        abort_limit: 1,
        ana_log: ana_log_length(&controller),
        group: 2,
        max_transfer: 1 << 20,
        retry_delays: RetryDelays::default(),
        ids: NamespaceIds::default(),
        controller: Box::new(controller),
    };
    Admin::new(facts, keep_alive, now)
}

/// The opcode and token of what comes next.
#[track_caller]
fn sent(next: Next) -> (Sqe, u64) {
    let Next::Io(request) = next else { panic!("nothing is sent: {next:?}") };
    let (sqe, _, token) = request.into_parts();
    (sqe, token)
}

#[track_caller]
fn waits(next: Next) -> Option<Instant> {
    match next {
        Next::LaterOrAt(time) => Some(time),
        Next::Later => None,
        next => panic!("it does not wait: {next:?}"),
    }
}

fn answer(dw0: u32) -> Cqe {
    Cqe::with_dw0(0, dw0)
}

#[test]
fn keep_alive_is_sent_four_times_in_its_time_and_never_twice_at_once() {
    let start = Instant::now();
    let mut admin = admin(start);
    let (aer, _) = sent(admin.next(start));
    assert_eq!(aer.opcode, opcode::admin::ASYNC_EVENT_REQUEST);
    assert_eq!(waits(admin.next(start)), Some(start + KEEP_ALIVE / 4));
    let later = start + KEEP_ALIVE / 4;
    let (keep_alive, token) = sent(admin.next(later));
    assert_eq!(keep_alive.opcode, opcode::admin::KEEP_ALIVE);
    let much_later = start + KEEP_ALIVE;
    assert_eq!(waits(admin.next(much_later)), None);
    let news = admin.complete(token, Ok(&answer(0)), &Buffer::None, much_later);
    assert!(news.is_none());
    sent(admin.next(much_later));
}

#[test]
fn a_keep_alive_that_fails_ends_the_path() {
    let start = Instant::now();
    let mut admin = admin(start);
    sent(admin.next(start));
    let (_, token) = sent(admin.next(start + KEEP_ALIVE));
    let error = Err(CommandError::Status(Status::KEEP_ALIVE_EXPIRED));
    let news = admin.complete(token, error, &Buffer::None, start);
    assert!(matches!(news, Some(News::Broken(cause)) if cause.contains("Keep Alive")));
}

#[test]
fn an_event_is_followed_and_asked_for_again() {
    let now = Instant::now();
    let mut admin = admin(now);
    let (_, token) = sent(admin.next(now));
    let event = answer(Event::ANA_CHANGE.to_dw0());
    assert!(admin.complete(token, Ok(&event), &Buffer::None, now).is_none());
    let (log, token) = sent(admin.next(now));
    let request = GetLogPage::from_sqe(&log);
    // Two groups without their namespaces.
    assert_eq!((request.lid, request.lsp, request.len()), (lid::ANA, AnaHeader::RGO, 16 + 2 * 32));
    assert_eq!(sent(admin.next(now)).0.opcode, opcode::admin::ASYNC_EVENT_REQUEST);
    // Another change meanwhile is looked at after this look.
    admin.look_at_ana();
    admin.look_at_ana();
    waits(admin.next(now));
    let mut page = AnaHeader::new(1, 2).as_bytes().to_vec();
    AnaGroupDescriptor::write(&mut page, 1, 1, AnaState::Optimized, &[]);
    AnaGroupDescriptor::write(&mut page, 2, 1, AnaState::Inaccessible, &[]);
    let page = Buffer::Read(BytesMut::from(&page[..]));
    let news = admin.complete(token, Ok(&answer(0)), &page, now);
    assert!(matches!(news, Some(News::Ana(AnaState::Inaccessible))), "{news:?}");
    assert_eq!(sent(admin.next(now)).0.opcode, opcode::admin::GET_LOG_PAGE);
    waits(admin.next(now));
}

#[test]
fn an_ana_log_that_makes_no_sense_ends_the_path_and_one_without_the_group_does_not() {
    let reserved = |state| {
        let mut page = AnaHeader::new(1, 1).as_bytes().to_vec();
        AnaGroupDescriptor::write(&mut page, 2, 1, AnaState::Optimized, &[]);
        page[32] = state;
        page
    };
    assert_eq!(ana_state(&reserved(1), 2), Ok(Some(AnaState::Optimized)));
    assert_eq!(ana_state(&reserved(1), 3), Ok(None));
    assert!(ana_state(&reserved(7), 2).unwrap_err().contains("0x7"));
    assert!(ana_state(&[0; 3], 2).unwrap_err().contains("header"));
    let many = AnaHeader::new(1, u16::MAX);
    assert!(ana_state(many.as_bytes(), 2).is_err());
}

#[test]
fn the_length_of_the_ana_log_is_bounded_whatever_the_controller_says() {
    let mut controller = IdentifyController::default();
    assert_eq!(ana_log_length(&controller), None);
    controller.cmic = IdentifyController::CMIC_ANA;
    controller.nanagrpid.set(u32::MAX);
    assert_eq!(ana_log_length(&controller), Some(16 + 4095 * 32));
}

#[test]
fn aborts_keep_to_the_controllers_limit() {
    let now = Instant::now();
    let mut admin = admin(now);
    sent(admin.next(now));
    admin.abort(1, 7);
    admin.abort(2, 9);
    let (abort, token) = sent(admin.next(now));
    assert_eq!((abort.opcode, abort.cdw(10)), (opcode::admin::ABORT, 7 << 16 | 1));
    waits(admin.next(now));
    assert!(admin.complete(token, Ok(&answer(0)), &Buffer::None, now).is_none());
    assert_eq!(sent(admin.next(now)).0.cdw(10), 9 << 16 | 2);
}

#[test]
fn a_command_that_has_ended_is_not_aborted_under_its_identifier() {
    let now = Instant::now();
    let mut admin = admin(now);
    sent(admin.next(now));
    admin.abort(1, 7);
    admin.abort(1, 8);
    admin.forget_abort(1, 7);
    assert_eq!(sent(admin.next(now)).0.cdw(10), 8 << 16 | 1);
    waits(admin.next(now));
}

#[test]
fn a_shutdown_is_watched_until_it_is_complete_and_not_for_ever() {
    for complete in [true, false] {
        let now = Instant::now();
        let mut admin = admin_with(Duration::ZERO, now);
        sent(admin.next(now));
        admin.shut_down(now);
        let (set, token) = sent(admin.next(now));
        assert_eq!(set.fctype(), opcode::fabrics::PROPERTY_SET);
        assert!(admin.complete(token, Ok(&answer(0)), &Buffer::None, now).is_none());
        let (_, token) = sent(admin.next(now));
        assert!(admin.complete(token, Ok(&answer(1 << 2)), &Buffer::None, now).is_none());
        let later =
            if complete { now + Duration::from_millis(10) } else { now + SHUTDOWN_PATIENCE };
        let (_, token) = sent(admin.next(later));
        let csts = if complete { 2 << 2 } else { 1 << 2 };
        let news = admin.complete(token, Ok(&answer(csts)), &Buffer::None, later);
        assert!(matches!(news, Some(News::Over)), "{news:?}");
    }
}

#[test]
fn what_is_not_there_is_gone_and_a_size_that_cannot_be_ends_the_path() {
    let now = Instant::now();
    let identified = |result: Result<&Cqe, CommandError>, page: &IdentifyNamespace| {
        let mut admin = admin(now);
        sent(admin.next(now));
        admin.want(Job::Identify);
        let (_, token) = sent(admin.next(now));
        let page = Buffer::Read(BytesMut::from(page.as_bytes()));
        admin.complete(token, result, &page, now)
    };
    let mut page = IdentifyNamespace::default();
    let invalid = Err(CommandError::Status(Status::INVALID_NAMESPACE));
    assert!(matches!(identified(invalid, &page), Some(News::Namespace(None))));
    assert!(matches!(identified(Ok(&answer(0)), &page), Some(News::Namespace(None))));
    page.nsze.set(100);
    page.lbaf[0].ds = 12;
    let news = identified(Ok(&answer(0)), &page);
    assert!(matches!(news, Some(News::Namespace(Some(g))) if g.bytes() == 409_600), "{news:?}");
    page.lbaf[0].ds = 30;
    let news = identified(Ok(&answer(0)), &page);
    let Some(News::Broken(cause)) = news else { panic!("{news:?}") };
    assert!(cause.contains("Identify Namespace"), "{cause}");
}

#[test]
fn of_too_many_events_those_after_the_first_wait() {
    let now = Instant::now();
    let mut admin = admin_with(Duration::ZERO, now);
    let event = answer(Event::RELIABILITY.to_dw0());
    let mut news = Vec::new();
    for _ in 0..Events::MOST {
        let (_, token) = sent(admin.next(now));
        news.extend(admin.complete(token, Ok(&event), &Buffer::None, now));
    }
    assert!(matches!(news[..], [News::Storm]), "{news:?}");
    let end = now + Events::TIME;
    assert_eq!(waits(admin.next(now)), Some(end));
    // What else there is to do does not wait with them.
    admin.look_at_ana();
    assert_eq!(sent(admin.next(now)).0.opcode, opcode::admin::GET_LOG_PAGE);
    for _ in 0..Events::MOST {
        let (aer, token) = sent(admin.next(end));
        assert_eq!(aer.opcode, opcode::admin::ASYNC_EVENT_REQUEST);
        assert!(admin.complete(token, Ok(&event), &Buffer::None, end).is_none(), "said again");
    }
    assert_eq!(waits(admin.next(end)), Some(end + Events::TIME));
}

/// What a controller or a host does next.
#[derive(Clone, Debug)]
enum Step {
    Send,
    /// The answer to one of those under way: a status, dword 0, and bytes at places of its data.
    Answer(usize, u16, u32, Vec<(u16, u8)>),
    Damage(usize),
    Pass(Duration),
    LookAtAna,
    Abort(u16, u16),
    ShutDown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly success, and mostly where structures have something.
    let status = prop_oneof![3 => Just(0), 1 => any::<u16>()];
    let event = prop_oneof![any::<u32>(), Just(0x04_0002), Just(0x0c_0302)];
    let place = prop_oneof![0..160u16, 0..4096u16];
    let bytes = vec((place, any::<u8>()), 0..12);
    let one = prop_oneof![
        6 => Just(Step::Send),
        6 => (0..64usize, status, event, bytes).prop_map(|(at, s, e, b)| Step::Answer(at, s, e, b)),
        1 => (0..64usize).prop_map(Step::Damage),
        2 => (0..3000u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
        1 => Just(Step::LookAtAna),
        1 => any::<(u16, u16)>().prop_map(|(sqid, cid)| Step::Abort(sqid, cid)),
        1 => Just(Step::ShutDown),
    ];
    vec(one, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_answered_little_is_under_way_and_keep_alive_goes_on(steps in steps()) {
        let mut now = Instant::now();
        let mut admin = admin(now);
        let mut under_way: Vec<(Sqe, Buffer, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Send => match admin.next(now) {
                    Next::Io(request) => {
                        let parts = request.into_parts();
                        prop_assert!(parts.1.len() <= 128 << 10);
                        under_way.push(parts);
                    }
                    Next::LaterOrAt(time) => prop_assert!(time > now),
                    Next::Later => {
                        let keeps_alive =
                            |sqe: &Sqe| !sqe.is_fabrics() && sqe.opcode == opcode::admin::KEEP_ALIVE;
                        prop_assert!(under_way.iter().any(|(sqe, ..)| keeps_alive(sqe)));
                    }
                    next => prop_assert!(false, "{next:?}"),
                },
                Step::Answer(at, status, dw0, bytes) if !under_way.is_empty() => {
                    let (_, mut buffer, token) = under_way.swap_remove(at % under_way.len());
                    if let Buffer::Read(data) = &mut buffer {
                        for (at, byte) in bytes {
                            if let Some(place) = data.get_mut(usize::from(at)) {
                                *place = byte;
                            }
                        }
                    }
                    let (status, cqe) = (Status::from_wire(status), answer(dw0));
                    let result = if status.is_success() {
                        Ok(&cqe)
                    } else {
                        Err(CommandError::Status(status))
                    };
                    admin.complete(token, result, &buffer, now);
                }
                Step::Damage(at) if !under_way.is_empty() => {
                    let (_, buffer, token) = under_way.swap_remove(at % under_way.len());
                    let violation = nvmf::proto::violation::Violation::DataDigest { cid: 1 };
                    admin.complete(token, Err(CommandError::Damaged(violation)), &buffer, now);
                }
                Step::Answer(..) | Step::Damage(_) => {}
                Step::Pass(time) => now += time,
                Step::LookAtAna => admin.look_at_ana(),
                Step::Abort(sqid, cid) => admin.abort(sqid, cid),
                Step::ShutDown => admin.shut_down(now),
            }
            // One of each job, but for the events and aborts that the controller takes.
            prop_assert!(under_way.len() <= 9, "{under_way:?}");
        }
    }
}
