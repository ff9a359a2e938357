//! From the declarations of `.wgsl` files to one shader.
//!
//! A `.wgsl` file is a list of declarations that start in column one. A shader is the entry
//! function and what it names, directly or not; names that the file leaves open (constants,
//! `params`, buffers, hooks) are given here. A loop marked `// unroll` is written out, because
//! drivers keep an array in registers only where every index is a constant.
//!
//! - `element`: what buffers are arrays of.

mod element;

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::expr::Expr;
use crate::kernel::{
    Access, Caps, Dispatch, Kernel, LOOP_TURNS_MAX, Needs, PARAM_WORDS_MAX, Scalar, Unsupported,
};

use element::Element;

/// A shader in the making.
pub(crate) struct Composer {
    name: &'static str,
    variant: String,
    sources: Vec<&'static str>,
    constants: Vec<(&'static str, u32)>,
    params: Vec<(String, &'static str, u32)>,
    bindings: Vec<(String, Access, Element)>,
    hooks: Vec<(&'static str, &'static str)>,
    text: String,
    turns: u64,
    f16: bool,
}

impl Composer {
    pub(crate) fn new(name: &'static str, variant: impl Into<String>) -> Self {
        Self {
            name,
            variant: variant.into(),
            sources: Vec::new(),
            constants: Vec::new(),
            params: Vec::new(),
            bindings: Vec::new(),
            hooks: Vec::new(),
            text: String::new(),
            turns: 0,
            f16: false,
        }
    }

    /// The family.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a file whose declarations may be used.
    pub(crate) fn source(&mut self, source: &'static str) -> &mut Self {
        self.sources.push(source);
        self
    }

    /// Adds `const name: u32`.
    pub(crate) fn constant(&mut self, name: &'static str, value: u32) -> &mut Self {
        self.constants.push((name, value));
        self
    }

    /// Adds a word to `params`.
    pub(crate) fn u32(&mut self, name: impl Into<String>, value: u32) -> &mut Self {
        self.params.push((name.into(), "u32", value));
        self
    }

    /// Adds a word to `params`.
    pub(crate) fn i32(&mut self, name: impl Into<String>, value: i32) -> &mut Self {
        self.params.push((name.into(), "i32", value.cast_unsigned()));
        self
    }

    /// Adds a word to `params`.
    pub(crate) fn f32(&mut self, name: impl Into<String>, value: f32) -> &mut Self {
        self.params.push((name.into(), "f32", value.to_bits()));
        self
    }

    /// Adds a buffer that is read.
    pub(crate) fn read(&mut self, name: impl Into<String>, element: &str) -> &mut Self {
        self.bindings.push((name.into(), Access::Read, Element::Of(element.to_owned())));
        self
    }

    /// Adds a buffer of `vec4<scalar>` that is read by the function `{name}_four(at)`.
    ///
    /// A software adapter loads one lane after the other, and takes as long for 32 bits as for 64.
    pub(crate) fn read_fours(&mut self, name: impl Into<String>, scalar: Scalar) -> &mut Self {
        self.bindings.push((name.into(), Access::Read, Element::Four(scalar)));
        self
    }

    /// Adds a buffer that is written.
    pub(crate) fn write(&mut self, name: impl Into<String>, element: &str) -> &mut Self {
        self.bindings.push((name.into(), Access::ReadWrite, Element::Of(element.to_owned())));
        self
    }

    /// Lets the files' `name` mean their function `implementation`.
    pub(crate) fn hook(&mut self, name: &'static str, implementation: &'static str) -> &mut Self {
        self.hooks.push((name, implementation));
        self
    }

    /// Lets declarations use `f16`, and says so in the name of the variant.
    pub(crate) fn enable_f16(&mut self) -> &mut Self {
        self.f16 = true;
        self.variant.push_str(", f16");
        self
    }

    /// Says how many turns the loops of one invocation take together, at most.
    pub(crate) fn turns(&mut self, turns: u64) -> &mut Self {
        self.turns = turns;
        self
    }

    /// Adds a generated declaration.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds `fn name`, which computes `expr`.
    pub(crate) fn expr(&mut self, name: &str, expr: &Expr) -> Result<&mut Self, Unsupported> {
        let text = expr
            .wgsl(name)
            .map_err(|error| Unsupported::new(self.name, format!("the expression: {error}")))?;
        Ok(self.source(crate::expr::LIBRARY).text(&text))
    }

    /// The dispatch of `groups` workgroups of `size` invocations, each of which calls
    /// `entry(group, lane)`.
    ///
    /// Where `needs.subgroup` is one size, a workgroup is a subgroup and the lane the place in it.
    /// Where it is several, lanes follow each other from subgroup to subgroup of the workgroup, and
    /// `place_in_subgroup` is set. Else the lane is the place in the workgroup.
    pub(crate) fn finish(
        mut self,
        entry: &'static str,
        size: u32,
        groups: u64,
        mut needs: Needs,
        caps: &Caps,
    ) -> Result<Dispatch, Unsupported> {
        let name = self.name;
        let unsupported = |reason: String| Err(Unsupported::new(name, reason));
        needs.workgroup_invocations = size;
        needs.f16 |= self.f16;
        let has_fours = self.bindings.iter().any(|(.., element)| element.is_four());
        needs.int64 = has_fours && caps.software && caps.int64;
        let workgroups = grid(name, groups, caps)?;
        self.u32("groups", u32::try_from(groups).expect("a grid of u32 workgroups fits"));
        if self.params.len() > PARAM_WORDS_MAX {
            return unsupported(format!("{} words of {PARAM_WORDS_MAX}", self.params.len()));
        }
        if self.bindings.len() > caps.storage_buffers as usize {
            let (count, max) = (self.bindings.len(), caps.storage_buffers);
            return unsupported(format!("{count} buffers where the adapter binds {max}"));
        }
        if caps.software && self.turns > LOOP_TURNS_MAX {
            let turns = self.turns;
            return unsupported(format!(
                "{turns} turns of loops, where a software adapter takes {LOOP_TURNS_MAX}"
            ));
        }
        if !caps.satisfy(&needs) {
            return unsupported(format!("the adapter lacks what it needs: {needs:?}"));
        }
        let source = self.compose(entry, size, &needs);
        let params = self.params.iter().map(|&(_, _, word)| word).collect();
        let bindings = self.bindings.iter().map(|&(_, access, _)| access).collect();
        let kernel = Kernel { name, variant: self.variant, source, bindings, needs };
        Ok(Dispatch { kernel, params, workgroups })
    }

    fn compose(&self, entry: &str, size: u32, needs: &Needs) -> String {
        let mut out = format!("// {} {}\n", self.name, self.variant);
        if self.f16 {
            out.push_str("enable f16;\n");
        }
        for (name, value) in &self.constants {
            line(&mut out, format_args!("const {name}: u32 = {value}u;"));
        }
        out.push_str("struct Params {\n");
        for (name, kind, _) in &self.params {
            line(&mut out, format_args!("    {name}: {kind},"));
        }
        out.push_str("}\nvar<immediate> params: Params;\n");
        let mut needed = self.text.clone();
        for (index, (name, access, element)) in self.bindings.iter().enumerate() {
            let access = match access {
                Access::Read => "read",
                Access::ReadWrite => "read_write",
            };
            needed.push_str(&element.reader(name, needs.int64));
            let element = element.declared(needs.int64);
            line(
                &mut out,
                format_args!(
                    "@group(0) @binding({index}) var<storage, {access}> {name}: {element}"
                ),
            );
        }
        let entry = self.hooked(entry);
        let (inputs, before) = match needs.subgroup {
            None => ("@builtin(local_invocation_index) lane: u32", ""),
            Some((least, most)) if least == most => {
                ("@builtin(subgroup_invocation_id) lane: u32", "")
            }
            Some(_) => (
                "@builtin(subgroup_id) subgroup: u32,\n    @builtin(subgroup_size) size: u32,\n    \
                 @builtin(subgroup_invocation_id) place: u32",
                "    let lane = subgroup * size + place;\n    place_in_subgroup = place;\n",
            ),
        };
        line(
            &mut needed,
            format_args!(
                "@compute @workgroup_size({size})\nfn main(\n    @builtin(workgroup_id) id: vec3<u32>,\
                 \n    @builtin(num_workgroups) grid: vec3<u32>,\n    {inputs},\n\
                 ) {{\n    let group = id.x + id.y * grid.x;\n{before}    \
                 if (group < params.groups) {{\n        {entry}(group, lane);\n    }}\n}}"
            ),
        );
        out.push_str(&self.reachable(&needed));
        out.push_str(&needed);
        out
    }

    /// The files' declarations that `text` names, and those that they name, in file order.
    fn reachable(&self, text: &str) -> String {
        let items: Vec<(String, String)> = self
            .sources
            .iter()
            .flat_map(|source| items(source))
            .map(|(name, text)| (name.to_owned(), self.hooked(text)))
            .collect();
        let mut wanted: HashSet<String> = identifiers(text).map(str::to_owned).collect();
        loop {
            let before = wanted.len();
            for (name, text) in &items {
                if wanted.contains(name) {
                    wanted.extend(identifiers(text).map(str::to_owned));
                }
            }
            if wanted.len() == before {
                break;
            }
        }
        let mut seen = HashSet::new();
        items
            .iter()
            .filter(|(name, _)| wanted.contains(name) && seen.insert(name.clone()))
            .map(|(_, text)| self.unrolled(text))
            .collect()
    }

    fn unrolled(&self, text: &str) -> String {
        let mut out = String::new();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        self.unroll(&lines, &mut out);
        out
    }

    fn hooked(&self, text: &str) -> String {
        self.hooks.iter().fold(text.to_owned(), |text, (name, with)| rename(&text, name, with))
    }

    /// Writes `lines` with every marked loop replaced by one block per turn.
    fn unroll(&self, lines: &[String], out: &mut String) {
        let mut index = 0;
        while index < lines.len() {
            let head = &lines[index];
            let Some((variable, bound)) = self.marked_loop(head) else {
                line(out, format_args!("{head}"));
                index += 1;
                continue;
            };
            let indent = &head[..head.len() - head.trim_start().len()];
            let close = format!("{indent}}}");
            let length = lines[index + 1..]
                .iter()
                .position(|text| *text == close)
                .expect("a marked loop is closed at its own indentation");
            let body = &lines[index + 1..=index + length];
            for turn in 0..bound {
                let with = format!("{turn}u");
                let body: Vec<String> =
                    body.iter().map(|text| rename(text, variable, &with)).collect();
                line(out, format_args!("{indent}{{"));
                self.unroll(&body, out);
                line(out, format_args!("{close}"));
            }
            index += length + 2;
        }
    }

    /// The variable and the number of turns of `for (var v = 0u; v < N; v++) { // unroll`.
    fn marked_loop<'a>(&self, head: &'a str) -> Option<(&'a str, u32)> {
        let inside = head.trim().strip_suffix("{ // unroll")?.trim().strip_prefix("for (var ")?;
        let (variable, rest) = inside.split_once(" = 0u; ")?;
        let bound = rest.split_once(" < ")?.1.split_once(';')?.0;
        let value = bound.strip_suffix('u').unwrap_or(bound).parse().ok().or_else(|| {
            self.constants.iter().find(|(name, _)| *name == bound).map(|&(_, value)| value)
        });
        Some((variable, value.expect("the bound of a marked loop is a constant of the header")))
    }
}

/// `groups` workgroups laid over two dimensions.
fn grid(kernel: &'static str, groups: u64, caps: &Caps) -> Result<[u32; 3], Unsupported> {
    let most = u64::from(caps.workgroups_per_dimension.max(1));
    if groups == 0 {
        return Ok([0, 1, 1]);
    }
    let rows = groups.div_ceil(most);
    // The group's number is a u32 in the shader, also past the end of the last row.
    if rows > most || rows * groups.min(most) > u64::from(u32::MAX) {
        return Err(Unsupported::new(kernel, format!("{groups} workgroups are too many")));
    }
    // Even rows leave fewer than `rows` workgroups without work.
    let across = groups.div_ceil(rows);
    let fits = "both are within u32, as checked above";
    Ok([u32::try_from(across).expect(fits), u32::try_from(rows).expect(fits), 1])
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes any text");
}

/// The named declarations of a file: each starts in column one and ends at the next line that
/// starts with `}` or, for one line, with `;` at its end. Comments belong to nobody.
fn items(source: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for text in source.split_inclusive('\n') {
        let end = at + text.len();
        let opens = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '@');
        if start.is_none() && opens {
            start = Some(at);
        }
        let closes = text.starts_with('}') || (opens && text.trim_end().ends_with(';'));
        if let (true, Some(from)) = (closes, start) {
            let item = &source[from..end];
            found.push((declared(item), item));
            start = None;
        }
        at = end;
    }
    found
}

/// The name that a declaration declares: what follows `fn`, `const`, `struct`, `alias`, `var<…>`.
fn declared(item: &str) -> &str {
    let rest = item.split_once([' ', '>']).map_or(item, |(_, rest)| rest);
    identifiers(rest).next().unwrap_or("")
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// `text` with the identifier `name` replaced.
fn rename(text: &str, name: &str, with: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
        // A field or method of the same name is another thing.
        let field = before.ends_with('.');
        out.push_str(before);
        out.push_str(if alone && !field { with } else { name });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "// A file.\nconst SIX: u32 = 6u;\nvar<workgroup> shared_sum: array<f32, 4>;\n\
        fn unused() {\n}\nfn one(x: u32) -> u32 {\n    return hook(x) + SIX;\n}\n\
        fn entry(group: u32, lane: u32) {\n    var sum = 0u;\n    \
        for (var i = 0u; i < TURNS; i++) { // unroll\n        sum += one(i) + v.i;\n    }\n}\n\
        fn double(x: u32) -> u32 {\n    return 2u * x;\n}\n";

    fn composed() -> String {
        let mut composer = Composer::new("test", "plain");
        composer.source(FILE).constant("TURNS", 2).hook("hook", "double");
        composer.finish("entry", 64, 1, Needs::default(), &Caps::minimal()).unwrap().kernel.source
    }

    #[test]
    fn only_what_the_entry_reaches_is_in_the_shader() {
        let source = composed();
        assert!(source.contains("fn one") && source.contains("fn double"));
        assert!(source.contains("const SIX"));
        assert!(!source.contains("unused") && !source.contains("shared_sum"));
    }

    #[test]
    fn marked_loops_are_written_out_and_fields_are_left_alone() {
        let source = composed();
        assert!(source.contains("sum += one(0u) + v.i;"), "{source}");
        assert!(source.contains("sum += one(1u) + v.i;"), "{source}");
        assert!(!source.contains("for ("), "{source}");
    }

    #[test]
    fn fours_are_read_in_halves_where_a_software_adapter_can() {
        let caps = |software, int64| Caps { int64, software, ..Caps::minimal() };
        for (caps, due) in [
            (caps(true, true), "array<vec2<u64>>; // vec4<f32>"),
            (caps(true, false), "array<vec4<f32>>;"),
            (caps(false, true), "array<vec4<f32>>;"),
        ] {
            let mut composer = Composer::new("test", "");
            composer.read_fours("x", Scalar::F32).write("y", "vec4<f32>");
            composer.text("fn copy(group: u32, lane: u32) {\n    y[lane] = x_four(lane);\n}\n");
            let dispatch = composer.finish("copy", 64, 1, Needs::default(), &caps).unwrap();
            let kernel = &dispatch.kernel;
            assert!(kernel.source.contains(due), "{}", kernel.source);
            assert_eq!(kernel.needs.int64, due.contains("u64"));
            assert_eq!(kernel.scalars(), [Scalar::F32; 2]);
            crate::check::valid(&dispatch);
        }
    }

    #[test]
    fn grids_cover_their_groups_within_the_limit() {
        let caps = Caps { workgroups_per_dimension: 10, ..Caps::minimal() };
        for groups in 0..=100u64 {
            let [x, y, z] = grid("test", groups, &caps).unwrap();
            assert!(x <= 10 && y <= 10 && z == 1);
            let cells = u64::from(x) * u64::from(y);
            assert!(cells >= groups && cells < groups + 10, "{groups} groups in {cells}");
        }
        assert!(grid("test", 101, &caps).is_err());
    }

    #[test]
    fn more_words_or_buffers_than_fit_are_refused() {
        let mut composer = Composer::new("test", "");
        composer.source(FILE).constant("TURNS", 1).hook("hook", "double");
        for word in 0..32 {
            composer.u32(format!("w{word}"), word);
        }
        let error = composer.finish("entry", 1, 1, Needs::default(), &Caps::minimal());
        assert!(error.unwrap_err().to_string().contains("33 words of 32"));
    }
}
