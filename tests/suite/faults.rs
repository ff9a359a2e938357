//! Plugins that fail: each costs exactly its own request, and is logged once.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gw_tests::connection::Connection;
use gw_tests::gateway::Gateway;
use gw_tests::guests;

use crate::tools::double_model;

/// A guest that fails, the limit that it meets, and what its client hears.
struct Case {
    guest: &'static str,
    limits: &'static str,
    status: u16,
    code: &'static str,
}

const CASES: &[Case] = &[
    Case { guest: "trap", limits: "", status: 502, code: "plugin_trapped" },
    Case { guest: "stack-overflow", limits: "", status: 502, code: "plugin_trapped" },
    Case {
        guest: "endless-loop",
        limits: "limits = { time = \"300ms\" }\n",
        status: 504,
        code: "plugin_timeout",
    },
    Case {
        guest: "memory-bomb",
        limits: "limits = { memory = \"16MiB\" }\n",
        status: 507,
        code: "plugin_out_of_memory",
    },
    Case { guest: "no-response", limits: "", status: 502, code: "plugin_no_response" },
];

fn plugin(name: &str, path: &str, more: &str) -> String {
    format!(
        "\n[[plugin]]\nname = \"{name}\"\npath = {path:?}\n{more}\n[[route]]\npath = \"/{name}\"\n\
         methods = [\"POST\"]\nplugins = [\"{name}\"]\n"
    )
}

#[test]
fn a_failing_plugin_costs_its_own_request_and_is_logged_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = guests::component("good");
    let mut manifest = "[app]\nname = \"faults\"\nversion = \"0.1.0\"\n\n[[model]]\n\
                        name = \"double\"\nsource = \"double.onnx\"\n"
        .to_owned();
    manifest += &plugin("good", good.to_str().expect("text"), "models = [\"double\"]\n");
    for case in CASES {
        let file = format!("{}.wasm", case.guest);
        let component = wat::parse_str(guests::text(case.guest)).expect("WebAssembly");
        fs::write(folder.path().join(&file), component).expect("written");
        manifest += &plugin(case.guest, &file, case.limits);
    }
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    fs::write(folder.path().join("double.onnx"), double_model(b"")).expect("written");
    let mut gateway = Gateway::dev(folder.path(), &["--no-watch", "--device", "cpu"]);

    let stop = AtomicBool::new(false);
    let mut failed = Vec::new();
    thread::scope(|scope| {
        let neighbour = || {
            let mut connection = Connection::open(&gateway.url);
            let mut asked = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.send("POST", "/good", format!("{asked} 1 1 1").as_bytes());
                assert_eq!(answer.status, 200, "{}", answer.body);
                assert_eq!(answer.body, format!("{} 2 2 2", 2 * asked));
                asked += 1;
            }
            asked
        };
        let neighbours: Vec<_> = (0..4).map(|_| scope.spawn(neighbour)).collect();
        let mut connection = Connection::open(&gateway.url);
        for case in CASES.iter().cycle().take(3 * CASES.len()) {
            let answer = connection.send("POST", &format!("/{}", case.guest), b"{}");
            let guest = case.guest;
            assert_eq!(answer.status, case.status, "{guest}: {}", answer.body);
            let error = &answer.json()["error"];
            assert_eq!(error["code"], case.code, "{guest}: {error}");
            let id = answer.header("x-request-id").to_owned();
            assert_eq!(error["request_id"], id, "{guest}: {error}");
            failed.push(id);
        }
        stop.store(true, Ordering::Relaxed);
        for neighbour in neighbours {
            assert!(neighbour.join().expect("every answer is right") > 10);
        }
    });
    gateway.wait_for(failed.last().expect("some failed"));
    assert_eq!(gateway.terminate(), 0);
    let log = gateway.log();
    for id in failed {
        let loud = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let lines = log.lines().filter(|line| line.contains(&id)).filter(loud);
        assert_eq!(lines.count(), 1, "{id} is logged once");
    }
}
