//! Step 3, first half: the whole request body, within its limits.
//!
//! A body over the limit is refused before more than the limit is held; what may be in it, and gzip, is the
//! door's `body`. Called by every door that speaks HTTP itself.

use crate::body::{check_encoding, check_type, too_large, unpacked};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
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
///
/// # Errors
/// 400 and 415 for what is no body to read, 408 for one that is late, 413 for one over the limit.
pub async fn read(
    headers: &HeaderMap,
    mut body: impl Body<Data = Bytes> + Unpin,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
    check_type(headers)?;
    // Before any of it is read.
    check_encoding(headers)?;
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
    Ok(unpacked(headers, raw, limits.body_bytes)?.0)
}

async fn collect(
    body: &mut (impl Body<Data = Bytes> + Unpin),
    declared: Option<u64>,
    limit: usize,
) -> Result<Bytes, ApiError> {
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

async fn discard(body: &mut (impl Body<Data = Bytes> + Unpin)) {
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
