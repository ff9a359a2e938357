//! What a plugin's bytes say of it without being compiled: how it is called, and what it imports.

use wasmparser::{BinaryReaderError, ComponentTypeRef, Parser, Payload, TypeBounds};

use crate::HostError;
use crate::compiled::is_module;
use crate::imports;

/// What a plugin is, by its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// How it is called.
    pub form: Form,
    /// The interfaces that it imports, in its own order; of a core module its modules.
    pub imports: Vec<String>,
}

/// How a plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By `wasi:http/incoming-handler`.
    Handler,
    /// By `pre` and `post` of `gw:plugin`.
    Hooks,
    /// By `_start`, the CGI way.
    Module,
}

/// Looks at the plugin of this name. Types are not looked at: only loading it tells whether they
/// fit.
///
/// # Errors
/// [`HostError::Compile`] where the bytes are not WebAssembly, [`HostError::MissingImport`],
/// [`HostError::NotAPlugin`] and [`HostError::TwoKinds`], as [`Host::load`](crate::Host::load).
pub fn inspect(plugin: &str, wasm: &[u8]) -> Result<Inspection, HostError> {
    let Names { imports, exports } = names(wasm).map_err(|error| HostError::Compile {
        plugin: plugin.to_owned(),
        reason: error.to_string(),
    })?;
    if is_module(wasm) {
        // Which functions it may import depends on its dialect of wasi-nn.
        return Ok(Inspection { form: Form::Module, imports });
    }
    let missing: Vec<_> = imports.iter().filter(|name| !imports::fills(name)).cloned().collect();
    if !missing.is_empty() {
        let plugin = plugin.to_owned();
        let offered = imports::offered();
        return Err(HostError::MissingImport { plugin, imports: missing, offered });
    }
    let form = form(plugin, &exports)?;
    Ok(Inspection { form, imports })
}

/// What a component's exports make of it.
fn form(plugin: &str, exports: &[String]) -> Result<Form, HostError> {
    let handles = exports.iter().any(|name| name.starts_with("wasi:http/incoming-handler@0.2"));
    let has = |hook: &str| exports.iter().any(|name| name == hook);
    let plugin = || plugin.to_owned();
    match (handles, has("pre"), has("post")) {
        (true, false, _) | (true, _, false) => Ok(Form::Handler),
        (false, true, true) => Ok(Form::Hooks),
        (true, true, true) => Err(HostError::TwoKinds { plugin: plugin() }),
        (false, ..) => {
            let reason = match exports {
                [] => "it exports nothing".to_owned(),
                some => format!("it exports {}", some.join(", ")),
            };
            Err(HostError::NotAPlugin { plugin: plugin(), reason })
        }
    }
}

/// The names on the outside of a component or core module.
#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn names(wasm: &[u8]) -> Result<Names, BinaryReaderError> {
    let mut names = Names::default();
    // Components hold modules and components, whose imports are their own affair.
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The outermost end is the last payload.
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    // Hooks name the types of `gw:plugin`: a name for what another import has.
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        names.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    names.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let module = import?.module;
                    if !names.imports.iter().any(|known| known == module) {
                        names.imports.push(module.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Result<Inspection, HostError> {
        inspect("p", &wat::parse_str(text).unwrap())
    }

    const HANDLER: &str = r#"
        (import "wasi:nn/graph@0.2.0-rc-2024-10-28" (instance))
        (core module (import "inner" "f" (func)))
        (component (import "wasi:http/not-ours" (instance)) (instance) (export "pre" (instance 0)))
        (instance $handler)
        (export "wasi:http/incoming-handler@0.2.12" (instance $handler))"#;
    const HOOKS: &str = r#"
        (type $text string)
        (import "request" (type (eq $text)))
        (instance $hook)
        (export "pre" (instance $hook))
        (export "post" (instance $hook))"#;

    #[test]
    fn only_what_is_outermost_counts() {
        let handler = look(&format!("(component {HANDLER})")).unwrap();
        assert_eq!(handler.form, Form::Handler);
        assert_eq!(handler.imports, ["wasi:nn/graph@0.2.0-rc-2024-10-28"]);
        let hooks = look(&format!("(component {HOOKS})")).unwrap();
        assert_eq!(hooks, Inspection { form: Form::Hooks, imports: vec![] });
        let module = look(
            r#"(module
                (import "wasi_ephemeral_nn" "load" (func))
                (import "wasi_ephemeral_nn" "compute" (func))
                (import "wasi_snapshot_preview1" "fd_write" (func)))"#,
        );
        assert_eq!(module.unwrap().imports, ["wasi_ephemeral_nn", "wasi_snapshot_preview1"]);
    }

    #[test]
    fn what_is_no_plugin_is_refused_as_when_it_is_loaded() {
        let none = look("(component)").unwrap_err();
        assert!(matches!(none, HostError::NotAPlugin { .. }), "{none}");
        let half = look(r#"(component (instance $i) (export "pre" (instance $i)))"#).unwrap_err();
        assert!(half.to_string().contains("it exports pre"), "{half}");
        let both = look(&format!("(component {HANDLER} {HOOKS})")).unwrap_err();
        assert!(matches!(both, HostError::TwoKinds { .. }), "{both}");
        let unknown = look(r#"(component (import "a:b/c@1.0.0" (instance)))"#).unwrap_err();
        assert!(matches!(unknown, HostError::MissingImport { .. }), "{unknown}");
        for bytes in [&b"not wasm"[..], b"(component)", b"\0asm", b""] {
            let error = inspect("p", bytes).unwrap_err();
            assert!(matches!(error, HostError::Compile { .. }), "{error}");
        }
    }
}
