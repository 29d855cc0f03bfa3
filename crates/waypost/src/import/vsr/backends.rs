//! Where a model of vSR's runs, and with which key.
//!
//! A key that stands in the file is replaced by a variable; neither it nor an address with a password in it is repeated
//! anywhere. Called by `models`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::left_out;

/// What serves a model.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Base URLs.
    pub(super) addresses: Vec<String>,
    /// `${NAME}`.
    pub(super) key: Option<String>,
    /// Whether it is OpenAI itself.
    pub(super) openai: bool,
}

/// Providers whose API is not OpenAI's; their variants begin with the same word.
const FOREIGN: [&str; 6] = ["anthropic", "azure", "bedrock", "gemini", "vertex", "minimax"];
const HANDLED: [&str; 14] = [
    "name",
    "endpoint",
    "base_url",
    "address",
    "port",
    "protocol",
    "provider",
    "type",
    "weight",
    "api_key",
    "api_key_env",
    "auth_header",
    "auth_prefix",
    "models",
];

/// Reads the backends of a model; `node` is the model's mapping.
///
/// # Errors
/// When a value cannot be what it should be, with its place.
pub(super) fn read(
    model: &str,
    node: &Node,
    place: &str,
    refs: &[(&Node, String)],
    notes: &mut Notes,
) -> Result<Backends, String> {
    let mut all = Backends { key: key(model, node, place, "access_key", notes)?, ..Backends::default() };
    let (mut weights, mut keyless) = (Vec::new(), None);
    for (node, place) in refs {
        node.entries(&format!("`{place}`"))?;
        left_out(node, place, &[&HANDLED[..], &["access_key"]].concat(), notes)?;
        let provider = match node.text(place, "provider")? {
            None => node.text(place, "type")?,
            provider => provider,
        };
        let provider = provider.unwrap_or_default().to_ascii_lowercase();
        if let Some(foreign) = FOREIGN.iter().find(|foreign| provider.starts_with(**foreign)) {
            notes.at(
                place.as_str(),
                format!("Waypost speaks OpenAI's API, not that of `{foreign}`: the backend is left out"),
            );
            continue;
        }
        authorization(node, place, notes)?;
        let address = address(node, place)?;
        let own = match node.text(place, "api_key_env")? {
            Some(name) if variable(name) => Some(format!("${{{name}}}")),
            Some(_) => return Err(format!("`{place}.api_key_env` is not the name of a variable")),
            None => match key(model, node, place, "api_key", notes)? {
                None => key(model, node, place, "access_key", notes)?,
                key => key,
            },
        };
        if all.key.is_some() && own.is_some() && all.key != own {
            notes.at(place.as_str(), "Waypost has one key a model, not one a backend: the first is taken");
        }
        all.openai |= provider == "openai" && address.contains("api.openai.com");
        if address.starts_with("https://") && own.is_none() {
            keyless = Some(place);
        }
        all.key = all.key.or(own);
        weights.push(node.number_at(place, "weight")?);
        if !all.addresses.contains(&address) {
            all.addresses.push(address);
        }
    }
    if weights.iter().any(|weight| Some(weight) != weights.first()) {
        notes.at(place, "Waypost picks among endpoints by load: the weights are left out");
    }
    if let (Some(place), None) = (keyless, &all.key) {
        notes.at(
            place.as_str(),
            "no key stands here: give the model an `api_key`, or leave it to Envoy's route to set one",
        );
    }
    Ok(all)
}

fn authorization(node: &Node, place: &str, notes: &mut Notes) -> Result<(), String> {
    let is = |key, wanted: &str| {
        Ok::<_, String>(node.text(place, key)?.is_none_or(|text| text.trim().eq_ignore_ascii_case(wanted)))
    };
    for (key, wanted) in [("auth_header", "authorization"), ("auth_prefix", "bearer")] {
        if !is(key, wanted)? {
            notes.at(format!("{place}.{key}"), "Waypost sends keys as `Authorization: Bearer`: left out");
        }
    }
    Ok(())
}

/// The base URL of a backend.
fn address(node: &Node, place: &str) -> Result<String, String> {
    let (key, text) =
        match (node.text(place, "base_url")?, node.text(place, "endpoint")?, node.text(place, "address")?) {
            (Some(url), ..) => ("base_url", url.to_owned()),
            (None, Some(endpoint), _) => ("endpoint", endpoint.to_owned()),
            (None, None, Some(host)) => {
                // An IPv6 address has colons of its own.
                let host = if host.contains(':') && !host.starts_with('[') {
                    format!("[{host}]")
                } else {
                    host.to_owned()
                };
                match node.number_at(place, "port")? {
                    Some(port) => ("address", format!("{host}:{port}")),
                    None => ("address", host),
                }
            }
            _ => return Err(format!("`{place}` has neither `endpoint` nor `base_url`")),
        };
    let text = text.trim();
    if text.is_empty()
        || text.contains(['@', '?', '#', '"', '\\'])
        || text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(format!(
            "`{place}.{key}` is not an address Waypost can take: host and port, or a URL without user and query"
        ));
    }
    if text.contains("://") || (key == "base_url" && text.starts_with("${")) {
        return Ok(text.to_owned());
    }
    let scheme = node.text(place, "protocol")?.filter(|protocol| *protocol == "https").unwrap_or("http");
    Ok(format!("{scheme}://{text}"))
}

/// The key under `name`, as a reference to a variable.
fn key(
    model: &str,
    node: &Node,
    place: &str,
    name: &str,
    notes: &mut Notes,
) -> Result<Option<String>, String> {
    let text = match node.text(place, name)?.map(str::trim) {
        None | Some("") => return Ok(None),
        Some(text) => text,
    };
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    if inside.is_some_and(variable) {
        return Ok(Some(text.to_owned()));
    }
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut wanted: String = model.chars().map(upper).chain("_API_KEY".chars()).collect();
    if wanted.starts_with(|c: char| c.is_ascii_digit()) {
        wanted.insert(0, '_');
    }
    notes.at(
        format!("{place}.{name}"),
        format!("a key in clear is not copied: put it into the variable {wanted}"),
    );
    Ok(Some(format!("${{{wanted}}}")))
}

fn variable(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
