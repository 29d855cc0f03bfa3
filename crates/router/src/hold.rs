//! What the head of an answer says about the endpoint it is from: that it is in trouble, and how long it asks to be left
//! alone. Pure but for the clock that dates are held against. Called by whoever sends a request to a model.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime};
use waypost_picker::Failure;

/// The word for a status that tells of trouble at the endpoint, so that another may do better; `None` for all others.
#[must_use]
pub fn trouble(status: u16) -> Option<&'static str> {
    match status {
        429 => Some("http_429"),
        502 => Some("http_502"),
        503 => Some("http_503"),
        504 => Some("http_504"),
        _ => None,
    }
}

/// The pause that an answer asks for, in seconds or as a date; `None` when it asks for none.
#[must_use]
pub fn pause(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// The same, as the picker is told.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Failure> {
    pause(headers).map(|pause| Failure::Hold { for_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let hold = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(hold("7"), Some(Failure::Hold { for_ms: 7000 }));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let Some(Failure::Hold { for_ms }) = hold(&date) else { panic!() };
        assert!((28_000..=30_000).contains(&for_ms));
        assert_eq!(hold("soon"), None);
    }
}
