//! Whether a plugin keeps failing: what its guests did wrong, in a row.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::GuestError;

/// What to do about a plugin that keeps failing; it is called with a line for people, from the
/// request that failed last, and must not block.
pub type Alarm = Arc<dyn Fn(String) + Send + Sync>;

/// Counts the failures of one plugin since it last did what it was asked for.
#[derive(Clone, Default)]
pub struct Health(Option<Arc<Watch>>);

struct Watch {
    failures: AtomicU32,
    failures_max: u32,
    alarm: Alarm,
}

impl Health {
    /// Calls `alarm` with the failure that is number `failures_max` in a row; never where that is
    /// 0. It is called again after as many more.
    pub fn watched(failures_max: u32, alarm: Alarm) -> Self {
        let watch = Watch { failures: AtomicU32::new(0), failures_max, alarm };
        Self((failures_max > 0).then(|| Arc::new(watch)))
    }

    /// A guest ended. What is not the plugin's fault tells nothing about it. `mask` hides what
    /// must not be told of an error.
    pub(crate) fn note(&self, error: Option<&GuestError>, mask: impl Fn(&str) -> String) {
        let Some(watch) = &self.0 else { return };
        match error {
            None => {
                // Most plugins never fail, and their counter then stays where all cores read it.
                if watch.failures.load(Ordering::Relaxed) > 0 {
                    watch.failures.store(0, Ordering::Relaxed);
                }
            }
            Some(error) if error.is_the_plugins() => {
                let failures = watch.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures.is_multiple_of(watch.failures_max) {
                    let last = mask(&error.to_string());
                    (watch.alarm)(format!("{failures} failures in a row, the last: {last}"));
                }
            }
            Some(_) => {}
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.0.as_ref().map(|watch| watch.failures.load(Ordering::Relaxed));
        f.debug_struct("Health").field("failures", &failures).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::Timings;

    #[test]
    fn only_failures_in_a_row_are_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let alarm: Alarm = {
            let told = Arc::clone(&told);
            Arc::new(move |text| told.lock().unwrap().push(text))
        };
        let health = Health::watched(2, Arc::clone(&alarm));
        let plugin: Arc<str> = "p".into();
        let failed =
            GuestError::NoResponse { plugin: Arc::clone(&plugin), timings: Timings::default() };
        let busy = GuestError::Saturated { plugin, instances: 1 };
        for error in [Some(&failed), None, Some(&failed), Some(&busy)] {
            health.note(error, str::to_owned);
        }
        assert!(told.lock().unwrap().is_empty(), "one failure in a row, then another");
        health.note(Some(&failed), str::to_owned);
        let text = told.lock().unwrap().concat();
        assert_eq!(text, "2 failures in a row, the last: plugin p returned without a response");
        health.note(Some(&failed), str::to_owned);
        assert_eq!(told.lock().unwrap().len(), 1);
        let never = Health::watched(0, alarm);
        never.note(Some(&failed), str::to_owned);
        assert_eq!(told.lock().unwrap().len(), 1);
    }
}
