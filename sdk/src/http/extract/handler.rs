//! [`Handler`]: functions that answer requests, whatever they take.

use super::{FromRequest, IntoResponse};
use crate::{Request, Response};

/// A function that can be a handler: each argument is [`FromRequest`], the result
/// [`IntoResponse`]. `Arguments` is the tuple of the arguments' types, which nobody has to write.
pub trait Handler<Arguments> {
    /// Answers one request.
    fn respond(&self, request: Request) -> Response;
}

impl<F: Fn() -> R, R: IntoResponse> Handler<()> for F {
    fn respond(&self, _: Request) -> Response {
        self().into_response()
    }
}

macro_rules! handlers {
    ($([$($first:ident)*] $last:ident),* $(,)?) => {$(
        impl<Function, Answer, $($first,)* $last> Handler<($($first,)* $last,)> for Function
        where
            Function: Fn($($first,)* $last) -> Answer,
            Answer: IntoResponse,
            $($first: FromRequest,)*
            $last: FromRequest,
        {
            #[allow(non_snake_case, reason = "a value is named as its type")]
            fn respond(&self, request: Request) -> Response {
                $(
                    let $first = match $first::from_request(&request) {
                        Ok(value) => value,
                        Err(error) => return error.into(),
                    };
                )*
                match $last::from_owned_request(request) {
                    Ok($last) => self($($first,)* $last).into_response(),
                    Err(error) => error.into(),
                }
            }
        }
    )*};
}

handlers! { [] A, [A] B, [A B] C, [A B C] D, [A B C D] E, [A B C D E] F }
