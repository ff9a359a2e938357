//! A profile as a trace that `chrome://tracing` and Perfetto open.
//!
//! Source: the Trace Event Format, complete events (`"ph": "X"`) and metadata (`"ph": "M"`); times
//! are microseconds.

use gw_engine::Profile;
use serde_json::{Value, json};

/// The rows of the trace.
const CPU: u32 = 1;
const DEVICE: u32 = 2;

/// One run: its phases on the CPU, and its steps one after another on the device, where they begin
/// once they were submitted. Times are medians, so the two rows need not end together.
pub(super) fn trace(adapter: &str, profile: &Profile) -> Value {
    let mut events = vec![
        metadata("process_name", CPU, "gw bench"),
        metadata("thread_name", CPU, "cpu"),
        metadata("thread_name", DEVICE, adapter),
    ];
    let mut now = 0.0;
    let mut submitted = 0.0;
    for (name, us) in profile.phases.named() {
        events.push(event(name, CPU, now, us, &json!({})));
        now += us;
        if name == "submit" {
            submitted = now;
        }
    }
    let mut now = submitted;
    for (index, step) in profile.steps.iter().enumerate() {
        let args = json!({
            "step": index,
            "variant": step.variant,
            "nodes": step.label,
            "flops": step.flops,
            "bytes": step.bytes,
            "roofline_share": step.roofline_share,
        });
        events.push(event(step.kernel, DEVICE, now, step.us, &args));
        now += step.us;
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

fn metadata(name: &str, row: u32, value: &str) -> Value {
    json!({ "ph": "M", "name": name, "pid": 1, "tid": row, "args": { "name": value } })
}

fn event(name: &str, row: u32, start: f64, us: f64, args: &Value) -> Value {
    json!({ "ph": "X", "name": name, "pid": 1, "tid": row, "ts": start, "dur": us, "args": args })
}
