//! Reads the endpoints of a pool from a file in llm-d's form (its `file-discovery`).
//!
//! Addresses are IPv4 or IPv6 literals, never names: nothing is resolved. Of the labels only the role is read; keys
//! that are not known are passed over, as llm-d does. It does not watch the file: the waypost binary's reload does.

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_saphyr::{Location, Spanned};
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use waypost_config::{Endpoint, Role, without_position};

/// Largest file that is read, in bytes: llm-d's bound.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The label that says what an endpoint does of a request.
const ROLE_LABEL: &str = "llm-d.ai/role";

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Error {
    /// Its path.
    pub file: String,
    /// 1-based line, where one can be named.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// The endpoints in the file at `path`, in its order, served over plain HTTP.
///
/// Those that only encode (`role: encode`) are left out: no request is sent to them. A file without endpoints is an
/// empty pool, not an error.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_FILE_BYTES`], or is wrong in any of its endpoints.
pub fn read(path: &Path) -> Result<Vec<Endpoint>, Error> {
    let whole = |message: String| Error { file: path.display().to_string(), line: None, message };
    let file = std::fs::File::open(path).map_err(|e| whole(format!("cannot be opened: {e}")))?;
    let mut bytes = Vec::new();
    let limited = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(|e| whole(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(whole(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8".to_owned()))?;
    parse(&text).map_err(|(location, message)| {
        let line = Some(location.line()).filter(|line| *line > 0);
        Error { line, ..whole(message) }
    })
}

type Fault = (Location, String);

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    endpoints: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    name: Spanned<String>,
    address: Spanned<String>,
    port: Spanned<Port>,
    #[serde(default)]
    labels: HashMap<String, Spanned<Scalar>>,
}

/// The value of a label, whatever it is: only the role has to be a text, and no other label is read.
struct Scalar(String);

/// A port: llm-d writes it as text, people as a number.
struct Port(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text).map(Self)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text).map(Self)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }
}

fn parse(text: &str) -> Result<Vec<Endpoint>, Fault> {
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let message = without_position(&error.to_string()).to_owned();
        (error.location().unwrap_or(Location::UNKNOWN), message)
    })?;
    let mut found = Vec::new();
    let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
    for entry in file.map(|file| file.endpoints).unwrap_or_default() {
        let entry = entry.value;
        let at = address(&entry)?;
        let name = entry.name.value;
        let (name_at, address_at) = (entry.name.referenced, entry.address.referenced);
        if let Some(line) = names.insert(name.clone(), name_at.line()) {
            return Err((name_at, format!("the name `{name}` is taken by the endpoint in line {line}")));
        }
        if let Some(line) = addresses.insert(at, address_at.line()) {
            return Err((address_at, format!("{at} is already the endpoint in line {line}")));
        }
        if let Some(role) = role(entry.labels.get(ROLE_LABEL))? {
            found.push(Endpoint { role, ..Endpoint::at(format!("http://{at}")) });
        }
    }
    Ok(found)
}

fn address(entry: &Entry) -> Result<SocketAddr, Fault> {
    let address = &entry.address.value;
    let ip: IpAddr = address.parse().map_err(|_| {
        let message = format!("`{address}` is no IPv4 or IPv6 address; names are not resolved here");
        (entry.address.referenced, message)
    })?;
    let port: Option<u16> = entry.port.value.0.parse().ok().filter(|port| *port > 0);
    let wrong = || (entry.port.referenced, format!("`{}` is no port: 1 to 65535", entry.port.value.0));
    Ok(SocketAddr::new(ip, port.ok_or_else(wrong)?))
}

/// What the endpoint does; `None` if it takes no requests.
fn role(label: Option<&Spanned<Scalar>>) -> Result<Option<Role>, Fault> {
    let Some(label) = label else { return Ok(Some(Role::Both)) };
    match label.value.0.as_str() {
        "prefill" | "encode-prefill" => Ok(Some(Role::Prefill)),
        "decode" => Ok(Some(Role::Decode)),
        "prefill-decode" | "encode-prefill-decode" | "both" => Ok(Some(Role::Both)),
        "encode" => Ok(None),
        other => Err((
            label.referenced,
            format!(
                "unknown role `{other}`; possible: prefill, decode, prefill-decode, encode, encode-prefill, \
                 encode-prefill-decode, both"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn error(text: &str) -> String {
        let file = file(text.as_bytes());
        let error = read(file.path()).unwrap_err().to_string();
        error.strip_prefix(&*file.path().to_string_lossy()).unwrap().to_owned()
    }

    #[test]
    fn endpoints_have_addresses_and_roles() {
        let text = r#"
# written by the operator
endpoints:
- {name: vllm-0, namespace: default, address: "10.0.0.1", port: "8000", labels: {llm-d.ai/role: decode, llm-d.ai/engine-type: vllm}}
- name: vllm-1
  namespace: default
  address: 10.0.0.2
  port: 8001
  labels: {llm-d.ai/role: prefill, weight: 3, spot: true, zone: ~}
- {name: v6, address: "fd00::1", port: "8000"}
- {name: e, address: 10.0.0.3, port: "8000", labels: {llm-d.ai/role: encode}}
- {name: pd, address: 10.0.0.4, port: "8000", labels: {llm-d.ai/role: prefill-decode}, added-later: {a: [1]}}
later: 1
"#;
        let found = read(file(text.as_bytes()).path()).unwrap();
        let found: Vec<_> = found.iter().map(|e| (&*e.base, e.role)).collect();
        let wanted = [
            ("http://10.0.0.1:8000", Role::Decode),
            ("http://10.0.0.2:8001", Role::Prefill),
            ("http://[fd00::1]:8000", Role::Both),
            ("http://10.0.0.4:8000", Role::Both),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn json_is_read_and_nothing_is_an_empty_pool() {
        let json = br#"{"endpoints": [{"name": "a", "address": "1.2.3.4", "port": "80"}]}"#;
        assert_eq!(read(file(json).path()).unwrap(), [Endpoint::at("http://1.2.3.4:80")]);
        for empty in ["endpoints: []", "{}", "", "# none\n"] {
            assert_eq!(read(file(empty.as_bytes()).path()).unwrap(), [], "{empty:?}");
        }
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong() {
        let entry = |rest: &str| format!("endpoints:\n- {{name: a, {rest}}}\n");
        let cases = [
            (entry("address: engine.local, port: '80'"), ":2: `engine.local` is no IPv4 or IPv6 address"),
            (entry("address: 10.0.0.300, port: '80'"), ":2: `10.0.0.300` is no IPv4"),
            (entry("address: '1.2.3.4:80', port: '80'"), ":2: `1.2.3.4:80` is no IPv4"),
            (entry("address: 1.2.3.4, port: 65536"), ":2: `65536` is no port: 1 to 65535"),
            (entry("address: 1.2.3.4, port: '0'"), ":2: `0` is no port"),
            (entry("address: 1.2.3.4, port: -1"), ":2: `-1` is no port"),
            (entry("address: 1.2.3.4, port: http"), ":2: `http` is no port"),
            (entry("address: 1.2.3.4, port: ~"), ":2: `` is no port"),
            (entry("address: 1.2.3.4"), "missing field `port`"),
            (entry("address: 1.2.3.4, port: [80]"), ":2: "),
            (entry("address: [1.2.3.4], port: 80"), ":2: "),
            (entry("address: 1.2.3.4, port: 80, labels: [x]"), ":2: "),
            (entry("address: 1.2.3.4, port: 80, labels: {llm-d.ai/role: chief}"), ":2: unknown role `chief`"),
            ("endpoints: 7\n".into(), ":1: "),
            ("- a\n".into(), ":1: "),
            ("endpoints: [\n".into(), ": "),
            (
                format!(
                    "{}- {{name: b, address: 1.2.3.4, port: 80}}\n",
                    entry("address: 1.2.3.4, port: '80'")
                ),
                ":3: 1.2.3.4:80 is already the endpoint in line 2",
            ),
            (
                format!(
                    "{}- {{name: a, address: 1.2.3.5, port: 80}}\n",
                    entry("address: 1.2.3.4, port: '80'")
                ),
                ":3: the name `a` is taken by the endpoint in line 2",
            ),
        ];
        for (text, wanted) in cases {
            let error = error(&text);
            assert!(error.contains(wanted), "{text}: {error}, not {wanted}");
            assert!(!error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn large_files_and_bad_bytes_are_refused() {
        let comment = "#".repeat(MAX_FILE_BYTES as usize);
        assert!(read(file(comment.as_bytes()).path()).unwrap().is_empty());
        assert!(error(&format!("{comment}#")).contains("larger than 1048576 bytes"));
        assert!(read(file(b"\xff\xfe").path()).unwrap_err().to_string().ends_with("is not UTF-8"));
        let missing = read(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/at/all: cannot be opened: "), "{missing}");
        assert!(read(&std::env::temp_dir()).is_err(), "a folder");
    }
}
