//! The least that hooks can do.

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "hooks" });

struct Hello;

export!(Hello);

impl Guest for Hello {
    fn pre(_: Request) -> Result<Outcome, String> {
        let headers = vec![("content-type".to_owned(), b"text/plain".to_vec())];
        Ok(Outcome::Respond(Response { status: 200, headers, body: b"hello".to_vec() }))
    }

    fn post(_: Vec<u8>, _: Answer) -> Result<Response, String> {
        Err("nothing was asked of a model".to_owned())
    }
}
