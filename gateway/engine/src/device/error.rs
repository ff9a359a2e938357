//! What can go wrong with a device.

use std::time::Duration;

/// Why a device could not be opened or could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The machine has no adapter at all.
    #[error(
        "no GPU adapter was found; install a driver for the GPU, or a software adapter \
         (Debian: `apt install mesa-vulkan-drivers`)"
    )]
    NoAdapter,
    /// There are only software adapters, and hardware was asked for.
    #[error(
        "no hardware GPU adapter was found, only {found}; ask for a software adapter by name, \
         or run on the CPU"
    )]
    NoHardware {
        /// The names of the adapters that exist.
        found: String,
    },
    /// No adapter has the name that was asked for.
    #[error(
        "no GPU adapter is named like `{wanted}`; there are: {found} \
         (Debian's software adapter llvmpipe is in `mesa-vulkan-drivers`)"
    )]
    NotFound {
        /// The name that was asked for.
        wanted: String,
        /// The names of the adapters that exist.
        found: String,
    },
    /// The adapter lacks a feature without which no kernel runs.
    #[error("adapter {adapter} lacks {feature}, which every kernel needs")]
    MissingFeature {
        /// The adapter's name.
        adapter: String,
        /// The feature.
        feature: &'static str,
    },
    /// The driver refused to open the adapter.
    #[error("adapter {adapter} could not be opened")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// The driver's answer.
        source: wgpu::RequestDeviceError,
    },
    /// The device is gone: a driver crash, a reset or an unplugged GPU. Open it again.
    #[error("device {adapter} was lost: {reason}")]
    Lost {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// The device was silent for so long that it counts as lost. Open it again.
    #[error("device {adapter} hangs: it gave no sign of life for {limit:?}")]
    Hung {
        /// The adapter's name.
        adapter: String,
        /// How long it may be silent.
        limit: Duration,
    },
    /// The device has no memory left.
    #[error("the device has no memory left for {what}")]
    OutOfMemory {
        /// What was being made or run.
        what: String,
    },
    /// A kernel did not compile, or needs what the adapter does not have.
    #[error("kernel {kernel} ({variant}) does not run on this adapter: {reason}")]
    Kernel {
        /// The kernel's family.
        kernel: &'static str,
        /// The variant.
        variant: String,
        /// The compiler's message.
        reason: String,
    },
    /// The device refused a command: a fault of this engine.
    #[error("{what}: {reason}")]
    Refused {
        /// What was being made or run.
        what: String,
        /// The message of the graphics library.
        reason: String,
    },
}
