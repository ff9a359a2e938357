//! The routes of all live revisions of a node.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use matchit::{InsertError, Router};

use crate::{DeployError, Revision, Route};

/// Paths that the node answers itself; an app that claims one is refused.
pub const RESERVED_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What a node answers at one moment. It is built whole and swapped whole.
#[derive(Debug, Default)]
pub struct RouteTable {
    paths: Paths<Found>,
    revisions: Vec<Arc<Revision>>,
}

/// A route and the revision that it belongs to.
#[derive(Clone, Debug)]
pub struct Found {
    /// The revision; holding it keeps the plugins and models loaded.
    pub revision: Arc<Revision>,
    /// The route.
    pub route: Arc<Route>,
}

/// What a request meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'t, T = Found> {
    /// A route.
    Found(&'t T),
    /// A path that other methods would reach.
    MethodNotAllowed {
        /// The pattern that matched.
        pattern: &'t str,
        /// The methods, as the header `Allow` lists them.
        allow: String,
    },
    /// Nothing.
    NotFound,
}

impl RouteTable {
    /// The table of these revisions, at most one per app.
    ///
    /// # Errors
    /// [`DeployError::RouteConflict`] when two routes would answer the same request, and
    /// [`DeployError::BadRoute`]; the later revision of the list is the one that is refused.
    pub fn build(revisions: Vec<Arc<Revision>>) -> Result<Self, DeployError> {
        let mut paths = Paths::default();
        for revision in &revisions {
            for route in &revision.routes {
                let found = Found { revision: Arc::clone(revision), route: Arc::clone(route) };
                paths.add(&revision.app, &route.pattern, &route.methods, &found)?;
            }
        }
        Ok(Self { paths, revisions })
    }

    /// Who answers `method path`. A route for `GET` answers `HEAD` too.
    pub fn find(&self, method: &Method, path: &str) -> Lookup<'_> {
        self.paths.find(method, path)
    }

    /// The live revisions, ordered by app.
    pub fn revisions(&self) -> &[Arc<Revision>] {
        &self.revisions
    }

    /// Whether nothing is live.
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }
}

/// Patterns with a target per method.
#[derive(Debug)]
struct Paths<T> {
    /// Leads to an index of `endpoints`.
    router: Router<usize>,
    endpoints: Vec<Endpoint<T>>,
}

#[derive(Debug)]
struct Endpoint<T> {
    app: String,
    pattern: String,
    targets: Vec<(Method, T)>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { router: Router::new(), endpoints: Vec::new() }
    }
}

impl<T: Clone> Paths<T> {
    fn add(
        &mut self,
        app: &str,
        pattern: &str,
        methods: &[Method],
        target: &T,
    ) -> Result<(), DeployError> {
        let bad_route = |reason: String| DeployError::BadRoute {
            app: app.to_owned(),
            path: pattern.to_owned(),
            reason,
        };
        if RESERVED_PATHS.contains(&pattern) {
            return Err(bad_route("the node answers this path itself; choose another".to_owned()));
        }
        let conflict =
            |method: &str, other_app: &str, other_path: &str| DeployError::RouteConflict {
                app: app.to_owned(),
                method: method.to_owned(),
                path: pattern.to_owned(),
                other_app: other_app.to_owned(),
                other_path: other_path.to_owned(),
            };
        let at = match self.endpoints.iter().position(|endpoint| endpoint.pattern == pattern) {
            Some(at) => at,
            None => self.insert(app, pattern).map_err(|error| match error {
                InsertError::Conflict { with } => {
                    let other = self.endpoints.iter().find(|other| other.pattern == with);
                    conflict("*", other.map_or(app, |other| &other.app), &with)
                }
                error => bad_route(error.to_string()),
            })?,
        };
        let endpoint = &mut self.endpoints[at];
        for method in methods {
            if endpoint.targets.iter().any(|(taken, _)| taken == method) {
                return Err(conflict(method.as_str(), &endpoint.app, &endpoint.pattern));
            }
            endpoint.targets.push((method.clone(), target.clone()));
        }
        Ok(())
    }

    fn insert(&mut self, app: &str, pattern: &str) -> Result<usize, InsertError> {
        let at = self.endpoints.len();
        self.router.insert(pattern, at)?;
        let (app, pattern) = (app.to_owned(), pattern.to_owned());
        self.endpoints.push(Endpoint { app, pattern, targets: Vec::new() });
        Ok(at)
    }

    fn find(&self, method: &Method, path: &str) -> Lookup<'_, T> {
        let Ok(matched) = self.router.at(path) else { return Lookup::NotFound };
        let endpoint = &self.endpoints[*matched.value];
        let target = endpoint.target(method).or_else(|| match *method {
            Method::HEAD => endpoint.target(&Method::GET),
            _ => None,
        });
        match target {
            Some(target) => Lookup::Found(target),
            None => {
                Lookup::MethodNotAllowed { pattern: &endpoint.pattern, allow: endpoint.allow() }
            }
        }
    }
}

impl<T> Endpoint<T> {
    fn target(&self, wanted: &Method) -> Option<&T> {
        self.targets.iter().find(|(method, _)| method == wanted).map(|(_, target)| target)
    }

    /// The methods in alphabetical order; `GET` brings `HEAD`.
    fn allow(&self) -> String {
        let mut methods: BTreeSet<&str> =
            self.targets.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        Vec::from_iter(methods).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Method = Method::GET;
    const POST: Method = Method::POST;

    fn paths(routes: &[(&str, &str, Method)]) -> Result<Paths<String>, String> {
        let mut paths = Paths::default();
        for (app, pattern, method) in routes {
            let target = format!("{app} {method} {pattern}");
            paths
                .add(app, pattern, std::slice::from_ref(method), &target)
                .map_err(|error| error.to_string())?;
        }
        Ok(paths)
    }

    #[test]
    fn several_apps_answer_on_one_node() {
        let paths = paths(&[
            ("search", "/embed", POST),
            ("search", "/embed", GET),
            ("vision", "/v1/{model}", POST),
            ("site", "/{*rest}", GET),
        ])
        .unwrap();
        let found = |method, path| match paths.find(&method, path) {
            Lookup::Found(target) => target.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(found(POST, "/embed"), "search POST /embed");
        assert_eq!(found(GET, "/embed"), "search GET /embed");
        assert_eq!(found(Method::HEAD, "/embed"), "search GET /embed");
        assert_eq!(found(POST, "/v1/resnet"), "vision POST /v1/{model}");
        assert_eq!(found(GET, "/about/us"), "site GET /{*rest}");
        assert_eq!(found(GET, "/"), "NotFound");
    }

    #[test]
    fn a_wrong_method_learns_the_right_ones() {
        let paths = paths(&[("a", "/x", POST), ("a", "/x", GET), ("a", "/y", POST)]).unwrap();
        let allow = |method, path| match paths.find(&method, path) {
            Lookup::MethodNotAllowed { allow, .. } => allow,
            other => format!("{other:?}"),
        };
        assert_eq!(allow(Method::PUT, "/x"), "GET, HEAD, POST");
        assert_eq!(allow(Method::HEAD, "/y"), "POST");
    }

    #[test]
    fn routes_that_would_answer_the_same_request_are_refused_by_name() {
        struct Case(&'static [(&'static str, &'static str, Method)], &'static str);
        let cases = [
            Case(
                &[("a", "/x", POST), ("b", "/x", POST)],
                r#"route POST /x of app "b" conflicts with /x of app "a""#,
            ),
            Case(
                &[("a", "/v/{x}", POST), ("b", "/v/{y}", GET)],
                r#"route * /v/{y} of app "b" conflicts with /v/{x} of app "a""#,
            ),
            Case(
                &[("a", "/metrics", GET)],
                r#"route "/metrics" of app "a": the node answers this path itself; choose another"#,
            ),
            Case(
                &[("a", "/{*rest}/x", GET)],
                "route \"/{*rest}/x\" of app \"a\": Catch-all parameters are only allowed at the \
                 end of a route",
            ),
        ];
        for Case(routes, message) in cases {
            assert_eq!(paths(routes).map(|_| ()), Err(message.to_owned()));
        }
    }
}
