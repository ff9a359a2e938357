//! What `--help` says, and that mistakes on the command line end with 2.

use crate::User;

#[test]
fn help_reads_well() {
    let user = User::new();
    let mut pages = user.gw(&["--help"]).done().out;
    let commands = [
        "new",
        "build",
        "dev",
        "serve",
        "keys new",
        "keys show",
        "push",
        "status",
        "rollback",
        "model ls",
        "model load",
        "model unload",
        "run",
        "infer",
        "plan",
        "bench",
        "doctor",
    ];
    for command in commands {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let page = user.gw(&args).done().out;
        pages.extend(["\n=== gw ", command, " ===\n", &page]);
    }
    insta::assert_snapshot!(pages);
}

#[test]
fn the_version_is_printed() {
    let said = User::new().gw(&["--version"]).done();
    assert_eq!(said.out, format!("gw {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn mistakes_on_the_command_line_end_with_2() {
    let user = User::new();
    user.gw(&[]).refused(2, &["Usage"]);
    user.gw(&["deploy"]).refused(2, &["unrecognized subcommand 'deploy'"]);
    user.gw(&["dev", "--lisen", "x"]).refused(2, &["--listen"]);
    user.gw(&["dev", "--listen", "here"]).refused(2, &["--listen"]);
    user.gw(&["bench", "m.onnx", "--runs", "0"]).refused(2, &["--runs"]);
    user.gw(&["plan", "m.onnx", "--shape", "x=1xq"]).refused(2, &["x=1xq"]);
    user.gw(&["status", "--to", "localhost"]).refused(2, &["expected a URL"]);
}

#[test]
fn flags_are_read_from_the_environment() {
    let user = User::new();
    let mut command = user.command(&["status"]);
    crate::ended(command.env("GW_TO", "nonsense")).refused(2, &["--to nonsense"]);
}

#[test]
fn a_node_that_is_not_there_is_named() {
    // A port that was free a moment ago, and that nobody listens to.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    User::new().gw(&["status", "--to", &url]).refused(1, &[&url, "hint: is gw serve running"]);
}

#[test]
fn doctor_says_what_there_is() {
    let found = User::new().gw(&["doctor", "-o", "json"]).done().json();
    assert!(found["adapters"].is_array());
    assert!(found["auto"].is_string());
    assert_eq!(found["cache"]["bytes"], 0);
    assert!(found["missing"].as_array().unwrap().iter().all(|missing| missing["fix"].is_string()));
    let text = User::new().gw(&["doctor"]).done().out;
    assert!(text.contains("device auto"), "{text}");
}
