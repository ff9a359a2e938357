//! What a plugin author writes against: a request in, a response out, models by name.
//!
//! It runs in the guest and knows nothing of the host but the interfaces in `sdk/wit`. Plugins
//! are tested natively with `cargo test`; only what is behind the host's interfaces needs a host.
//!
//! - [`Plugin`] and [`export!`]: what a plugin implements, and how it becomes a component.
//! - [`http`]: [`Request`], [`Response`], and [`Error`], which is a JSON error answer.
//! - [`nn`]: models and tensors.
//! - [`config`], [`keyvalue`], [`outbound`]: what `gw.toml` grants: values and secrets, buckets,
//!   requests to other hosts.
//! - [`logging`]: messages with a level, in the node's log.
//! - `serve`: the bridge between these and `wasi:http`.
//!
//! ```
//! use gw_sdk::{Error, Plugin, Request, Response};
//!
//! struct Hello;
//!
//! impl Plugin for Hello {
//!     fn handle(request: Request) -> Result<Response, Error> {
//!         Response::json(&format!("hello from {}", request.path))
//!     }
//! }
//!
//! gw_sdk::export!(Hello);
//! ```
#![forbid(unsafe_code)]

// The generated bindings name this crate from wherever they are expanded.
extern crate self as gw_sdk;

pub mod http;
pub mod nn;
pub mod outbound;
#[doc(hidden)]
pub mod serve;

pub use crate::http::{Error, Request, Response};

/// The values of `config` in `gw.toml` and the secrets that `secrets` names: [`get`](config::get)
/// gives both, [`get_all`](config::get_all) gives no secrets.
pub mod config {
    pub use crate::bindings::wasi::config::store::{Error, get, get_all};
}

/// The buckets that `keyvalue` in `gw.toml` names: [`open`](keyvalue::open) one, then read and
/// write. A value is kept when `set` returns.
pub mod keyvalue {
    pub use crate::bindings::wasi::keyvalue::atomics::increment;
    pub use crate::bindings::wasi::keyvalue::batch::{delete_many, get_many, set_many};
    pub use crate::bindings::wasi::keyvalue::store::{Bucket, Error, KeyResponse, open};
}

/// Messages for the node's log, where they stand under the plugin's name.
pub mod logging {
    pub use crate::bindings::wasi::logging::logging::{Level, log};
}

#[doc(hidden)]
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    clippy::str_to_string,
    unreachable_pub,
    reason = "generated from the WIT, which has the documentation"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "http",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "gw_sdk::bindings",
        runtime_path: "gw_sdk::wit_bindgen::rt",
    });
}

#[doc(hidden)]
pub use wit_bindgen;

/// A plugin: requests are answered by fresh instances that know nothing of each other.
pub trait Plugin {
    /// Runs once, when the plugin is built. What it leaves in statics (a `OnceLock`, say) is there
    /// in every instance at no cost, so it is the place to parse tables.
    ///
    /// The plugin's assets are files under `/assets`. Models are not there yet, and neither files
    /// nor random numbers may be kept: every instance would share them.
    fn init() {}

    /// Answers one request.
    ///
    /// # Errors
    /// An [`Error`], which is answered as JSON with its status.
    fn handle(request: Request) -> Result<Response, Error>;
}

/// Makes a component of a crate whose [`Plugin`] is the given type.
///
/// On other targets than WebAssembly it only checks the type, so that a plugin's tests run
/// natively.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::bindings::Guest for Component {
                fn init() {
                    $crate::serve::init::<$plugin>();
                }
            }

            impl $crate::bindings::exports::wasi::http::incoming_handler::Guest for Component {
                fn handle(
                    request: $crate::bindings::exports::wasi::http::incoming_handler::IncomingRequest,
                    out: $crate::bindings::exports::wasi::http::incoming_handler::ResponseOutparam,
                ) {
                    $crate::serve::handle::<$plugin>(&request, out);
                }
            }

            $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn($crate::Request) -> Result<$crate::Response, $crate::Error> =
            <$plugin as $crate::Plugin>::handle;
    };
}
