//! One run of a route's plugins, and how it began its answer.

use std::sync::Arc;
use std::time::Instant;

use gw_deploy::Found;
use gw_host::{Body, BodyError, Call, Chain, GuestError, Inferences, Report};
use gw_inference::{Caller, Fault};
use http::Request;

use crate::cache::Made;
use crate::cache::answer::Answer;
use crate::error::{Code, HandleError, chain, guest_code};
use crate::handle::headers::drop_ours;

type Refused = Arc<HandleError>;

/// Refuses a request that every model of its route would refuse, before anything is made for it.
pub(crate) fn refuse_early(
    found: &Found,
    caller: &Caller,
    deadline: Instant,
) -> Result<(), Refused> {
    let Some(error) = found.route.chain.refusal(caller, deadline) else { return Ok(()) };
    let (source, timings) = (Box::new(error), Box::default());
    Err(Arc::new(HandleError::Inference { source, timings }))
}

/// Runs the plugins of a route until the head of their answer is there. A guest's fault is logged
/// here and nowhere else, however many clients wait for its answer.
pub(crate) async fn call(
    found: &Found,
    request: Request<Body>,
    call: Call,
    inferences: Option<Arc<dyn Inferences>>,
) -> Result<gw_host::Answer, Refused> {
    let id = call.request_id.clone();
    let failed = |error: GuestError| {
        log(&error, &id, &found.revision.app, &found.route.chain);
        Arc::new(HandleError::Guest(Box::new(error)))
    };
    let answered = found.route.chain.answer(request, call, inferences).await;
    let mut answer = answered.map_err(failed)?;
    if !answer.response.status().is_server_error() {
        return Ok(answer);
    }
    // What made a plugin fail is known when it has ended, and an error is short.
    answer = whole(answer).await.map_err(failed)?;
    let report = answer.progress.report();
    // A plugin could do nothing about these, so its client hears what really failed.
    if let Some(error) = report.inner_error {
        return Err(Arc::new(HandleError::Guest(Box::new(error))));
    }
    match report.inference_error {
        Some(error) if error.fault() != Fault::Caller => {
            let (source, timings) = (Box::new(error), Box::new(report.timings));
            Err(Arc::new(HandleError::Inference { source, timings }))
        }
        _ => Ok(answer),
    }
}

/// The whole answer, for the cache.
pub(crate) async fn call_whole(found: Found, request: Request<Body>, called: Call) -> Made {
    let started = Instant::now();
    let id = called.request_id.clone();
    let answer = call(&found, request, called, None).await?;
    let answer = whole(answer).await.map_err(|error| {
        log(&error, &id, &found.revision.app, &found.route.chain);
        Arc::new(HandleError::Guest(Box::new(error)))
    })?;
    let report = answer.progress.report();
    let (mut head, body) = answer.response.into_parts();
    drop_ours(&mut head.headers, true);
    Ok(Arc::new(Answer {
        status: head.status,
        headers: head.headers,
        body: body.as_whole().cloned().unwrap_or_default(),
        skipped: skipped(&report),
        timings: report.timings,
        took: started.elapsed(),
    }))
}

/// Waits for the rest of an answer, which its plugin's limits bound; trailers are dropped.
async fn whole(answer: gw_host::Answer) -> Result<gw_host::Answer, GuestError> {
    let gw_host::Answer { response, progress } = answer;
    let (head, body) = response.into_parts();
    let body = body.collect(usize::MAX).await.map_err(|error| match error {
        BodyError::Guest(error) => *error,
        BodyError::TooLarge { .. } | BodyError::Broken(_) => {
            unreachable!("the body of an answer is a guest's and has no other bound")
        }
    })?;
    let response = http::Response::from_parts(head, Body::whole(body));
    Ok(gw_host::Answer { response, progress })
}

/// The plugins that were left out, by name.
pub(crate) fn skipped(report: &Report) -> Vec<String> {
    report.skipped.iter().map(|skipped| skipped.error.plugin().to_owned()).collect()
}

/// A guest's fault, in the log.
pub(crate) fn log(error: &GuestError, id: &str, app: &str, plugins: &Chain) {
    let reason = plugins.mask(&chain(error));
    match error {
        GuestError::Trap { backtrace, .. } => {
            tracing::warn!(id, app, reason, backtrace, "plugin trapped");
        }
        // Overload shows in the access log; a line for each would make it worse.
        GuestError::Saturated { .. } | GuestError::RequestTooLarge { .. } => {}
        // What is not the plugin's fault has its line where the request is refused.
        GuestError::Inference { .. } if guest_code(error) != Code::PluginBadTensors => {}
        _ => tracing::warn!(id, app, reason, "plugin failed"),
    }
}
