//! Requests to other hosts, through `wasi:http`.

use crate::Response;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;
use crate::outbound::{ErrorCode, Outgoing, parts};
use crate::serve::{read_body, write_body};

/// Sends a request and waits for the whole answer.
pub(crate) fn send(given: &Outgoing) -> Result<Response, ErrorCode> {
    let (scheme, authority, path) = parts(&given.url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let headers = Fields::from_list(&given.headers).map_err(|_| ErrorCode::HttpProtocolError)?;
    let request = OutgoingRequest::new(headers);
    let set = request
        .set_method(&method(&given.method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let body = request.body().map_err(|()| ErrorCode::InternalError(None))?;
    let answer = outgoing_handler::handle(request, None)?;
    let stream = body.write().map_err(|()| ErrorCode::InternalError(None))?;
    // Whoever refuses the body has answered already, or the answer says what is wrong.
    let written = write_body(&stream, &given.body);
    drop(stream);
    if written.is_ok() {
        OutgoingBody::finish(body, None)?;
    }
    answer.subscribe().block();
    let response = answer.get().ok_or(ErrorCode::InternalError(None))?;
    read(&response.map_err(|()| ErrorCode::InternalError(None))??)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn read(response: &IncomingResponse) -> Result<Response, ErrorCode> {
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming = response.consume().map_err(|()| ErrorCode::InternalError(None))?;
    let body = read_body(&incoming).map_err(|error| match &error {
        // Not every host keeps a code for what happens within a body.
        StreamError::LastOperationFailed(error) => http_error_code(error)
            .unwrap_or_else(|| ErrorCode::InternalError(Some(error.to_debug_string()))),
        StreamError::Closed => ErrorCode::HttpResponseIncomplete,
    })?;
    Ok(Response { status, headers, body })
}
