use std::collections::BTreeMap;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

fn some(rate: u64) -> Option<NonZeroU64> {
    Some(NonZeroU64::new(rate).unwrap())
}

fn limiter(begin: Instant, set: impl FnOnce(&mut Limits)) -> Limiter {
    let limiter = Limiter::new(begin);
    limiter.set(limits(set), begin);
    limiter
}

/// Numbers that look random, the same each time.
fn random() -> impl FnMut(u64) -> u64 {
    let mut state = 1_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) % below
    }
}

/// 512 bytes to 1 MiB.
fn any_size(random: &mut impl FnMut(u64) -> u64) -> u64 {
    512 << random(12)
}

/// What was admitted: when, in which direction, how many bytes.
type Admitted = Vec<(Instant, Direction, u64)>;

/// Somebody who always has the next command ready.
fn ask(
    limiter: &Limiter,
    now: &mut Instant,
    until: Instant,
    mut next: impl FnMut() -> (Direction, u64),
) -> Admitted {
    let mut admitted = Vec::new();
    let mut command = next();
    while *now < until {
        match limiter.admit(command.0, command.1, *now) {
            Ok(()) => {
                admitted.push((*now, command.0, command.1));
                command = next();
            }
            Err(again) => {
                assert!(again > *now, "it says when, and not now");
                *now = again;
            }
        }
    }
    admitted
}

fn assert_near(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) * 100 <= expected, "{found} where {expected} were set");
}

#[test]
fn without_limits_all_is_admitted() {
    let begin = Instant::now();
    let limiter = Limiter::new(begin);
    for _ in 0..1000 {
        limiter.admit(Direction::Write, u64::MAX, begin).unwrap();
    }
    assert_eq!(limiter.limits(), Limits::default());
}

#[test]
fn over_ten_seconds_it_is_what_was_set() {
    let mut random = random();
    for rate in [100, 3000, 33_333] {
        let mut now = Instant::now();
        let limiter = limiter(now, |limits| limits.iops = some(rate));
        // The burst is not counted.
        let mut next = || (Direction::Read, any_size(&mut random));
        let until = now + SECOND;
        ask(&limiter, &mut now, until, &mut next);
        let until = now + 10 * SECOND;
        assert_near(ask(&limiter, &mut now, until, &mut next).len() as u64, 10 * rate);
    }
    for rate in [50 << 20, 333_333_333, 5_000_000_000] {
        let mut now = Instant::now();
        let limiter = limiter(now, |limits| limits.bandwidth = some(rate));
        let mut next = || (Direction::Write, any_size(&mut random));
        let until = now + SECOND;
        ask(&limiter, &mut now, until, &mut next);
        let until = now + 10 * SECOND;
        let bytes =
            ask(&limiter, &mut now, until, &mut next).iter().map(|admitted| admitted.2).sum();
        assert_near(bytes, 10 * rate);
    }
}

#[test]
fn small_bytes_at_large_rates_are_not_rounded_away() {
    for rate in [1_000_000_007, 100_000_000_000] {
        let ticks = cost(512, rate);
        assert_near(512 * TICKS_PER_SECOND / ticks, rate);
    }
    assert_eq!((cost(1, u64::MAX), cost(u64::MAX, 1)), (1, u64::MAX));
}

#[test]
fn each_limit_is_for_its_own_direction() {
    let mut random = random();
    let mut now = Instant::now();
    let limiter = limiter(now, |limits| {
        limits.read_iops = some(500);
        limits.write_bandwidth = some(1 << 20);
    });
    // Each direction on its own clock.
    for _ in 0..1000 {
        limiter.admit(Direction::Read, 0, now).ok();
        limiter.admit(Direction::Write, 4096, now).ok();
    }
    assert!(limiter.admit(Direction::Read, 0, now).is_err());
    assert!(limiter.admit(Direction::Write, 1, now).is_err());
    limiter.admit(Direction::Write, 0, now).unwrap();

    limiter.set(limits(|limits| limits.read_bandwidth = some(10 << 20)), now);
    for _ in 0..1000 {
        limiter.admit(Direction::Write, 1 << 20, now).unwrap();
    }
    now += SECOND;
    let until = now + 10 * SECOND;
    let reads = ask(&limiter, &mut now, until, || (Direction::Read, any_size(&mut random)));
    let bytes: u64 = reads.iter().map(|read| read.2).sum();
    assert_near(bytes, 101 << 20);
}

#[test]
fn reads_and_writes_share_what_is_for_both() {
    let mut random = random();
    let mut now = Instant::now();
    let limiter = limiter(now, |limits| {
        limits.iops = some(1000);
        limits.read_iops = some(800);
    });
    let until = now + 10 * SECOND;
    let next = || if random(2) == 0 { (Direction::Read, 1) } else { (Direction::Write, 1) };
    let admitted = ask(&limiter, &mut now, until, next);
    let reads = admitted.iter().filter(|admitted| admitted.1 == Direction::Read).count();
    assert_near(admitted.len() as u64, 10_100);
    assert!((4000..6000).contains(&reads), "{reads}");
}

#[test]
fn no_time_sees_more_than_the_rate_a_burst_and_one_command() {
    let mut random = random();
    let (iops, bandwidth) = (200, 8 << 20);
    let mut now = Instant::now();
    let limiter = limiter(now, |limits| {
        limits.iops = some(iops);
        limits.bandwidth = some(bandwidth);
    });
    let mut admitted = Vec::new();
    for _ in 0..1500 {
        // Sometimes all at once, sometimes after a pause.
        let longest = if random(2) == 0 { 1 } else { 40_000 };
        now += Duration::from_micros(random(longest));
        let bytes = any_size(&mut random);
        if limiter.admit(Direction::Read, bytes, now).is_ok() {
            admitted.push((now, bytes));
        }
    }
    assert!(admitted.len() > 150, "{}", admitted.len());
    for (at, (first, _)) in admitted.iter().enumerate() {
        let (mut commands, mut bytes) = (0.0, 0.0);
        for (then, size) in &admitted[at..] {
            let time = (*then - *first + BURST).as_secs_f64();
            // Without this one, which may leave a debt.
            assert!(commands <= time * iops as f64 + 1e-3, "{commands} in {time} s");
            assert!(bytes <= time * bandwidth as f64 + 1e-3, "{bytes} in {time} s");
            commands += 1.0;
            bytes += *size as f64;
        }
    }
}

#[test]
fn what_is_larger_than_a_burst_passes_and_is_paid_for() {
    let begin = Instant::now();
    let limiter = limiter(begin, |limits| limits.bandwidth = some(1 << 20));
    limiter.admit(Direction::Write, 4 << 20, begin).unwrap();
    let again = limiter.admit(Direction::Write, 512, begin).unwrap_err();
    assert_eq!(again - begin, 4 * SECOND - BURST);
    assert!(limiter.admit(Direction::Write, 512, again - Duration::from_nanos(1)).is_err());
    limiter.admit(Direction::Write, 512, again).unwrap();
}

#[test]
fn a_change_takes_effect_at_once() {
    let mut now = Instant::now();
    let limiter = limiter(now, |limits| limits.bandwidth = some(1));
    limiter.admit(Direction::Read, 1 << 20, now).unwrap();
    assert!(limiter.admit(Direction::Read, 1, now).unwrap_err() > now + 1_000_000 * SECOND);

    // A debt of days is no debt of the new limit, but there is no new burst either.
    let fast = limits(|limits| limits.bandwidth = some(100 << 20));
    limiter.set(fast, now);
    assert_eq!(limiter.limits(), fast);
    let until = now + SECOND;
    let admitted = ask(&limiter, &mut now, until, || (Direction::Read, 1 << 16));
    assert_near(admitted.len() as u64, 1600);

    limiter.set(limits(|limits| limits.bandwidth = some(1 << 20)), now);
    let until = now + SECOND;
    let admitted = ask(&limiter, &mut now, until, || (Direction::Read, 1 << 10));
    assert!((1000..1030).contains(&admitted.len()), "{}", admitted.len());

    limiter.set(Limits::default(), now);
    (0..10_000).for_each(|_| limiter.admit(Direction::Read, 1 << 20, now).unwrap());
}

#[test]
fn setting_the_same_again_forgives_nothing() {
    let begin = Instant::now();
    let limits = limits(|limits| limits.bandwidth = some(1000));
    let limiter = Limiter::new(begin);
    limiter.set(limits, begin);
    limiter.admit(Direction::Read, 5000, begin).unwrap();
    limiter.set(limits, begin);
    assert_eq!(limiter.admit(Direction::Read, 1, begin), Err(begin + 5 * SECOND - BURST));
}

#[test]
fn what_was_taken_is_given_back_if_the_rest_is_not_to_be_had() {
    let begin = Instant::now();
    let limiter = limiter(begin, |limits| {
        limits.iops = some(1000);
        limits.bandwidth = some(1000);
    });
    let (commands, bytes) = (&limiter.all.commands, &limiter.all.bytes);
    // As if another thread had taken the bytes between the question and the answer.
    let claims = [(commands, 1), (bytes, 500), (bytes, 1), (commands, 1)];
    assert_eq!(limiter.take(claims, 0), Err(cost(400, 1000)));
    for bucket in [commands, bytes] {
        assert_eq!(bucket.paid.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_one_limit_refuses_costs_nothing_of_the_others() {
    let begin = Instant::now();
    let limiter = limiter(begin, |limits| {
        limits.iops = some(100);
        limits.write_bandwidth = some(1000);
    });
    limiter.admit(Direction::Write, 1000, begin).unwrap();
    for _ in 0..1000 {
        assert!(limiter.admit(Direction::Write, 1, begin).is_err());
    }
    let admitted = (0..100).filter(|_| limiter.admit(Direction::Read, 1, begin).is_ok());
    assert_eq!(admitted.count(), 10, "the rest of a burst of 10 and one");
}

/// At one moment, so that the result is known: threads are refused by the second limit after they
/// have taken from the first.
#[test]
fn threads_together_get_what_one_would_get() {
    for _ in 0..50 {
        let begin = Instant::now();
        let limiter = limiter(begin, |limits| {
            limits.iops = some(2000);
            limits.read_iops = some(1000);
        });
        let ask = || (0..200).filter(|_| limiter.admit(Direction::Read, 1, begin).is_ok()).count();
        let admitted: usize = std::thread::scope(|scope| {
            let threads = [0; 3].map(|_| scope.spawn(ask));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 101);
        assert_eq!(limiter.all.commands.paid.load(Ordering::Relaxed), 101 * cost(1, 2000));
        assert_eq!(limiter.read.commands.paid.load(Ordering::Relaxed), 101 * cost(1, 1000));
    }
}

/// Who comes first is served first; then a large command is not held up by small ones, however
/// many.
#[test]
fn large_commands_do_not_starve_beside_small_ones() {
    let begin = Instant::now();
    let limiter = limiter(begin, |limits| limits.bandwidth = some(10 << 20));
    let sizes: [u64; 5] = [4 << 20, 512, 4096, 4096, 512];
    let mut admitted = [0_u64; 5];
    let mut turn = 0_u64;
    let mut waiting: BTreeMap<(Instant, u64), usize> =
        (0..5).map(|client| ((begin, client as u64), client)).collect();
    while let Some(((now, number), client)) = waiting.pop_first() {
        if now > begin + 60 * SECOND {
            break;
        }
        let again = match limiter.admit(Direction::Read, sizes[client], now) {
            Ok(()) => {
                admitted[client] += 1;
                turn += 1;
                (now, turn + 5)
            }
            // It keeps its place.
            Err(again) => (again, number),
        };
        waiting.insert(again, client);
    }
    // The rate is enough for 150 of the large ones, and after each of them all others have a turn.
    assert!((100..=160).contains(&admitted[0]), "{admitted:?}");
    assert!(admitted[1..].iter().all(|small| *small > 100), "{admitted:?}");
}

#[test]
fn limits_are_written_as_they_are_read() {
    let text = "iops = 5\nread-bandwidth = 1048576\n";
    let read: Limits = toml::from_str(text).unwrap();
    let expected = limits(|limits| {
        limits.iops = some(5);
        limits.read_bandwidth = some(1 << 20);
    });
    assert_eq!(read, expected);
    assert_eq!(toml::to_string(&read).unwrap(), text);
    assert_eq!(toml::from_str::<Limits>("").unwrap(), Limits::default());
    for wrong in ["iops = 0", "read_iops = 5", "iops = -1"] {
        assert!(toml::from_str::<Limits>(wrong).is_err(), "{wrong}");
    }
}
