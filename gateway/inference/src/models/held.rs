//! Bytes that models hold: of their device, and of the host beside it.

use crate::Footprint;

/// What is held, wanted or allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) device: u64,
    /// Beside a GPU; what is on the CPU is on its device.
    pub(crate) host: u64,
}

impl Held {
    /// More than there is.
    pub(crate) const ALL: Self = Self { device: u64::MAX, host: u64::MAX };

    pub(crate) fn of(footprint: &Footprint) -> Self {
        Self { device: footprint.total(), host: footprint.host_bytes }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let device = self.device.saturating_add(other.device);
        Self { device, host: self.host.saturating_add(other.host) }
    }

    /// So much of both as `max` allows.
    pub(crate) fn at_most(self, max: Self) -> Self {
        Self { device: self.device.min(max.device), host: self.host.min(max.host) }
    }

    pub(crate) fn fits(self, max: Self) -> bool {
        self.device <= max.device && self.host <= max.host
    }

    /// What to tell of what does not fit: whose memory it is, and those bytes of each of these.
    pub(crate) fn told<const N: usize>(
        self,
        max: Self,
        device: &str,
        each: [Self; N],
    ) -> (String, [u64; N]) {
        match self.device <= max.device {
            false => (device.to_owned(), each.map(|held| held.device)),
            true => (format!("host memory beside {device}"), each.map(|held| held.host)),
        }
    }
}
