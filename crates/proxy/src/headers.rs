//! Which headers pass, in both directions.
//!
//! Upstream goes what describes the request; what describes the client's connection, its rights at
//! Waypost or its browser does not. Keys come from the configuration only. Used by send and relay.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use waypost_config::Secret;
use waypost_door::outfit::{bearer, steers};

/// Describe one connection, not the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Not for the upstream: the client's own rights, its browser state, what Waypost sets itself, and
/// encodings that would keep it from reading usage.
const NOT_UPSTREAM: [HeaderName; 12] = [
    header::HOST,
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    header::COOKIE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    header::ORIGIN,
];

/// Prefixes that never come from a client.
const RESERVED_PREFIXES: [&str; 3] = ["x-waypost-", "x-forwarded-", "x-gateway-"];

/// The client's headers made fit for an upstream, and apart from them those that only a model which trusts its clients
/// may see; the key is added per model by [`authorize`].
pub(crate) fn to_upstream(theirs: &HeaderMap) -> (HeaderMap, HeaderMap) {
    let hops = hop_by_hop(theirs);
    let stays = |name: &HeaderName| {
        NOT_UPSTREAM.contains(name)
            || RESERVED_PREFIXES.iter().any(|p| name.as_str().starts_with(p))
            || hops.contains(name)
    };
    let (mut headers, mut steering) = (HeaderMap::with_capacity(theirs.keys_len() + 1), HeaderMap::new());
    // Few headers, few of them dropped: looking at each is cheaper than asking for every name.
    for (name, value) in theirs.iter().filter(|(name, _)| !stays(name)) {
        let to = if steers(name) { &mut steering } else { &mut headers };
        to.append(name.clone(), value.clone());
    }
    // The body has been read as JSON; whatever the client called it, that is what it is.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    (headers, steering)
}

/// Sets the key of one model; none for an empty key.
pub(crate) fn authorize(headers: &mut HeaderMap, key: &Secret) {
    if let Some(value) = bearer(key) {
        headers.insert(header::AUTHORIZATION, value);
    }
}

/// An upstream's headers made fit for the client.
pub(crate) fn from_upstream(headers: &mut HeaderMap) {
    for name in hop_by_hop(headers) {
        headers.remove(name);
    }
    // An upstream may be a Waypost too; what this one says about itself must be its own.
    let foreign: SmallVec<[HeaderName; 8]> =
        headers.keys().filter(|name| name.as_str().starts_with("x-waypost-")).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
}

/// The names that concern this connection only: the usual ones, and those that `Connection` names.
fn hop_by_hop(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let usual = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let named =
        connection.flat_map(|v| v.split(',')).filter_map(|name| HeaderName::try_from(name.trim()).ok());
    usual.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_the_request_goes_upstream() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("x-forwarded-host", "evil"),
            ("x-gateway-destination-endpoint", "10.0.0.1:1"),
            ("accept-encoding", "gzip"),
            ("x-request-id", "r1"),
            ("x-dynamo-worker-instance-id", "1"),
            ("traceparent", "00-1"),
            ("idempotency-key", "i1"),
            ("content-type", "application/json; charset=utf-8"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let (mut out, steering) = to_upstream(&headers);
        assert_eq!(steering.keys().collect::<Vec<_>>(), ["x-dynamo-worker-instance-id"]);
        authorize(&mut out, &Secret::default());
        assert!(!out.contains_key("authorization"));
        authorize(&mut out, &Secret::new("sk"));
        let mut names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept", "authorization", "content-type", "idempotency-key", "traceparent", "x-request-id"]
        );
        assert_eq!(out["authorization"], "Bearer sk");
        assert!(out["authorization"].is_sensitive());
    }
}
