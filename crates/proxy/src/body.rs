//! Step 3, first half: the whole request body, within its limits.
//!
//! Gzip is undone here, bounded, so that nothing behind it sees compressed bytes. A body over the limit
//! is refused before more than the limit is held. Called on the way of a request.

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::Read;
use std::time::Duration;
use waypost_config::Limits;
use waypost_wire::{ApiError, Code};

/// Of a refused body this much is still read and thrown away, so that a client that writes before it
/// reads gets to see the 413 and not a reset connection.
const DISCARD_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// And for no longer than this.
const DISCARD_MAX_TIME: Duration = Duration::from_secs(5);
/// A client that sends nothing for this long is waiting for its answer.
const DISCARD_MAX_SILENCE: Duration = Duration::from_millis(200);
/// Room made at once for a body of unknown length, in bytes.
const FIRST_BUFFER_BYTES: usize = 64 * 1024;
/// Most room made at once for a body of declared length, in bytes.
const DECLARED_BUFFER_BYTES: usize = 512 * 1024;

/// Reads the body of a request.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
    check_type(headers)?;
    let gzip = check_encoding(headers)?;
    let declared = body.size_hint().exact();
    let read = async {
        if declared.is_some_and(|length| length > limits.body_bytes as u64) {
            return Err(too_large(limits.body_bytes));
        }
        collect(&mut body, declared, limits.body_bytes).await
    };
    let raw = match tokio::time::timeout(limits.body_timeout, read).await {
        Ok(Ok(raw)) => raw,
        Ok(Err(error)) => {
            let waits =
                headers.contains_key(header::EXPECT) || declared.is_some_and(|n| n > DISCARD_MAX_BYTES);
            if error.code == Code::RequestTooLarge && !waits {
                discard(&mut body).await;
            }
            return Err(error);
        }
        Err(_) => {
            let message =
                format!("The request body did not arrive within {} s.", limits.body_timeout.as_secs());
            return Err(ApiError::new(Code::RequestTimeout, message));
        }
    };
    if gzip { gunzip(&raw, limits.body_bytes) } else { Ok(raw) }
}

async fn collect(body: &mut Incoming, declared: Option<u64>, limit: usize) -> Result<Bytes, ApiError> {
    // What is declared is believed only so far: the bytes have to come before they get more room.
    let room = declared.map_or(FIRST_BUFFER_BYTES, |length| (length as usize).min(DECLARED_BUFFER_BYTES));
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|_| {
            ApiError::new(Code::IncompleteBody, "The connection ended before the request body was complete.")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // The usual request is one frame, and stays where it is.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(room.max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn discard(body: &mut Incoming) {
    let mut left = DISCARD_MAX_BYTES;
    let read = async {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(DISCARD_MAX_SILENCE, body.frame()).await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            if length > left {
                return;
            }
            left -= length;
        }
    };
    // Late or not, the answer goes out next.
    let _ = tokio::time::timeout(DISCARD_MAX_TIME, read).await;
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

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        Code::RequestTooLarge,
        format!("The request body is larger than the limit of {limit} bytes."),
    )
}

/// v1 reads a body of any type as JSON, so curl without a header works. A web page must not be able to
/// do the same to a Waypost on its visitor's machine: browsers ask first only for JSON.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
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

fn check_encoding(headers: &HeaderMap) -> Result<bool, ApiError> {
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
