//! What is known of engines: where they are, what they tell of themselves, and what their caches hold.
//!
//! Part of `plugins`.

use super::Part;
use super::apply::Translation;
use crate::epp::Fault;
use crate::epp::picker_config::{Plugin, named};
use crate::epp::pool::go_duration;
use crate::epp::tree::Tree;
use crate::epp::write::{Events, Metrics};
use waypost_config::literal;

/// Where vLLM publishes its KV events.
const EVENT_PORT: u16 = 5557;
/// Characters that stood for a token when blocks were measured in them.
const CHARACTERS_PER_TOKEN: u64 = 4;
/// llm-d's name of an engine, and ours.
const ENGINES: [(&str, &str); 6] = [
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("trtllm-serve", "trtllm"),
    ("trtllm", "trtllm"),
    ("triton-tensorrt-llm", "triton"),
    ("triton", "triton"),
];
/// llm-d's key of a figure's name, and ours.
const FIGURES: [(&str, &str); 3] =
    [("queuedRequestsSpec", "waiting"), ("runningRequestsSpec", "running"), ("kvUsageSpec", "kv_usage")];

/// The file of the pool's endpoints.
pub(super) fn files(t: &mut Translation<'_>) -> Result<(), Fault> {
    let discovery = t.config.tree.at(&["dataLayer", "discovery"]);
    let newer = discovery.at(&["endpoints", "pluginRef"]);
    let name = if newer.is_there() { newer } else { discovery.get("pluginRef") };
    let plugin = match name.text()? {
        Some(text) => {
            let index = named(&t.config.plugins, name, text)?;
            let plugin = &t.config.plugins[index];
            if t.parts[index] != Part::Files {
                return Err(name.fault(format!("`{text}` discovers no endpoints")));
            }
            Some(plugin)
        }
        None => t.of(|part| part == Part::Files).first().copied(),
    };
    let Some(plugin) = plugin else { return Ok(()) };
    t.known(plugin, &["path", "watchFile"])?;
    let Some(path) = plugin.parameters.get("path").text()? else {
        return Err(Fault { line: plugin.line, message: "file-discovery needs `path`".to_owned() });
    };
    if plugin.parameters.get("watchFile").flag()? != Some(true) {
        t.notes.push(format!("file-discovery: {path} is watched all the same"));
    }
    t.setup.pool().endpoints_file = Some(literal(path));
    Ok(())
}

/// Whose metrics are read; llm-d reads them whatever is configured.
pub(super) fn metrics(t: &mut Translation<'_>) -> Result<(), Fault> {
    let mut metrics = Metrics::default();
    for plugin in t.of(|part| part == Part::MetricsSource) {
        t.known(plugin, &["scheme", "path", "interval"])?;
        let (scheme, interval) = (plugin.parameters.get("scheme"), plugin.parameters.get("interval"));
        if scheme.text()?.is_some_and(|scheme| scheme != "http") {
            return Err(scheme.fault("metrics are read over plain HTTP"));
        }
        metrics.path = plugin.parameters.get("path").text()?.map(|path| {
            let slash = if path.starts_with('/') { "" } else { "/" };
            format!("{slash}{}", literal(path))
        });
        if let Some(text) = interval.text()? {
            let wrong = || interval.fault(format!("`{text}` is not a duration such as 50ms"));
            metrics.interval = Some(go_duration(text).ok_or_else(wrong)?);
        }
    }
    for plugin in t.of(|part| part == Part::MetricsExtractor) {
        t.known(plugin, &["defaultEngine", "engineConfigs", "engineLabelKey"])?;
        extractor(t, plugin, &mut metrics)?;
    }
    t.open.metrics = Some(metrics);
    Ok(())
}

/// One engine for the whole pool: the default one, or the only one that is described.
fn extractor(t: &mut Translation<'_>, plugin: &Plugin, metrics: &mut Metrics) -> Result<(), Fault> {
    let configs = plugin.parameters.get("engineConfigs").items()?;
    let default = plugin.parameters.get("defaultEngine");
    let wanted = match (default.text()?, configs) {
        (Some(name), _) => name,
        (None, [only]) => only.get("name").text()?.unwrap_or("vllm"),
        (None, _) => "vllm",
    };
    if configs.len() > 1 {
        t.notes.push(format!("a pool has one kind of engine here: `{wanted}` is taken of `engineConfigs`"));
    }
    let named = |config: &&Tree| config.get("name").text().is_ok_and(|name| name == Some(wanted));
    let Some(config) = configs.iter().find(named) else {
        let Some((_, ours)) = ENGINES.iter().find(|(theirs, _)| *theirs == wanted) else {
            return Err(default
                .fault(format!("no engine is called `{wanted}`, and `engineConfigs` does not describe it")));
        };
        (*ours).clone_into(&mut metrics.engine);
        return Ok(());
    };
    for (theirs, ours) in FIGURES {
        if let Some(spec) = config.get(theirs).text()?.filter(|spec| !spec.is_empty()) {
            metrics.names.insert(ours, literal(spec));
        }
    }
    if metrics.names.is_empty() {
        return Err(config.fault(format!("`{wanted}` has no figure that is read here")));
    }
    "custom".clone_into(&mut metrics.engine);
    for (key, line, value) in config.entries()? {
        let read = key == "name" || FIGURES.iter().any(|(theirs, _)| *theirs == key);
        if !read && value.text().is_ok_and(|text| text != Some("")) {
            t.notes.push(format!("line {line}: `{key}` of an engine of your own is not read"));
        }
    }
    Ok(())
}

/// Where the prefix scorer has its knowledge from: the producer it names, else the one that guesses.
pub(super) fn prefix(t: &mut Translation<'_>, scorer: &Plugin) -> Result<(), Fault> {
    let own = ["blockSizeTokens", "blockSize", "hashBlockSize"];
    let mut read = own.to_vec();
    read.extend([
        "prefixMatchInfoProducerName",
        "maxPrefixBlocksToMatch",
        "lruCapacityPerServer",
        "autoTune",
        "mode",
    ]);
    t.known(scorer, &read)?;
    let producer = scorer.parameters.get("prefixMatchInfoProducerName");
    let index = match producer.text()? {
        Some(text) => Some(named(&t.config.plugins, producer, text)?),
        None => None,
    };
    match index.map(|index| (t.parts[index], &t.config.plugins[index])) {
        Some((Part::Precise, plugin)) => return precise(t, plugin),
        Some((Part::Approximate, plugin)) => approximate(t, plugin)?,
        Some((_, plugin)) => {
            return Err(producer.fault(format!("`{}` tells nothing of prefixes", plugin.name)));
        }
        None => {
            if let Some(plugin) = t.of(|part| part == Part::Approximate).first() {
                approximate(t, plugin)?;
            }
            if !t.of(|part| part == Part::Precise).is_empty() {
                let note = "prefix-cache-scorer names no producer: it goes by guesses, as there; \
                     `prefixMatchInfoProducerName` would take the precise one";
                t.notes.push(note.to_owned());
            }
            // At first the scorer had the parameters itself.
            block_size(t, &scorer.parameters)?;
        }
    }
    t.setup.pick().prefixes = Some("approximate");
    Ok(())
}

fn approximate(t: &mut Translation<'_>, plugin: &Plugin) -> Result<(), Fault> {
    let read = [
        "autoTune",
        "blockSizeTokens",
        "maxPrefixTokensToMatch",
        "maxPrefixBlocksToMatch",
        "lruCapacityPerServer",
    ];
    t.known(plugin, &read)?;
    block_size(t, &plugin.parameters)
}

fn block_size(t: &mut Translation<'_>, parameters: &Tree) -> Result<(), Fault> {
    let characters = parameters.get("hashBlockSize").count()?.map(|n| (n / CHARACTERS_PER_TOKEN).max(1));
    let tokens = parameters.get("blockSizeTokens").count()?.or(parameters.get("blockSize").count()?);
    if let Some(size) = tokens.or(characters) {
        t.setup.pick().block_size = Some(size);
    }
    Ok(())
}

/// Caches as the engines' events tell them.
pub(super) fn precise(t: &mut Translation<'_>, plugin: &Plugin) -> Result<(), Fault> {
    let read =
        ["tokenProcessorConfig", "indexerConfig", "kvEventsConfig", "speculativeIndexing", "speculativeTTL"];
    t.known(plugin, &read)?;
    let parameters = &plugin.parameters;
    for path in [&["tokenProcessorConfig"][..], &["indexerConfig", "tokenProcessorConfig"]] {
        let config = parameters.at(path);
        let size = config.get("blockSize").count()?.or(config.get("blockSizeTokens").count()?);
        t.setup.pick().block_size = size.or(t.setup.pick().block_size);
    }
    if let Some(name) = parameters.at(&["indexerConfig", "tokenizersPoolConfig", "modelName"]).text()? {
        t.base(name);
    }
    let (ttl, speculative) = (parameters.get("speculativeTTL"), parameters.get("speculativeIndexing"));
    if let Some(text) = ttl.text()? {
        let wrong = || ttl.fault(format!("`{text}` is not a duration such as 2s"));
        t.setup.pick().predicted = Some(go_duration(text).ok_or_else(wrong)?);
    }
    if speculative.flag()? == Some(false) {
        t.setup.pick().predicted = Some("0s".to_owned());
    }
    t.open.events = Some(events(parameters.get("kvEventsConfig"))?);
    Ok(())
}

/// Engines publish each at a port of its own, or all to one here.
fn events(config: &Tree) -> Result<Events, Fault> {
    let (central, pods) = (config.get("zmqEndpoint"), config.get("podDiscoveryConfig"));
    let each = config.get("discoverPods").flag()?.unwrap_or(pods.is_there());
    let Some(address) = central.text()?.filter(|_| !each) else {
        let port = pods.get("socketPort").parsed("a port")?.unwrap_or(EVENT_PORT);
        return Ok(Events::Each { port, replay: pods.get("replaySocketPort").parsed("a port")? });
    };
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port =
        port.ok_or_else(|| central.fault(format!("`{address}` is not an address such as tcp://*:5557")))?;
    Ok(Events::Here { port })
}
