//! The adapter under test: the best one, or the one that `GW_TEST_ADAPTER` names.

use std::sync::{Arc, OnceLock};

use gw_engine::{AdapterSelect, Device, DeviceError};

/// A device of its own; `None`, said aloud, where there is none and none is required.
pub fn open() -> Option<Arc<Device>> {
    open_with(Device::open)
}

/// As [`open`], of a device that moves tensors as hardware does.
#[allow(dead_code, reason = "few programs are about moving tensors")]
pub fn open_unmapped() -> Option<Arc<Device>> {
    open_with(Device::open_unmapped)
}

fn open_with(open: fn(&AdapterSelect) -> Result<Arc<Device>, DeviceError>) -> Option<Arc<Device>> {
    let select = match std::env::var("GW_TEST_ADAPTER") {
        Ok(name) => AdapterSelect::Named(name),
        Err(_) => AdapterSelect::Any,
    };
    match open(&select) {
        Ok(device) => Some(device),
        Err(error) if std::env::var("GW_REQUIRE_GPU").is_ok_and(|value| value == "1") => {
            panic!("GW_REQUIRE_GPU is set: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The device that the tests of one program share.
#[allow(dead_code, reason = "some programs want a device per test")]
pub fn shared() -> Option<Arc<Device>> {
    static DEVICE: OnceLock<Option<Arc<Device>>> = OnceLock::new();
    DEVICE.get_or_init(open).clone()
}
