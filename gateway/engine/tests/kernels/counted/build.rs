//! A kernel that counts: every load and store of a storage buffer goes through a function that
//! adds its bytes to a counter of that buffer.
#![expect(clippy::format_push_string, reason = "a shader is made once")]

use gw_engine::Device;
use gw_shaders::kernel::{Access, Dispatch, Kernel};

/// Bytes that the load and store instructions of all invocations ask for, per binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
}

/// Runs the counted build of `dispatch`; `None` where there is no adapter.
pub(super) fn count(device: &Device, dispatch: &Dispatch, buffers: &[Vec<u8>]) -> Vec<Moved> {
    let kernel = counted(&dispatch.kernel);
    let (name, source) = (kernel.variant.clone(), kernel.source.clone());
    let mut buffers = buffers.to_vec();
    buffers.push(vec![0; 8 * dispatch.kernel.bindings.len()]);
    let left = device
        .run_dispatch(&Dispatch { kernel, ..dispatch.clone() }, &buffers)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{source}"));
    let words: &[u32] = bytemuck::cast_slice(left.last().expect("the counters are bound"));
    let bytes = |words: u32| 4 * u64::from(words);
    words.chunks(2).map(|w| Moved { read: bytes(w[0]), written: bytes(w[1]) }).collect()
}

/// A storage buffer of the source.
struct Buffer {
    name: String,
    element: String,
}

fn counted(kernel: &Kernel) -> Kernel {
    let buffers: Vec<Buffer> = kernel.source.lines().filter_map(buffer).collect();
    assert_eq!(buffers.len(), kernel.bindings.len(), "every binding is declared on a line");
    let mut source = String::new();
    for item in items(&kernel.source) {
        let hidden = |name: &str| {
            ["let ", "var "].iter().any(|word| item.contains(&format!("{word}{name} ")))
                || item.contains(&format!("{name}:"))
        };
        let seen: Vec<_> = buffers.iter().filter(|buffer| !hidden(&buffer.name)).collect();
        // Declarations stay as they are; only functions have bodies.
        source.push_str(&if item.contains("fn ") { rewritten(item, &seen) } else { item.into() });
    }
    for (index, Buffer { name, element }) in buffers.iter().enumerate() {
        let is_four = element.starts_with("vec4") || element == "vec2<u64>";
        let words = if is_four { 4 } else { 1 };
        let (read, written) = (2 * index, 2 * index + 1);
        source.push_str(&format!(
            "fn read_counted_{name}(at: u32) -> {element} {{\n    \
             atomicAdd(&counters[{read}u], {words}u);\n    return {name}[at];\n}}\n"
        ));
        if kernel.bindings[index] == Access::ReadWrite {
            source.push_str(&format!(
                "fn write_counted_{name}(at: u32, value: {element}) {{\n    \
                 atomicAdd(&counters[{written}u], {words}u);\n    {name}[at] = value;\n}}\n"
            ));
        }
    }
    source.push_str(&format!(
        "@group(0) @binding({}) var<storage, read_write> counters: array<atomic<u32>>;\n",
        buffers.len()
    ));
    let mut bindings = kernel.bindings.clone();
    bindings.push(Access::ReadWrite);
    let variant = format!("{}, counted", kernel.variant);
    Kernel { variant, source, bindings, ..kernel.clone() }
}

fn buffer(line: &str) -> Option<Buffer> {
    let (_, rest) = line.strip_prefix("@group(0) @binding(")?.split_once("> ")?;
    let (name, element) = rest.split_once(": array<")?;
    // What is read in halves says in a comment what it holds.
    let element = element.split(';').next()?.strip_suffix('>')?;
    assert!(!element.starts_with("atomic"), "atomics cannot be counted");
    Some(Buffer { name: name.to_owned(), element: element.to_owned() })
}

/// The declarations of a source: each starts in column one and ends before the next that does.
fn items(source: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let head = ["fn ", "@", "var", "const", "struct", "alias", "//"];
        if at > 0 && head.iter().any(|word| line.starts_with(word)) {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(source.len());
    starts.windows(2).map(|pair| &source[pair[0]..pair[1]]).collect()
}

/// `text` with every `name[index]` of a buffer as a call.
fn rewritten(text: &str, buffers: &[&Buffer]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, buffer)) = next(rest, buffers) {
        out.push_str(&rest[..at]);
        let index = &rest[at + buffer.name.len() + 1..];
        let close = end(index, |byte, depth| byte == b']' && depth == 0);
        let after = &index[close + 1..];
        let inside = rewritten(&index[..close], buffers);
        let next = after.trim_start();
        if next.starts_with('=') && !next.starts_with("==") {
            let value = &next[1..];
            let semicolon = end(value, |byte, depth| byte == b';' && depth == 0);
            let value_text = rewritten(value[..semicolon].trim(), buffers);
            out.push_str(&format!("write_counted_{}(u32({inside}), {value_text})", buffer.name));
            rest = &value[semicolon..];
        } else {
            out.push_str(&format!("read_counted_{}(u32({inside}))", buffer.name));
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The next use of a buffer: where its name starts.
fn next<'b>(text: &str, buffers: &[&'b Buffer]) -> Option<(usize, &'b Buffer)> {
    let found = |buffer: &&'b Buffer| {
        let wanted = format!("{}[", buffer.name);
        let is_whole = |&(at, _): &(usize, &str)| {
            let before = text[..at].bytes().next_back().unwrap_or(b' ');
            !before.is_ascii_alphanumeric() && before != b'_' && before != b'.'
        };
        let place = text.match_indices(&wanted).find(is_whole);
        place.map(|(at, _)| (at, *buffer))
    };
    buffers.iter().filter_map(found).min_by_key(|(at, _)| *at)
}

/// Where `stop` holds; brackets before it are passed whole.
fn end(text: &str, stop: impl Fn(u8, i32) -> bool) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        if stop(byte, depth) {
            return at;
        }
        depth += match byte {
            b'(' | b'[' => 1,
            b')' | b']' => -1,
            _ => 0,
        };
    }
    panic!("an unclosed bracket in `{text}`")
}
