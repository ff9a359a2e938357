//! What `wit-bindgen` makes of `sdk/wit`: the world of request handlers, with everything that the
//! host offers.

wit_bindgen::generate!({
    path: "wit",
    world: "http",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "gw_sdk::bindings",
    runtime_path: "gw_sdk::wit_bindgen::rt",
});
