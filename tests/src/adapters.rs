//! Software adapters that stand for the ladder of real devices.

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// What Debian's `chromium-common` installs.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// The environment in which Vulkan has `SwiftShader` and nothing else; `GW_SWIFTSHADER_ICD` names
/// its driver file where it lies elsewhere.
///
/// # Errors
/// Where it is not installed.
pub fn swiftshader() -> Result<[(&'static str, PathBuf); 1]> {
    let file = std::env::var_os("GW_SWIFTSHADER_ICD").map_or(SWIFTSHADER.into(), PathBuf::from);
    ensure!(
        file.is_file(),
        "there is no SwiftShader at {}: install Debian's chromium-common, or set \
         GW_SWIFTSHADER_ICD",
        file.display()
    );
    Ok([("VK_ICD_FILENAMES", file)])
}
