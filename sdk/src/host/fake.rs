//! The host of native tests: whatever [`crate::testing::Host`] runs on this thread.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::rc::Rc;

use crate::bindings::wasi::config::store::Error as ConfigError;
use crate::bindings::wasi::logging::logging::Level;
use crate::keyvalue::{Error as BucketError, KeyResponse, Pair};
use crate::nn::{Error, ErrorKind, Input, Named, Outputs};
use crate::outbound::{ErrorCode, Outgoing};
use crate::testing::{Model, World, with};
use crate::{Response, logging};

/// What a caller outside of any test host is told.
const NOBODY: &str = "no host is there: call this within `gw_sdk::testing::Host::run`";

pub(crate) fn asset(name: &str) -> io::Result<Vec<u8>> {
    let folder = with(|world| world.assets.clone());
    match folder {
        Some(Some(folder)) => fs::read(folder.join(name)),
        Some(None) => Err(io::Error::other("give the folder with `Host::assets`")),
        None => Err(io::Error::other(NOBODY)),
    }
}

pub(crate) fn config(key: &str) -> Result<Option<String>, ConfigError> {
    granted(|world| world.config.get(key).or_else(|| world.secrets.get(key)).cloned())
}

pub(crate) fn config_all() -> Result<Vec<(String, String)>, ConfigError> {
    granted(|world| {
        let pairs = world.config.iter().map(|(key, value)| (key.clone(), value.clone()));
        pairs.collect()
    })
}

/// As on a node, a plugin without any value or secret is refused what it asks.
fn granted<R>(look: impl FnOnce(&World) -> R) -> Result<R, ConfigError> {
    let found = with(|world| {
        let nothing = world.config.is_empty() && world.secrets.is_empty();
        (!nothing).then(|| look(world))
    });
    let missing = "the test host grants no configuration: give it with `Host::config` or \
                   `Host::secret`, and the plugin with `config` or `secrets` in gw.toml";
    let found = found.ok_or_else(|| ConfigError::Upstream(NOBODY.to_owned()))?;
    found.ok_or_else(|| ConfigError::Upstream(missing.to_owned()))
}

/// A message outside of any test host is nobody's.
pub(crate) fn log(level: Level, context: &str, message: &str) {
    with(|world| {
        let (context, message) = (context.to_owned(), message.to_owned());
        world.logs.push(logging::Message { level, context, message });
    });
}

pub(crate) fn complain(message: &str) {
    log(Level::Error, "", message);
}

pub(crate) fn send(request: &Outgoing) -> Result<Response, ErrorCode> {
    let answer = with(|world| world.outbound.clone());
    match answer {
        Some(Some(answer)) => (answer.borrow_mut())(request.clone()),
        Some(None) => Err(ErrorCode::HttpRequestDenied),
        None => Err(ErrorCode::InternalError(Some(NOBODY.to_owned()))),
    }
}

pub(crate) struct Graph(Model);

impl Graph {
    pub(crate) fn load(name: &str) -> Result<Self, Error> {
        let found = with(|world| {
            let names: Vec<_> = world.models.keys().cloned().collect();
            world.models.get(name).cloned().ok_or(names)
        });
        let message = match found {
            Some(Ok(model)) => return Ok(Self(model)),
            Some(Err(names)) => {
                let names = names.join(", ");
                format!("the test host has no model {name:?}, only [{names}]; see `Host::model`")
            }
            None => NOBODY.to_owned(),
        };
        Err(Error::new(ErrorKind::NotFound, message))
    }

    #[allow(clippy::unnecessary_wraps, reason = "that of a node can fail")]
    pub(crate) fn context(&self) -> Result<Context, Error> {
        Ok(Context(Rc::clone(&self.0)))
    }
}

pub(crate) struct Context(Model);

impl Context {
    pub(crate) fn compute(&self, inputs: Vec<(String, Input)>) -> Result<Vec<Named>, Error> {
        let inputs = Outputs(inputs.into_iter().map(|(name, input)| here(name, &input)).collect());
        let mut model = self
            .0
            .try_borrow_mut()
            .map_err(|_| Error::new(ErrorKind::Failed, "a test's model may not run itself"))?;
        let outputs = model(&inputs)?;
        Ok(outputs.into_iter().map(|(name, output)| here(name, &output)).collect())
    }
}

fn here(name: String, input: &Input) -> Named {
    Named::here(name, input.dims.clone(), input.ty, input.bytes().to_vec())
}

pub(crate) struct Bucket(String);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, BucketError> {
        match with(|world| world.buckets.contains_key(name)) {
            Some(true) => Ok(Self(name.to_owned())),
            Some(false) => Err(BucketError::Other(format!(
                "the test host has no bucket {name:?}: give it with `Host::bucket`, and the \
                 plugin in `keyvalue` of gw.toml"
            ))),
            None => Err(BucketError::Other(NOBODY.to_owned())),
        }
    }

    fn with<R>(
        &self,
        operate: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> R,
    ) -> Result<R, BucketError> {
        with(|world: &mut World| world.buckets.get_mut(&self.0).map(operate))
            .flatten()
            .ok_or_else(|| BucketError::Other(NOBODY.to_owned()))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        self.with(|pairs| pairs.get(key).cloned())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), BucketError> {
        self.with(|pairs| _ = pairs.insert(key.to_owned(), value.to_vec()))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.with(|pairs| _ = pairs.remove(key))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, BucketError> {
        self.with(|pairs| pairs.contains_key(key))
    }

    pub(crate) fn list_keys(&self, _: Option<u64>) -> Result<KeyResponse, BucketError> {
        self.with(|pairs| KeyResponse { keys: pairs.keys().cloned().collect(), cursor: None })
    }

    /// A counter is its digits, as on a node.
    pub(crate) fn increment(&self, key: &str, delta: u64) -> Result<u64, BucketError> {
        self.with(|pairs| {
            let digits = pairs.get(key).map_or(Some("0"), |value| std::str::from_utf8(value).ok());
            let number = digits.and_then(|digits| digits.parse::<u64>().ok());
            let sum = number.and_then(|number| number.checked_add(delta));
            let wrong = || BucketError::Other(format!("the value of {key} is no counter"));
            let sum = sum.ok_or_else(wrong)?;
            pairs.insert(key.to_owned(), sum.to_string().into_bytes());
            Ok(sum)
        })?
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Pair>>, BucketError> {
        self.with(|pairs| {
            let pair = |key: &String| pairs.get(key).map(|value| (key.clone(), value.clone()));
            keys.iter().map(pair).collect()
        })
    }

    pub(crate) fn set_many(&self, given: &[Pair]) -> Result<(), BucketError> {
        self.with(|pairs| pairs.extend(given.iter().cloned()))
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), BucketError> {
        self.with(|pairs| pairs.retain(|key, _| !keys.contains(key)))
    }
}
