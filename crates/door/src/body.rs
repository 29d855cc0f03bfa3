//! What a request's body may be: its type, its encoding, its size.
//!
//! Gzip is undone here, bounded, so that nothing behind it sees compressed bytes. How the bytes arrive is each door's own.
//! Called by doors, on the way of a request.

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use std::io::Read;
use waypost_wire::{ApiError, Code};

/// The body that has come as `raw`, at most `limit` bytes of it, and whether it was packed: then its
/// `content-encoding` is true no more.
///
/// # Errors
/// 415 for an encoding other than gzip or none, 400 for gzip that is none, 413 where it holds more than `limit` bytes.
pub fn unpacked(headers: &HeaderMap, raw: Bytes, limit: usize) -> Result<(Bytes, bool), ApiError> {
    let gzip = check_encoding(headers)?;
    Ok((if gzip { gunzip(&raw, limit)? } else { raw }, gzip))
}

fn gunzip(raw: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    let mut decoder = MultiGzDecoder::new(raw).take(limit as u64 + 1);
    decoder.read_to_end(&mut out).map_err(|e| {
        ApiError::new(Code::InvalidValue, format!("The request body is not valid gzip: {e}."))
            .param("content-encoding")
    })?;
    if out.len() > limit {
        return Err(too_large(limit));
    }
    Ok(out.into())
}

/// The refusal of a body of more than `limit` bytes.
#[must_use]
pub fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        Code::RequestTooLarge,
        format!("The request body is larger than the limit of {limit} bytes."),
    )
}

/// Whether a body of this type is read at all.
///
/// v1 reads a body of any type as JSON, so curl without a header works. A web page must not be able to
/// do the same to a Waypost on its visitor's machine: browsers ask first only for JSON.
///
/// # Errors
/// 415, naming the type.
pub fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    let from_browser = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    if is_json || !(from_browser || essence.starts_with("multipart/")) {
        return Ok(());
    }
    let message = format!("The content type '{essence}' is not supported; send application/json.");
    Err(ApiError::new(Code::UnsupportedMediaType, message).param("content-type"))
}

/// Whether the body is gzip.
///
/// # Errors
/// 415 for an encoding other than gzip or none.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "" | "identity" => Ok(false),
        other => {
            let message = format!("The content encoding '{other}' is not supported; send gzip or none.");
            Err(ApiError::new(Code::UnsupportedEncoding, message).param("content-encoding"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_compression_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(gunzip(&bomb, 1 << 20).unwrap_err().code, Code::RequestTooLarge);
        assert_eq!(&gunzip(&gzip(b"{}"), 2).unwrap()[..], b"{}");
        assert_eq!(gunzip(b"nonsense", 100).unwrap_err().status(), 400);
    }

    #[test]
    fn types_and_encodings() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        for kind in
            ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json", "text/plain"]
        {
            assert!(check_type(&with("content-type", kind)).is_ok(), "{kind}");
        }
        assert!(check_type(&with("content-type", "multipart/form-data; boundary=x")).is_err());
        let mut browser = with("content-type", "text/plain");
        browser.insert("origin", "https://evil.example".parse().unwrap());
        assert_eq!(check_type(&browser).unwrap_err().status(), 415);
        assert_eq!(check_encoding(&with("content-encoding", "br")).unwrap_err().status(), 415);
    }
}
