//! wasi-nn for core modules, called by programs of plain WebAssembly: what each function answers to
//! good arguments and to every kind of bad one.

use std::fmt::Write as _;

use bytes::Bytes;
use gw_artifact::manifest::NnDialect;
use gw_host::{Ended, HostConfig, HostError, ProgramSpec};

use crate::run;
use crate::support::Node;

const INVALID_ARGUMENT: i32 = 1;
const INVALID_ENCODING: i32 = 2;
const MISSING_MEMORY: i32 = 3;
const RUNTIME_ERROR: i32 = 5;
const UNSUPPORTED_OPERATION: i32 = 6;
const TOO_LARGE: i32 = 7;
const NOT_FOUND: i32 = 8;
const END_OF_SEQUENCE: i32 = 100;

/// Name and parameters of every function, by what a dialect has.
const STANDARD: &[(&str, usize)] = &[
    ("load", 5),
    ("load_by_name", 3),
    ("init_execution_context", 2),
    ("set_input", 3),
    ("compute", 1),
    ("get_output", 5),
];
const WASMEDGE: &[(&str, usize)] = &[
    ("load_by_name_with_config", 5),
    ("compute_single", 1),
    ("get_output_single", 5),
    ("fini_single", 1),
    ("unload", 1),
    ("finalize_execution_context", 1),
];
const WAMR: &[(&str, usize)] = &[
    ("load", 4),
    ("load_by_name", 3),
    ("init_execution_context", 2),
    ("set_input", 3),
    ("compute", 1),
    ("get_output", 4),
];

/// The memory of every program: one page, with
/// - 0: the graph, 4: the context, 8: a size that `get_output` writes (and WAMR's reads: 2);
/// - 16: the name `double`, 24: the options `{}`;
/// - 32: a tensor `[1, 2]` of f32 as the WITX has it; 52: as WAMR has it;
/// - 64: its dimensions, 72: their place and number, 80: its data, 1.5 and -2;
/// - 96: a list of one piece of bytes, four at 128, 104: that list and its length;
/// - 128: a buffer of 8 bytes.
const MEMORY: &str = r#"
    (data (i32.const 8) "\02\00\00\00")
    (data (i32.const 16) "double\00\00{}")
    (data (i32.const 32) "\40\00\00\00\02\00\00\00\01\00\00\00\50\00\00\00\08\00\00\00")
    (data (i32.const 52) "\48\00\00\00\01\00\00\00\50\00\00\00")
    (data (i32.const 64) "\01\00\00\00\02\00\00\00\40\00\00\00\02\00\00\00")
    (data (i32.const 80) "\00\00\c0\3f\00\00\00\c0")
    (data (i32.const 96) "\80\00\00\00\04\00\00\00\60\00\00\00\01\00\00\00")"#;
const PAGE: u32 = 1 << 16;

/// One argument: a number, or a handle that an earlier call gave.
#[derive(Clone, Copy)]
enum Arg {
    Number(u32),
    Graph,
    Context,
}
use Arg::{Context, Graph, Number as N};

/// A call that is valid in the standard dialect after [`ready`], with what each argument is.
struct Call {
    function: &'static str,
    args: &'static [Arg],
    /// Arguments that are places in memory.
    pointers: &'static [usize],
    /// Arguments that are lengths of what a pointer names.
    lengths: &'static [usize],
    /// What it answers.
    errno: i32,
}

const CALLS: [Call; 6] = [
    Call {
        function: "load",
        args: &[N(96), N(1), N(1), N(0), N(0)],
        pointers: &[0, 4],
        lengths: &[1],
        errno: UNSUPPORTED_OPERATION,
    },
    Call {
        function: "load_by_name",
        args: &[N(16), N(6), N(0)],
        pointers: &[0, 2],
        lengths: &[1],
        errno: 0,
    },
    Call {
        function: "init_execution_context",
        args: &[Graph, N(4)],
        pointers: &[1],
        lengths: &[],
        errno: 0,
    },
    Call {
        function: "set_input",
        args: &[Context, N(0), N(32)],
        pointers: &[2],
        lengths: &[],
        errno: 0,
    },
    Call { function: "compute", args: &[Context], pointers: &[], lengths: &[], errno: 0 },
    Call {
        function: "get_output",
        args: &[Context, N(0), N(128), N(8), N(8)],
        pointers: &[2, 4],
        lengths: &[3],
        errno: 0,
    },
];

/// Places that are not there, or where nothing of more than three bytes is.
const BAD_POINTERS: [u32; 5] = [PAGE - 3, PAGE, 1 << 31, u32::MAX - 3, u32::MAX];
const BAD_LENGTHS: [u32; 3] = [PAGE, 1 << 31, u32::MAX];
const BAD_HANDLES: [u32; 3] = [2, 1000, u32::MAX];

fn expression(function: &str, args: &[Arg]) -> String {
    let mut text = format!("(call ${function}");
    for arg in args {
        let _ = match arg {
            N(number) => write!(text, " (i32.const {number})"),
            Graph => write!(text, " (i32.load (i32.const 0))"),
            Context => write!(text, " (i32.load (i32.const 4))"),
        };
    }
    text + ")"
}

/// A program that does `steps` and exits with the value of `last`.
fn program(dialect: NnDialect, steps: &str, last: &str, memory: &str) -> Bytes {
    let (module, functions) = match dialect {
        NnDialect::Standard => ("wasi_ephemeral_nn", STANDARD.to_vec()),
        NnDialect::WasmEdge => ("wasi_ephemeral_nn", [STANDARD, WASMEDGE].concat()),
        NnDialect::Wamr => ("wasi_nn", WAMR.to_vec()),
    };
    let mut text = String::from("(module (import \"wasi_snapshot_preview1\" \"proc_exit\" ");
    text += "(func $exit (param i32)))\n";
    for (name, params) in functions {
        let params = "i32 ".repeat(params);
        let _ = writeln!(
            text,
            "(import \"{module}\" \"{name}\" (func ${name} (param {params}) (result i32)))"
        );
    }
    // What must succeed traps where it does not.
    text += "(func $must (param i32) (if (local.get 0) (then unreachable)))\n";
    let _ = write!(text, "{memory} {MEMORY} (global $n (mut i32) (i32.const 0)) ");
    let _ = write!(text, "(func (export \"_start\") {steps} (call $exit {last})))");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).into()
}

const EXPORTED: &str = "(memory (export \"memory\") 1)";

/// The steps that go before a call of `function`: every earlier one of [`CALLS`], but for `load`.
fn ready(function: &str) -> String {
    let earlier = CALLS.iter().take_while(|call| call.function != function);
    let steps = earlier.filter(|call| call.errno == 0);
    steps.map(|call| must(&expression(call.function, call.args))).collect()
}

fn must(call: &str) -> String {
    format!("(call $must {call}) ")
}

fn ended(node: &Node, spec: ProgramSpec) -> Ended {
    let program = node.host.program(spec).expect("it links");
    run(program.run()).expect("it ends by itself")
}

fn in_dialect(node: &Node, dialect: NnDialect, steps: &str, last: &str) -> Ended {
    let wasm = program(dialect, steps, last, EXPORTED);
    ended(node, ProgramSpec { wasi_nn: dialect, ..node.program("p", wasm) })
}

fn standard(node: &Node, steps: &str, last: &str) -> Ended {
    in_dialect(node, NnDialect::Standard, steps, last)
}

/// 0 where the buffer holds twice the data, and `size` is `expected`.
fn judged(size: u32) -> String {
    format!(
        "(i32.eqz (i32.and (i32.eq (i32.load (i32.const 8)) (i32.const {size})) (i32.and (f32.eq \
         (f32.load (i32.const 128)) (f32.const 3)) (f32.eq (f32.load (i32.const 132)) (f32.const \
         -4)))))"
    )
}

#[test]
fn a_core_module_infers() {
    let node = Node::start();
    let all = ready("") + &must(&expression("get_output", CALLS[5].args));
    assert_eq!(standard(&node, &all, &judged(8)), Ended { status: 0, nn_fault: None });
    for call in CALLS {
        let last = expression(call.function, call.args);
        let status = standard(&node, &ready(call.function), &last).status;
        assert_eq!(status, call.errno, "{}", call.function);
    }
}

#[test]
fn no_pointer_and_no_length_reaches_beyond_the_memory() {
    let node = Node::start();
    for call in CALLS {
        let bad = (call.pointers.iter().flat_map(|at| BAD_POINTERS.map(|value| (*at, value))))
            .chain(call.lengths.iter().flat_map(|at| BAD_LENGTHS.map(|value| (*at, value))));
        for (at, value) in bad {
            let mut args = call.args.to_vec();
            args[at] = N(value);
            let last = expression(call.function, &args);
            let Ended { status, nn_fault } = standard(&node, &ready(call.function), &last);
            assert_eq!(status, INVALID_ARGUMENT, "{last}: {nn_fault:?}");
            let fault = nn_fault.expect("a reason");
            assert!(fault.starts_with(call.function), "{last}: {fault}");
        }
    }
    assert_eq!(standard(&node, &ready(""), "(i32.const 0)").status, 0, "the host is well");
}

#[test]
fn no_pointer_inside_a_structure_reaches_beyond_the_memory() {
    let node = Node::start();
    let patched = |function: &str, at: u32, value: u32| {
        let patch = format!("(i32.store (i32.const {at}) (i32.const {value})) ");
        let call = CALLS.iter().find(|call| call.function == function).expect("a call");
        let last = expression(function, call.args);
        standard(&node, &(ready(function) + &patch), &last)
    };
    // Offsets of the tensor's dimensions, data and length, and of the pieces of bytes.
    for (function, at) in [("set_input", 32), ("set_input", 44), ("load", 96)] {
        for value in BAD_POINTERS {
            let Ended { status, nn_fault } = patched(function, at, value);
            assert_eq!(status, INVALID_ARGUMENT, "{function} {at} {value}: {nn_fault:?}");
        }
    }
    for (function, at) in [("set_input", 36), ("set_input", 48), ("load", 100)] {
        for value in BAD_LENGTHS {
            let Ended { status, nn_fault } = patched(function, at, value);
            assert_eq!(status, INVALID_ARGUMENT, "{function} {at} {value}: {nn_fault:?}");
        }
    }
    // A shape whose size overflows, one that its bytes do not fill, a type that is none.
    for (at, value) in [(64, u32::MAX), (68, 3), (68, 0), (40, 6), (40, 255), (48, 7)] {
        let Ended { status, nn_fault } = patched("set_input", at, value);
        assert_eq!(status, INVALID_ARGUMENT, "{at} {value}: {nn_fault:?}");
    }
    assert_eq!(patched("set_input", 40, 0xffff_ff01).status, 0, "what pads the type says nothing");
}

#[test]
fn numbers_that_name_nothing_are_arguments_that_are_wrong() {
    let node = Node::start();
    for call in &CALLS[2..] {
        let ready = ready("");
        for handle in BAD_HANDLES {
            let mut args = call.args.to_vec();
            args[0] = N(handle);
            let last = expression(call.function, &args);
            assert_eq!(standard(&node, &ready, &last).status, INVALID_ARGUMENT, "{last}");
        }
        let mut args = call.args.to_vec();
        args[0] = if matches!(args[0], Graph) { Context } else { Graph };
        let last = expression(call.function, &args);
        assert_eq!(standard(&node, &ready, &last).status, INVALID_ARGUMENT, "{last}");
    }
    for (function, place) in [("set_input", 32), ("get_output", 128)] {
        for index in [1, u32::MAX] {
            let args = [Context, N(index), N(place), N(8), N(8)];
            let last = expression(function, &args[..if function == "set_input" { 3 } else { 5 }]);
            assert_eq!(standard(&node, &ready(""), &last).status, INVALID_ARGUMENT, "{last}");
        }
    }
}

#[test]
fn what_comes_too_early_or_does_not_fit_says_so() {
    let node = Node::start();
    let early = standard(&node, &ready("set_input"), &expression("compute", &[Context]));
    let fault = Some("compute: model double: input \"x\" is missing".to_owned());
    assert_eq!(early, Ended { status: INVALID_ARGUMENT, nn_fault: fault });
    let output = |room| expression("get_output", &[Context, N(0), N(128), N(room), N(8)]);
    let early = standard(&node, &ready("compute"), &output(8));
    assert_eq!(early.status, RUNTIME_ERROR, "{early:?}");
    let small = standard(&node, &ready("get_output"), &output(7));
    assert_eq!(small.status, TOO_LARGE, "{small:?}");
    let name = |length| expression("load_by_name", &[N(16), N(length), N(0)]);
    assert_eq!(standard(&node, "", &name(5)).status, NOT_FOUND);
    assert_eq!(standard(&node, "", &name(0)).status, NOT_FOUND);
    let bytes = "(i32.store (i32.const 16) (i32.const -1))";
    assert_eq!(standard(&node, bytes, &name(6)).status, INVALID_ARGUMENT, "no UTF-8");
    // i64 data for an input of f32: as many bytes, another type.
    let ty = "(i32.store (i32.const 40) (i32.const 5)) (i32.store (i32.const 68) (i32.const 1)) ";
    let steps = ready("set_input") + ty + &must(&expression("set_input", CALLS[3].args));
    let other = standard(&node, &steps, &expression("compute", &[Context]));
    assert_eq!(other.status, INVALID_ARGUMENT, "{other:?}");
    assert!(other.nn_fault.expect("a reason").contains("f32"));
}

#[test]
fn inputs_stay_set_and_may_be_replaced() {
    let node = Node::start();
    let again = must(&expression("compute", &[Context]));
    let output = must(&expression("get_output", CALLS[5].args));
    let steps = ready("") + &again + &again + &output;
    assert_eq!(standard(&node, &steps, &judged(8)).status, 0);
    let changed = "(f32.store (i32.const 80) (f32.const 5)) ".to_owned()
        + &must(&expression("set_input", CALLS[3].args));
    let last = "(f32.ne (f32.load (i32.const 128)) (f32.const 10))";
    assert_eq!(standard(&node, &(ready("") + &changed + &again + &output), last).status, 0);
}

#[test]
fn a_state_goes_on_and_ends_with_its_sequence() {
    let node = Node::start();
    let models = [("double".to_owned(), node.adding())];
    let adds = |dialect: NnDialect, steps: &str, due: f32| {
        let output = must(&expression("get_output", CALLS[5].args));
        let last = format!("(f32.ne (f32.load (i32.const 128)) (f32.const {due}))");
        let wasm = program(dialect, &(ready("compute") + steps + &output), &last, EXPORTED);
        let spec = ProgramSpec { models: models.clone().into(), ..node.program("p", wasm) };
        assert_eq!(ended(&node, ProgramSpec { wasi_nn: dialect, ..spec }).status, 0, "{due}");
    };
    let compute = must(&expression("compute", &[Context]));
    // The input is 1.5, and stays set.
    adds(NnDialect::Standard, &compute, 1.5);
    adds(NnDialect::Standard, &compute.repeat(3), 4.5);
    // The second input is the state: it is set to 1.5.
    let given = must(&expression("set_input", &[Context, N(1), N(32)]));
    adds(NnDialect::Standard, &(compute.clone() + &given + &compute.repeat(2)), 4.5);
    let fini = must(&expression("fini_single", &[Context]));
    adds(NnDialect::WasmEdge, &(compute.repeat(3) + &fini + &compute), 1.5);
}

#[test]
fn a_million_handles_are_a_bounded_number() {
    let node = Node::with(HostConfig { resources_max: 500, ..HostConfig::default() });
    let count = "(global.set $n (i32.add (global.get $n) (i32.const 1)))";
    for (function, args, first) in
        [("load_by_name", CALLS[1].args, 0), ("init_execution_context", CALLS[2].args, 1)]
    {
        let call = expression(function, args);
        let steps = format!(
            "{} (global.set $n (i32.const {first})) (loop $more (if (i32.eqz {call}) (then {count} \
             (br_if $more (i32.lt_u (global.get $n) (i32.const 1000000))))))",
            if first == 0 { String::new() } else { ready("init_execution_context") },
        );
        let last = format!(
            "(if (result i32) (i32.eq (global.get $n) (i32.const 500)) (then {call}) (else \
             (i32.const 99)))"
        );
        assert_eq!(standard(&node, &steps, &last).status, TOO_LARGE, "{function}");
    }
}

#[test]
fn tensors_share_one_allowance() {
    let node = Node::with(HostConfig { tensor_bytes_max: 40, ..HostConfig::default() });
    let input = expression("set_input", CALLS[3].args);
    let context = must(&expression("init_execution_context", CALLS[2].args));
    let twice = ready("set_input") + &must(&input) + &must(&input) + &context + &must(&input);
    assert_eq!(standard(&node, &twice, &expression("compute", &[Context])).status, TOO_LARGE);
    let third = twice + &context;
    assert_eq!(standard(&node, &third, &input).status, TOO_LARGE, "two inputs take 32 of 40");
    let one = standard(&node, &ready("compute"), &expression("compute", &[Context]));
    assert_eq!(one.status, 0, "an input and an output take 32");
}

#[test]
fn a_module_without_memory_is_told_so() {
    let node = Node::start();
    for call in &CALLS[..4] {
        let call = expression(call.function, call.args);
        // It cannot say so with `proc_exit`, which wants a memory too.
        let steps = format!(
            "(if (i32.ne {call} (i32.const {MISSING_MEMORY})) (then unreachable)) (return)"
        );
        let wasm = program(NnDialect::Standard, &steps, "(i32.const 0)", "(memory 1)");
        let Ended { status, nn_fault } = ended(&node, node.program("p", wasm));
        assert_eq!(status, 0, "{call}");
        assert!(nn_fault.expect("a reason").contains("exports no memory"), "{call}");
    }
}

#[test]
fn encodings_and_targets_are_those_of_the_dialect() {
    let node = Node::start();
    // What is read goes on to the next check: nobody granted loading.
    let (read, not) = (UNSUPPORTED_OPERATION, INVALID_ENCODING);
    let cases = [
        (NnDialect::Standard, 0, not),
        (NnDialect::Standard, 1, read),
        (NnDialect::Standard, 5, read),
        (NnDialect::Standard, 6, not),
        (NnDialect::WasmEdge, 1, read),
        (NnDialect::WasmEdge, 5, read),
        (NnDialect::WasmEdge, 6, not),
        (NnDialect::WasmEdge, 11, not),
        (NnDialect::WasmEdge, u32::MAX, not),
        (NnDialect::Wamr, 1, read),
        (NnDialect::Wamr, 5, not),
        (NnDialect::Wamr, 6, read),
        (NnDialect::Wamr, 7, not),
    ];
    let load = |dialect, encoding, target| {
        let last = match dialect {
            NnDialect::Wamr => expression("load", &[N(104), N(encoding), N(target), N(0)]),
            _ => expression("load", &[N(96), N(1), N(encoding), N(target), N(0)]),
        };
        in_dialect(&node, dialect, "", &last)
    };
    for (dialect, encoding, expected) in cases {
        let Ended { status, nn_fault } = load(dialect, encoding, 0);
        assert_eq!(status, expected, "{dialect} {encoding}: {nn_fault:?}");
    }
    assert!(load(NnDialect::WasmEdge, 6, 0).nn_fault.expect("a reason").contains("ggml"));
    assert_eq!(load(NnDialect::Standard, 1, 3).status, read, "auto");
    assert_eq!(load(NnDialect::Wamr, 1, 3).status, INVALID_ARGUMENT);
    for dialect in NnDialect::ALL {
        assert_eq!(load(dialect, 1, 4).status, INVALID_ARGUMENT, "{dialect}");
    }
}

#[test]
fn wamr_counts_elements_of_four_bytes_and_points_at_its_lists() {
    let node = Node::start();
    let wamr = |steps: &str, last: &str| in_dialect(&node, NnDialect::Wamr, steps, last);
    let input = [Context, N(0), N(52)];
    let inputs = ready("set_input") + &must(&expression("set_input", &input));
    let computed = inputs + &must(&expression("compute", &[Context]));
    let output = expression("get_output", &[Context, N(0), N(128), N(8)]);
    assert_eq!(wamr(&(computed.clone() + &must(&output)), &judged(2)).status, 0);
    let room = |size: u32| format!("(i32.store (i32.const 8) (i32.const {size})) ");
    assert_eq!(wamr(&(computed.clone() + &room(1)), &output).status, TOO_LARGE);
    for size in [PAGE, 1 << 30, u32::MAX] {
        assert_eq!(wamr(&(computed.clone() + &room(size)), &output).status, INVALID_ARGUMENT);
    }
    for value in BAD_POINTERS {
        let structures = [
            expression("set_input", &[Context, N(0), N(value)]),
            expression("get_output", &[Context, N(0), N(128), N(value)]),
            expression("get_output", &[Context, N(0), N(value), N(8)]),
            expression("load", &[N(value), N(1), N(0), N(0)]),
            expression("load", &[N(104), N(1), N(0), N(value)]),
        ];
        for last in structures {
            assert_eq!(wamr(&computed, &last).status, INVALID_ARGUMENT, "{last}");
        }
        // The places of the dimensions' list, of the dimensions, of the data, of the bytes.
        for (at, function) in [(52, "set"), (72, "set"), (60, "set"), (104, "load"), (96, "load")] {
            let patch = format!("(i32.store (i32.const {at}) (i32.const {value})) ");
            let last = match function {
                "set" => expression("set_input", &input),
                _ => expression("load", &[N(104), N(1), N(0), N(0)]),
            };
            let Ended { status, nn_fault } = wamr(&(computed.clone() + &patch), &last);
            assert_eq!(status, INVALID_ARGUMENT, "{at} {value}: {nn_fault:?}");
        }
    }
    // Its types are f16, f32, u8 and i32.
    let ty = "(i32.store (i32.const 56) (i32.const 4)) ".to_owned();
    let other = wamr(&(ready("set_input") + &ty), &expression("set_input", &input));
    assert_eq!(other.status, INVALID_ARGUMENT);
}

#[test]
fn wasmedge_has_sequences_options_and_handles_that_end() {
    let node = Node::start();
    let edge = |steps: &str, last: &str| in_dialect(&node, NnDialect::WasmEdge, steps, last);
    let with =
        |length| expression("load_by_name_with_config", &[N(16), N(6), N(24), N(length), N(0)]);
    let step = expression("compute_single", &[Context]);
    let part = expression("get_output_single", CALLS[5].args);
    let begun =
        must(&with(2)) + &ready("compute").replacen(&ready("init_execution_context"), "", 1);
    assert_eq!(edge(&(begun.clone() + &must(&step) + &must(&part)), &judged(8)).status, 0);
    assert_eq!(edge(&(begun.clone() + &must(&step)), &step).status, END_OF_SEQUENCE);
    let finished = begun.clone() + &must(&step) + &must(&expression("fini_single", &[Context]));
    assert_eq!(edge(&finished, &part).status, RUNTIME_ERROR, "its output is gone");
    assert_eq!(edge(&finished, &step).status, 0, "another sequence begins");
    let set = must(&expression("set_input", CALLS[3].args));
    assert_eq!(edge(&(begun.clone() + &must(&step) + &set), &step).status, 0);
    assert_eq!(edge("", &with(1)).status, INVALID_ARGUMENT, "`{{` is no JSON");
    assert_eq!(edge("", &with(u32::MAX)).status, INVALID_ARGUMENT);

    let unload = expression("unload", &[Graph]);
    let unloaded = begun.clone() + &must(&unload);
    assert_eq!(edge(&unloaded, &unload).status, INVALID_ARGUMENT);
    assert_eq!(edge(&unloaded, &step).status, 0, "a context keeps its model");
    let begin = expression("init_execution_context", &[Graph, N(4)]);
    assert_eq!(edge(&unloaded, &begin).status, INVALID_ARGUMENT);
    let end = expression("finalize_execution_context", &[Context]);
    let over = begun + &must(&end);
    for call in [&end, &step, &part, &expression("fini_single", &[Context])] {
        assert_eq!(edge(&over, call).status, INVALID_ARGUMENT, "{call}");
    }
}

#[test]
fn another_dialects_functions_are_missing_imports() {
    let node = Node::start();
    for (dialect, import) in [
        (NnDialect::WasmEdge, "wasi_ephemeral_nn::load_by_name_with_config"),
        (NnDialect::Wamr, "wasi_nn::load"),
    ] {
        let wasm = program(dialect, "", "(i32.const 0)", EXPORTED);
        let Err(HostError::MissingImport { imports, offered, .. }) =
            node.host.program(node.program("p", wasm))
        else {
            panic!("{dialect}: it links");
        };
        assert_eq!(imports, [import]);
        assert!(offered.contains("standard, wasmedge, wamr"), "{offered}");
    }
}
