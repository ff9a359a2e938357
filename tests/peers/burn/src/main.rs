//! Times burn's `f32` matrix product on a software adapter.
//!
//! usage: peer-burn SIZE
//!
//! It prints "ready"; then for every line on stdin it runs the product a few times and prints the
//! median in milliseconds.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Device, DeviceKind, Distribution, Tensor};

const RUNS: usize = 20;

fn main() {
    let size: usize =
        std::env::args().nth(1).and_then(|size| size.parse().ok()).expect("usage: peer-burn SIZE");
    let device = Device::wgpu(DeviceKind::Cpu);
    let random = || Tensor::<2>::random([size, size], Distribution::Uniform(-1.0, 1.0), &device);
    let (a, b) = (random(), random());
    let run = || {
        let start = Instant::now();
        let product = a.clone().matmul(b.clone());
        device.sync().expect("the device answers");
        drop(product);
        start.elapsed().as_secs_f64() * 1e3
    };
    // Tunes and compiles.
    for _ in 0..5 {
        run();
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line.expect("stdin is text");
        let mut times: Vec<f64> = (0..RUNS).map(|_| run()).collect();
        times.sort_by(f64::total_cmp);
        println!("{}", times[RUNS / 2]);
        std::io::stdout().flush().expect("stdout is open");
    }
}
