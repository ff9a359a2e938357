//! For whom a request is answered, and by when.

use std::sync::Arc;
use std::time::Instant;

use crate::Spent;

/// Who asks. Tenants share a device by its time, and what is used is counted by all three: tenant,
/// route and model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Whose request it is, as whoever authenticated it says.
    pub tenant: Arc<str>,
    /// The pattern of the route that was asked; empty where there is none.
    pub route: Arc<str>,
}

impl Default for Caller {
    /// Nobody in particular.
    fn default() -> Self {
        Self { tenant: "anonymous".into(), route: "".into() }
    }
}

/// What a request to a model comes with beside its inputs.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// When the answer must be there.
    pub deadline: Instant,
    /// Told where the time goes, for a caller that may drop the future; a new one each time.
    pub spent: Arc<Spent>,
    /// Whether models have worked for this already, as for the next part of a guest's texts: it is
    /// let end in time before what has not begun, of the same tenant.
    pub goes_on: bool,
}

impl Terms {
    /// An answer for nobody in particular.
    pub fn until(deadline: Instant) -> Self {
        Self { caller: Arc::default(), deadline, spent: Arc::default(), goes_on: false }
    }
}
