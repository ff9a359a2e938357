//! Records of `gw:plugin` from and to our own values. What a guest gives is refused with a reason
//! where it is no HTTP, no tensor, or too large.

use bytes::Bytes;
use gw_inference::Inference;
use gw_tensor::Tensor;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::bindings::gw::plugin::types as wit;
use super::{WitAnswer, WitTensors};
use crate::Plugin;
use crate::config::HEADER_BYTES;
use crate::imports::nn::tensor::{self, TensorType};

pub(super) fn request(request: &Request<Bytes>, host: Option<&HeaderValue>) -> wit::Request {
    let mut headers = listed(request.headers());
    // HTTP/2 says it elsewhere.
    if let Some(host) = host.filter(|_| !request.headers().contains_key(HOST)) {
        headers.push((HOST.as_str().to_owned(), host.as_bytes().to_vec()));
    }
    wit::Request {
        method: request.method().as_str().to_owned(),
        path_with_query: request.uri().path_and_query().map_or("/", |path| path.as_str()).into(),
        headers,
        body: request.body().to_vec(),
    }
}

/// The request that hooks pass on.
pub(super) fn changed(
    plugin: &Plugin,
    request: Option<wit::Request>,
) -> Result<Option<Request<Bytes>>, String> {
    let Some(wit::Request { method, path_with_query, headers, body }) = request else {
        return Ok(None);
    };
    let limit = plugin.config.request_bytes_max;
    if body.len() > limit {
        return Err(format!("the request that it passes on has more than {limit} bytes"));
    }
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::from_bytes(method.as_bytes())
        .map_err(|_| format!("it passes on a request with the method {:?}", shown(&method)))?;
    let path = path_with_query.parse::<Uri>().ok().filter(|_| path_with_query.starts_with('/'));
    *request.uri_mut() = path.ok_or_else(|| {
        format!("it passes on a request with the path {:?}", shown(&path_with_query))
    })?;
    *request.headers_mut() = read(headers)?;
    Ok(Some(request))
}

pub(super) fn response(
    plugin: &Plugin,
    response: wit::Response,
) -> Result<Response<Bytes>, String> {
    let wit::Response { status, headers, body } = response;
    let limit = plugin.config.response_bytes_max;
    if body.len() > limit {
        return Err(format!("its body has more than {limit} bytes"));
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status)
        .ok()
        .filter(|_| (200..600).contains(&status))
        .ok_or_else(|| format!("its status {status} is not one from 200 to 599"))?;
    *response.headers_mut() = read(headers)?;
    Ok(response)
}

impl WitAnswer {
    /// What the rest of the chain answered.
    pub(crate) fn response(answer: &Response<Bytes>) -> Self {
        Self::Response(wit::Response {
            status: answer.status().as_u16(),
            headers: listed(answer.headers()),
            body: answer.body().to_vec(),
        })
    }
}

/// The inputs of a model, of at most `bytes_max` bytes together.
pub(super) fn inputs(
    tensors: WitTensors,
    bytes_max: usize,
) -> Result<Vec<(String, Tensor)>, String> {
    let bytes: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    if bytes > bytes_max {
        return Err(format!("its tensors have {bytes} bytes; {bytes_max} are allowed"));
    }
    let checked = tensors.into_iter().map(|tensor| {
        let wit::Tensor { name, dimensions, ty, data } = tensor;
        match tensor::claimed(&dimensions, element_type(ty), data.into()) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(format!("its tensor {:?}: {}", shown(&name), error.data)),
        }
    });
    checked.collect()
}

/// What a model answered, as `post` takes it.
pub(crate) fn outputs(inference: &Inference, bytes_max: usize) -> Result<WitTensors, String> {
    let mut bytes = 0;
    let tensors = inference.outputs.iter().map(|(name, tensor)| {
        let said = tensor::said(tensor.dtype(), tensor.shape());
        let (dimensions, ty) = said.map_err(|error| format!("output {name:?}: {}", error.data))?;
        let data = tensor::bytes_in(tensor, ty);
        bytes += data.len();
        if bytes > bytes_max {
            return Err(format!("the outputs have more than {bytes_max} bytes"));
        }
        let (ty, data) = (type_of(ty), data.to_vec());
        Ok(wit::Tensor { name: name.clone(), dimensions, ty, data })
    });
    tensors.collect()
}

fn listed(headers: &HeaderMap) -> wit::Headers {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    headers.iter().map(header).collect()
}

fn read(headers: wit::Headers) -> Result<HeaderMap, String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADER_BYTES {
        return Err(format!("its headers have {bytes} bytes; {HEADER_BYTES} are allowed"));
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let unusable = || format!("its header {:?} is not one of HTTP", shown(&name));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| unusable())?;
        // The body is here: its length is known.
        if key != CONTENT_LENGTH {
            map.append(key, value);
        }
    }
    Ok(map)
}

/// The start of a guest's text, for a message.
pub(super) fn shown(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 64;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

fn element_type(ty: wit::TensorType) -> TensorType {
    match ty {
        wit::TensorType::Fp16 => TensorType::Fp16,
        wit::TensorType::Fp32 => TensorType::Fp32,
        wit::TensorType::Fp64 => TensorType::Fp64,
        wit::TensorType::Bf16 => TensorType::Bf16,
        wit::TensorType::U8 => TensorType::U8,
        wit::TensorType::I32 => TensorType::I32,
        wit::TensorType::I64 => TensorType::I64,
    }
}

fn type_of(ty: TensorType) -> wit::TensorType {
    match ty {
        TensorType::Fp16 => wit::TensorType::Fp16,
        TensorType::Fp32 => wit::TensorType::Fp32,
        TensorType::Fp64 => wit::TensorType::Fp64,
        TensorType::Bf16 => wit::TensorType::Bf16,
        TensorType::U8 => wit::TensorType::U8,
        TensorType::I32 => wit::TensorType::I32,
        TensorType::I64 => wit::TensorType::I64,
    }
}
