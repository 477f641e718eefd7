//! Random commands, against a model that keeps lists and follows the specification's sentences one
//! by one, and against what is always true.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Command {
    Register { action: RegisterAction, ignore: bool, persistence: PersistenceChange },
    Acquire { action: AcquireAction, rtype: ReservationType },
    Release(ReservationRelease),
    Persistence(bool),
}

/// A command of a host, with its two keys.
type Step = (u8, Command, u64, u64);

fn rtype() -> impl Strategy<Value = ReservationType> {
    proptest::sample::select(&ReservationType::ALL[..])
}

fn step() -> impl Strategy<Value = Step> {
    use {AcquireAction::*, PersistenceChange::*, RegisterAction::*};
    let register = (
        proptest::sample::select(vec![Register, Register, Unregister, Replace]),
        any::<bool>(),
        proptest::sample::select(vec![Keep, Keep, Clear, Set]),
    );
    let acquire = (proptest::sample::select(vec![Acquire, Preempt, PreemptAndAbort]), rtype());
    let command = prop_oneof![
        4 => register.prop_map(|(action, ignore, persistence)| Command::Register { action, ignore, persistence }),
        4 => acquire.prop_map(|(action, rtype)| Command::Acquire { action, rtype }),
        2 => rtype().prop_map(|rtype| Command::Release(ReservationRelease::Release(rtype))),
        1 => Just(Command::Release(ReservationRelease::Clear)),
        1 => any::<bool>().prop_map(Command::Persistence),
    ];
    (1..5u8, command, 0..3u64, 0..3u64)
}

/// Registrants and holders, each in a list of its own.
#[derive(Clone, Default)]
struct Model {
    registrants: Vec<(u8, u64)>,
    rtype: Option<ReservationType>,
    holders: Vec<u8>,
    generation: u32,
}

impl Model {
    fn key(&self, n: u8) -> Option<u64> {
        self.registrants.iter().find(|(host, _)| *host == n).map(|(_, key)| *key)
    }

    fn unregister(&mut self, n: u8) {
        self.registrants.retain(|(host, _)| *host != n);
        self.holders.retain(|host| *host != n);
        if self.holders.is_empty() {
            self.rtype = None;
        }
    }

    fn register(&mut self, n: u8, key: u64) {
        self.registrants.retain(|(host, _)| *host != n);
        self.registrants.push((n, key));
        if self.rtype.is_some_and(ReservationType::held_by_all) && !self.holders.contains(&n) {
            self.holders.push(n);
        }
    }

    fn hold(&mut self, n: u8, rtype: ReservationType) {
        self.rtype = Some(rtype);
        self.holders = match rtype.held_by_all() {
            true => self.registrants.iter().map(|(host, _)| *host).collect(),
            false => vec![n],
        };
    }

    /// Whether the command succeeds, having executed it; if not, nothing is as it should be.
    fn execute(&mut self, (n, command, first, second): Step) -> bool {
        let key = self.key(n);
        match command {
            Command::Register { action, ignore, .. } => {
                match action {
                    RegisterAction::Register if key.is_some_and(|key| key != second) => {
                        return false;
                    }
                    RegisterAction::Register => self.register(n, second),
                    _ if !ignore && key != Some(first) => return false,
                    RegisterAction::Unregister => self.unregister(n),
                    RegisterAction::Replace => self.register(n, second),
                }
                self.generation += 1;
            }
            Command::Acquire { .. } | Command::Release(_) if key != Some(first) => return false,
            Command::Acquire { action: AcquireAction::Acquire, rtype } => match self.rtype {
                None => self.hold(n, rtype),
                Some(held) => return held == rtype && self.holders.contains(&n),
            },
            Command::Acquire { rtype, .. } => {
                let all = self.rtype.is_some_and(ReservationType::held_by_all);
                let holder = self.holders.first().and_then(|host| self.key(*host));
                if self.rtype.is_some() && !all && holder != Some(second) && second == 0 {
                    return false;
                }
                if self.rtype.is_some() && if all { second == 0 } else { holder == Some(second) } {
                    self.registrants.retain(|(host, key)| *host == n || (!all && *key != second));
                    self.hold(n, rtype);
                } else {
                    let matching: Vec<u8> = self
                        .registrants
                        .iter()
                        .filter(|(_, key)| *key == second)
                        .map(|(host, _)| *host)
                        .collect();
                    if matching.is_empty() {
                        return false;
                    }
                    matching.into_iter().for_each(|host| self.unregister(host));
                }
                self.generation += 1;
            }
            Command::Release(ReservationRelease::Release(rtype)) => {
                if self.holders.contains(&n) {
                    if self.rtype != Some(rtype) {
                        return false;
                    }
                    (self.rtype, self.holders) = (None, Vec::new());
                }
            }
            Command::Release(ReservationRelease::Clear) => {
                *self = Self { generation: self.generation + 1, ..Self::default() };
            }
            Command::Persistence(_) => {}
        }
        true
    }

    fn summary(&self) -> Summary {
        let mut registrants: Vec<_> = self
            .registrants
            .iter()
            .map(|(host, key)| (*host, *key, self.holders.contains(host)))
            .collect();
        registrants.sort_unstable();
        Summary { generation: self.generation, rtype: self.rtype, registrants }
    }

    fn admits(&self, n: u8, access: Access) -> bool {
        let registered = self.key(n).is_some();
        match (self.rtype, access) {
            (None, _) => true,
            _ if self.holders.contains(&n) => true,
            (
                Some(WriteExclusive | WriteExclusiveRegistrants | WriteExclusiveAll),
                Access::Read,
            ) => true,
            (Some(WriteExclusiveRegistrants | ExclusiveAccessRegistrants), _) => registered,
            _ => false,
        }
    }
}

fn execute(
    reservations: &Reservations,
    (n, command, first, second): Step,
) -> Result<Changes, Status> {
    match command {
        Command::Register { action, ignore, persistence } => {
            let command = ReservationRegister { action, ignore_key: ignore, persistence };
            let data = RegisterData { crkey: first.into(), nrkey: second.into() };
            reservations.register(host(n), &command, &data)
        }
        Command::Acquire { action, rtype } => {
            reservations.do_acquire(n, action, rtype, (first, second))
        }
        Command::Release(release) => reservations.do_release(n, release, first),
        Command::Persistence(on) => reservations.set_persistence(on),
    }
}

proptest! {
    #[test]
    fn commands_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let reservations = Reservations::new(true);
        let mut model = Model::default();
        let mut on_file = None;
        for step in steps {
            let before = model.clone();
            let result = execute(&reservations, step);
            if !model.execute(step) {
                model = before.clone();
            }
            let summary = reservations.summary();
            prop_assert_eq!(result.is_ok(), before.clone().execute(step), "{:?}: {:?}", step, result);
            prop_assert_eq!(&summary, &model.summary(), "{:?}", step);
            for n in 1..6 {
                for access in [Access::Read, Access::Write] {
                    let admitted = reservations.check(host(n), access).is_ok();
                    prop_assert_eq!(admitted, model.admits(n, access), "{} {:?}", n, access);
                }
            }

            // A reservation has a holder, and all holders are registered.
            let holders = summary.registrants.iter().filter(|(_, _, holds)| *holds).count();
            prop_assert_eq!(summary.rtype.is_some(), holders > 0);

            let changes = result.unwrap_or_default();
            for (told, what) in &changes.notify {
                let told = told.0[0];
                prop_assert_ne!(told, step.0, "told of its own command");
                prop_assert!(before.key(told).is_some());
                let stays = *what == ReservationReleased;
                prop_assert_eq!(model.key(told).is_some(), stays, "{:?}", what);
            }
            // Every host that lost its registration to another is told.
            for (lost, _) in &before.registrants {
                if model.key(*lost).is_none() && *lost != step.0 {
                    prop_assert!(changes.notify.iter().any(|(told, _)| *told == host(*lost)));
                }
            }
            for aborted in &changes.abort {
                prop_assert!(changes.notify.contains(&(*aborted, RegistrationPreempted)));
            }

            // Who saves when told to has on file what there is.
            if changes.save {
                on_file = reservations.saved();
            }
            prop_assert_eq!(&on_file, &reservations.saved());
            if let Some(saved) = reservations.saved() {
                let text = serde_json::to_string(&saved).unwrap();
                let restored = Reservations::restore(serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(restored.summary(), summary);
                prop_assert_eq!(restored.saved(), Some(saved));
            }
        }
    }
}
