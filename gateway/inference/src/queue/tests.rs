use std::num::NonZeroU32;

use gw_engine::Value;
use tokio::sync::oneshot;

use super::*;
use crate::{Caller, Inference};

type Answer = oneshot::Receiver<Result<Inference<Value>, InferenceError>>;

const SECOND: Duration = Duration::from_secs(1);

/// A queue in front of a model that takes a second per row.
struct Rig {
    queue: Queue,
    now: Instant,
    /// Whether models have worked for what comes.
    goes_on: bool,
    /// Nobody leaves.
    answers: Vec<(&'static str, Answer)>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut QueueLimits)) -> Self {
        Self::weighted(&[], change)
    }

    fn weighted(weights: &[(&str, u32)], change: impl FnOnce(&mut QueueLimits)) -> Self {
        let mut limits = QueueLimits { max: 100, run_time: SECOND, wait_max: Duration::MAX };
        change(&mut limits);
        let weights = weights
            .iter()
            .map(|(name, weight)| ((*name).to_owned(), NonZeroU32::new(*weight).unwrap()));
        let queue = Queue::new("m", limits, Arc::new(Shares::new(weights.collect())));
        for _ in 0..2 {
            queue.ran(&vec![vec![1]], 1, SECOND, true);
        }
        Self { queue, now: Instant::now(), goes_on: false, answers: Vec::new() }
    }

    fn push(&mut self, tenant: &'static str, rows: usize, seconds: u32) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let caller = Arc::new(Caller { tenant: tenant.into(), route: "".into() });
        let job = Job {
            _present: self.queue.shares().present(&caller.tenant),
            caller,
            model: "m".into(),
            since: self.now,
            takes: Duration::ZERO,
            forecast: Duration::ZERO,
            inputs: Vec::new(),
            keeps: false,
            rows,
            joins: true,
            key: vec![vec![1]],
            deadline: self.now + seconds * SECOND,
            goes_on: self.goes_on,
            spent: Arc::default(),
            reply,
            done: 0,
            parts: Vec::new(),
            used: Duration::ZERO,
        };
        self.answers.push((tenant, answer));
        self.queue.push(job, self.now)
    }

    /// Who takes part in the next run of at most `joined` rows, which takes a second per row.
    fn run(&self, joined: usize) -> Vec<String> {
        let room = |_: &Job, _| Room { whole: usize::MAX, part: usize::MAX, joined };
        let taken = self.queue.take(self.now, room, &mut Vec::new());
        for share in &taken {
            let took = SECOND * u32::try_from(share.rows).unwrap();
            self.queue.shares().charge(&share.job.caller.tenant, took);
        }
        taken.iter().map(|share| share.job.caller.tenant.to_string()).collect()
    }

    fn refused(&mut self, tenant: &str) -> usize {
        let of_tenant = self.answers.iter_mut().filter(|(whose, _)| *whose == tenant);
        of_tenant.filter_map(|(_, answer)| answer.try_recv().ok()).filter(Result::is_err).count()
    }
}

#[test]
fn those_who_shared_a_run_may_share_the_next() {
    let millis = Duration::from_millis;
    let now = Instant::now();
    let usual = Patience { enough: 32, ..Patience::default() };
    let shared = usual.after(now, 3, 9, SECOND);
    assert_eq!(shared.wait_of(now, 1), millis(10));
    assert_eq!(shared.wait_of(now + millis(4), 8), millis(6), "no longer than the others do");
    assert_eq!(shared.wait_of(now, 9), Duration::ZERO, "all are there");
    assert_eq!(shared.wait_of(now + SECOND, 1), Duration::ZERO, "it came alone");
    assert_eq!(usual.after(now, 1, 32, SECOND).wait_of(now, 1), Duration::ZERO);
    assert_eq!(shared.after(now, 1, 1, SECOND).wait_of(now, 1), Duration::ZERO);
    let compiled = usual.after(now, 3, 9, 60 * SECOND);
    assert_eq!(compiled.wait_of(now, 1), millis(10), "no longer than they take to ask again");
    let longer = Patience { delay: millis(20), ..shared };
    assert_eq!(longer.wait_of(now, 1), millis(20), "as the manifest says");
}

#[test]
fn a_request_is_refused_when_what_waits_takes_longer_than_it_has() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..3 {
        assert_eq!(rig.push("a", 60, 3600), Ok(()));
    }
    // One row waits for a turn of each; ten rows for ten turns of each.
    assert_eq!(rig.push("a", 1, 2), Err(Refused::Late { wait: 3 * SECOND, may: 2 * SECOND }));
    // They take ten seconds themselves.
    let late = Refused::Late { wait: 30 * SECOND, may: 25 * SECOND };
    assert_eq!(rig.push("a", 10, 35), Err(late));
    assert_eq!(rig.push("a", 1, 3), Ok(()));
    rig.answers.clear();
    assert_eq!(rig.push("a", 1, 1), Ok(()), "nobody waits for the others any more");
}

#[test]
fn a_run_that_failed_holds_up_nobody() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.push("a", 1, 3600), Ok(()));
    rig.run(1);
    assert_eq!(rig.push("b", 1, 0), Err(Refused::Late { wait: SECOND, may: Duration::ZERO }));
    rig.queue.failed();
    assert_eq!(rig.push("b", 1, 0), Ok(()));
}

#[test]
fn an_idle_model_tries_what_it_was_too_slow_for() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.push("a", 1000, 1), Ok(()));
}

#[test]
fn a_request_that_claims_any_number_of_rows_harms_nobody() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.push("a", usize::MAX, 3600), Ok(()), "an idle model tries it");
    let late = Refused::Late { wait: Duration::MAX, may: 3600 * SECOND };
    assert_eq!(rig.push("a", usize::MAX, 3600), Err(late));
    // Another tenant waits for one run of it.
    assert_eq!(rig.push("b", 1, 3600), Ok(()));
}

#[test]
fn nobody_waits_longer_than_the_node_lets_them() {
    let mut rig = Rig::new(|limits| limits.wait_max = 2 * SECOND);
    for _ in 0..3 {
        assert_eq!(rig.push("a", 1, 3600), Ok(()));
    }
    let late = Refused::Late { wait: 3 * SECOND, may: 2 * SECOND };
    assert_eq!(rig.push("a", 1, 3600), Err(late));
    let far = rig.now + 3600 * SECOND;
    let told = rig.queue.refusal("a", far, rig.now);
    let is_late = |wait| wait == 3 * SECOND;
    assert!(matches!(told, Some(Refused::Late { wait, .. }) if is_late(wait)), "as a look tells");
    // Another tenant waits for one turn of the first.
    assert_eq!(rig.queue.refusal("b", far, rig.now), None);
    assert_eq!(rig.push("b", 1, 3600), Ok(()));
}

#[test]
fn tenants_take_turns_however_much_one_asks() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..20 {
        rig.push("greedy", 1, 3600).unwrap();
    }
    assert_eq!(rig.run(1), ["greedy"]);
    for _ in 0..3 {
        rig.push("modest", 1, 3600).unwrap();
    }
    let turns: Vec<String> = (0..6).flat_map(|_| rig.run(1)).collect();
    assert_eq!(turns, ["modest", "greedy", "modest", "greedy", "modest", "greedy"]);
}

#[test]
fn a_run_is_filled_with_each_tenant_in_turn_by_weight() {
    let mut rig = Rig::weighted(&[("b", 2)], |_| {});
    for _ in 0..10 {
        rig.push("a", 1, 3600).unwrap();
    }
    for _ in 0..10 {
        rig.push("b", 1, 3600).unwrap();
    }
    let mut joined = rig.run(6);
    joined.sort_unstable();
    assert_eq!(joined, ["a", "a", "b", "b", "b", "b"]);
}

#[test]
fn what_has_begun_ends_in_time_where_others_would_make_it_late() {
    let mut rig = Rig::new(|_| {});
    let one = |_: &Job, _| Room { whole: 1, part: 1, joined: 0 };
    let run = |rig: &mut Rig| {
        let mut job = rig.queue.take(rig.now, one, &mut Vec::new()).remove(0).job;
        rig.now += SECOND;
        let rows = job.rows;
        job.done += 1;
        if job.left() > 0 {
            rig.queue.put_back(job);
        }
        rows
    };
    // In turns it would end after seven seconds.
    assert_eq!((rig.push("a", 4, 6), rig.push("a", 5, 3600)), (Ok(()), Ok(())));
    assert_eq!([run(&mut rig), run(&mut rig)], [4, 5], "all begin");
    let others: Vec<usize> = (0..3).map(|_| run(&mut rig)).collect();
    assert_eq!(others, [4, 4, 4], "it has three seconds to do, and four left");
    assert_eq!(run(&mut rig), 5);
}

#[test]
fn whom_models_have_worked_for_goes_before_the_fresh_requests_of_its_tenant() {
    let mut rig = Rig::new(|_| {});
    rig.push("a", 1, 3600).unwrap();
    rig.goes_on = true;
    rig.push("a", 2, 3600).unwrap();
    rig.push("a", 3, 60).unwrap();
    let room = |_: &Job, _| Room { whole: usize::MAX, part: usize::MAX, joined: 0 };
    let next = || rig.queue.take(rig.now, room, &mut Vec::new())[0].rows;
    assert_eq!([next(), next(), next()], [3, 2, 1], "the earlier deadline first");
}

#[test]
fn a_full_queue_refuses_whoever_has_the_longest_line() {
    let mut rig = Rig::new(|limits| limits.max = 4);
    for _ in 0..4 {
        assert_eq!(rig.push("greedy", 1, 3600), Ok(()));
    }
    let full = Refused::Full { queue_max: 4 };
    assert_eq!(rig.push("greedy", 1, 3600), Err(full));
    let far = rig.now + 3600 * SECOND;
    assert_eq!(rig.queue.refusal("greedy", far, rig.now), Some(full));
    assert_eq!(rig.queue.refusal("modest", far, rig.now), None);
    for _ in 0..2 {
        assert_eq!(rig.push("modest", 1, 3600), Ok(()));
        assert_eq!((rig.queue.depth(), rig.refused("greedy")), (4, 1));
    }
}

#[test]
fn what_has_begun_is_neither_displaced_nor_lost_without_a_word() {
    let mut rig = Rig::new(|limits| limits.max = 2);
    for _ in 0..2 {
        assert_eq!(rig.push("greedy", 2, 3600), Ok(()));
    }
    let one = |_: &Job, _| Room { whole: 1, part: 1, joined: 0 };
    let mut part = rig.queue.take(rig.now, one, &mut Vec::new()).remove(0).job;
    (part.done, part.used) = (1, SECOND);
    rig.queue.put_back(part);
    // The second has not begun and goes, though it came before what was put back.
    assert_eq!(rig.push("modest", 1, 3600), Ok(()));
    assert!(rig.answers[1].1.try_recv().unwrap().is_err());
    assert!(rig.answers[0].1.try_recv().is_err(), "it goes on");
    rig.answers.remove(0);
    let mut in_vain = Vec::new();
    rig.queue.take(rig.now, one, &mut in_vain);
    assert_eq!(in_vain.iter().map(|job| job.used).collect::<Vec<_>>(), [SECOND]);
}

#[test]
fn the_first_waits_for_others_only_as_long_as_it_is_told_to() {
    let mut rig = Rig::new(|_| {});
    let hour = Duration::from_hours(1);
    let patience = Patience { delay: hour, enough: 3, idle: Some(Duration::ZERO), again: None };
    assert_eq!(rig.queue.wait(&patience), Woken::Idle);
    for _ in 0..2 {
        rig.push("a", 1, 7200).unwrap();
    }
    let soon = Patience { delay: Duration::from_millis(1), ..patience };
    assert_eq!(rig.queue.wait(&soon), Woken::Work, "its time is over");
    rig.push("a", 1, 7200).unwrap();
    assert_eq!(rig.queue.wait(&patience), Woken::Work, "three are enough");
    rig.run(3);
    rig.push("a", 1, 7200).unwrap();
    rig.queue.close();
    assert_eq!(rig.queue.wait(&patience), Woken::Work, "nobody else will come");
    rig.run(1);
    assert_eq!(rig.queue.wait(&patience), Woken::Closed);
}
