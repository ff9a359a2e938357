//! Those who wait for a place, in the order of their turns.
//!
//! Each tenant has a queue of its own, and the queues have their turns one after the other. So
//! however many requests a tenant keeps waiting, the next one of another waits for at most one turn
//! of each tenant. A full line makes room for a tenant with fewer requests in it: the last of the
//! longest queue goes. So whoever would have less than an equal share of the line is let in.

use std::collections::VecDeque;
use std::sync::Arc;

/// Queues of waiters; `T` is how one is told that its turn has come.
pub(super) struct Line<T> {
    /// One for each tenant who waits, none of them empty; that of the next turn is the first.
    queues: VecDeque<Queue<T>>,
    /// Waiters in all queues.
    waiting: usize,
    waiting_max: usize,
    /// Waiters that were ever let in.
    numbers: u64,
    /// Places that are kept for whoever is next.
    pub(super) saved: u32,
}

struct Queue<T> {
    tenant: Arc<str>,
    /// With their numbers, which grow.
    waiters: VecDeque<(u64, Waiter<T>)>,
}

/// One who waits.
pub(super) struct Waiter<T> {
    pub(super) tenant: Arc<str>,
    /// How many places it needs, all at once.
    pub(super) places: u32,
    pub(super) told: T,
}

/// Where a waiter is in the line.
pub(super) struct Ticket {
    tenant: Arc<str>,
    number: u64,
}

impl<T> Line<T> {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { queues: VecDeque::new(), waiting: 0, waiting_max, numbers: 0, saved: 0 }
    }

    pub(super) fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets `waiter` in, and hands out who had to make room for it; nothing where it is refused.
    pub(super) fn join(&mut self, waiter: Waiter<T>) -> Option<(Ticket, Option<Waiter<T>>)> {
        let own = self.queues.iter().position(|queue| queue.tenant == waiter.tenant);
        let displaced = if self.waiting < self.waiting_max {
            None
        } else {
            Some(self.displace(own.map_or(0, |at| self.queues[at].waiters.len()))?)
        };
        let (tenant, number) = (Arc::clone(&waiter.tenant), self.numbers);
        let numbered = (number, waiter);
        match own {
            Some(at) => self.queues[at].waiters.push_back(numbered),
            None => {
                let (tenant, waiters) = (Arc::clone(&tenant), VecDeque::from([numbered]));
                self.queues.push_back(Queue { tenant, waiters });
            }
        }
        self.numbers += 1;
        self.waiting += 1;
        Some((Ticket { tenant, number }, displaced))
    }

    /// Takes out the last waiter of the longest queue, where that stays as long as one of `own`
    /// waiters and one more: two tenants would else displace each other in turns.
    fn displace(&mut self, own: usize) -> Option<Waiter<T>> {
        let longest = self.queues.iter_mut().max_by_key(|queue| queue.waiters.len())?;
        if longest.waiters.len() <= own + 1 {
            return None;
        }
        let (_, last) = longest.waiters.pop_back()?;
        self.waiting -= 1;
        Some(last)
    }

    /// Takes out the waiter that left, if it is still there.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> Option<Waiter<T>> {
        let at = self.queues.iter().position(|queue| queue.tenant == ticket.tenant)?;
        let waiters = &mut self.queues[at].waiters;
        let place = waiters.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()?;
        let (_, left) = waiters.remove(place)?;
        if waiters.is_empty() {
            self.queues.remove(at);
        }
        self.waiting -= 1;
        Some(left)
    }

    /// Takes out the waiter whose turn it is, if as many places are saved as it needs. Nobody
    /// overtakes it: who needs many would never have them.
    pub(super) fn turn(&mut self) -> Option<Waiter<T>> {
        let (_, first) = self.queues.front()?.waiters.front()?;
        self.saved = self.saved.checked_sub(first.places)?;
        let mut queue = self.queues.pop_front()?;
        let (_, waiter) = queue.waiters.pop_front()?;
        if !queue.waiters.is_empty() {
            self.queues.push_back(queue);
        }
        self.waiting -= 1;
        Some(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(tenant: &str, told: u32) -> Waiter<u32> {
        Waiter { tenant: tenant.into(), places: 1, told }
    }

    /// Who has how many waiters in the line.
    fn lengths(line: &Line<u32>) -> Vec<(&str, usize)> {
        let queues = line.queues.iter();
        let mut lengths: Vec<_> =
            queues.map(|queue| (&*queue.tenant, queue.waiters.len())).collect();
        lengths.sort_unstable();
        lengths
    }

    #[test]
    fn tenants_have_their_turns_one_after_the_other() {
        let mut line = Line::new(10);
        for (tenant, told) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("a", 5), ("c", 6)] {
            assert!(line.join(waiter(tenant, told)).is_some());
        }
        line.saved = 4;
        let turns: Vec<u32> = std::iter::from_fn(|| line.turn()).map(|next| next.told).collect();
        assert_eq!(turns, [1, 4, 6, 2], "as many as there are places");
        assert!(line.join(waiter("b", 7)).is_some());
        line.saved = 9;
        let turns: Vec<u32> = std::iter::from_fn(|| line.turn()).map(|next| next.told).collect();
        assert_eq!(turns, [3, 7, 5]);
        assert!(line.is_empty());
        assert_eq!(line.saved, 6);
    }

    #[test]
    fn a_full_line_is_shared_by_all_who_want_in() {
        let mut line = Line::new(10);
        let mut join = |tenant: &str, times: u32| {
            let joined = (0..times).map(|told| line.join(waiter(tenant, told)));
            let let_in = joined.flatten().count();
            (let_in, lengths(&line).into_iter().map(|(_, length)| length).collect::<Vec<_>>())
        };
        assert_eq!(join("a", 100), (10, vec![10]));
        assert_eq!(join("b", 100), (5, vec![5, 5]));
        assert_eq!(join("a", 100), (0, vec![5, 5]));
        let (let_in, shares) = join("c", 100);
        assert_eq!((let_in, shares.iter().sum::<usize>()), (3, 10));
        assert!(shares.iter().all(|share| *share >= 10 / 3), "{shares:?}");
    }

    #[test]
    fn who_makes_room_is_the_last_of_the_longest_queue() {
        let mut line = Line::new(3);
        for told in 1..=3 {
            assert!(line.join(waiter("a", told)).is_some());
        }
        let (_, displaced) = line.join(waiter("b", 4)).unwrap();
        assert_eq!(displaced.map(|waiter| waiter.told), Some(3));
        assert!(line.join(waiter("b", 5)).is_none(), "it would have more than the other");
        assert_eq!(lengths(&line), [("a", 2), ("b", 1)]);
    }

    #[test]
    fn who_left_is_in_nobodys_way() {
        let mut line = Line::new(10);
        let (first, _) = line.join(Waiter { places: 2, ..waiter("a", 1) }).unwrap();
        let (second, _) = line.join(waiter("b", 2)).unwrap();
        line.saved = 1;
        assert!(line.turn().is_none(), "the first needs two places, and nobody overtakes it");
        assert_eq!(line.leave(&first).map(|waiter| waiter.told), Some(1));
        assert!(line.leave(&first).is_none());
        assert_eq!(line.turn().map(|waiter| waiter.told), Some(2));
        assert!(line.leave(&second).is_none());
        assert!(line.is_empty());
    }
}
