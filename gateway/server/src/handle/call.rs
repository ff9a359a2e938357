//! One run of a plugin, and how it ended.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gw_deploy::Found;
use gw_host::{Call, GuestError};
use gw_inference::Fault;
use http::Request;

use crate::cache::Made;
use crate::cache::answer::Answer;
use crate::error::{HandleError, chain};

/// Runs the plugin of a route. A guest's fault is logged here and nowhere else, however many
/// clients wait for its answer.
pub(crate) async fn call(
    found: Found,
    request: Request<Bytes>,
    deadline: Instant,
    request_id: String,
) -> Made {
    let started = Instant::now();
    let (id, app) = (request_id.clone(), &found.revision.app);
    let handled = match found.route.plugin.handle(request, Call { deadline, request_id }).await {
        Ok(handled) => handled,
        Err(error) => {
            log(&error, &id, app);
            return Err(Arc::new(HandleError::Guest(Box::new(error))));
        }
    };
    // The guest could do nothing about it, so its client hears what really failed.
    if let Some(error) = &handled.inference_error
        && handled.response.status().is_server_error()
        && error.fault() != Fault::Caller
    {
        let (source, timings) = (Box::new(error.clone()), Box::new(handled.timings));
        return Err(Arc::new(HandleError::Inference { source, timings }));
    }
    Ok(Answer::new(handled, started.elapsed()))
}

fn log(error: &GuestError, id: &str, app: &str) {
    let reason = chain(error);
    match error {
        GuestError::Trap { backtrace, .. } => {
            tracing::warn!(id, app, reason, backtrace, "plugin trapped");
        }
        // Overload shows in the access log; a line for each would make it worse.
        GuestError::Saturated { .. } | GuestError::RequestTooLarge { .. } => {}
        _ => tracing::warn!(id, app, reason, "plugin failed"),
    }
}
