//! What the tests of every family ask: that composed shaders are valid, that numbers are close.

use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::kernel::{Access, Caps, Dispatch, PARAM_WORDS_MAX, Unsupported};

/// Adapters that differ in what decides a variant.
pub(crate) fn adapters() -> Vec<Caps> {
    let hardware = Caps {
        subgroup: Some((32, 32)),
        workgroup_bytes: 32 << 10,
        workgroup_invocations: 1024,
        storage_buffers: 16,
        ..Caps::minimal()
    };
    let of = |subgroup: Option<u32>, software| Caps {
        subgroup: subgroup.map(|size| (size, size)),
        software,
        ..hardware
    };
    vec![
        Caps { f16: true, int64: true, ..of(Some(8), true) },
        of(Some(4), true),
        of(None, true),
        of(Some(16), false),
        hardware,
        of(Some(64), false),
        of(Some(128), false),
        Caps { subgroup: Some((8, 32)), ..hardware },
        Caps { storage_buffers: 8, ..of(None, false) },
    ]
}

/// Every variant on every adapter is a valid shader that agrees with its description.
pub(crate) fn variants(make: impl Fn(&Caps) -> Result<Vec<Dispatch>, Unsupported>) {
    for caps in adapters() {
        let dispatches = make(&caps).expect("the spec is supported");
        assert!(!dispatches.is_empty());
        for dispatch in &dispatches {
            assert!(caps.satisfy(&dispatch.kernel.needs));
            valid(dispatch);
        }
    }
}

/// One shader is valid and has the bindings and words that it claims.
pub(crate) fn valid(dispatch: &Dispatch) {
    let source = &dispatch.kernel.source;
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{}\n{source}", error.emit_to_string(source)));
    let mut capabilities =
        Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, dispatch.kernel.needs.f16);
    capabilities.set(Capabilities::SHADER_INT64, dispatch.kernel.needs.int64);
    Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{source}", error.emit_to_string(source)));
    let mut bound = vec![None; dispatch.kernel.bindings.len()];
    for (_, variable) in module.global_variables.iter() {
        if let (Some(place), naga::AddressSpace::Storage { access }) =
            (variable.binding.as_ref(), variable.space)
        {
            let written = access.contains(naga::StorageAccess::STORE);
            bound[place.binding as usize] =
                Some(if written { Access::ReadWrite } else { Access::Read });
        }
    }
    let claimed: Vec<_> = dispatch.kernel.bindings.iter().copied().map(Some).collect();
    assert_eq!(bound, claimed);
    assert!(dispatch.params.len() <= PARAM_WORDS_MAX);
    assert_eq!(module.entry_points.len(), 1);
    assert_eq!(module.entry_points[0].name, "main");
    let size = module.entry_points[0].workgroup_size;
    assert_eq!(size[0] * size[1] * size[2], dispatch.kernel.needs.workgroup_invocations);
}

/// Equal within `tolerance`, relative to the larger of 1 and the expected.
pub(crate) fn close(given: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(given.len(), expected.len());
    for (index, (given, expected)) in given.iter().zip(expected).enumerate() {
        let off = (given - expected).abs();
        assert!(
            off <= tolerance * expected.abs().max(1.0),
            "{given} at {index} where {expected} is due"
        );
    }
}
