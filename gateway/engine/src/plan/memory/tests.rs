use proptest::prelude::*;

use super::super::tests::PlanBuilder;
use super::super::{BufferId, Port};
use super::*;

/// Everything that a device relies on.
fn assert_sound(plan: &Plan, memory: &MemoryPlan, limits: &MemoryLimits) {
    let items = items(plan, limits.alignment, &memory.mapped);
    let place = |item: &Item| memory.places[item.buffer].expect("every item has a place");
    for (i, a) in items.iter().enumerate() {
        let at = place(a);
        assert!(at.offset.is_multiple_of(limits.alignment));
        assert!(at.offset + a.bytes <= memory.arenas[at.arena]);
        for b in &items[i + 1..] {
            let (x, y) = (at, place(b));
            let disjoint = x.arena != y.arena
                || x.offset + a.bytes <= y.offset
                || y.offset + b.bytes <= x.offset;
            assert!(disjoint || !a.overlaps(b), "{} and {} overlap", a.buffer, b.buffer);
        }
    }
    for step in &plan.steps {
        let arenas = |wanted: Access| {
            let bound = step.bindings.iter().zip(&step.dispatch.kernel.bindings);
            let ids = bound.filter(move |(_, a)| **a == wanted).map(|(id, _)| id.0 as usize);
            ids.filter_map(|id| memory.places[id]).map(|p| p.arena).collect::<Vec<_>>()
        };
        let mapped = |wanted: Access| {
            let bound = step.bindings.iter().zip(&step.dispatch.kernel.bindings);
            let ids = bound.filter(move |(_, a)| **a == wanted).map(|(id, _)| id.0 as usize);
            ids.filter(|id| memory.mapped[*id]).map(|id| &plan.buffers[id].kind).collect::<Vec<_>>()
        };
        assert!(mapped(Access::Read).iter().all(|kind| **kind == BufferKind::Input));
        assert!(mapped(Access::ReadWrite).iter().all(|kind| **kind == BufferKind::Output));
        for arena in arenas(Access::Read) {
            assert!(!arenas(Access::ReadWrite).contains(&arena), "{} reads its target", step.label);
        }
    }
    assert!(memory.arena_bytes() >= memory.live_bytes);
}

fn ratio(plan: &Plan) -> f64 {
    let memory = plan_memory(plan, &MemoryLimits::default()).unwrap();
    assert_sound(plan, &memory, &MemoryLimits::default());
    memory.arena_bytes() as f64 / memory.live_bytes as f64
}

/// Layers of a text encoder: projections, attention, residual sums, a wide middle.
fn transformer(layers: usize, rows: usize, width: usize) -> Plan {
    let mut plan = PlanBuilder::default();
    let (ids, mask) = (plan.input("ids", rows), plan.input("mask", rows));
    let w = plan.weight("w", 64);
    let mut x = plan.temporary("embedding", rows * width);
    plan.step("embed", &[ids, w], &[x]);
    for layer in 0..layers {
        let mut part = |name: &str, inputs: &[BufferId], size: usize| {
            let label = format!("{layer}/{name}");
            let out = plan.temporary(&label, rows * size);
            plan.step(&label, inputs, &[out]);
            out
        };
        let qkv = part("qkv", &[x, w], 3 * width);
        let attention = part("attention", &[qkv, mask], width);
        let sum = part("project", &[attention, w, x], width);
        let norm = part("norm", &[sum, w], width);
        let wide = part("up", &[norm, w], 4 * width);
        let sum = part("down", &[wide, w, norm], width);
        x = part("norm2", &[sum, w], width);
    }
    let y = plan.output("y", rows * width);
    plan.step("out", &[x, w], &[y]);
    plan.build()
}

#[test]
fn a_text_encoder_is_packed_close_to_its_live_set() {
    let ratio = ratio(&transformer(6, 128, 384));
    assert!(ratio <= 1.15, "{ratio}");
}

#[test]
fn a_chain_of_convolutions_is_packed_close_to_its_live_set() {
    let mut plan = PlanBuilder::default();
    let w = plan.weight("w", 64);
    let mut x = plan.input("image", 3 * 224 * 224);
    // A classifier: maps shrink while channels grow, and every second step joins a shortcut.
    let mut shortcut = None;
    for layer in 0..40usize {
        let size = (64 * 112 * 112) >> (layer / 6);
        let label = format!("conv{layer}");
        let y = plan.temporary(&label, size);
        match shortcut.take() {
            Some((kept, kept_size)) if kept_size == size => plan.step(&label, &[x, w, kept], &[y]),
            _ => plan.step(&label, &[x, w], &[y]),
        }
        if layer % 2 == 0 {
            shortcut = Some((y, size));
        }
        x = y;
    }
    let y = plan.output("y", 1000);
    plan.step("classify", &[x, w], &[y]);
    let ratio = ratio(&plan.build());
    assert!(ratio <= 1.15, "{ratio}");
}

#[test]
fn what_is_never_used_takes_no_memory() {
    let mut plan = PlanBuilder::default();
    let (x, y) = (plan.input("x", 4), plan.output("y", 4));
    let _ = plan.temporary("unused", 1 << 20);
    plan.step("copy", &[x], &[y]);
    let memory = plan_memory(&plan.build(), &MemoryLimits::default()).unwrap();
    assert_eq!(memory.places[2], None);
    assert_eq!(memory.arenas, [256, 256]);
}

#[test]
fn a_tensor_that_the_adapter_cannot_bind_is_named() {
    let mut plan = PlanBuilder::default();
    let (x, y) = (plan.input("x", 4), plan.output("logits", 100));
    plan.step("grow", &[x], &[y]);
    let plan = plan.build();
    let limits = MemoryLimits { binding_bytes: 399, ..MemoryLimits::default() };
    let error = plan_memory(&plan, &limits).unwrap_err();
    let expected =
        "tensor `logits` takes 400 bytes, but the adapter's largest storage binding is 399";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_arena_never_outgrows_the_largest_buffer() {
    let limits = MemoryLimits { buffer_bytes: 1 << 20, ..MemoryLimits::default() };
    let mut plan = PlanBuilder::default();
    let x = plan.input("x", 1);
    let parts: Vec<_> = (0..8).map(|i| plan.temporary(&format!("part{i}"), 100_000)).collect();
    for part in &parts {
        plan.step("make", &[x], &[*part]);
    }
    let y = plan.output("y", 1);
    plan.step("join", &parts, &[y]);
    let plan = plan.build();
    let memory = plan_memory(&plan, &limits).unwrap();
    assert_sound(&plan, &memory, &limits);
    assert!(memory.arenas.iter().all(|&bytes| bytes <= 1 << 20), "{:?}", memory.arenas);
}

#[test]
fn only_what_kernels_take_one_way_lies_in_mapped_memory() {
    let mut plan = PlanBuilder::default();
    let (x, kept) = (plan.input("x", 4), plan.input("kept", 4));
    let (y, z, t) = (plan.output("y", 4), plan.output("z", 4), plan.temporary("t", 4));
    plan.step("a", &[x, kept], &[y]);
    plan.step("b", &[y], &[t]);
    plan.step("c", &[t], &[z]);
    let mut plan = plan.build();
    // An input that comes out again has to outlive its upload.
    plan.outputs.push(Port { name: "same".to_owned(), ..plan.inputs[1].clone() });
    let limits = MemoryLimits { mapped: true, ..MemoryLimits::default() };
    let memory = plan_memory(&plan, &limits).unwrap();
    assert_sound(&plan, &memory, &limits);
    let names = plan.buffers.iter().zip(&memory.mapped).filter(|(_, mapped)| **mapped);
    assert_eq!(names.map(|(buffer, _)| buffer.name.as_str()).collect::<Vec<_>>(), ["x", "z"]);
    assert!(memory.places.iter().zip(&memory.mapped).all(|(place, m)| place.is_some() != *m));
}

/// Steps that read up to three earlier values, among them old ones, and write one or two.
fn plans() -> impl Strategy<Value = Plan> {
    let step = (prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1usize..5000, 0usize..3);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut plan = PlanBuilder::default();
        let mut values = vec![plan.input("x", 100), plan.weight("w", 10)];
        let count = steps.len();
        for (i, (reads, size, second)) in steps.into_iter().enumerate() {
            let mut inputs: Vec<_> = reads.iter().map(|r| *r.get(&values)).collect();
            inputs.dedup();
            let mut outputs = vec![if i + 1 == count {
                plan.output("y", size)
            } else {
                plan.temporary(&format!("t{i}"), size)
            }];
            if second == 2 {
                outputs.push(plan.temporary(&format!("s{i}"), 7));
            }
            plan.step(&format!("step{i}"), &inputs, &outputs);
            values.extend(outputs);
        }
        plan.build()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn live_buffers_never_overlap_and_no_step_reads_its_target(plan in plans()) {
        let limits = MemoryLimits { alignment: 1024, ..MemoryLimits::default() };
        let mapped = MemoryLimits { mapped: true, ..MemoryLimits::default() };
        for limits in [MemoryLimits::default(), limits, mapped] {
            let memory = plan_memory(&plan, &limits).unwrap();
            assert_sound(&plan, &memory, &limits);
            // What a step must keep apart costs memory where sizes and reads are random: a median
            // of 1.04 and a worst case of about 1.5 times the bound were seen.
            prop_assert!(memory.arena_bytes() <= 2 * memory.live_bytes);
            prop_assert_eq!(plan_memory(&plan, &limits).unwrap(), memory);
        }
    }
}
