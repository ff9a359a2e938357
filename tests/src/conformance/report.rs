//! What came out: counts by family, and the cases that did not pass.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Ended, Outcome};

/// How many cases ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Every output is right.
    pub passed: usize,
    /// A wrong answer or a crash.
    pub failed: usize,
    /// Refused with a clear error.
    pub unsupported: usize,
}

/// The counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many cases there are.
    pub total: usize,
    /// Over all families.
    #[serde(flatten)]
    pub counts: Counts,
    /// By family of operators.
    pub families: BTreeMap<&'static str, Counts>,
    /// The names of the failed cases, each with what is wrong.
    pub failures: BTreeMap<String, String>,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Unsupported(_) => self.unsupported += 1,
        }
    }
}

impl Report {
    /// Counts `ended`.
    pub fn of(ended: &[Ended]) -> Self {
        let mut report = Self { total: ended.len(), ..Self::default() };
        for Ended { name, family, outcome } in ended {
            report.counts.add(outcome);
            report.families.entry(family).or_default().add(outcome);
            if let Outcome::Failed(reason) = outcome {
                report.failures.insert(name.clone(), reason.clone());
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_counted_once_in_all_and_once_in_its_family() {
        let ended = |family, outcome| Ended { name: "case".to_owned(), family, outcome };
        let report = Report::of(&[
            ended("gather", Outcome::Passed),
            ended("gather", Outcome::Failed("wrong".to_owned())),
            ended("window", Outcome::Unsupported("no kernel".to_owned())),
        ]);
        assert_eq!(report.counts, Counts { passed: 1, failed: 1, unsupported: 1 });
        assert_eq!(report.families["gather"], Counts { passed: 1, failed: 1, unsupported: 0 });
        assert_eq!(report.failures.len(), 1);
    }
}
