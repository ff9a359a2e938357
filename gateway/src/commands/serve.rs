//! `gw serve`: a node that serves what is pushed to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use gw_artifact::keys::PublicKey;
use gw_deploy::Deployments;
use gw_inference::DeviceChoice;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::node::{self, Node};
use crate::report::{self, Advice};

/// The file of the state folder that lists trusted keys.
const TRUSTED_KEYS: &str = "trusted-keys";

/// Run a node that serves the apps pushed to it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw serve --state node --trust ed25519:…
  gw serve --state node --config gateway.toml --listen 0.0.0.0:8787

Trusted keys are also read from the file `trusted-keys` in the state folder, one a line.
examples/gateway.toml shows every key of the configuration with its default.")]
pub(crate) struct Args {
    /// The folder that keeps what was pushed
    #[arg(long, env = "GW_STATE", value_name = "DIR")]
    state: PathBuf,
    /// The address to serve on; port 0 takes a free one
    #[arg(long, env = "GW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// The address for gw push, status and rollback; whoever reaches it controls the node
    #[arg(long, env = "GW_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:8788")]
    admin: SocketAddr,
    /// A public key whose bundles are taken, or a file of such keys; repeat for more
    #[arg(long, env = "GW_TRUST", value_name = "KEY|FILE", value_delimiter = ',')]
    trust: Vec<String>,
    /// Where models run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// The node's limits and secrets [default: built in]
    #[arg(long, env = "GW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.config.as_deref().map(Config::open).transpose()?.unwrap_or_default();
    let trusted = trusted(&args.trust, &args.state)?;
    if trusted.is_empty() {
        report::note("note: no key is trusted, so every push is refused; see --trust");
    }
    let listener = node::listen(args.listen, "--listen")?;
    let admin = node::listen(args.admin, "--admin")?;
    node::check_device(&args.device, &config)?;
    // What does not start leaves nothing behind.
    std::fs::create_dir_all(&args.state)
        .with_context(|| format!("making the state folder {}", args.state.display()))?;
    let mut registry = Registry::default();
    let loader = node::loader(&config, &args.device, &args.state, &mut registry)?;
    let models = Arc::clone(&loader.models);
    node::block_on(async {
        let deploy = config.deploy.clone();
        let deployments = Deployments::open(args.state.clone(), trusted, loader, deploy).await?;
        let greeting =
            format!("listening on {}\nadmin on {}", node::url(&listener)?, node::url(&admin)?);
        let (admin, config) = (Some(admin), config.server);
        Node { listener, admin, deployments, models, config, registry }.serve(greeting).await
    })
}

/// The keys of `--trust` and of the state folder.
fn trusted(flags: &[String], state: &Path) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for flag in flags {
        match flag.parse::<PublicKey>() {
            Ok(key) => keys.push(key),
            Err(_) if Path::new(flag).is_file() => keys.extend(read_keys(Path::new(flag))?),
            Err(error) => {
                let message = format!("--trust {flag} is neither a public key nor a file");
                return Err(anyhow::Error::new(error).context(Advice::new(message).usage()));
            }
        }
    }
    let file = state.join(TRUSTED_KEYS);
    if file.exists() {
        keys.extend(read_keys(&file)?);
    }
    Ok(keys)
}

/// One key a line; `#` begins a comment.
fn read_keys(file: &Path) -> anyhow::Result<Vec<PublicKey>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading trusted keys from {}", file.display()))?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let key = line.split('#').next().unwrap_or_default().trim();
        if !key.is_empty() {
            keys.push(key.parse().with_context(|| {
                Advice::new(format!("{}:{}: not a public key", file.display(), index + 1)).usage()
            })?);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use gw_artifact::keys::SigningKey;

    use super::*;

    #[test]
    fn keys_are_trusted_from_flags_files_and_the_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = [(); 3].map(|()| SigningKey::generate().unwrap().public());
        std::fs::write(folder.path().join("team"), format!("# team\n\n{b} # on call\n")).unwrap();
        std::fs::write(folder.path().join(TRUSTED_KEYS), c.to_string()).unwrap();
        let file = folder.path().join("team").to_str().unwrap().to_owned();
        let found = trusted(&[a.to_string(), file], folder.path()).unwrap();
        assert_eq!(found, [a, b, c]);
    }
}
