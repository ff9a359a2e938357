//! Greets whoever is named: `{"name": "Ada"}` in, `{"greeting": "Hello, Ada!"}` out.

use gw_sdk::{Error, Json, handler};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    name: String,
}

#[derive(Serialize)]
struct Answer {
    greeting: String,
}

#[handler]
fn greet(Json(input): Json<Input>) -> Result<Json<Answer>, Error> {
    let name = input.name.trim();
    if name.is_empty() {
        return Err(Error::new(422, "empty_name", "say whom to greet").field("name"));
    }
    Ok(Json(Answer { greeting: format!("Hello, {name}!") }))
}

#[cfg(test)]
mod tests {
    use gw_sdk::Request;
    use gw_sdk::testing::Host;

    use super::*;

    fn ask(body: &str) -> (u16, String) {
        let request = Request::new("POST", "/hello").with_body(body);
        let response = Host::new().call(greet, request);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn whoever_is_named_is_greeted() {
        let greeting = r#"{"greeting":"Hello, Ada!"}"#;
        assert_eq!(ask(r#"{"name": " Ada "}"#), (200, greeting.to_owned()));
    }

    #[test]
    fn a_request_without_a_name_is_refused() {
        for body in ["{}", r#"{"name": ""}"#, r#"{"name": 3}"#] {
            let (status, answer) = ask(body);
            assert_eq!(status, 422, "{body}");
            assert!(answer.contains(r#""field":"name""#), "{answer}");
        }
    }
}
