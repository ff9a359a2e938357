//! Whose turn it is: tenants share a device by time, in proportion to their weights.
//!
//! Each tenant has an account of the device time that its requests took, divided by its weight, and
//! whoever has the least of those who wait goes first (start-time fair queueing). Someone who was
//! away begins where the others are: time that nobody used is not saved up.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The accounts of one device.
pub(crate) struct Shares {
    weights: BTreeMap<String, NonZeroU32>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    accounts: HashMap<Arc<str>, Account>,
    /// The account of whoever went last, before its run: what a newcomer begins with.
    now: f64,
}

#[derive(Default)]
struct Account {
    /// Weighted seconds.
    used: f64,
    /// Requests that wait or run, on any model of the device.
    present: usize,
}

impl Shares {
    pub(crate) fn new(weights: BTreeMap<String, NonZeroU32>) -> Self {
        Self { weights, ledger: Mutex::default() }
    }

    /// A request of this tenant has come; it is there until the answer is dropped.
    pub(crate) fn present(self: &Arc<Self>, tenant: &Arc<str>) -> Present {
        self.enter(tenant);
        Present { shares: Arc::clone(self), tenant: Arc::clone(tenant) }
    }

    fn enter(&self, tenant: &Arc<str>) {
        let mut ledger = self.ledger();
        let now = ledger.now;
        let account = ledger.accounts.entry(Arc::clone(tenant)).or_default();
        if account.present == 0 {
            account.used = account.used.max(now);
        }
        account.present += 1;
    }

    /// An account that says no more than a new one would is forgotten.
    fn leave(&self, tenant: &str) {
        let mut ledger = self.ledger();
        let now = ledger.now;
        let Some(account) = ledger.accounts.get_mut(tenant) else { return };
        account.present -= 1;
        if account.present == 0 {
            ledger.accounts.retain(|_, account| account.present > 0 || account.used > now);
        }
    }

    /// What this tenant has used: whoever has the least goes first.
    pub(crate) fn used(&self, tenant: &str) -> f64 {
        let ledger = self.ledger();
        ledger.accounts.get(tenant).map_or(ledger.now, |account| account.used)
    }

    /// This tenant goes now.
    pub(crate) fn begin(&self, tenant: &str) {
        let used = self.used(tenant);
        let mut ledger = self.ledger();
        ledger.now = ledger.now.max(used);
    }

    /// This tenant's requests took so much of the device.
    pub(crate) fn charge(&self, tenant: &str, took: Duration) {
        let used = took.as_secs_f64() / self.weight(tenant);
        if let Some(account) = self.ledger().accounts.get_mut(tenant) {
            account.used += used;
        }
    }

    pub(crate) fn weight(&self, tenant: &str) -> f64 {
        self.weights.get(tenant).map_or(1.0, |weight| weight.get().into())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // No critical section can fail half way, so a poisoned lock is still good.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits or runs.
pub(crate) struct Present {
    shares: Arc<Shares>,
    tenant: Arc<str>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.shares.leave(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shares(weights: &[(&str, u32)]) -> Shares {
        let weight =
            |(name, weight): &(&str, u32)| ((*name).to_owned(), NonZeroU32::new(*weight).unwrap());
        Shares::new(weights.iter().map(weight).collect())
    }

    /// Lets whoever has used the least go, as often as `turns` says, and counts who went.
    fn turns(shares: &Shares, tenants: &[&str], turns: usize) -> Vec<usize> {
        let mut went = vec![0; tenants.len()];
        for _ in 0..turns {
            let used = |n: &usize| shares.used(tenants[*n]);
            let next = (0..tenants.len()).min_by(|a, b| used(a).total_cmp(&used(b))).unwrap();
            shares.begin(tenants[next]);
            shares.charge(tenants[next], SECOND);
            went[next] += 1;
        }
        went
    }

    #[test]
    fn who_always_waits_gets_time_by_weight() {
        let shares = shares(&[("b", 3)]);
        for tenant in ["a", "b", "c"] {
            shares.enter(&tenant.into());
        }
        assert_eq!(turns(&shares, &["a", "b", "c"], 50), [10, 30, 10]);
    }

    #[test]
    fn a_newcomer_neither_waits_for_what_others_used_nor_makes_up_for_its_absence() {
        let shares = shares(&[]);
        shares.enter(&"a".into());
        turns(&shares, &["a"], 100);
        shares.enter(&"b".into());
        assert_eq!(turns(&shares, &["a", "b"], 10), [5, 5]);
    }

    #[test]
    fn who_leaves_and_comes_back_at_once_gains_nothing() {
        let shares = shares(&[]);
        for tenant in ["a", "b"] {
            shares.enter(&tenant.into());
        }
        let mut went = [0; 2];
        for _ in 0..10 {
            let turn = turns(&shares, &["a", "b"], 1);
            went = [went[0] + turn[0], went[1] + turn[1]];
            shares.leave("a");
            shares.enter(&"a".into());
        }
        assert_eq!(went, [5, 5]);
    }

    #[test]
    fn accounts_of_who_is_gone_do_not_pile_up() {
        let shares = shares(&[]);
        for n in 0..1000 {
            let tenant: Arc<str> = n.to_string().into();
            shares.enter(&tenant);
            shares.begin(&tenant);
            shares.charge(&tenant, SECOND);
            shares.leave(&tenant);
        }
        assert!(shares.ledger().accounts.len() < 3);
    }
}
