use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gw_engine::{AdapterSelect, Device, Model, PlanOptions, Session, SessionOptions, WeightMode};
use gw_tensor::{DType, Shape, Tensor};

fn dtype(name: &str) -> DType {
    match name {
        "float32" => DType::F32,
        "float16" => DType::F16,
        "float64" => DType::F64,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "uint16" => DType::U16,
        "uint32" => DType::U32,
        "uint64" => DType::U64,
        "bool" => DType::Bool,
        other => panic!("{other}"),
    }
}

fn load(dir: &Path, v: &serde_json::Value) -> (String, Tensor) {
    let shape: Vec<usize> =
        v["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let bytes = std::fs::read(dir.join(v["file"].as_str().unwrap())).unwrap();
    (
        v["name"].as_str().unwrap().to_owned(),
        Tensor::new(dtype(v["dtype"].as_str().unwrap()), shape, bytes).unwrap(),
    )
}

fn floats(t: &Tensor) -> Vec<f64> {
    match t.dtype() {
        DType::F32 => t.as_slice::<f32>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::F64 => t.to_vec::<f64>().unwrap(),
        DType::F16 => t.as_slice::<half::f16>().unwrap().iter().map(|&x| x.to_f64()).collect(),
        DType::I64 => t.as_slice::<i64>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::I32 => t.as_slice::<i32>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::I8 => t.as_slice::<i8>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::I16 => t.as_slice::<i16>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::U16 => t.as_slice::<u16>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::U32 => t.as_slice::<u32>().unwrap().iter().map(|&x| x as f64).collect(),
        DType::U64 => t.as_slice::<u64>().unwrap().iter().map(|&x| x as f64).collect(),
        _ => t.as_slice::<u8>().unwrap().iter().map(|&x| x as f64).collect(),
    }
}

#[test]
fn dev() {
    let Ok(root) = std::env::var("DEV_DIR") else { return };
    let filter = std::env::var("DEV_FILTER").unwrap_or_default();
    let list = std::env::var("DEV_LIST").is_ok();
    let device = Device::open(&AdapterSelect::Any).unwrap();
    let mut dirs: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    let mut tally: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.contains(&filter) || !dir.join("case.json").exists() {
            continue;
        }
        let case: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("case.json")).unwrap()).unwrap();
        let t0 = Instant::now();
        let model = match Model::open(Path::new(case["model"].as_str().unwrap())) {
            Ok(m) => Arc::new(m),
            Err(e) => {
                tally.entry("unsupported".into()).or_default().push(format!("{name}: {e}"));
                continue;
            }
        };
        let inputs: Vec<_> =
            case["inputs"].as_array().unwrap().iter().map(|v| load(&dir, v)).collect();
        let expected: Vec<_> =
            case["outputs"].as_array().unwrap().iter().map(|v| load(&dir, v)).collect();
        for (fuse, weights) in
            [(false, WeightMode::Int8), (true, WeightMode::F32), (true, WeightMode::Int8)]
        {
            if std::env::var("DEV_FUSED").is_ok() && (!fuse || weights == WeightMode::F32) {
                continue;
            }
            let options = PlanOptions { fuse, weights };
            let tag = format!("{name} fuse={fuse} {weights:?}");
            let shapes: BTreeMap<String, Shape> =
                inputs.iter().map(|(n, t)| (n.clone(), t.shape().clone())).collect();
            let t1 = Instant::now();
            let plan = match model.plan(&shapes, &device.caps(), &options) {
                Ok(p) => p,
                Err(e) => {
                    tally.entry("planerror".into()).or_default().push(format!("{tag}: {e}"));
                    continue;
                }
            };
            let plan_ms = t1.elapsed().as_millis();
            if let Err(e) = plan.verify() {
                tally.entry("fault".into()).or_default().push(format!("{tag}: {e}"));
                continue;
            }
            if list {
                for s in &plan.steps {
                    println!(
                        "{:10} {:18} {:70} {:?}",
                        s.dispatch.kernel.name,
                        s.dispatch.kernel.variant,
                        s.label,
                        s.bindings
                            .iter()
                            .map(|b| &plan.buffers[b.0 as usize].name)
                            .collect::<Vec<_>>()
                    );
                }
            }
            let session = Session::new(
                model.clone(),
                device.clone(),
                SessionOptions { plan: options, ..SessionOptions::default() },
            );
            let result = match session.run(&inputs) {
                Ok(r) => r,
                Err(e) => {
                    tally.entry("runerror".into()).or_default().push(format!("{tag}: {e}"));
                    continue;
                }
            };
            let first = t0.elapsed().as_millis();
            let t2 = Instant::now();
            let result2 = session.run(&inputs);
            drop(result2);
            let run_ms = t2.elapsed().as_micros() as f64 / 1000.0;
            let mut verdict = String::new();
            let mut ok = true;
            for (n, want) in &expected {
                let Some((_, got)) = result.iter().find(|(m, _)| m == n) else {
                    ok = false;
                    verdict += &format!("{n} missing; ");
                    continue;
                };
                if got.shape() != want.shape() || got.dtype() != want.dtype() {
                    ok = false;
                    verdict += &format!(
                        "{n}: {} {} vs {} {}; ",
                        got.dtype(),
                        got.shape(),
                        want.dtype(),
                        want.shape()
                    );
                    continue;
                }
                let (g, w) = (floats(got), floats(want));
                let range = w
                    .iter()
                    .filter(|x| x.is_finite())
                    .fold(0.0f64, |m, x| m.max(x.abs()))
                    .max(1e-30);
                let err = g
                    .iter()
                    .zip(&w)
                    .map(|(a, b)| {
                        if a == b || (a.is_nan() && b.is_nan()) {
                            0.0
                        } else {
                            let d = (a - b).abs();
                            if d.is_nan() { f64::INFINITY } else { d }
                        }
                    })
                    .fold(0.0f64, f64::max);
                if err / range > 1e-3 {
                    ok = false;
                }
                verdict += &format!("{n} err {:.2e}; ", err / range);
            }
            let line = format!(
                "{tag}: {} dispatches plan {plan_ms}ms first {first}ms run {run_ms:.1}ms {verdict}",
                plan.steps.len()
            );
            if filter.len() > 0 {
                println!("{line}");
            }
            tally.entry(if ok { "ok".into() } else { "wrong".into() }).or_default().push(line);
        }
    }
    for (k, v) in &tally {
        println!("== {k}: {}", v.len());
        if k != "ok" || std::env::var("DEV_OK").is_ok() {
            for l in v {
                println!("   {l}");
            }
        }
    }
}
