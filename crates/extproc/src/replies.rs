//! Builds what is said to Envoy: header changes, bodies in chunks, metadata, answers of our own. Knows no state;
//! the halves of a stream say when which reply is right.

use crate::attributes::{DESTINATION, NAMESPACE};
use crate::judge::{Go, Refusal};
use crate::modes::{BodyMode, Modes};
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{HeaderValue as WireHeader, HeaderValueOption};
use crate::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use crate::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::HeaderSendMode;
use crate::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use crate::pb::envoy::service::ext_proc::v3::processing_response::Response as Kind;
use crate::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse,
};
use crate::pb::envoy::r#type::v3::HttpStatus;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use prost_types::value::Kind as Json;
use prost_types::{Struct, Value};
use std::collections::{BTreeMap, VecDeque};

/// Longest piece of a streamed body in bytes: some Envoys take no more than 64 KiB a message.
pub(crate) const CHUNK_BYTES: usize = 62_000;
/// A piece of a body of at least this many bytes is sent from where it lies; to copy a shorter one is cheaper than a message of its own.
pub(crate) const OWN_PIECE_BYTES: usize = 4 << 10;
const SCORES: &str = "x-gateway-destination-endpoint-scores";

/// Which direction a reply is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// What a verdict changes beside the body.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    mutation: HeaderMutation,
    metadata: Option<Struct>,
    reroute: bool,
}

impl Edits {
    /// Removes `names` only.
    pub(crate) fn strip(names: &[HeaderName]) -> Self {
        let remove_headers = names.iter().map(|name| name.as_str().to_owned()).collect();
        Self { mutation: HeaderMutation { remove_headers, ..Default::default() }, ..Default::default() }
    }

    /// Sets headers only.
    pub(crate) fn set(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        // In one piece of memory: prost shares a value once more to write it, and each piece would be allocated for that.
        let mut values: Bytes = headers.iter().flat_map(|(_, value)| value.as_bytes()).copied().collect();
        let set_headers =
            headers.iter().map(|(name, value)| set(name, values.split_to(value.len()))).collect();
        Self { mutation: HeaderMutation { set_headers, ..Default::default() }, ..Default::default() }
    }

    /// All that `go` says except the body; `names` are removed where it does not set them.
    pub(crate) fn new(go: Go, names: &[HeaderName]) -> Self {
        let Go { mut set, mut remove, destination, scores, reroute, body: _ } = go;
        // A length is right with a replaced body only, and comes with it.
        set.retain(|(name, _)| *name != header::CONTENT_LENGTH);
        let mut edits = Self::set(set);
        let set_headers = &mut edits.mutation.set_headers;
        if let Some(destination) = &destination {
            set_headers.retain(|option| !is(option, &DESTINATION));
            set_headers.push(self::set(&DESTINATION, Bytes::from(destination.clone())));
        }
        remove.extend_from_slice(names);
        remove.retain(|name| !set_headers.iter().any(|option| is(option, name)));
        edits.mutation.remove_headers = remove.iter().map(|name| name.as_str().to_owned()).collect();
        edits.metadata = destination.map(|destination| metadata(destination, scores));
        edits.reroute = reroute;
        edits
    }

    /// The length that goes with a replaced body, where Envoy does not see to it.
    pub(crate) fn content_length(&mut self, bytes: usize) {
        let length = Bytes::from(bytes.to_string());
        self.mutation.set_headers.push(set(&header::CONTENT_LENGTH, length));
    }

    fn common(self, body: Option<Mutation>) -> (CommonResponse, Option<Struct>) {
        let some = !self.mutation.set_headers.is_empty() || !self.mutation.remove_headers.is_empty();
        let common = CommonResponse {
            header_mutation: some.then_some(self.mutation),
            body_mutation: body.map(|mutation| BodyMutation { mutation: Some(mutation) }),
            clear_route_cache: self.reroute,
            ..Default::default()
        };
        (common, self.metadata)
    }
}

fn is(option: &HeaderValueOption, name: &HeaderName) -> bool {
    option.header.as_ref().is_some_and(|header| header.key == name.as_str())
}

fn set(name: &HeaderName, raw_value: Bytes) -> HeaderValueOption {
    HeaderValueOption {
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        keep_empty_value: raw_value.is_empty(),
        header: Some(WireHeader { key: name.as_str().to_owned(), raw_value, value: String::new() }),
    }
}

fn metadata(destination: String, scores: Vec<(String, f64)>) -> Struct {
    let value = |kind| Value { kind: Some(kind) };
    let record = |fields: BTreeMap<String, Value>| value(Json::StructValue(Struct { fields }));
    let mut fields = BTreeMap::from([(DESTINATION.to_string(), value(Json::StringValue(destination)))]);
    if !scores.is_empty() {
        let scores = scores.into_iter().map(|(name, score)| (name, value(Json::NumberValue(score))));
        fields.insert(SCORES.to_owned(), record(scores.collect()));
    }
    Struct { fields: [(NAMESPACE.to_owned(), record(fields))].into() }
}

fn reply(kind: Kind) -> ProcessingResponse {
    ProcessingResponse { response: Some(kind), ..Default::default() }
}

/// Answers headers; `better` asks Envoy for other body modes.
pub(crate) fn headers(side: Side, edits: Edits, better: Option<Modes>) -> ProcessingResponse {
    let (common, dynamic_metadata) = edits.common(None);
    let headers = HeadersResponse { response: Some(common) };
    let kind = match side {
        Side::Request => Kind::RequestHeaders(headers),
        Side::Response => Kind::ResponseHeaders(headers),
    };
    ProcessingResponse { dynamic_metadata, mode_override: better.map(mode), ..reply(kind) }
}

/// Every field counts in an override: headers and trailers are to be sent, too.
fn mode(modes: Modes) -> ProcessingMode {
    let send = HeaderSendMode::Send as i32;
    ProcessingMode {
        request_header_mode: send,
        response_header_mode: send,
        request_body_mode: modes.request.to_wire() as i32,
        response_body_mode: modes.response.to_wire() as i32,
        request_trailer_mode: send,
        response_trailer_mode: send,
    }
}

/// Answers a body that Envoy keeps; `replaced` takes its place.
pub(crate) fn body(side: Side, edits: Edits, replaced: Option<Bytes>) -> ProcessingResponse {
    let (common, dynamic_metadata) = edits.common(replaced.map(Mutation::Body));
    ProcessingResponse { dynamic_metadata, ..reply(body_kind(side, common)) }
}

/// Gives a body back in FULL_DUPLEX_STREAMED, in chunks; the last one `ends` the stream. Without bytes it
/// is one empty chunk when that ends the stream, and nothing otherwise.
pub(crate) fn chunks(side: Side, pieces: Vec<Bytes>, ends: bool) -> impl Iterator<Item = ProcessingResponse> {
    let mut pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    let mut lone_end = ends && pieces.is_empty();
    std::iter::from_fn(move || {
        if pieces.is_empty() && !std::mem::take(&mut lone_end) {
            return None;
        }
        let body = take(&mut pieces, CHUNK_BYTES);
        let streamed = StreamedBodyResponse { body, end_of_stream: ends && pieces.is_empty() };
        let (common, _) = Edits::default().common(Some(Mutation::StreamedResponse(streamed)));
        Some(reply(body_kind(side, common)))
    })
}

/// Gives a piece of a body back as `mode` asks for it.
pub(crate) fn echo(side: Side, mode: BodyMode, piece: Bytes, ends: bool) -> Vec<ProcessingResponse> {
    match mode {
        BodyMode::FullDuplex => chunks(side, vec![piece], ends).collect(),
        _ => vec![body(side, Edits::default(), None)],
    }
}

/// The next bytes, `most` at most. Small pieces are put together; large ones are never copied.
fn take(pieces: &mut VecDeque<Bytes>, most: usize) -> Bytes {
    let mut first = pieces.pop_front().unwrap_or_default();
    let small = |piece: &Bytes| piece.len() < OWN_PIECE_BYTES;
    if !small(&first) || !pieces.front().is_some_and(small) {
        let taken = first.split_to(first.len().min(most));
        if !first.is_empty() {
            pieces.push_front(first);
        }
        return taken;
    }
    let mut gathered = BytesMut::from(&first[..]);
    while let Some(piece) = pieces.pop_front_if(|piece| small(piece) && gathered.len() + piece.len() <= most)
    {
        gathered.extend_from_slice(&piece);
    }
    gathered.freeze()
}

fn body_kind(side: Side, common: CommonResponse) -> Kind {
    let body = BodyResponse { response: Some(common) };
    match side {
        Side::Request => Kind::RequestBody(body),
        Side::Response => Kind::ResponseBody(body),
    }
}

/// Lets trailers pass.
pub(crate) fn trailers(side: Side) -> ProcessingResponse {
    reply(match side {
        Side::Request => Kind::RequestTrailers(TrailersResponse::default()),
        Side::Response => Kind::ResponseTrailers(TrailersResponse::default()),
    })
}

/// Answers the request in place of the upstream.
pub(crate) fn immediate(refusal: Refusal) -> ProcessingResponse {
    let Refusal { status, headers, body, details } = refusal;
    // Envoy has no answer with a status that is none.
    let code = if (200..600).contains(&status) { status } else { 500 };
    reply(Kind::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(code) }),
        headers: Some(Edits::set(headers).mutation),
        body,
        details,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[usize], ends: bool) -> Vec<(usize, bool)> {
        let mut next = 0_u8;
        let mut bytes = |n: usize| {
            let fresh: Vec<u8> = (0..n)
                .map(|_| {
                    next = next.wrapping_add(7);
                    next
                })
                .collect();
            Bytes::from(fresh)
        };
        let pieces: Vec<Bytes> = pieces.iter().map(|n| bytes(*n)).collect();
        let whole = pieces.concat();
        let mut seen = Vec::new();
        let chunks = chunks(Side::Request, pieces, ends).map(|reply| {
            let Some(Kind::RequestBody(body)) = reply.response else { panic!("not a body") };
            let Some(Mutation::StreamedResponse(part)) =
                body.response.unwrap().body_mutation.unwrap().mutation
            else {
                panic!("not streamed")
            };
            seen.extend_from_slice(&part.body);
            (part.body.len(), part.end_of_stream)
        });
        let sizes = chunks.collect();
        assert_eq!(seen, whole);
        sizes
    }

    #[test]
    fn bodies_come_back_whole_in_chunks_with_one_end() {
        assert_eq!(split(&[], true), [(0, true)]);
        assert_eq!(split(&[0, 0], true), [(0, true)]);
        assert_eq!(split(&[], false), []);
        assert_eq!(split(&[5], true), [(5, true)]);
        assert_eq!(split(&[5], false), [(5, false)]);
        assert_eq!(split(&[62_000], true), [(62_000, true)]);
        assert_eq!(split(&[62_001], true), [(62_000, false), (1, true)]);
        assert_eq!(
            split(&[10, 130_000, 0, 1], true),
            [(10, false), (62_000, false), (62_000, false), (6_000, false), (1, true)]
        );
        assert_eq!(split(&[1; 1000], false), [(1000, false)]);
    }

    #[test]
    fn whole_pieces_are_not_copied() {
        let body = Bytes::from(vec![1; 200_000]);
        let mut pieces = VecDeque::from([body.clone()]);
        let mut at = body.as_ptr();
        while !pieces.is_empty() {
            let chunk = take(&mut pieces, CHUNK_BYTES);
            assert_eq!(chunk.as_ptr(), at);
            at = at.wrapping_add(chunk.len());
        }
    }

    #[test]
    fn what_is_set_is_not_removed() {
        let name = HeaderName::from_static("x-a");
        let other = HeaderName::from_static("x-b");
        let go = Go {
            set: vec![
                (name.clone(), HeaderValue::from_static("1")),
                (DESTINATION, HeaderValue::from_static("evil")),
            ],
            destination: Some("1.1.1.1:80".into()),
            ..Default::default()
        };
        let edits = Edits::new(go, &[name.clone(), other.clone(), DESTINATION]);
        assert_eq!(edits.mutation.remove_headers, ["x-b"]);
        let set: Vec<_> = edits.mutation.set_headers.iter().map(|o| o.header.clone().unwrap()).collect();
        assert_eq!(set.len(), 2);
        assert_eq!((&set[1].key[..], &set[1].raw_value[..]), (DESTINATION.as_str(), &b"1.1.1.1:80"[..]));
        assert!(edits.mutation.set_headers.iter().all(|o| o.append_action == 2));
        assert!(edits.metadata.unwrap().fields.contains_key("envoy.lb"));
    }

    #[test]
    fn a_status_that_is_none_becomes_500() {
        for (status, code) in [(429, 429), (0, 500), (101, 500), (999, 500)] {
            let refusal = Refusal { status, headers: vec![], body: Bytes::new(), details: String::new() };
            let Some(Kind::ImmediateResponse(answer)) = immediate(refusal).response else { panic!() };
            assert_eq!(answer.status.unwrap().code, code);
        }
    }
}
