//! Buckets in a Redis: a hash for each, and a number beside it that counts its bytes.
//!
//! What reads and writes in one step is a script, so that several nodes never interleave in it.
//! A counter that Redis counts fits 63 bits.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, FromRedisValue, RedisError, Script};
use tokio::sync::OnceCell;

use super::{Bucket, Fault, bucket_full, within};
use crate::HostError;
use crate::imports::secret::Secret;

/// How long a connection or an answer may take: a guest waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Values of the keys `ARGV[2..]`, or how many bytes they have where that is more than `ARGV[1]`.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local bytes, found = 0, {}
        for i = 2, #ARGV do bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
        if bytes > tonumber(ARGV[1]) then return {bytes, false} end
        for i = 2, #ARGV do found[i - 1] = redis.call('HGET', KEYS[1], ARGV[i]) end
        return {-1, found}",
    )
});

/// Sets the pairs `ARGV[2..]`, unless the bucket would then have more bytes than `ARGV[1]`: it
/// returns how many those would be, or -1.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local bytes = tonumber(redis.call('GET', KEYS[2]) or '0')
        for i = 2, #ARGV, 2 do
            bytes = bytes + #ARGV[i + 1] - redis.call('HSTRLEN', KEYS[1], ARGV[i])
            if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then bytes = bytes + #ARGV[i] end
        end
        if bytes > tonumber(ARGV[1]) then return bytes end
        for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
        redis.call('SET', KEYS[2], string.format('%.0f', bytes))
        return -1",
    )
});

/// Removes the keys `ARGV`.
static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for _, key in ipairs(ARGV) do
            local value = redis.call('HSTRLEN', KEYS[1], key)
            if redis.call('HDEL', KEYS[1], key) == 1 then
                redis.call('DECRBY', KEYS[2], string.format('%.0f', #key + value))
            end
        end",
    )
});

/// Adds `ARGV[2]` to the counter `ARGV[1]` of a bucket that may have `ARGV[3]` bytes: it returns
/// the sum as text, or how many bytes those would be. Numbers of scripts are exact to 53 bits only.
static INCREMENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local bytes = tonumber(redis.call('GET', KEYS[2]) or '0')
        local old = redis.call('HGET', KEYS[1], ARGV[1])
        redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
        local sum = redis.call('HGET', KEYS[1], ARGV[1])
        if old then bytes = bytes + #sum - #old else bytes = bytes + #sum + #ARGV[1] end
        if bytes > tonumber(ARGV[3]) then
            if old then redis.call('HSET', KEYS[1], ARGV[1], old)
            else redis.call('HDEL', KEYS[1], ARGV[1]) end
            return {bytes, false}
        end
        redis.call('SET', KEYS[2], string.format('%.0f', bytes))
        return {-1, sum}",
    )
});

/// A page of keys behind the cursor `ARGV[1]`. HSCAN gives the values too, which stay there.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
        local keys = {}
        for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end
        return {page[1], keys}",
    )
});

/// One Redis. The first operation connects; a lost connection is made anew.
pub(super) struct RedisStore {
    client: Client,
    connection: OnceCell<ConnectionManager>,
}

impl RedisStore {
    /// # Errors
    /// [`HostError::Keyvalue`] where `url` is none.
    pub(super) fn new(url: &Secret) -> Result<Self, HostError> {
        // The error may quote the URL, and with it a password.
        let client = Client::open(url.reveal()).map_err(|_| HostError::Keyvalue {
            reason: "`redis` in [plugins.keyvalue] is no URL such as redis://host:6379/0"
                .to_owned(),
        })?;
        Ok(Self { client, connection: OnceCell::new() })
    }

    pub(super) async fn read(
        &self,
        bucket: &Bucket,
        keys: &[String],
        bytes_max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        type Found = (i64, Option<Vec<Option<Vec<u8>>>>);
        let (over, found): Found = self
            .run(&READ, bucket, |call| {
                call.arg(bytes_max).arg(keys);
            })
            .await?;
        if let Ok(bytes) = usize::try_from(over) {
            within(bytes, bytes_max, "batch_bytes_max", || "the batch".to_owned())?;
        }
        found.ok_or_else(|| Fault::Failed("redis gave no values".to_owned()))
    }

    pub(super) async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, Fault> {
        let mut connection = self.connection().await?;
        let mut command = ::redis::cmd("HEXISTS");
        command.arg(hash(bucket)).arg(key);
        command.query_async(&mut connection).await.map_err(|error| failed(&error))
    }

    pub(super) async fn list(
        &self,
        bucket: &Bucket,
        cursor: Option<u64>,
        keys_max: usize,
    ) -> Result<(Vec<String>, Option<u64>), Fault> {
        let cursor = cursor.unwrap_or(0);
        let (next, keys): (u64, Vec<String>) = self
            .run(&LIST, bucket, |call| {
                call.arg(cursor).arg(keys_max);
            })
            .await?;
        Ok((keys, (next != 0).then_some(next)))
    }

    pub(super) async fn write(
        &self,
        bucket: &Bucket,
        pairs: &BTreeMap<String, Vec<u8>>,
        bytes_max: u64,
    ) -> Result<(), Fault> {
        let over: i64 = self
            .run(&WRITE, bucket, |call| {
                call.arg(bytes_max);
                for (key, value) in pairs {
                    call.arg(key).arg(value.as_slice());
                }
            })
            .await?;
        u64::try_from(over).map_or(Ok(()), |bytes| Err(bucket_full(&bucket.name, bytes, bytes_max)))
    }

    pub(super) async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), Fault> {
        self.run(&DELETE, bucket, |call| {
            call.arg(keys);
        })
        .await
    }

    pub(super) async fn increment(
        &self,
        bucket: &Bucket,
        key: &str,
        delta: u64,
        bytes_max: u64,
    ) -> Result<u64, Fault> {
        let result: Result<(i64, Option<u64>), Fault> = self
            .run(&INCREMENT, bucket, |call| {
                call.arg(key).arg(delta).arg(bytes_max);
            })
            .await;
        match result {
            Ok((_, Some(sum))) => Ok(sum),
            Ok((bytes, None)) => Err(bucket_full(&bucket.name, bytes.unsigned_abs(), bytes_max)),
            Err(Fault::Failed(reason)) if NO_COUNTER.iter().any(|text| reason.contains(text)) => {
                let text = "is no counter that redis can add to: a whole number within 63 bits";
                Err(Fault::Refused(format!("the value of {key:?} {text}")))
            }
            Err(fault) => Err(fault),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        bucket: &Bucket,
        arguments: impl FnOnce(&mut ::redis::ScriptInvocation<'_>),
    ) -> Result<T, Fault> {
        let mut connection = self.connection().await?;
        let mut call = script.prepare_invoke();
        let hash = hash(bucket);
        call.key(&hash).key(format!("{hash}:bytes"));
        arguments(&mut call);
        call.invoke_async(&mut connection).await.map_err(|error| failed(&error))
    }

    async fn connection(&self) -> Result<ConnectionManager, Fault> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT));
            self.client.get_connection_manager_with_config(config).await
        };
        let connection = self.connection.get_or_try_init(connect).await;
        connection.cloned().map_err(|error| failed(&error))
    }
}

/// What Redis says of a value that it cannot add to.
const NO_COUNTER: [&str; 3] = ["not an integer", "overflow", "out of range"];

/// The hash of a bucket. Braces keep it and its count on one node of a cluster; names of apps and
/// buckets have none of these characters.
fn hash(bucket: &Bucket) -> String {
    format!("gw:keyvalue:{{{}:{}}}", bucket.app, bucket.name)
}

fn failed(error: &RedisError) -> Fault {
    let reason = error.to_string();
    let fix = match reason.contains("invalid peer certificate") {
        true => {
            "; name the host as its certificate does, and add its authority to the system's, or \
             name the file in `SSL_CERT_FILE`"
        }
        false => "",
    };
    Fault::Failed(format!("redis: {reason}{fix}"))
}
