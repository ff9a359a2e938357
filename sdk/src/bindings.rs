//! What `wit-bindgen` makes of `sdk/wit`: the world of request handlers, with everything that the
//! host offers, and in [`hooks`] that of hooks.

wit_bindgen::generate!({
    path: "wit",
    world: "http",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "gw_sdk::bindings",
    runtime_path: "gw_sdk::wit_bindgen::rt",
});

pub mod hooks {
    // The host runs `init` of any component that exports one.
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package gw:sdk;
            world prepared-hooks {
                include gw:plugin/hooks@0.1.0;
                export init: func();
            }
        ",
        world: "gw:sdk/prepared-hooks",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_hooks",
        default_bindings_module: "gw_sdk::bindings::hooks",
        runtime_path: "gw_sdk::wit_bindgen::rt",
    });
}
