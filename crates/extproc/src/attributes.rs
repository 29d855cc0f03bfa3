//! What Envoy's messages say beside bodies: headers, the subset that may be chosen from, the endpoint that
//! served. Reads only; values it does not understand count as absent. Used by the two halves of a stream.

use crate::judge::Head;
use crate::modes::Modes;
use crate::pb::envoy::config::core::v3::{HeaderMap as WireHeaders, HeaderValue as WireHeader, Metadata};
use crate::pb::envoy::service::ext_proc::v3::{HttpHeaders, ProcessingRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// Names the endpoint in a header and in metadata of [`NAMESPACE`].
pub(crate) const DESTINATION: HeaderName = HeaderName::from_static("x-gateway-destination-endpoint");
/// Names the endpoint that really served.
pub(crate) const SERVED: HeaderName = HeaderName::from_static("x-gateway-destination-endpoint-served");
/// Metadata that load balancers read.
pub(crate) const NAMESPACE: &str = "envoy.lb";
const SUBSET_NAMESPACE: &str = "envoy.lb.subset_hint";
const SUBSET: &str = "x-gateway-destination-endpoint-subset";
/// Envoy groups attributes by the filter that asked for them.
const FILTER: &str = "envoy.filters.http.ext_proc";
const UPSTREAM: &str = "upstream.address";

/// The head of a request, and whether what follows is a tunnel.
pub(crate) fn head(wire: HttpHeaders, metadata: Option<&Metadata>, modes: Modes) -> (Head, bool) {
    let ends = wire.end_of_stream;
    let mut head = Head {
        method: Method::GET,
        path: String::new(),
        authority: String::new(),
        headers: HeaderMap::new(),
        ends,
        subset: subset(metadata),
        modes,
    };
    let fields = fields(wire.headers);
    head.headers = headers(&fields, |name, value| match name {
        ":method" => head.method = Method::from_bytes(value).unwrap_or(Method::GET),
        ":path" => head.path = String::from_utf8_lossy(value).into_owned(),
        ":authority" => head.authority = String::from_utf8_lossy(value).into_owned(),
        _ => {}
    });
    let tunnel = head.method == Method::CONNECT || head.headers.contains_key(http::header::UPGRADE);
    (head, tunnel)
}

/// Status and headers of a response; status 0 when it names none.
pub(crate) fn response(wire: Option<WireHeaders>) -> (u16, HeaderMap) {
    let mut status = 0;
    let headers = headers(&fields(wire), |name, value| {
        if name == ":status" {
            status = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
        }
    });
    (status, headers)
}

/// The endpoint that served, from metadata or from the attribute `upstream.address`.
pub(crate) fn served(message: &ProcessingRequest) -> Option<&str> {
    let told = || text(message.metadata_context.as_ref()?.filter_metadata.get(NAMESPACE)?, SERVED.as_str());
    let seen = || text(message.attributes.get(FILTER)?, UPSTREAM);
    told().or_else(seen)
}

fn fields(wire: Option<WireHeaders>) -> Vec<WireHeader> {
    wire.map(|headers| headers.headers).unwrap_or_default()
}

/// All but pseudo headers, which go to `pseudo`. More than [`HeaderMap`] can hold are left out.
fn headers(fields: &[WireHeader], mut pseudo: impl FnMut(&str, &[u8])) -> HeaderMap {
    let mut map = HeaderMap::try_with_capacity(fields.len()).unwrap_or_default();
    for field in fields {
        let value = if field.raw_value.is_empty() { field.value.as_bytes() } else { &field.raw_value[..] };
        if field.key.starts_with(':') {
            pseudo(&field.key, value);
            continue;
        }
        let name = HeaderName::from_bytes(field.key.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            let _ = map.try_append(name, value);
        }
    }
    map
}

/// The subset hint: a list, or one string with commas.
fn subset(metadata: Option<&Metadata>) -> Option<Vec<String>> {
    let hint = metadata?.filter_metadata.get(SUBSET_NAMESPACE)?.fields.get(SUBSET)?;
    let mut endpoints = Vec::new();
    let mut add = |text: &str| {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        endpoints.extend(parts.map(str::to_owned));
    };
    match hint.kind.as_ref() {
        Some(Kind::StringValue(text)) => add(text),
        Some(Kind::ListValue(list)) => list.values.iter().filter_map(string).for_each(add),
        _ => {}
    }
    Some(endpoints)
}

fn text<'a>(from: &'a Struct, key: &str) -> Option<&'a str> {
    string(from.fields.get(key)?).filter(|text| !text.is_empty())
}

fn string(value: &Value) -> Option<&str> {
    match value.kind.as_ref() {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modes::BodyMode;
    use prost_types::ListValue;

    const MODES: Modes = Modes { request: BodyMode::FullDuplex, response: BodyMode::None };

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn record(key: &str, kind: Kind) -> Struct {
        Struct { fields: [(key.to_owned(), value(kind))].into() }
    }

    fn metadata(namespace: &str, data: Struct) -> Metadata {
        Metadata { filter_metadata: [(namespace.to_owned(), data)].into() }
    }

    fn field(key: &str, value: &str, raw: &[u8]) -> WireHeader {
        WireHeader { key: key.into(), value: value.into(), raw_value: raw.to_vec().into() }
    }

    #[test]
    fn raw_values_win_and_bad_fields_are_left_out() {
        let fields = [
            (":method", "", &b"POST"[..]),
            (":path", "/v1?a=b", b""),
            (":authority", "", b"host"),
            (":odd", "x", b""),
            ("a", "old", b"new"),
            ("a", "second", b""),
            ("bin", "", b"\xff\xfe"),
            ("Ups er", "x", b""),
            ("zero", "", b"\0"),
        ];
        let headers = fields.iter().map(|(k, v, raw)| field(k, v, raw)).collect();
        let wire = HttpHeaders { headers: Some(WireHeaders { headers }), end_of_stream: true };
        let (head, tunnel) = head(wire, None, MODES);
        assert_eq!((head.method, head.path, head.authority), (Method::POST, "/v1?a=b".into(), "host".into()));
        let values: Vec<_> = head.headers.get_all("a").iter().collect();
        assert_eq!(values, ["new", "second"]);
        assert_eq!(head.headers["bin"].as_bytes(), b"\xff\xfe");
        assert_eq!((head.headers.len(), head.ends, tunnel, head.subset), (3, true, false, None));
    }

    #[test]
    fn tunnels_are_seen_by_method_and_header() {
        let tunnel = |key, value| {
            let headers = vec![field(key, value, b"")];
            head(HttpHeaders { headers: Some(WireHeaders { headers }), end_of_stream: false }, None, MODES).1
        };
        assert!(tunnel(":method", "CONNECT") && tunnel("upgrade", "websocket"));
        assert!(!tunnel(":method", "POST"));
    }

    #[test]
    fn more_headers_than_a_map_can_hold_do_no_harm() {
        let headers = (0..40_000).map(|i| field(&format!("h{i}"), "x", b"")).collect();
        let (_, map) = response(Some(WireHeaders { headers }));
        assert!(map.len() > 20_000);
    }

    #[test]
    fn subset_hints() {
        let hint = |kind| subset(Some(&metadata(SUBSET_NAMESPACE, record(SUBSET, kind))));
        let list = |values: Vec<Value>| hint(Kind::ListValue(ListValue { values }));
        let text = |text: &str| value(Kind::StringValue(text.into()));
        let both = Some(vec!["1.1.1.1:80".to_owned(), "[::1]:80".to_owned()]);
        assert_eq!(list(vec![text("1.1.1.1:80"), text("[::1]:80")]), both);
        assert_eq!(hint(Kind::StringValue(" 1.1.1.1:80, [::1]:80,".into())), both);
        assert_eq!(list(vec![]), Some(vec![]));
        assert_eq!(list(vec![value(Kind::NumberValue(1.0)), Value::default()]), Some(vec![]));
        assert_eq!(hint(Kind::BoolValue(true)), Some(vec![]));
        assert_eq!(subset(Some(&metadata(NAMESPACE, record(SUBSET, Kind::StringValue("a".into()))))), None);
        assert_eq!(subset(None), None);
    }

    #[test]
    fn the_served_endpoint_is_told_or_seen() {
        let told = metadata(NAMESPACE, record(SERVED.as_str(), Kind::StringValue("told:1".into())));
        let seen = record(UPSTREAM, Kind::StringValue("seen:1".into()));
        let mut message = ProcessingRequest::default();
        assert_eq!(served(&message), None);
        message.attributes.insert(FILTER.into(), seen);
        assert_eq!(served(&message), Some("seen:1"));
        message.metadata_context = Some(told);
        assert_eq!(served(&message), Some("told:1"));
    }

    #[test]
    fn a_response_without_a_status_has_status_zero() {
        assert_eq!(response(None).0, 0);
        let headers = vec![field(":status", "", b"503")];
        assert_eq!(response(Some(WireHeaders { headers })).0, 503);
        let headers = vec![field(":status", "9999999", b"")];
        assert_eq!(response(Some(WireHeaders { headers })).0, 0);
    }
}
