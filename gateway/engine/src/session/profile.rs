//! Where the time of a run goes: on the CPU by phase, on the device by step.

use std::fmt;
use std::time::Instant;

use gw_tensor::Tensor;
use serde::Serialize;

use super::prepared::clock::Clock;
use super::prepared::{Asked, Prepared};
use super::{RunError, Session};
use crate::device::roofline::Roofline;
use crate::plan::summary::{StepSummary, cut};

/// Where the time of a run goes; times are medians, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// How many runs were measured, by phase and again by step.
    pub runs: u32,
    /// What a run spends where, as the calling thread sees it.
    pub phases: Phases,
    /// Recording and handing over the commands of a run, per dispatch, where the CPU's caches hold
    /// what that needs: on a software adapter each run empties them.
    pub encode_us_per_dispatch: f64,
    /// How the steps were timed.
    pub method: Method,
    /// The dispatches, in order.
    pub steps: Vec<StepProfile>,
    /// What the device can do at most.
    pub roofline: Roofline,
}

/// How steps are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the device's own clock, inside one pass.
    Timestamps,
    /// By the CPU's clock: each step is a submission that is waited for. The time of an empty one
    /// is taken off.
    Submissions,
}

/// The phases of a run, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Phases {
    /// Writing the inputs into mapped memory.
    pub upload_us: f64,
    /// Recording the copies and dispatches.
    pub encode_us: f64,
    /// Handing them to the driver.
    pub submit_us: f64,
    /// Waiting for the device.
    pub wait_us: f64,
    /// Making tensors of what came back.
    pub read_back_us: f64,
    /// The whole run.
    pub total_us: f64,
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepProfile {
    /// The kernel's family.
    pub kernel: &'static str,
    /// The variant.
    pub variant: String,
    /// The nodes that it computes.
    pub label: String,
    /// Its time.
    pub us: f64,
    /// Operations; a multiply-add is two.
    pub flops: u64,
    /// Bytes that must move, each counted once.
    pub bytes: u64,
    /// The least time that the device could take for it, over the time that it took. More than 1
    /// where data lie in caches, which copy faster than memory does.
    pub roofline_share: f64,
}

/// A clock for the laps of a run, in microseconds.
pub(super) struct Laps(Instant);

impl Laps {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the last lap.
    pub(super) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let time = now.duration_since(std::mem::replace(&mut self.0, now));
        time.as_secs_f64() * 1e6
    }
}

impl Session {
    /// Runs the model `runs` times for the phases, for the recording and for the steps each; at
    /// least once. Of a run that its own values decide, the last part is measured.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(&self, inputs: &[(String, Tensor)], runs: u32) -> Result<Profile, RunError> {
        let ordered = self.ordered(inputs)?;
        let asked = Asked { inputs: &ordered, kept: &[] };
        self.with_last(&ordered, |prepared| self.measure(prepared, asked, runs.max(1)))
    }

    fn measure(
        &self,
        prepared: &Prepared,
        asked: Asked<'_>,
        runs: u32,
    ) -> Result<Profile, RunError> {
        // The first run compiles what the driver has put off.
        prepared.run(&self.device, asked.inputs, asked.kept)?;
        let mut measured = Vec::new();
        for _ in 0..runs {
            let mut phases = Phases::default();
            prepared.run_timed(&self.device, asked, &mut phases)?;
            measured.push(phases);
        }
        let mut warm = Vec::new();
        for _ in 0..runs {
            let mut phases = Phases::default();
            prepared.run_warm(&self.device, asked, &mut phases)?;
            warm.push(phases.encode_us + phases.submit_us);
        }
        let summary = prepared.program().summary;
        let clock = Clock::new(&self.device, summary.steps.len())?;
        let mut times = vec![Vec::new(); summary.steps.len()];
        for _ in 0..runs {
            let run = prepared.time_steps(&self.device, asked, &clock)?;
            times.iter_mut().zip(run).for_each(|(times, time)| times.push(time));
        }
        let roofline = self.device.roofline()?;
        let steps = summary.steps.iter().zip(times);
        Ok(Profile {
            runs,
            phases: Phases::median(&measured),
            encode_us_per_dispatch: median(warm) / summary.steps.len().max(1) as f64,
            method: clock.method(),
            steps: steps.map(|(step, times)| StepProfile::of(step, times, &roofline)).collect(),
            roofline,
        })
    }
}

impl Phases {
    fn median(runs: &[Self]) -> Self {
        let of = |time: fn(&Self) -> f64| median(runs.iter().map(time).collect());
        Self {
            upload_us: of(|run| run.upload_us),
            encode_us: of(|run| run.encode_us),
            submit_us: of(|run| run.submit_us),
            wait_us: of(|run| run.wait_us),
            read_back_us: of(|run| run.read_back_us),
            total_us: of(|run| run.total_us),
        }
    }

    /// The phases by name, in order.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("upload", self.upload_us),
            ("encode", self.encode_us),
            ("submit", self.submit_us),
            ("wait", self.wait_us),
            ("read back", self.read_back_us),
        ]
    }
}

impl StepProfile {
    fn of(step: &StepSummary, times: Vec<f64>, roofline: &Roofline) -> Self {
        let us = median(times);
        let least = roofline.seconds(step.flops, step.bytes) * 1e6;
        Self {
            kernel: step.kernel,
            variant: step.variant.clone(),
            label: step.label.clone(),
            us,
            flops: step.flops,
            bytes: step.bytes,
            roofline_share: if us > 0.0 { least / us } else { 0.0 },
        }
    }
}

impl Profile {
    /// The time of all steps, in microseconds.
    pub fn steps_us(&self) -> f64 {
        self.steps.iter().map(|step| step.us).sum()
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// What a column of the listing may take; a line has some 120 characters then.
const KERNEL_WIDTH: usize = 34;
const LABEL_WIDTH: usize = 30;

/// One line per step in the order of the plan, the totals, and where a run spends its time.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel =
            |step: &StepProfile| cut(&format!("{} [{}]", step.kernel, step.variant), KERNEL_WIDTH);
        let width = |text: &dyn Fn(&StepProfile) -> String| {
            self.steps.iter().map(|step| text(step).chars().count()).max().unwrap_or(0)
        };
        let label = |step: &StepProfile| cut(&step.label, LABEL_WIDTH);
        let (kernel_width, label_width) = (width(&kernel).max(6), width(&label).max(5));
        let total = self.steps_us();
        let share = |us: f64| if total > 0.0 { 100.0 * us / total } else { 0.0 };
        writeln!(
            f,
            "   #  {:kernel_width$}  {:label_width$}        us  share     MFLOP       \
             KiB  GFLOP/s   \
             GB/s  roof",
            "kernel", "nodes"
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            let (kernel, label) = (kernel(step), label(step));
            write!(f, "{index:>4}  {kernel:kernel_width$}  {label:label_width$}")?;
            step.figures(f, share(step.us))?;
        }
        let sum = |of: fn(&StepProfile) -> u64| self.steps.iter().map(of).sum::<u64>();
        let (flops, bytes) = (sum(|step| step.flops), sum(|step| step.bytes));
        let least = self.roofline.seconds(flops, bytes) * 1e6;
        let all = StepProfile {
            kernel: "",
            variant: String::new(),
            label: String::new(),
            us: total,
            flops,
            bytes,
            roofline_share: if total > 0.0 { least / total } else { 0.0 },
        };
        write!(f, "      {:kernel_width$}  {:label_width$}", "all steps", "")?;
        all.figures(f, share(total))?;
        self.summary(f, total)
    }
}

impl StepProfile {
    /// The rest of its line.
    fn figures(&self, f: &mut fmt::Formatter<'_>, share: f64) -> fmt::Result {
        let Self { us, flops, bytes, roofline_share, .. } = *self;
        let rate = |amount: u64| if us > 0.0 { amount as f64 / us / 1e3 } else { 0.0 };
        writeln!(
            f,
            "{us:>10.1} {share:>5.1}% {:>9.2} {:>9.1} {:>8.2} {:>6.2} {:>4.0}%",
            flops as f64 / 1e6,
            bytes as f64 / 1024.0,
            rate(flops),
            rate(bytes),
            100.0 * roofline_share,
        )
    }
}

impl Profile {
    fn summary(&self, f: &mut fmt::Formatter<'_>, total: f64) -> fmt::Result {
        let mut families: Vec<(&str, f64, usize)> = Vec::new();
        for step in &self.steps {
            match families.iter_mut().find(|(name, ..)| *name == step.kernel) {
                Some((_, us, count)) => (*us, *count) = (*us + step.us, *count + 1),
                None => families.push((step.kernel, step.us, 1)),
            }
        }
        families.sort_by(|(_, a, _), (_, b, _)| b.total_cmp(a));
        let shown: Vec<String> = families
            .iter()
            .map(|(name, us, count)| {
                format!("{name} {:.1}% ({count})", 100.0 * us / total.max(f64::MIN_POSITIVE))
            })
            .collect();
        writeln!(f, "by family: {}", shown.join(", "))?;
        let named = self.phases.named().map(|(name, us)| format!("{name} {us:.1}"));
        let run = self.phases.total_us;
        writeln!(f, "one run {run:.1} us: {}", named.join(", "))?;
        let method = match self.method {
            Method::Timestamps => "the device's timestamps",
            Method::Submissions => "one submission each, less an empty one",
        };
        writeln!(
            f,
            "steps {total:.1} us by {method}: {:.1} us of the run are not in them",
            (run - total).max(0.0)
        )?;
        let Roofline { bytes_per_second, flops_per_second } = self.roofline;
        writeln!(
            f,
            "the device does {:.1} GFLOP/s and copies {:.1} GB/s at most, as measured",
            flops_per_second / 1e9,
            bytes_per_second / 1e9
        )?;
        write!(f, "encode and submit: {:.2} us per dispatch", self.encode_us_per_dispatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_table_with_what_is_not_accounted_for() {
        let step = |label: &str, us, flops, bytes, roofline_share| StepProfile {
            kernel: "gemm",
            variant: "8x16".to_owned(),
            label: label.to_owned(),
            us,
            flops,
            bytes,
            roofline_share,
        };
        let profile = Profile {
            runs: 3,
            phases: Phases { wait_us: 1100.0, total_us: 1200.0, ..Phases::default() },
            encode_us_per_dispatch: 0.8,
            method: Method::Timestamps,
            steps: vec![
                step("/layer.0/MatMul", 750.0, 30_000_000, 2 << 20, 1.0),
                step("MatMul_1", 250.0, 1_000_000, 1 << 20, 0.5),
            ],
            roofline: Roofline { bytes_per_second: 8e9, flops_per_second: 40e9 },
        };
        insta::assert_snapshot!(profile, @r"
   #  kernel       nodes                  us  share     MFLOP       KiB  GFLOP/s   GB/s  roof
   0  gemm [8x16]  /layer.0/MatMul     750.0  75.0%     30.00    2048.0    40.00   2.80  100%
   1  gemm [8x16]  MatMul_1            250.0  25.0%      1.00    1024.0     4.00   4.19   50%
      all steps                       1000.0 100.0%     31.00    3072.0    31.00   3.15   78%
by family: gemm 100.0% (2)
one run 1200.0 us: upload 0.0, encode 0.0, submit 0.0, wait 1100.0, read back 0.0
steps 1000.0 us by the device's timestamps: 200.0 us of the run are not in them
the device does 40.0 GFLOP/s and copies 8.0 GB/s at most, as measured
encode and submit: 0.80 us per dispatch
        ");
    }

    #[test]
    fn a_median_is_a_time_that_was_measured() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
