//! What can be used without a configuration: engines on this machine, providers with a key, or, with
//! nothing found, simulated engines that say what they are.
//!
//! It asks `GET /v1/models` and nothing else. Called by `waypost serve` without `--config`.

use crate::error::Error;
use crate::roles::{Found, Role};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use waypost_router::client::{self, Client};
use waypost_sim::{Engine, Options};

/// Where engines usually listen.
const LOCAL: [(&str, u16); 4] = [("vLLM", 8000), ("SGLang", 30000), ("Ollama", 11434), ("llama.cpp", 8080)];
/// A local engine answers within this.
const LOCAL_TIMEOUT: Duration = Duration::from_millis(500);
/// A provider answers within this.
const CLOUD_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest list of models read, in bytes.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// Models taken from one engine.
const MAX_MODELS_PER_ENGINE: usize = 32;

/// A provider: its key's variable, its address, and which of its models to use, the best known first.
struct Provider {
    name: &'static str,
    variable: &'static str,
    base: &'static str,
    wanted: [(Role, &'static [&'static str]); 3],
}

const PROVIDERS: [Provider; 2] = [
    Provider {
        name: "OpenAI",
        variable: "OPENAI_API_KEY",
        base: "https://api.openai.com",
        wanted: [
            (Role::Small, &["gpt-5-nano", "gpt-5-mini", "gpt-4.1-mini", "gpt-4o-mini"]),
            (Role::Large, &["gpt-5", "gpt-4.1", "gpt-4o"]),
            (Role::Creative, &["gpt-5-chat-latest", "gpt-4.1", "gpt-4o"]),
        ],
    },
    Provider {
        name: "NVIDIA",
        variable: "NVIDIA_API_KEY",
        base: "https://integrate.api.nvidia.com",
        wanted: [
            (Role::Small, &["meta/llama-3.1-8b-instruct"]),
            (Role::Large, &["meta/llama-3.1-70b-instruct", "meta/llama-3.3-70b-instruct"]),
            (Role::Creative, &["mistralai/mixtral-8x22b-instruct-v0.1"]),
        ],
    },
];

/// What was found, and how to tell the user.
#[derive(Default)]
pub(crate) struct Discovery {
    pub(crate) models: Vec<Found>,
    /// One line each.
    pub(crate) notes: Vec<String>,
    /// Simulated engines, alive as long as this.
    pub(crate) simulated: Vec<Engine>,
}

/// Looks everywhere; `own` is not taken for an engine.
pub(crate) async fn discover(own: SocketAddr) -> Result<Discovery, Error> {
    let mut found = Discovery::default();
    let client = client::build(LOCAL_TIMEOUT);
    for (name, port) in LOCAL.into_iter().filter(|(_, port)| *port != own.port()) {
        let base = format!("http://127.0.0.1:{port}");
        let Ok(ids) = list(&client, &base, None, LOCAL_TIMEOUT).await else { continue };
        found.notes.push(format!("found {name} on port {port}: {}", ids.join(", ")));
        for id in ids {
            found.add(id, &base, None, None);
        }
    }
    for provider in &PROVIDERS {
        let Some(key) = std::env::var(provider.variable).ok().filter(|k| !k.trim().is_empty()) else {
            continue;
        };
        match list(&client, provider.base, Some(key.trim()), CLOUD_TIMEOUT).await {
            Ok(ids) => found.add_provider(provider, &ids),
            Err(why) => {
                found.notes.push(format!("{} is set, but {}: {why}", provider.variable, provider.base))
            }
        }
    }
    if found.models.is_empty() {
        found.simulate().await?;
    }
    Ok(found)
}

impl Discovery {
    fn add(&mut self, id: String, base: &str, key_variable: Option<&'static str>, role: Option<Role>) {
        // Of two that share an id but not a key, the first one found is used.
        match self.models.iter_mut().find(|m| m.id == id) {
            Some(known) => {
                if known.key_variable == key_variable && !known.endpoints.iter().any(|e| e == base) {
                    known.endpoints.push(base.to_owned());
                }
            }
            None => self.models.push(Found { id, endpoints: vec![base.to_owned()], key_variable, role }),
        }
    }

    fn add_provider(&mut self, provider: &Provider, ids: &[String]) {
        let mut names = Vec::new();
        for (role, wanted) in &provider.wanted {
            if let Some(id) = wanted.iter().find(|id| ids.iter().any(|have| have == *id)) {
                self.add((*id).to_owned(), provider.base, Some(provider.variable), Some(*role));
                names.push(*id);
            }
        }
        self.notes.push(format!(
            "found {} through {}: {}",
            provider.name,
            provider.variable,
            names.join(", ")
        ));
    }

    async fn simulate(&mut self) -> Result<(), Error> {
        for (id, role, decode_ms) in [
            ("sim-small", Role::Small, 4.0),
            ("sim-large", Role::Large, 12.0),
            ("sim-creative", Role::Creative, 8.0),
        ] {
            let options =
                Options { models: vec![id.to_owned()], decode_ms_per_token: decode_ms, ..Options::default() };
            let engine = Engine::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await?;
            self.add(id.to_owned(), &format!("http://{}", engine.addr()), None, Some(role));
            self.simulated.push(engine);
        }
        self.notes.push(
            "found no engine on ports 8000, 30000, 11434, 8080 and no OPENAI_API_KEY or NVIDIA_API_KEY"
                .to_owned(),
        );
        self.notes.push(
            "started three SIMULATED engines: sim-small, sim-large, sim-creative (not real models)"
                .to_owned(),
        );
        Ok(())
    }
}

/// The ids that `GET /v1/models` lists.
async fn list(
    client: &Client,
    base: &str,
    key: Option<&str>,
    limit: Duration,
) -> Result<Vec<String>, String> {
    let mut request = http::Request::get(format!("{base}/v1/models"));
    if let Some(key) = key {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
    }
    // A key with a line break in it cannot be sent; the message must not repeat it.
    let request =
        request.body(Bytes::new().into()).map_err(|_| "the key cannot be sent as a header".to_owned())?;
    let ask = async {
        let answer = client.request(request).await.map_err(|_| "cannot be reached".to_owned())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_LIST_BYTES).collect().await;
        let body = body.map_err(|_| "its list of models is too large or broke off".to_owned())?.to_bytes();
        if !status.is_success() {
            return Err(format!("answered {status}"));
        }
        let list: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| "its list of models is not JSON".to_owned())?;
        let entries = list["data"].as_array().ok_or("its list of models has another shape")?;
        let ids: Vec<String> = entries.iter().filter_map(|e| e["id"].as_str().map(str::to_owned)).collect();
        if ids.is_empty() { Err("it has no models".to_owned()) } else { Ok(ids) }
    };
    let mut ids =
        tokio::time::timeout(limit, ask).await.map_err(|_| "did not answer in time".to_owned())??;
    if key.is_none() {
        ids.truncate(MAX_MODELS_PER_ENGINE);
    }
    Ok(ids)
}
