//! From plugins and profiles to the choice of an endpoint: strategy, scorers, splitting and the queue.
//!
//! A weight is 1 where none is given, and the sum is not normalised, there as here. Used by `plugins`.

use super::{Part, engines};
use crate::epp::Fault;
use crate::epp::flags::Flags;
use crate::epp::picker_config::{PickerConfig, Plugin, Profile, named};
use crate::epp::pool::{Open, go_duration};
use crate::epp::tree::Tree;
use crate::epp::write::{Affinity, Busy, Disaggregation, Queue, Setup};
use waypost_config::literal;

/// Further endpoints that Envoy can be told.
const MAX_FALLBACKS: u64 = 16;
/// llm-d's bounds: of an endpoint that is full, and of those who wait.
const WAITING: u64 = 5;
const KV_SHARE: f64 = 0.8;
const CONCURRENCY: u64 = 100;
const TOKEN_CONCURRENCY: u64 = 1_000_000;
const QUEUE_REQUESTS: u64 = 5000;
const QUEUE_TTL: &str = "60s";
/// llm-d's default header of a session, and that of ours.
const SESSION_TOKEN: &str = "x-session-token";
const ROLE_LABEL: &str = "llm-d.ai/role";
/// What our configuration takes as unlimited enough.
const MAX_QUEUE: u64 = 1_000_000;

/// A configuration on its way.
pub(super) struct Translation<'a> {
    pub(super) config: &'a PickerConfig,
    /// In step with the configuration's plugins.
    pub(super) parts: &'a [Part],
    pub(super) flags: &'a Flags,
    pub(super) setup: &'a mut Setup,
    pub(super) notes: &'a mut Vec<String>,
    pub(super) open: Open,
}

impl<'a> Translation<'a> {
    pub(super) fn all(mut self) -> Result<Open, Fault> {
        let decode = self.handler()?;
        self.listed()?;
        self.profile(decode)?;
        self.queue()?;
        for gate in &self.config.gates {
            self.notes.push(format!("the feature gate `{gate}` has no meaning here"));
        }
        Ok(self.open)
    }

    /// The plugins of a kind.
    pub(super) fn of(&self, wanted: impl Fn(Part) -> bool) -> Vec<&'a Plugin> {
        let parts = self.parts.iter().zip(&self.config.plugins);
        parts.filter(|(part, _)| wanted(**part)).map(|(_, plugin)| plugin).collect()
    }

    fn part(&self, index: usize) -> (Part, &'a Plugin) {
        (self.parts[index], &self.config.plugins[index])
    }

    /// Names the parameters of a plugin that are not read.
    pub(super) fn known(&mut self, plugin: &Plugin, read: &[&str]) -> Result<(), Fault> {
        for (name, line, _) in plugin.parameters.entries()? {
            if !read.contains(&name) {
                self.notes.push(format!("line {line}: `{name}` of {} has no meaning here", plugin.kind));
            }
        }
        Ok(())
    }

    /// The profile that chooses who answers, and whether another one reads the prompt.
    fn handler(&mut self) -> Result<&'a Profile, Fault> {
        let disaggregated = self.of(|part| part == Part::Disaggregated).first().copied();
        let profiles = &self.config.profiles;
        let Some(handler) = disaggregated else {
            return match &profiles[..] {
                [only, ..] if profiles.len() == 1 => Ok(only),
                [first, ..] => Err(Fault::new(format!(
                    "{} scheduling profiles need a `disagg-profile-handler`; without one a pool has one profile (`{}`)",
                    profiles.len(),
                    first.name
                ))),
                [] => Err(Fault::new("no scheduling profile")),
            };
        };
        self.known(
            handler,
            &["profiles", "deciders", "decodeProfile", "prefillProfile", "deciderPluginName", "threshold"],
        )?;
        let parameters = &handler.parameters;
        let (decode, prefill) =
            (parameters.at(&["profiles", "decode"]), parameters.at(&["profiles", "prefill"]));
        let name = |new: &Tree, old: &str, default: &str| -> Result<String, Fault> {
            let text = new.text()?.or(parameters.get(old).text()?);
            Ok(text.unwrap_or(default).to_owned())
        };
        let (decode, prefill) =
            (name(decode, "decodeProfile", "decode")?, name(prefill, "prefillProfile", "prefill")?);
        if parameters.at(&["deciders", "encode"]).is_there() {
            return Err(parameters
                .at(&["deciders", "encode"])
                .fault("encoding apart is not built: leave this decider out"));
        }
        self.split(handler)?;
        let find = |name: &str| profiles.iter().find(|profile| profile.name == name);
        let missing = || Fault { line: handler.line, message: format!("there is no profile `{decode}`") };
        let chosen = find(&decode).ok_or_else(missing)?;
        if let Some(prefill) = find(&prefill)
            && self.scorers(prefill) != self.scorers(chosen)
        {
            self.notes.push(format!(
                "profile `{}` has other scorers than `{decode}`: those of `{decode}` choose for both; cached prefixes count \
                 for who reads the prompt, and not for who answers",
                prefill.name
            ));
        }
        Ok(chosen)
    }

    fn scorers(&self, profile: &Profile) -> Vec<(&'a str, f64)> {
        let scorers = profile.plugins.iter().filter(|(index, _)| {
            matches!(
                self.parts[*index],
                Part::Scorer(..) | Part::Prefix | Part::PreciseScorer | Part::Session | Part::Affinity
            )
        });
        let mut named: Vec<_> =
            scorers.map(|(index, weight)| (&*self.config.plugins[*index].kind, *weight)).collect();
        named.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        named
    }

    /// When a request is split: as its decider says; without one, never.
    fn split(&mut self, handler: &'a Plugin) -> Result<(), Fault> {
        let parameters = &handler.parameters;
        let decider = parameters.at(&["deciders", "prefill"]);
        let decider = if decider.is_there() { decider } else { parameters.get("deciderPluginName") };
        let uncached = match decider.text()? {
            Some(name) => {
                let index = named(&self.config.plugins, decider, name)?;
                match self.part(index) {
                    (Part::Always, _) => Some(0),
                    (Part::ByPrefix, plugin) => {
                        self.known(plugin, &["nonCachedTokens"])?;
                        // 0 switches the decider off.
                        plugin.parameters.get("nonCachedTokens").count()?.filter(|tokens| *tokens > 0)
                    }
                    _ => return Err(decider.fault(format!("`{name}` decides nothing about prefill"))),
                }
            }
            // At first the handler had the bound itself.
            None => parameters.get("threshold").count()?.filter(|tokens| *tokens > 0),
        };
        self.setup.pick().disaggregation =
            uncached.map(|tokens| Disaggregation { connector: "nixl", min_uncached_tokens: tokens });
        Ok(())
    }

    /// Plugins that count wherever they stand.
    fn listed(&mut self) -> Result<(), Fault> {
        if !self.of(|part| part == Part::Conformance).is_empty() {
            self.setup.ext_proc.conformance = true;
        }
        for plugin in self.of(|part| part == Part::Tokens) {
            self.known(plugin, &["modelName", "backend", "vllm"])?;
            if let Some(name) = plugin.parameters.get("modelName").text()? {
                self.base(name);
            }
            if plugin.parameters.at(&["vllm", "url"]).is_there() {
                self.notes.push(
                    "token-producer: tokens are made in this process, `vllm.url` is not asked".to_owned(),
                );
            }
        }
        engines::files(self)?;
        engines::metrics(self)
    }

    /// The base model's name, unless the flag says it.
    pub(super) fn base(&mut self, name: &str) {
        self.setup.pool().model.get_or_insert_with(|| literal(name));
    }

    /// Who is chosen, by the plugins of one profile.
    fn profile(&mut self, profile: &'a Profile) -> Result<(), Fault> {
        let mut strategy = "scorers";
        for (index, weight) in &profile.plugins {
            let (part, plugin) = self.part(*index);
            match part {
                Part::Scorer(scorer, fixed) => self.scorer(scorer, fixed, *weight, plugin)?,
                Part::Prefix => {
                    engines::prefix(self, plugin)?;
                    self.add("prefix", *weight);
                }
                Part::PreciseScorer => {
                    engines::precise(self, plugin)?;
                    self.add("prefix", *weight);
                }
                Part::Affinity => self.affinity(plugin)?,
                Part::Session => {
                    self.session(plugin)?;
                    self.add("session-affinity", *weight);
                }
                Part::ByLabel => by_label(plugin)?,
                Part::MaxScore => self.fallbacks(plugin)?,
                Part::Random => strategy = "random",
                Part::Kv { .. } => {}
                Part::Utilization | Part::Concurrency => self.notes.push(format!(
                    "`{}` is no filter of a profile here: the gate flowControl bounds what endpoints may have",
                    plugin.name
                )),
                _ => {}
            }
        }
        let (kv, first) = self.of_dynamo();
        let pick = self.setup.pick();
        if kv {
            (strategy, self.open.dynamo) = ("kv", true);
            pick.scorers.clear();
        } else if strategy == "scorers" && pick.scorers.is_empty() && pick.affinity.is_none() {
            // All scores are 0: any of them.
            strategy = "random";
        }
        if strategy == "random" && !pick.scorers.is_empty() {
            pick.scorers.clear();
            self.notes.push(
                "`random-picker` takes any endpoint: the scorers of its profile do not count".to_owned(),
            );
        }
        self.open.first_dynamo = first;
        self.setup.pick().strategy = strategy;
        Ok(())
    }

    /// Whether Dynamo's plugins choose, and those of its first generation.
    fn of_dynamo(&self) -> (bool, bool) {
        let any = !self.of(|part| matches!(part, Part::Kv { .. })).is_empty();
        (any, !self.of(|part| part == Part::Kv { first: true }).is_empty())
    }

    /// Two of a kind count together.
    fn add(&mut self, scorer: &'static str, weight: f64) {
        *self.setup.pick().scorers.entry(scorer).or_insert(0.0) += weight;
    }

    fn scorer(
        &mut self,
        scorer: &'static str,
        fixed: &[(&'static str, f64)],
        weight: f64,
        plugin: &Plugin,
    ) -> Result<(), Fault> {
        let read: Vec<_> = fixed.iter().map(|(name, _)| *name).collect();
        self.known(plugin, &read)?;
        for (name, only) in fixed {
            let value = plugin.parameters.get(name);
            if let Some(other) = value.number()?.filter(|number| number != only) {
                return Err(
                    value.fault(format!("`{name}: {other}` is not built for {}: it is {only}", plugin.kind))
                );
            }
        }
        self.add(scorer, weight);
        Ok(())
    }

    fn affinity(&mut self, plugin: &Plugin) -> Result<(), Fault> {
        let read = [
            "affinityThreshold",
            "explorationProbability",
            "maxTTFTPenaltyMs",
            "peakPrefillThroughput",
            "ttftSource",
        ];
        self.known(plugin, &read)?;
        let parameters = &plugin.parameters;
        let source = parameters.get("ttftSource");
        if source.text()?.is_some_and(|source| source != "prefillThroughput") {
            return Err(source.fault("only `prefillThroughput` is built"));
        }
        if self.setup.pick().affinity.is_some() {
            return Err(Fault {
                line: plugin.line,
                message: "a second affinity filter is not built".to_owned(),
            });
        }
        let penalty = parameters.get("maxTTFTPenaltyMs");
        if penalty.number()? == Some(0.0) {
            return Err(penalty
                .fault("0, to stay whatever it costs, is not built: give a long time, such as 3600000"));
        }
        self.setup.pick().affinity = Some(Affinity {
            threshold: parameters.get("affinityThreshold").number()?,
            max_ttft_penalty: penalty.number()?.map(|ms| format!("{ms}ms")),
            prefill_tokens_per_second: parameters.get("peakPrefillThroughput").number()?,
            exploration: parameters.get("explorationProbability").number()?,
        });
        Ok(())
    }

    /// A token that we give stands for what llm-d's names; a client sends either back.
    fn session(&mut self, plugin: &Plugin) -> Result<(), Fault> {
        self.known(plugin, &["algorithm", "strategy", "headerName"])?;
        let parameters = &plugin.parameters;
        let algorithm = parameters.get("algorithm");
        let algorithm = if algorithm.is_there() { algorithm } else { parameters.get("strategy") };
        let (given, header) = match algorithm.text()?.unwrap_or("encoded_endpoint_header") {
            "encoded_endpoint_header" => (true, SESSION_TOKEN),
            "session_id_header" => (false, SESSION_TOKEN),
            "session_id" => (false, "x-session-id"),
            other => return Err(algorithm.fault(format!("no algorithm of sessions is called `{other}`"))),
        };
        let header = parameters.get("headerName").text()?.unwrap_or(header);
        let pick = self.setup.pick();
        (pick.session_tokens, pick.session_header) = (given, Some(literal(header)));
        Ok(())
    }

    fn fallbacks(&mut self, plugin: &Plugin) -> Result<(), Fault> {
        self.known(plugin, &["maxNumOfEndpoints"])?;
        let most = plugin.parameters.get("maxNumOfEndpoints");
        let further = most.count()?.unwrap_or(1).saturating_sub(1);
        if further > MAX_FALLBACKS {
            return Err(most.fault(format!("at most {} endpoints can be named", MAX_FALLBACKS + 1)));
        }
        self.setup.ext_proc.fallbacks = further;
        Ok(())
    }

    /// With the gate `flowControl`, requests wait while every endpoint is full.
    fn queue(&mut self) -> Result<(), Fault> {
        let objectives = self.objectives()?;
        let (flow, detectors) = (self.config.tree.get("flowControl"), [Part::Utilization, Part::Concurrency]);
        if !self.config.flow_control {
            if !objectives.is_empty() {
                return Err(Fault::new(
                    "--objective: without the feature gate `flowControl` nothing waits, and priorities have no effect",
                ));
            }
            if flow.is_there() {
                self.notes.push("`flowControl` counts with the feature gate of that name only".to_owned());
            }
            for plugin in self.of(|part| detectors.contains(&part)) {
                self.notes
                    .push(format!("`{}` bounds nothing without the feature gate `flowControl`", plugin.name));
            }
            return Ok(());
        }
        for (key, line, _) in flow.entries()? {
            let read = ["maxRequests", "defaultRequestTTL", "defaultPriorityBand", "saturationDetector"];
            if !read.contains(&key) {
                self.notes.push(format!("line {line}: `flowControl.{key}` has no meaning here"));
            }
        }
        self.setup.pick().busy = self.busy()?;
        let (all, band) = (flow.get("maxRequests"), flow.at(&["defaultPriorityBand", "maxRequests"]));
        let requests = all.count()?.or(band.count()?).unwrap_or(QUEUE_REQUESTS).clamp(1, MAX_QUEUE);
        let ttl = flow.get("defaultRequestTTL");
        let text = ttl.text()?.unwrap_or(QUEUE_TTL);
        let deadline =
            go_duration(text).ok_or_else(|| ttl.fault(format!("`{text}` is not a duration such as 60s")))?;
        let mut queue = Queue::new(requests, deadline);
        queue.priorities = objectives.into_iter().collect();
        self.setup.pick().queue = Some(queue);
        Ok(())
    }

    fn objectives(&self) -> Result<Vec<(String, i32)>, Fault> {
        let one = |text: &str| {
            let pair = text.split_once('=').and_then(|(name, n)| Some((literal(name), n.parse().ok()?)));
            pair.ok_or_else(|| Fault::new(format!("--objective: `{text}` is not NAME=PRIORITY")))
        };
        self.flags.values("objective").map(one).collect()
    }

    /// The bounds of one endpoint; llm-d compares their mean over the pool.
    fn busy(&mut self) -> Result<Busy, Fault> {
        let tree = &self.config.tree;
        let new = tree.at(&["flowControl", "saturationDetector", "pluginRef"]);
        let name = if new.is_there() { new } else { tree.at(&["saturationDetector", "pluginRef"]) };
        let named = match name.text()? {
            Some(text) => Some(self.part(named(&self.config.plugins, name, text)?)),
            None => None,
        };
        match named {
            None => utilization(tree.get("saturationDetector")),
            Some((Part::Utilization, plugin)) => {
                self.known(plugin, &["queueDepthThreshold", "kvCacheUtilThreshold"])?;
                utilization(&plugin.parameters)
            }
            Some((Part::Concurrency, plugin)) => {
                self.known(plugin, &["concurrencyMode", "maxConcurrency", "maxTokenConcurrency"])?;
                concurrency(&plugin.parameters)
            }
            Some((_, plugin)) => Err(name.fault(format!("`{}` detects no saturation", plugin.name))),
        }
    }
}

fn utilization(parameters: &Tree) -> Result<Busy, Fault> {
    let waiting = parameters.get("queueDepthThreshold").count()?.unwrap_or(WAITING);
    let kv_share = parameters.get("kvCacheUtilThreshold").number()?.unwrap_or(KV_SHARE);
    Ok(Busy { waiting: Some(waiting), kv_share: Some(kv_share), ..Busy::default() })
}

fn concurrency(parameters: &Tree) -> Result<Busy, Fault> {
    let requests = Some(parameters.get("maxConcurrency").count()?.unwrap_or(CONCURRENCY));
    let prefill_tokens = Some(parameters.get("maxTokenConcurrency").count()?.unwrap_or(TOKEN_CONCURRENCY));
    let mode = parameters.get("concurrencyMode");
    match mode.text()?.unwrap_or("requests") {
        "requests" => Ok(Busy { requests, ..Busy::default() }),
        "tokens" => Ok(Busy { prefill_tokens, ..Busy::default() }),
        "hybrid" => Ok(Busy { requests, prefill_tokens, ..Busy::default() }),
        other => Err(mode.fault(format!("`{other}` is not requests, tokens or hybrid"))),
    }
}

/// Only the label of roles is read.
fn by_label(plugin: &Plugin) -> Result<(), Fault> {
    let label = plugin.parameters.get("label");
    match label.text()? {
        Some(ROLE_LABEL) => Ok(()),
        other => {
            let message =
                format!("of labels only `{ROLE_LABEL}` is read, not `{}`", other.unwrap_or_default());
            Err(if label.is_there() { label.fault(message) } else { Fault { line: plugin.line, message } })
        }
    }
}
