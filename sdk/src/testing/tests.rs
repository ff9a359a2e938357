use super::*;
use crate::nn::{ErrorKind, Graph, Tensor};
use crate::{Error as Refusal, Json, config};

/// Adds what it was given so far.
fn sums() -> Host {
    let mut sum = 0f32;
    Host::new().model("sum", move |inputs| {
        sum += inputs.read::<f32>("x")?.as_slice().iter().sum::<f32>();
        Ok(vec![("y", Tensor::new([1], [sum])?.into())])
    })
}

#[test]
fn a_model_keeps_its_state_between_runs() {
    sums().run(|| {
        let context = Graph::load("sum").unwrap().context().unwrap();
        for expected in [3.0, 6.0] {
            let x = Tensor::new([2], [1f32, 2.0]).unwrap();
            let y = context.compute([("x", x.into())]).unwrap().read::<f32>("y").unwrap();
            assert_eq!(y.as_slice(), [expected]);
        }
    });
}

#[test]
fn what_is_not_given_is_said_by_name() {
    let load = || Graph::load("double").map(drop).unwrap_err();
    let error = sums().run(load);
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        error.message,
        "the test host has no model \"double\", only [sum]; see `Host::model`"
    );
    assert!(load().message.contains("`gw_sdk::testing::Host::run`"));
    let missing = sums().run(|| Graph::load("sum").unwrap().compute([]).map(drop)).unwrap_err();
    assert!(missing.message.contains("\"x\""), "{missing}");
}

#[test]
fn a_failing_model_answers_as_a_node_would() {
    let host = Host::new().model("m", |_| Err(Error::new(ErrorKind::Timeout, "too late")));
    let handler = || -> Result<Json<u8>, Refusal> {
        Graph::load("m")?.compute([])?;
        Ok(Json(1))
    };
    let response = host.call(handler, Request::default());
    assert_eq!(response.status, 504);
    assert!(String::from_utf8(response.body).unwrap().contains("inference_timeout"));
}

#[test]
fn hosts_may_run_within_each_other_and_end_with_a_panic() {
    let name = || config::get("name").unwrap().unwrap();
    let (outer, inner) = (Host::new().config("name", "a"), Host::new().config("name", "b"));
    outer.run(|| {
        assert_eq!(inner.run(name), "b");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            inner.run(|| panic!("as it was asked"));
        }));
        assert!(panicked.is_err());
        assert_eq!(name(), "a");
    });
}

struct Numbers;

impl Hooks for Numbers {
    type State = Vec<u8>;

    fn pre(request: Request) -> Result<Outcome<Vec<u8>>, Refusal> {
        let x = Tensor::new([request.body.len()], vec![1f32; request.body.len()])?;
        Ok(match request.path.as_str() {
            "/infer" => Outcome::infer("sum", [("x", x.into())], request.body),
            "/watch" => Outcome::Watch { request: None, state: request.body },
            "/change" => {
                let changed = Request { path: "/changed".to_owned(), ..request };
                Outcome::Pass(Some(changed))
            }
            "/respond" => Outcome::Respond(Response::new(418, "text/plain", "early")),
            "/pass" => Outcome::Pass(None),
            _ => return Err(Refusal::new(404, "unknown", "no such path")),
        })
    }

    fn post(state: Vec<u8>, answer: Answer) -> Result<Response, Refusal> {
        match answer {
            Answer::Outputs(outputs) => {
                let y = outputs.read::<f32>("y")?.into_vec();
                Response::json(&(state, y))
            }
            Answer::Response(response) => {
                Ok(response.with_status(200 + u16::try_from(state.len()).unwrap()))
            }
        }
    }
}

#[test]
fn hooks_are_called_in_their_order() {
    let cases = [
        ("/infer", 200, "[[97,98],[2.0]]"),
        ("/watch", 202, "next saw /watch"),
        ("/change", 200, "next saw /changed"),
        ("/respond", 418, "early"),
        ("/pass", 200, "next saw /pass"),
        ("/none", 404, r#"{"error":{"code":"unknown","message":"no such path"}}"#),
    ];
    for (path, status, body) in cases {
        let next = |request: Request| {
            Response::new(200, "text/plain", format!("next saw {}", request.path))
        };
        let request = Request::new("POST", path).with_body("ab");
        let response = sums().call_hooks::<Numbers>(request, next).unwrap();
        assert_eq!(response.status, status, "{path}");
        assert_eq!(String::from_utf8(response.body).unwrap(), body, "{path}");
    }
    let request = Request::new("POST", "/infer");
    let error = Host::new().call_hooks::<Numbers>(request, |_| unreachable!()).unwrap_err();
    assert!(error.contains("no model \"sum\""), "{error}");
}

#[test]
fn a_state_without_a_form_in_json_is_an_error() {
    struct Keys;
    impl Hooks for Keys {
        type State = BTreeMap<Vec<u8>, u8>;

        fn pre(request: Request) -> Result<Outcome<Self::State>, Refusal> {
            let state = BTreeMap::from([(request.body, 1)]);
            Ok(Outcome::Watch { request: None, state })
        }
    }
    let next = |_| Response::new(200, "text/plain", "");
    let error = Host::new().call_hooks::<Keys>(Request::default(), next).unwrap_err();
    assert!(error.starts_with("the state of the hooks has no form in JSON"), "{error}");
}
