//! Whether what is charged to tenants is what devices did.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::{Load, Seen, run};
use super::site::{Site, api_keys};
use crate::figures::{Row, say};

/// Of the load on each device.
const TIME: Duration = Duration::from_secs(15);
/// One client in so many leaves before its answer.
const LEAVES: usize = 5;
const KEYS: [&str; 2] = ["one", "two"];
const ROUTES: [&str; 2] = ["/embed", "/search"];

/// Of the two devices, the row is the one where the sums are farther apart. Each tenant asks on
/// both routes.
pub(in super::super) fn row() -> Result<Row> {
    let mut rows = Vec::new();
    for device in ["cpu", "llvmpipe"] {
        let (charged, busy) = measure(device)?;
        say(&format!("{device}: {charged:.3} s charged, {busy:.3} s busy"));
        rows.push((charged, busy));
    }
    let off = |&(charged, busy): &(f64, f64)| (charged / busy - 1.0).abs();
    let worst = rows.iter().max_by(|a, b| off(a).total_cmp(&off(b)));
    let worst @ &(ours, peer) = worst.context("two devices were measured")?;
    Ok(Row {
        key: "metering",
        ours,
        peer: Some(peer),
        ratio: Some(ours / peer),
        unit: "s",
        runs: 1,
        bar: "within 1 %",
        holds: off(worst) <= 0.01,
    })
}

/// What all tenants are charged, and how long the device was busy, in seconds.
fn measure(device: &str) -> Result<(f64, f64)> {
    let site = Site::start(device, &ROUTES, &api_keys(&KEYS))?;
    let load = |route, key| {
        let load = site.load(route, Some(key));
        Load { connections: 8, leaves: LEAVES, length: TIME, ..load }
    };
    let [a, b] = ROUTES;
    let loads = [load(a, KEYS[0]), load(b, KEYS[0]), load(a, KEYS[1]), load(b, KEYS[1])];
    let (seen, _) = run(loads)?;
    let left: usize = seen.iter().map(|seen| seen.left).sum();
    let answered: usize = seen.iter().map(|seen| seen.accepted.len()).sum();
    ensure!(seen.iter().all(Seen::is_sound), "{}", seen.map(|seen| seen.trouble()).concat());
    site.rest();
    let charged = |labels: &[&str]| site.gateway.metric("gw_usage_device_seconds_total", labels);
    for route in ROUTES {
        let share = charged(&[&format!("route=\"{route}\"")]);
        ensure!(share > 0.0, "{device}: nothing is charged to {route}");
    }
    say(&format!("{device}: {answered} answered, {left} left"));
    Ok((charged(&[]), site.gateway.metric("gw_device_busy_seconds_total", &[])))
}
