//! Prefill here, decode there: the parameters engines pass on, the blocks kept until fetched, and the fetch.
//!
//! vLLM's form (`kv_transfer_params`) really fetches: the decode engine asks the prefill engine over HTTP and, when it
//! fails, reads the prompt itself. SGLang's form (`bootstrap_*`) is taken at its word. No KV data exists, so none moves.
//! `chat` and `completions` read the parameters, `generate` acts on them, `control` answers the fetch.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::options::Role;
use crate::rank::Lease;
use crate::reply::ApiError;
use crate::stats::unix_us;
use crate::text::hash;

/// Requests whose blocks are kept at once; those beyond are not kept, and whoever fetches them reads the prompt itself.
const MAX_HELD: usize = 4_096;
/// The prefill engine is given so long to answer.
const MAX_FETCH: Duration = Duration::from_secs(2);

/// The part of a request that other engines have in.
#[derive(Clone, Debug, Default)]
pub(crate) enum Transfer {
    /// None.
    #[default]
    Alone,
    /// Read the prompt and keep its blocks for a decode engine.
    ToDecode,
    /// The prompt was read elsewhere; its blocks can be had there.
    FromPrefill(Remote),
    /// SGLang: both engines work on it and meet by its room.
    Bootstrap,
}

/// Where the blocks of a prompt are.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Remote {
    remote_engine_id: String,
    remote_request_id: String,
    remote_host: String,
    remote_port: u16,
    /// Only their presence is checked; there are no blocks to read.
    #[serde(rename = "remote_block_ids")]
    _blocks: Vec<u64>,
}

impl Transfer {
    /// Reads and checks the fields of a request body: `kv_transfer_params`, `bootstrap_host` and `bootstrap_room`.
    pub(crate) fn read(
        params: Option<Value>,
        host: Option<String>,
        room: Option<u64>,
    ) -> Result<Self, ApiError> {
        let bad = |why: String| ApiError::bad(Some("kv_transfer_params"), why);
        let set = |params: &Value, key: &str| params.get(key).and_then(Value::as_bool).unwrap_or(false);
        match (params, host, room) {
            (Some(params), ..) if set(&params, "do_remote_prefill") => Remote::deserialize(params)
                .map(Transfer::FromPrefill)
                .map_err(|e| bad(format!("do_remote_prefill needs all of its parameters: {e}"))),
            (Some(params), ..) if set(&params, "do_remote_decode") => Ok(Transfer::ToDecode),
            (None, Some(_), Some(_)) => Ok(Transfer::Bootstrap),
            (None, None, None) | (Some(_), ..) => Ok(Transfer::Alone),
            (None, ..) => {
                let why = "bootstrap_host and bootstrap_room come together.";
                Err(ApiError::bad(Some("bootstrap_room"), why))
            }
        }
    }

    /// Whether this engine only reads the prompt, which takes one token.
    pub(crate) fn prefill_only(&self, role: Role) -> bool {
        match self {
            Transfer::ToDecode => true,
            Transfer::Bootstrap => role == Role::Prefill,
            Transfer::Alone | Transfer::FromPrefill(_) => false,
        }
    }
}

/// What was passed on between engines, for `/sim/stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Handed {
    /// Prompts read for a decode engine.
    pub prefilled: u64,
    /// Of those, the ones whose blocks are kept now.
    pub held: usize,
    /// Of those, the ones whose blocks nobody fetched in time.
    pub expired: u64,
    /// Prompts whose blocks were fetched from a prefill engine.
    pub fetched: u64,
    /// Prompts whose blocks could not be fetched and that were read here.
    pub fetch_failed: u64,
    /// Requests with SGLang's bootstrap fields.
    pub bootstrapped: u64,
}

/// The kept blocks and the counts.
pub(crate) struct Handoffs {
    pub(crate) engine_id: String,
    addr: SocketAddr,
    patience: Duration,
    client: Client<HttpConnector, Empty<Bytes>>,
    held: Mutex<HashMap<String, (Lease, AbortHandle)>>,
    prefilled: AtomicU64,
    expired: AtomicU64,
    fetched: AtomicU64,
    fetch_failed: AtomicU64,
    bootstrapped: AtomicU64,
}

impl Handoffs {
    /// For an engine at this address that keeps blocks for so long.
    pub(crate) fn new(addr: SocketAddr, patience: Duration) -> Self {
        let id = hash(unix_us(), addr.to_string().as_bytes());
        Handoffs {
            engine_id: format!("waypost-sim-{id:016x}"),
            addr,
            patience,
            client: Client::builder(TokioExecutor::new()).build_http(),
            held: Mutex::default(),
            prefilled: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            fetch_failed: AtomicU64::new(0),
            bootstrapped: AtomicU64::new(0),
        }
    }

    /// Keeps the blocks of a prompt and says how to get them.
    pub(crate) fn hold(self: &Arc<Self>, request: u64, lease: Lease) -> Value {
        self.prefilled.fetch_add(1, Relaxed);
        let name = request.to_string();
        let blocks: Vec<usize> = (0..lease.blocks()).collect();
        let mut held = self.held.lock();
        if held.len() < MAX_HELD {
            let (table, key) = (Arc::clone(self), name.clone());
            let timer = tokio::spawn(async move {
                tokio::time::sleep(table.patience).await;
                let expired = table.held.lock().remove(&key);
                table.expired.fetch_add(u64::from(expired.is_some()), Relaxed);
            });
            held.insert(name.clone(), (lease, timer.abort_handle()));
        }
        let host = match self.addr.ip() {
            any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            one => one,
        };
        json!({
            "do_remote_prefill": true,
            "do_remote_decode": false,
            "remote_engine_id": self.engine_id,
            "remote_request_id": name,
            "remote_block_ids": blocks,
            "remote_host": host.to_string(),
            "remote_port": self.addr.port(),
        })
    }

    /// Lets go of blocks that were fetched; false if they are not here.
    pub(crate) fn release(&self, engine: &str, request: &str) -> bool {
        let found = if engine == self.engine_id { self.held.lock().remove(request) } else { None };
        if let Some((_, timer)) = &found {
            timer.abort();
        }
        found.is_some()
    }

    /// Fetches blocks from a prefill engine; false if it does not give them.
    pub(crate) async fn fetch(&self, from: &Remote) -> bool {
        let host = match from.remote_host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => from.remote_host.clone(),
        };
        let Remote { remote_port, remote_engine_id, remote_request_id, .. } = from;
        let url = format!("http://{host}:{remote_port}/sim/kv/{remote_engine_id}/{remote_request_id}");
        let answered = match Request::get(url).body(Empty::new()) {
            Ok(request) => tokio::time::timeout(MAX_FETCH, self.client.request(request)).await,
            Err(_) => return self.count_fetch(false),
        };
        self.count_fetch(matches!(answered, Ok(Ok(answer)) if answer.status().is_success()))
    }

    fn count_fetch(&self, done: bool) -> bool {
        if done { &self.fetched } else { &self.fetch_failed }.fetch_add(1, Relaxed);
        done
    }

    /// A request came with SGLang's fields.
    pub(crate) fn bootstrap(&self) {
        self.bootstrapped.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> Handed {
        Handed {
            prefilled: self.prefilled.load(Relaxed),
            held: self.held.lock().len(),
            expired: self.expired.load(Relaxed),
            fetched: self.fetched.load(Relaxed),
            fetch_failed: self.fetch_failed.load(Relaxed),
            bootstrapped: self.bootstrapped.load(Relaxed),
        }
    }
}
