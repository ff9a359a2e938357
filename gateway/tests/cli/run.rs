//! `gw run`: programs with models and folders of the user's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{User, ended, onnx};

/// A program of `tests/guests/command`, built first.
fn command(name: &str) -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| built("tests/guests/command", "wasm32-wasip1", &[]));
    built.join(format!("{name}.wasm")).to_str().expect("a path that is text").to_owned()
}

/// The component `tests/guests/program`, built first.
fn program() -> String {
    let built = built("tests/guests", "wasm32-wasip2", &["--package", "program"]);
    built.join("program.wasm").to_str().expect("a path that is text").to_owned()
}

/// The folder with the programs of a workspace.
fn built(workspace: &str, architecture: &str, part: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", architecture])
        .args(part)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(workspace))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the programs of {workspace} do not build");
    target.join(architecture).join("release")
}

/// A program of `tests/guests` in C.
fn in_c(user: &User, name: &str) -> String {
    let source = format!("{}/../tests/guests/{name}/guest.c", env!("CARGO_MANIFEST_DIR"));
    let program = user.path(&format!("{name}.wasm"));
    let compiles = |compiler: &&str| {
        let mut command = Command::new(compiler);
        command.args(["--target=wasm32-wasi", "-O1", "-o", &program, &source]);
        command.status().is_ok_and(|status| status.success())
    };
    let compiler = ["clang-14", "clang"].into_iter().find(compiles);
    compiler.expect("clang, lld and wasi-libc, which `tests/run` installs");
    program
}

/// A program of plain WebAssembly.
fn plain(user: &User, text: &str) -> String {
    user.write("plain.wasm", wat::parse_str(text).expect("WebAssembly"))
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What `infer.wasm` is asked: a model, and three floats for each of its inputs.
fn asked(model: &str) -> [String; 5] {
    let input = |name: &str| format!("f32:1x3:/data/{name}.bin");
    [model.to_owned(), "12:/data/out.bin".to_owned(), "--".to_owned(), input("a"), input("b")]
}

#[test]
fn a_program_infers_by_name_and_from_bytes_as_gw_infer_does() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    for (name, values) in [("a", [1.5, 2.0, 3.0]), ("b", [10.0, 20.25, 30.0])] {
        user.write(&format!("{name}.bin"), floats(&values));
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }";
        let header = format!("{header:<117}\n");
        let npy = [&b"\x93NUMPY\x01\x00\x76\x00"[..], header.as_bytes(), &floats(&values)].concat();
        user.write(&format!("{name}.npy"), npy);
    }
    let infer = ["infer", &model, "--device", "cpu", "--out", "results"];
    user.gw(&[&infer[..], &["--input", "a=a.npy", "--input", "in:b/0=b.npy"]].concat()).done();
    let expected = std::fs::read(user.path("results/out_c_0.npy")).expect("a result");
    let expected = &expected[expected.len() - 12..];
    assert_eq!(expected, floats(&[11.5, 22.25, 33.0]));

    let program = command("infer");
    let run = ["run", "--device", "cpu", "--dir", ".::/data", "--model", "sum=add.onnx", &program];
    for model in ["sum", "@/data/add.onnx"] {
        let _ = std::fs::remove_file(user.path("out.bin"));
        let asked = asked(model);
        let said = user.gw(&[&run[..], &asked.each_ref().map(String::as_str)].concat()).done();
        assert_eq!(said.out, "/data/out.bin: 12 bytes\n");
        assert_eq!(std::fs::read(user.path("out.bin")).expect("written"), expected, "{model}");
    }
}

#[test]
fn a_program_in_c_infers_in_the_dialect_of_wamr() {
    let user = User::new();
    let model = format!("add={}", user.write("add.onnx", onnx::model("Add")));
    let program = in_c(&user, "wamr");
    let run = ["run", "--device", "cpu", "--wasi-nn", "wamr", "--model", &model, &program];
    let numbers = ["1.5", "2", "3", "10", "20.25", "30"];
    let said = user.gw(&[&run[..], &numbers].concat()).done();
    assert_eq!(said.out, "11.5\n22.25\n33\n");
}

#[test]
fn what_a_program_may_not_do_is_said_with_the_reason() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    user.write("broken.onnx", b"no model at all");
    let program = command("infer");
    let cases: [(&[&str], &str, &str); 4] = [
        (&[], "other", "load_by_name: no model named \"other\" is granted"),
        (
            &["--load-max", "0"],
            "@/data/add.onnx",
            "load: this plugin may not load models from bytes",
        ),
        (&["--load-max", "10B"], "@/data/add.onnx", "grants this plugin 10"),
        (&[], "@/data/broken.onnx", "load: the bytes are no ONNX model"),
    ];
    let named = format!("sum={model}");
    for (flags, model, says) in cases {
        let run = ["run", "--device", "cpu", "--dir", ".::/data", "--model", &named];
        let asked = asked(model);
        let asked = asked.each_ref().map(String::as_str);
        user.gw(&[&run[..], flags, &[program.as_str()], &asked].concat())
            .refused(1, &["note:", says]);
    }
}

#[test]
fn a_program_has_the_callers_input_output_and_environment() {
    let user = User::new();
    let mut child = user
        .command(&["run", "--env", "PATH_INFO=/echo", "--env", "A=b=c", &command("cgi")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gw starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"a body").expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"Content-Type: application/octet-stream\n\na body");

    let variables = ["run", "--env", "PATH_INFO=/variables", "--env", "A=b=c", &command("cgi")];
    let said = user.gw(&variables).done();
    let lines: Vec<&str> = said.out.lines().skip(2).collect();
    assert_eq!(lines, ["A=b=c", "PATH_INFO=/variables"], "nothing else of this process");
}

#[test]
fn a_program_ends_gw_with_its_own_exit_code() {
    let user = User::new();
    let exits = |code: u32| {
        format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32))) \
             (memory (export \"memory\") 1) (func (export \"_start\") (call $exit (i32.const \
             {code}))))"
        )
    };
    for code in [0, 1, 7, 125] {
        let said = user.gw(&["run", &plain(&user, &exits(code))]);
        assert_eq!((said.code, said.err.as_str()), (i32::try_from(code).expect("small"), ""));
    }
    let trap = plain(&user, "(module (func (export \"_start\") unreachable))");
    user.gw(&["run", &trap]).refused(1, &["trapped", "unreachable"]);
    let hungry = "(module (memory 1) (func (export \"_start\") (drop (memory.grow (i32.const \
                  1000))) unreachable))";
    let hungry = plain(&user, hungry);
    user.gw(&["run", "--memory", "1MiB", &hungry]).refused(1, &["ran out of its 1048576 bytes"]);
}

#[test]
fn components_that_are_programs_run_too() {
    let user = User::new();
    let component = |ends: u32| {
        let text = format!(
            "(component
                (core module $m (func (export \"run\") (result i32) (i32.const {ends})))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i \"run\")))
                (instance $e (export \"run\" (func $run)))
                (export \"wasi:cli/run@0.2.0\" (instance $e)))"
        );
        user.write("component.wasm", wat::parse_str(text).expect("a component"))
    };
    assert_eq!(user.gw(&["run", &component(0)]).code, 0);
    let failed = user.gw(&["run", &component(1)]);
    assert_eq!((failed.code, failed.err.as_str()), (1, ""));
}

#[test]
fn a_component_infers_by_name() {
    let user = User::new();
    let model = format!("sum={}", user.write("add.onnx", onnx::model("Add")));
    let program = program();
    let run = ["run", "--device", "cpu", "--model", &model, &program];
    let inputs = ["a=1.5,2,3", "in:b/0=10,20.25,30"];
    let said = user.gw(&[&run[..], &["sum"], &inputs].concat()).done();
    assert_eq!(said.out, "out:c/0 [1, 3] 11.5 22.25 33\n");
    user.gw(&[&run[..], &["other"], &inputs].concat())
        .refused(1, &["NotFound", "no model named \"other\" is granted"]);
    user.gw(&[&run[..], &["sum", "a=1,2", inputs[1]]].concat())
        .refused(1, &["InvalidArgument", "input \"a\" takes the shape [batch, 3], not [1, 2]"]);
}

#[test]
fn what_cannot_be_started_says_what_it_is() {
    let user = User::new();
    let handler = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/guests/trap/guest.wat");
    let handler = user.write("handler.wasm", wat::parse_file(handler).expect("a component"));
    user.gw(&["run", &handler]).refused(1, &["handler.wasm cannot be started", "`gw dev`"]);
    let library = plain(&user, "(module (func (export \"add\")))");
    user.gw(&["run", &library]).refused(1, &["exports no `_start`", "wasm32-wasip1"]);
    let foreign = "(module (import \"env\" \"launch\" (func)) (func (export \"_start\")))";
    let foreign = plain(&user, foreign);
    user.gw(&["run", &foreign]).refused(1, &["env::launch", "wasi_snapshot_preview1"]);
    let dialect = "(module (import \"wasi_nn\" \"compute\" (func (param i32) (result i32))) (func \
                   (export \"_start\")))";
    let dialect = plain(&user, dialect);
    user.gw(&["run", &dialect]).refused(1, &["wasi_nn::compute", "--wasi-nn"]);
    user.gw(&["run", "--wasi-nn", "wamr", &dialect]).done();

    user.gw(&["run", "none.wasm"]).refused(2, &["cannot read the program none.wasm", "hint:"]);
    user.gw(&["run"]).refused(2, &["MODULE.wasm"]);
    user.gw(&["run", "--modle", "x"]).refused(2, &["gw run has no flag --modle"]);
    user.gw(&["run", "--wasi-nn", "edge", "x"]).refused(2, &["standard, wasmedge or wamr"]);
    let empty = plain(&user, "(module (func (export \"_start\")))");
    user.gw(&["run", "--dir", "none::/x", &empty]).refused(1, &["the folder none"]);
    user.gw(&["run", "--model", "m=none.onnx", &empty]).refused(1, &["no file none.onnx"]);
}

#[test]
fn what_follows_the_program_is_the_programs() {
    let user = User::new();
    // It fails for want of a model called `--device`, which gw therefore did not take.
    let asked = ["run", &command("infer"), "--", "--device", "12:x", "--"];
    user.gw(&asked).refused(1, &["no model named \"--device\""]);
    let asked = ["run", &command("infer"), "--device", "12:x", "--"];
    user.gw(&asked).refused(1, &["no model named \"--device\""]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_program_that_waits_for_its_reader() {
    let user = User::new();
    let mut child = user
        .command(&["run", "--env", "PATH_INFO=/flood", &command("cgi")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("gw starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut String::new()).expect("a line");
    let interrupt = format!("-INT {}", child.id());
    let told = ended(Command::new("kill").args(interrupt.split(' ')));
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
