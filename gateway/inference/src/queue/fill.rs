//! Who shares a run with its first job.

use super::{Line, Queue, Room, Share, State};

/// A tenant whose requests may join a run.
struct Side {
    /// What it will have used.
    used: f64,
    /// Where to look on in its line.
    next: usize,
    /// Places in its line, and how many rows of each.
    chosen: Vec<(usize, usize)>,
}

impl Queue {
    /// Adds what may share the run of the first job: of each tenant in order, of all in turns, as
    /// their accounts will be.
    pub(super) fn fill(&self, state: &mut State, taken: &mut Vec<Share>, first: usize, room: Room) {
        let key = taken[0].job.key.clone();
        let row = state.pace.time_of(&key, 1).unwrap_or_default();
        let cost = |line: &Line, rows: usize| {
            row.as_secs_f64() * rows as f64 / self.shares.weight(&line.tenant)
        };
        let mut rows = taken[0].rows;
        let side = |line: &Line| Side {
            used: self.shares.used(&line.tenant),
            next: 0,
            chosen: Vec::new(),
        };
        let mut sides: Vec<Side> = state.lines.iter().map(side).collect();
        sides[first].used += cost(&state.lines[first], rows);
        loop {
            let open = |&n: &usize| sides[n].next < state.lines[n].jobs.len();
            let least = |&a: &usize, &b: &usize| sides[a].used.total_cmp(&sides[b].used);
            let next = (0..sides.len()).filter(open).min_by(least);
            let (Some(n), Some(space)) = (next, room.joined.checked_sub(rows)) else { break };
            let (line, side) = (&state.lines[n], &mut sides[n]);
            let job = &line.jobs[side.next];
            let share = match job.left() {
                left if left <= space => Some(left),
                // It is cut anyway, and fills the run.
                left if left > room.whole && space > 0 => Some(space),
                _ => None,
            };
            if let Some(share) = share.filter(|_| job.joins && job.key == key) {
                side.chosen.push((side.next, share));
                side.used += cost(line, share);
                rows += share;
            }
            side.next += 1;
        }
        for (line, side) in state.lines.iter_mut().zip(sides) {
            for (removed, (at, rows)) in side.chosen.into_iter().enumerate() {
                let job = line.jobs.remove(at - removed).expect("it was looked at");
                taken.push(Share { job, rows });
            }
        }
    }
}
