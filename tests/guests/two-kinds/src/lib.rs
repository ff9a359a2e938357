//! Exports a request handler and hooks: nobody can say which of them answers.

wit_bindgen::generate!({
    path: "../../../sdk/wit",
    inline: "package test:guests;
        world two-kinds {
            include gw:plugin/hooks@0.1.0;
            export wasi:http/incoming-handler@0.2.12;
        }",
    generate_all,
});

use exports::wasi::http::incoming_handler::{IncomingRequest, ResponseOutparam};

struct Both;

export!(Both);

impl Guest for Both {
    fn pre(_: Request) -> Result<Outcome, String> {
        Ok(Outcome::Pass(None))
    }

    fn post(_: Vec<u8>, _: Answer) -> Result<Response, String> {
        Err("never".to_owned())
    }
}

impl exports::wasi::http::incoming_handler::Guest for Both {
    fn handle(_: IncomingRequest, _: ResponseOutparam) {}
}
