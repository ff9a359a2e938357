//! What an answer depends on, as bytes.
//!
//! The record is versioned and every part has its length before it, so two requests give the same
//! bytes only if every part is the same. Bodies are taken byte for byte: a plugin sees the very
//! text, so two texts of one JSON value may be answered differently, and a needless miss is the
//! only price. The request that reaches a plugin on a cached route carries nothing that is not in
//! its [`KeyParts`]; that makes the key honest by construction.

use bytes::Bytes;
use gw_artifact::Digest;
use gw_deploy::{Identity, ModelIdentity, PluginIdentity};
use gw_tensor::Tensor;
use http::{HeaderMap, HeaderName, Method, header};

/// Raised whenever the record changes its meaning. (Nothing is kept over a restart today.)
const SCHEMA: u32 = 3;

/// The request headers that a plugin on a cached route sees, in the order of the record.
pub(crate) const VARIED_HEADERS: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::HOST,
];

/// Everything that decides an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyParts<'r> {
    /// Who asks: the authenticated principal, never anything that the request claims.
    pub(crate) tenant: &'r str,
    /// The pattern of the route.
    pub(crate) route: &'r str,
    /// What is deployed there.
    pub(crate) identity: &'r Identity,
    pub(crate) method: &'r Method,
    /// The authority that the plugin sees, where the request has one beside `Host`.
    pub(crate) authority: &'r str,
    /// As the client sent it.
    pub(crate) path_and_query: &'r str,
    /// Only [`VARIED_HEADERS`] count.
    pub(crate) headers: &'r HeaderMap,
    pub(crate) body: &'r [u8],
}

/// A key: the record, and its digest, under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) digest: Digest,
    pub(crate) record: Bytes,
}

impl KeyParts<'_> {
    /// Taken apart in full, so that a new part does not compile until it is in the record.
    pub(crate) fn key(&self) -> Key {
        let Self { tenant, route, identity, method, authority, path_and_query, headers, body } =
            *self;
        let mut record = Record::begin(Kind::Answer, 512 + body.len());
        record.part(tenant.as_bytes());
        record.deployed(route, identity);
        record.part(method.as_str().as_bytes());
        record.part(authority.as_bytes());
        record.part(path_and_query.as_bytes());
        for name in &VARIED_HEADERS {
            record.count(headers.get_all(name).iter().count());
            headers.get_all(name).iter().for_each(|value| record.part(value.as_bytes()));
        }
        record.part(body);
        record.key()
    }
}

/// Everything that decides what a model answers to hooks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InferenceParts<'r> {
    /// As in [`KeyParts`].
    pub(crate) tenant: &'r str,
    /// The pattern of the route.
    pub(crate) route: &'r str,
    /// What is deployed there.
    pub(crate) identity: &'r Identity,
    /// The digest of the model's file.
    pub(crate) model: &'r Digest,
    /// Where it runs.
    pub(crate) device: &'r str,
    /// How it is served: one file may be several models of a route.
    pub(crate) policy: &'r Digest,
    /// The inputs by name; their order does not count.
    pub(crate) inputs: &'r [(String, Tensor)],
}

impl InferenceParts<'_> {
    /// Taken apart in full, as [`KeyParts::key`] is.
    pub(crate) fn key(&self) -> Key {
        let Self { tenant, route, identity, model, device, policy, inputs } = *self;
        let bytes: usize = inputs.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
        let mut record = Record::begin(Kind::Inference, 512 + bytes);
        record.part(tenant.as_bytes());
        record.deployed(route, identity);
        record.part(model.as_bytes());
        record.part(device.as_bytes());
        record.part(policy.as_bytes());
        let mut inputs: Vec<_> = inputs.iter().collect();
        inputs.sort_by(|a, b| a.0.cmp(&b.0));
        record.count(inputs.len());
        for (name, tensor) in inputs {
            record.part(name.as_bytes());
            record.part(tensor.dtype().to_string().as_bytes());
            record.count(tensor.shape().len());
            tensor.shape().iter().for_each(|&size| record.count(size));
            record.part(tensor.bytes());
        }
        record.key()
    }
}

/// What a key leads to.
#[derive(Clone, Copy)]
enum Kind {
    Answer,
    Inference,
}

struct Record(Vec<u8>);

impl Record {
    fn begin(kind: Kind, capacity: usize) -> Self {
        let mut record = Self(Vec::with_capacity(capacity));
        record.count(SCHEMA as usize);
        record.count(kind as usize);
        record
    }

    fn deployed(&mut self, route: &str, identity: &Identity) {
        let Identity { app, plugins, models } = identity;
        self.part(app.as_bytes());
        self.part(route.as_bytes());
        self.count(plugins.len());
        for PluginIdentity { component, config } in plugins {
            self.part(component.as_bytes());
            self.part(config.as_bytes());
        }
        self.count(models.len());
        for ModelIdentity { name, digest, device, policy } in models {
            self.part(name.as_bytes());
            self.part(digest.as_bytes());
            self.part(device.as_bytes());
            self.part(policy.as_bytes());
        }
    }

    fn key(self) -> Key {
        Key { digest: Digest::of(&self.0), record: self.0.into() }
    }

    fn count(&mut self, count: usize) {
        self.0.extend((count as u64).to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request with its own copy of every part.
    #[derive(Clone, Debug, PartialEq)]
    struct Owned {
        tenant: String,
        route: String,
        identity: Identity,
        method: Method,
        authority: String,
        path_and_query: String,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Owned {
        fn key(&self) -> Key {
            KeyParts {
                tenant: &self.tenant,
                route: &self.route,
                identity: &self.identity,
                method: &self.method,
                authority: &self.authority,
                path_and_query: &self.path_and_query,
                headers: &self.headers,
                body: &self.body,
            }
            .key()
        }
    }

    fn base() -> Owned {
        let model = ModelIdentity {
            name: "minilm".into(),
            digest: Digest::of(b"model"),
            device: "cpu".into(),
            policy: Digest::of(b"policy"),
        };
        Owned {
            tenant: "t".into(),
            route: "/embed".into(),
            identity: Identity {
                app: "search".into(),
                plugins: vec![PluginIdentity {
                    component: Digest::of(b"plugin"),
                    config: Digest::of(b"config"),
                }],
                models: vec![model],
            },
            method: Method::POST,
            authority: String::new(),
            path_and_query: "/embed?a=1".into(),
            headers: HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                "application/json".parse().unwrap(),
            )]),
            body: b"{}".to_vec(),
        }
    }

    #[test]
    fn every_part_changes_the_key() {
        type Change = fn(&mut Owned);
        let changes: [(&str, Change); 16] = [
            ("tenant", |r| r.tenant.push('x')),
            ("route", |r| r.route.push('x')),
            ("app", |r| r.identity.app.push('x')),
            ("plugin", |r| r.identity.plugins[0].component = Digest::of(b"x")),
            ("config", |r| r.identity.plugins[0].config = Digest::of(b"x")),
            ("another plugin", |r| r.identity.plugins.push(r.identity.plugins[0].clone())),
            ("no model", |r| r.identity.models.clear()),
            ("model name", |r| r.identity.models[0].name.push('x')),
            ("model digest", |r| r.identity.models[0].digest = Digest::of(b"x")),
            ("device", |r| r.identity.models[0].device.push('x')),
            ("policy", |r| r.identity.models[0].policy = Digest::of(b"x")),
            ("method", |r| r.method = Method::GET),
            ("authority", |r| r.authority.push('x')),
            ("query", |r| r.path_and_query.push('x')),
            ("header", |r| {
                r.headers.insert(header::ACCEPT, "text/plain".parse().unwrap());
            }),
            ("body", |r| r.body.push(b' ')),
        ];
        let key = base().key();
        for (name, change) in changes {
            let mut request = base();
            change(&mut request);
            assert_ne!(request.key(), key, "{name}");
        }
        let mut request = base();
        request.headers.insert(header::USER_AGENT, "curl".parse().unwrap());
        assert_eq!(request.key(), key, "a header that no plugin sees");
    }

    #[test]
    fn every_part_of_a_question_changes_its_key_and_the_order_of_inputs_does_not() {
        let tensor = |dims: &[usize]| Tensor::from_slice(dims, &[1.0f32, 2.0]).unwrap();
        let request = base();
        let inputs = [("a".to_owned(), tensor(&[2])), ("b".to_owned(), tensor(&[1, 2]))];
        let parts = InferenceParts {
            tenant: "t",
            route: "/embed",
            identity: &request.identity,
            model: &Digest::of(b"model"),
            device: "cpu",
            policy: &Digest::of(b"policy"),
            inputs: &inputs,
        };
        let key = parts.key();
        assert_ne!(key, request.key());
        let turned = [inputs[1].clone(), inputs[0].clone()];
        assert_eq!(InferenceParts { inputs: &turned, ..parts }.key(), key);

        let swapped = [("b".to_owned(), tensor(&[2])), ("a".to_owned(), tensor(&[1, 2]))];
        let shaped = [inputs[0].clone(), ("b".to_owned(), tensor(&[2, 1]))];
        let bits = [1.0f32.to_bits().cast_signed(), 2.0f32.to_bits().cast_signed()];
        let typed = Tensor::from_slice([1, 2], &bits).unwrap();
        let typed = [inputs[0].clone(), ("b".to_owned(), typed)];
        let mut identity = request.identity.clone();
        identity.plugins[0].config = Digest::of(b"x");
        let other = Digest::of(b"other");
        let changed = [
            ("tenant", InferenceParts { tenant: "u", ..parts }),
            ("route", InferenceParts { route: "/x", ..parts }),
            ("identity", InferenceParts { identity: &identity, ..parts }),
            ("model", InferenceParts { model: &other, ..parts }),
            ("device", InferenceParts { device: "gpu", ..parts }),
            ("policy", InferenceParts { policy: &other, ..parts }),
            ("names", InferenceParts { inputs: &swapped, ..parts }),
            ("shape", InferenceParts { inputs: &shaped, ..parts }),
            ("type", InferenceParts { inputs: &typed, ..parts }),
            ("fewer", InferenceParts { inputs: &inputs[..1], ..parts }),
        ];
        for (part, changed) in changed {
            assert_ne!(changed.key(), key, "{part}");
        }
    }

    #[test]
    fn a_header_sent_twice_is_not_the_header_sent_joined() {
        let with = |values: &[&str]| {
            let mut request = base();
            for value in values {
                request.headers.append(header::ACCEPT, value.parse().unwrap());
            }
            request.key()
        };
        assert_ne!(with(&["a", "b"]), with(&["a, b"]));
        assert_ne!(with(&["a", "b"]), with(&["b", "a"]));
    }

    fn request() -> impl Strategy<Value = Owned> {
        let text = || "[ab]{0,2}";
        let parts = (text(), text(), text(), text(), text(), text(), text());
        parts.prop_map(|(tenant, route, app, device, path, accept, body)| {
            let mut request = base();
            request.tenant = tenant;
            request.route = route;
            request.identity.app = app;
            request.identity.models[0].device = device;
            request.path_and_query = path;
            request.headers.insert(header::ACCEPT, accept.parse().unwrap());
            request.body = body.into_bytes();
            request
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn keys_are_equal_exactly_when_all_parts_are(a in request(), b in request()) {
            prop_assert_eq!(a.key() == b.key(), a == b);
            prop_assert_eq!(a.key().digest == b.key().digest, a == b);
        }
    }
}
