//! Every plugin, variable and flag with a value, as the configuration that it comes to.

use super::environment::VARIABLES;
use super::flags::{FLAGS, Flags, Means};
use super::plugins::{PLUGINS, Part};
use super::{Fault, translate};
use std::collections::HashMap;
use std::time::Duration;
use waypost_config::{DoorTls, MetricsForm, Model, Prefixes, Role, Scorer, Snapshot, Strategy, load_str};

const POOL: &str = "--endpoints 10.0.0.1:8000,10.0.0.2:8000";
const EXACT: &str = "--endpoints 10.0.0.1:8000 --tokenizer /models/m --model-name base";

/// A translation that loads, with its notes.
struct Made {
    snapshot: Snapshot,
    notes: Vec<String>,
}

impl Made {
    fn pool(&self) -> &Model {
        &self.snapshot.models[0]
    }

    fn scorers(&self) -> Vec<(Scorer, f64)> {
        self.pool().picking.scorers.clone()
    }

    fn noted(&self, part: &str) -> bool {
        self.notes.iter().any(|note| note.contains(part))
    }
}

fn made(line: &str, config: &str, variables: &[(&str, &str)]) -> Result<Made, Fault> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let flags = Flags::read(&args).unwrap();
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let env = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let translated = translate(&flags, config, &env)?;
    let text = translated.setup.text().unwrap();
    let snapshot = load_str(&text, "made", &|_| None).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Ok(Made { snapshot, notes: translated.notes })
}

fn ok(line: &str, config: &str) -> Made {
    made(line, config, &[]).unwrap_or_else(|fault| panic!("{}: {}\n{config}", fault.line, fault.message))
}

fn error(line: &str, config: &str) -> String {
    let fault = made(line, config, &[]).err().unwrap_or_else(|| panic!("translates:\n{config}"));
    format!("{}: {}", fault.line, fault.message)
}

fn with(variables: &[(&str, &str)]) -> Result<Made, String> {
    made(EXACT, "", variables).map_err(|fault| fault.message)
}

/// One plugin in the only profile.
fn alone(plugin: &str) -> String {
    format!("plugins:\n- {plugin}\n")
}

#[test]
fn flags_say_where_it_is_served() {
    let made = ok(
        "--pool-name p --grpc-port 1 -grpcHealthPort=2 --metrics-port 3 --host 127.0.0.1 --cert-path /c --drain-timeout 1m30s \
         --emit-endpoint-scores --conformance --body-limit 50MiB --redis redis://r --refresh-metrics-interval 50ms \
         --metrics-staleness-threshold 1s --model-server-metrics-path /m --engine sglang --endpoints [::1]:5@7,10.0.0.1:8000",
        "",
    );
    let (snapshot, pool) = (&made.snapshot, made.pool());
    let door = snapshot.ext_proc.as_ref().unwrap();
    assert_eq!((&*pool.name, pool.any_name, snapshot.listen), ("p", true, None));
    assert_eq!(door.listen.to_string(), "127.0.0.1:1");
    assert_eq!(door.health_listen.to_string(), "127.0.0.1:2");
    assert_eq!(snapshot.admin.as_ref().unwrap().listen.to_string(), "127.0.0.1:3");
    assert!(door.scores && door.conformance && door.gaie_errors && !door.trust_clients);
    let DoorTls::Files { certificate, key } = &door.tls else { panic!("files") };
    assert_eq!((certificate.to_str(), key.to_str()), (Some("/c/tls.crt"), Some("/c/tls.key")));
    assert_eq!((snapshot.shutdown.delay, snapshot.limits.body_bytes), (Duration::from_secs(90), 50 << 20));
    assert!(snapshot.replicas.is_some());
    let metrics = pool.picking.metrics.as_ref().unwrap();
    assert_eq!((&metrics.form, &*metrics.path), (&MetricsForm::Sglang, "/m"));
    assert_eq!((metrics.interval, metrics.stale_after), (Duration::from_millis(50), Duration::from_secs(1)));
    let ids: Vec<_> = pool.endpoints.iter().map(|endpoint| endpoint.id().to_string()).collect();
    assert_eq!(ids, ["http://[::1]:5@7", "http://10.0.0.1:8000"]);
}

#[test]
fn what_nothing_is_said_of_is_as_endpoint_pickers_have_it() {
    let made = ok(POOL, "");
    let door = made.snapshot.ext_proc.as_ref().unwrap();
    assert_eq!(
        (door.listen.to_string(), door.health_listen.to_string()),
        ("0.0.0.0:9002".into(), "0.0.0.0:9003".into())
    );
    assert_eq!(
        (&door.tls, made.snapshot.admin.as_ref().unwrap().listen.port()),
        (&DoorTls::SelfSigned, 9090)
    );
    assert_eq!(&*made.pool().name, "epp");
    assert_eq!(made.pool().picking.strategy, Strategy::Scorers);
    let mut scorers = made.scorers();
    scorers.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(scorers[2], (Scorer::Prefix, 3.0));
    assert_eq!(scorers.len(), 3);
    assert!(matches!(made.pool().picking.prefixes, Prefixes::Approximate { .. }));
    assert_eq!(made.pool().picking.metrics.as_ref().unwrap().form, MetricsForm::Vllm);
    assert!(made.notes.is_empty() && made.pool().picking.queue.is_none());
    assert_eq!(
        ok(&format!("{POOL} --secure-serving=false"), "").snapshot.ext_proc.unwrap().tls,
        DoorTls::Off
    );
}

#[test]
fn a_pool_without_endpoints_says_what_to_give() {
    for line in
        ["", "--pool-name p --pool-namespace n", "--endpoint-selector app=vllm --endpoint-target-ports 8000"]
    {
        let said = error(line, "");
        assert!(said.contains("Kubernetes discovery is not built yet; give --endpoints"), "{said}");
    }
    for (line, wanted) in [
        ("--endpoints engine:8000", "--endpoints: `engine:8000` is not an address"),
        ("--endpoints 10.0.0.1:8000@x", "is not an address with a worker's number"),
        ("--grpc-port 70000 --endpoints 1.1.1.1:1", "--grpc-port: `70000` is not a port"),
        ("--drain-timeout soon --endpoints 1.1.1.1:1", "`soon` is not a duration"),
        ("--host here --endpoints 1.1.1.1:1", "`here` is not an IP address"),
    ] {
        assert!(error(line, "").contains(wanted), "{line}");
    }
}

#[test]
fn every_plugin_comes_to_something_or_says_why_not() {
    for (kind, part, says) in PLUGINS {
        let config = match part {
            Part::ByLabel => alone(&format!("{{type: {kind}, parameters: {{label: llm-d.ai/role}}}}")),
            Part::Files => alone(&format!("{{type: {kind}, parameters: {{path: /e.yaml}}}}")),
            Part::Disaggregated => format!(
                "plugins: [{{type: {kind}}}]\nschedulingProfiles: [{{name: decode}}, {{name: prefill}}]\n"
            ),
            _ => alone(&format!("type: {kind}")),
        };
        if *part == Part::Missing {
            let said = error(POOL, &config);
            assert_eq!(said, format!("2: plugins of the type `{kind}` are known, but {says}"));
            continue;
        }
        let variables = [("DYNAMO_KV_BLOCK_SIZE", "16")];
        let made = made(EXACT, &config, &variables).unwrap_or_else(|fault| panic!("{kind}: {fault:?}"));
        let picking = &made.pool().picking;
        match part {
            Part::Scorer(name, _) => {
                let scorer = Scorer::NAMES.iter().find(|(known, _)| known == name).unwrap().1;
                assert_eq!(made.scorers(), [(scorer, 1.0)], "{kind}");
            }
            Part::Prefix => assert_eq!(made.scorers(), [(Scorer::Prefix, 1.0)]),
            Part::PreciseScorer => assert_eq!(picking.prefixes, Prefixes::Events),
            Part::Session => assert!(picking.session_tokens && &*picking.session_header == "x-session-token"),
            Part::Affinity => assert!(picking.affinity.is_some()),
            Part::Kv { .. } => assert_eq!(picking.strategy, Strategy::Kv, "{kind}"),
            Part::Conformance => assert!(made.snapshot.ext_proc.as_ref().unwrap().conformance),
            Part::Files => assert!(made.pool().endpoints_file.is_some()),
            Part::Utilization | Part::Concurrency => assert!(made.noted("flowControl"), "{kind}"),
            _ => assert!(made.scorers().is_empty() && picking.disaggregation.is_none(), "{kind}"),
        }
    }
}

#[test]
fn an_unknown_plugin_is_named_with_its_line_and_the_nearest() {
    let said = error(POOL, "plugins:\n- type: queue-scorer\n- name: x\n  type: queue-scorrer\n");
    assert_eq!(said, "4: no plugin has the type `queue-scorrer`; did you mean `queue-scorer`?");
    assert_eq!(error(POOL, "plugins: [{type: zebra}]"), "1: no plugin has the type `zebra`");
}

#[test]
fn weights_are_taken_as_they_are_and_add_up() {
    let made = ok(
        POOL,
        "plugins: [{type: queue-scorer}, {name: q2, type: queue-scorer}, {type: lora-affinity-scorer}, {type: active-request-scorer}]\n\
         schedulingProfiles:\n- name: d\n  plugins:\n  - {pluginRef: queue-scorer, weight: 2.5}\n  - {pluginRef: q2, weight: 0.5}\n  \
         - {pluginRef: lora-affinity-scorer}\n",
    );
    let mut scorers = made.scorers();
    scorers.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(scorers, [(Scorer::LoraAffinity, 1.0), (Scorer::Queue, 3.0)]);
}

#[test]
fn parameters_have_an_effect_are_named_or_are_refused() {
    let made = ok(
        POOL,
        "plugins:\n- type: prefix-cache-affinity-filter\n  parameters: {affinityThreshold: 0.9, maxTTFTPenaltyMs: 5000, peakPrefillThroughput: 12000, explorationProbability: 0.1}\n\
         - type: prefix-cache-scorer\n  parameters: {hashBlockSize: 256, matchLengthWeight: 0.5}\n- {type: max-score-picker, parameters: {maxNumOfEndpoints: 3}}\n\
         - {type: session-affinity-scorer, parameters: {algorithm: session_id_header, headerName: x-chat}}\n",
    );
    let picking = &made.pool().picking;
    let affinity = picking.affinity.unwrap();
    assert!((affinity.threshold - 0.9).abs() < 1e-6 && (affinity.exploration - 0.1).abs() < 1e-6);
    assert_eq!(
        (affinity.max_ttft_penalty, affinity.prefill_tokens_per_second),
        (Duration::from_secs(5), 12_000.0)
    );
    assert_eq!((picking.block_size, &*picking.session_header, picking.session_tokens), (64, "x-chat", false));
    assert_eq!(made.snapshot.ext_proc.as_ref().unwrap().fallbacks, 2);
    assert!(
        made.noted("line 5: `matchLengthWeight` of prefix-cache-scorer has no meaning here"),
        "{:?}",
        made.notes
    );
    for (plugin, wanted) in [
        ("{type: load-aware-scorer, parameters: {threshold: 64}}", "2: `threshold: 64` is not built"),
        (
            "{type: active-request-scorer, parameters: {maxBusyScore: 0.5}}",
            "`maxBusyScore: 0.5` is not built",
        ),
        (
            "{type: prefix-cache-affinity-filter, parameters: {ttftSource: latencyPredictor}}",
            "only `prefillThroughput`",
        ),
        ("{type: prefix-cache-affinity-filter, parameters: {maxTTFTPenaltyMs: 0}}", "give a long time"),
        ("{type: max-score-picker, parameters: {maxNumOfEndpoints: 99}}", "at most 17 endpoints"),
        ("{type: max-score-picker, parameters: {maxNumOfEndpoints: x}}", "2: `x` is not a whole number"),
        (
            "{type: session-affinity-scorer, parameters: {algorithm: magic}}",
            "no algorithm of sessions is called `magic`",
        ),
        ("{type: by-label, parameters: {label: zone}}", "of labels only `llm-d.ai/role` is read, not `zone`"),
        ("{type: file-discovery}", "2: file-discovery needs `path`"),
        ("{type: metrics-data-source, parameters: {scheme: https}}", "plain HTTP"),
        ("{type: core-metrics-extractor, parameters: {defaultEngine: mine}}", "no engine is called `mine`"),
        (
            "{type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: nobody}}",
            "no plugin is called `nobody`",
        ),
        ("{type: queue-scorer, parameters: [1]}", "2: a mapping is expected here"),
    ] {
        let said = error(POOL, &alone(plugin));
        assert!(said.contains(wanted), "{plugin}: {said}");
    }
}

#[test]
fn random_picks_ignore_scores() {
    let made = ok(POOL, "plugins: [{type: random-picker}, {type: queue-scorer}]");
    assert_eq!(made.pool().picking.strategy, Strategy::Random);
    assert!(made.pool().picking.metrics.is_none() && made.noted("do not count"));
    assert_eq!(ok(POOL, "plugins: [{type: max-score-picker}]").pool().picking.strategy, Strategy::Random);
}

#[test]
fn a_decider_says_when_a_request_is_split() {
    let config = |deciders: &str, parameters: &str| {
        format!(
            "plugins:\n- {{type: queue-scorer}}\n- {{type: prefix-cache-scorer}}\n- {{type: prefix-based-pd-decider, parameters: {{{parameters}}}}}\n\
             - {{type: always-disagg-pd-decider}}\n- {{type: disagg-profile-handler, parameters: {{{deciders}}}}}\n\
             schedulingProfiles:\n- name: prefill\n  plugins: [{{pluginRef: prefix-cache-scorer, weight: 2}}]\n\
             - name: decode\n  plugins: [{{pluginRef: queue-scorer}}]\n"
        )
    };
    let line = format!("{POOL} --prefill-endpoints 10.0.0.9:8000");
    let split = |deciders: &str, parameters: &str| {
        let made = ok(&line, &config(deciders, parameters));
        made.pool().picking.disaggregation.map(|split| split.min_uncached_tokens)
    };
    assert_eq!(split("deciders: {prefill: prefix-based-pd-decider}", "nonCachedTokens: 512"), Some(512));
    assert_eq!(split("deciders: {prefill: prefix-based-pd-decider}", "nonCachedTokens: 0"), None);
    assert_eq!(split("deciders: {prefill: always-disagg-pd-decider}", ""), Some(0));
    assert_eq!(split("deciderPluginName: always-disagg-pd-decider", ""), Some(0));
    assert_eq!(split("threshold: 100", ""), Some(100));
    assert_eq!(split("", ""), None);
    let made = ok(&line, &config("deciders: {prefill: always-disagg-pd-decider}", ""));
    assert_eq!(made.scorers(), [(Scorer::Queue, 1.0)]);
    assert!(made.noted("profile `prefill` has other scorers"), "{:?}", made.notes);
    assert_eq!(made.pool().endpoints[2].role, Role::Prefill);
    assert!(ok(&line, &config("", "")).noted("the prefill endpoints are not used"));
    for (deciders, wanted) in [
        ("deciders: {encode: x}", "encoding apart is not built"),
        ("deciders: {prefill: queue-scorer}", "decides nothing about prefill"),
        ("profiles: {decode: other}", "there is no profile `other`"),
    ] {
        assert!(error(&line, &config(deciders, "")).contains(wanted), "{deciders}");
    }
    let two = "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a}, {name: b}]";
    assert!(error(POOL, two).contains("need a `disagg-profile-handler`"));
}

#[test]
fn exact_prefixes_come_from_where_engines_publish() {
    let config = |parameters: &str| {
        format!(
            "plugins:\n- {{type: precise-prefix-cache-producer, parameters: {{{parameters}}}}}\n\
             - {{type: prefix-cache-scorer, parameters: {{prefixMatchInfoProducerName: precise-prefix-cache-producer}}}}\n"
        )
    };
    let events = |parameters: &str| {
        let made = ok(EXACT, &config(parameters));
        let events = made.pool().endpoints[0].events.clone().unwrap();
        (
            events.address.to_string(),
            events.bind,
            events.replay.map(|at| at.to_string()),
            events.topic.to_string(),
        )
    };
    let here = |port: u16| format!("tcp://10.0.0.1:{port}");
    assert_eq!(events(""), (here(5557), false, None, String::new()));
    let pods = "kvEventsConfig: {zmqEndpoint: 'tcp://0.0.0.0:1', discoverPods: true, podDiscoveryConfig: {socketPort: 6000, replaySocketPort: 6001}}";
    assert_eq!(events(pods), (here(6000), false, Some(here(6001)), String::new()));
    let central = events("kvEventsConfig: {zmqEndpoint: 'tcp://*:5557'}");
    assert_eq!(central, ("tcp://*:5557".into(), true, None, "kv@10.0.0.1:8000@".into()));
    let made = ok(
        EXACT,
        &config("tokenProcessorConfig: {blockSize: 64}, speculativeTTL: 1s, speculativeIndexing: true"),
    );
    assert_eq!((made.pool().picking.block_size, made.pool().picking.predicted), (64, Duration::from_secs(1)));
    assert_eq!((&*made.pool().upstream_id, made.pool().picking.prefixes), ("base", Prefixes::Events));
    let named = ok(
        "--endpoints 10.0.0.1:1 --tokenizer t",
        &format!(
            "{}- {{type: token-producer, parameters: {{modelName: hf/m, vllm: {{url: 'http://x'}}}}}}\n",
            config("")
        ),
    );
    assert!(&*named.pool().upstream_id == "hf/m" && named.noted("`vllm.url` is not asked"));
    for (line, wanted) in
        [(POOL, "--tokenizer DIR"), ("--endpoints 10.0.0.1:1 --tokenizer t", "--model-name NAME")]
    {
        assert!(error(line, &config("")).contains(wanted), "{line}");
    }
    let file = format!("{}- {{type: file-discovery, parameters: {{path: e}}}}\n", config(""));
    assert!(
        error("--tokenizer t --model-name m", &file)
            .contains("a file of endpoints does not say where they publish")
    );
    assert!(error(EXACT, &config("kvEventsConfig: {zmqEndpoint: x}")).contains("`x` is not an address"));
    let unnamed = "plugins: [{type: precise-prefix-cache-producer}, {type: prefix-cache-scorer}]";
    assert!(ok(POOL, unnamed).noted("names no producer"));
}

#[test]
fn engines_of_ones_own_have_figures() {
    let extractor = |parameters: &str| {
        alone(&format!(
            "{{type: core-metrics-extractor, parameters: {{{parameters}}}}}\n- type: queue-scorer"
        ))
    };
    let form =
        |parameters: &str| ok(POOL, &extractor(parameters)).pool().picking.metrics.clone().unwrap().form;
    assert_eq!(form("defaultEngine: trtllm-serve"), MetricsForm::TrtLlm);
    assert_eq!(form("defaultEngine: sglang"), MetricsForm::Sglang);
    let MetricsForm::Custom(specs) =
        form("engineConfigs: [{name: mine, queuedRequestsSpec: 'q{a=b}', kvUsageSpec: kv, loraSpec: ''}]")
    else {
        panic!("custom")
    };
    assert_eq!(
        (specs.waiting.as_deref(), specs.kv_usage.as_deref(), specs.running),
        (Some("q{a=b}"), Some("kv"), None)
    );
    let two = "defaultEngine: b, engineConfigs: [{name: a, kvUsageSpec: x}, {name: b, runningRequestsSpec: r, cacheInfoSpec: c}]";
    let made = ok(POOL, &extractor(two));
    assert!(made.noted("`b` is taken") && made.noted("`cacheInfoSpec`"), "{:?}", made.notes);
    assert!(error(POOL, &extractor("engineConfigs: [{name: mine}]")).contains("no figure that is read"));
}

#[test]
fn the_gate_of_flow_control_opens_the_queue() {
    let config = "featureGates: [flowControl]\nplugins:\n- {type: queue-scorer}\n- {name: d, type: concurrency-detector, parameters: {maxConcurrency: 7, concurrencyMode: hybrid}}\n\
         flowControl: {maxRequests: 9, defaultRequestTTL: 3s, maxBytes: 1G, saturationDetector: {pluginRef: d}}\n";
    let made = ok(&format!("{POOL} --objective urgent=10 --objective batch=-1"), config);
    let (busy, queue) = (made.pool().picking.busy, made.pool().picking.queue.clone().unwrap());
    assert_eq!((busy.requests, busy.prefill_tokens), (Some(7), Some(1_000_000)));
    assert_eq!((queue.requests, queue.deadline), (9, Duration::from_secs(3)));
    assert_eq!(queue.priorities, [("batch".into(), -1), ("urgent".into(), 10)]);
    let names = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];
    assert_eq!(queue.priority_headers.iter().map(|name| &**name).collect::<Vec<_>>(), names);
    assert_eq!(queue.fairness_headers.len(), 2);
    assert!(made.noted("`flowControl.maxBytes`"), "{:?}", made.notes);
    let busy = |config: &str| {
        ok(POOL, &format!("featureGates: [flowControl]\nplugins: [{{type: queue-scorer}}]\n{config}"))
            .pool()
            .picking
            .busy
    };
    assert_eq!(
        (busy("").waiting, busy("").kv_share.map(|share| (share * 100.0).round())),
        (Some(5), Some(80.0))
    );
    assert_eq!(busy("saturationDetector: {queueDepthThreshold: 3}").waiting, Some(3));
    assert!(
        ok(POOL, "plugins: [{type: queue-scorer}]\nflowControl: {maxRequests: 1}")
            .noted("with the feature gate")
    );
    assert!(error(&format!("{POOL} --objective a=1"), "").contains("without the feature gate `flowControl`"));
    for (line, config, wanted) in [
        ("--objective urgent", "", "`urgent` is not NAME=PRIORITY"),
        ("", "flowControl: {defaultRequestTTL: soon}", "4: `soon` is not a duration"),
        (
            "",
            "flowControl: {saturationDetector: {pluginRef: queue-scorer}}",
            "`queue-scorer` detects no saturation",
        ),
    ] {
        let config = format!("featureGates: [flowControl]\nplugins:\n- {{type: queue-scorer}}\n{config}");
        let said = error(&format!("{POOL} {line}"), &config);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn files_are_found_by_either_form_of_the_reference() {
    for discovery in ["{pluginRef: f}", "{endpoints: {pluginRef: f}}"] {
        let config = format!(
            "plugins: [{{name: f, type: file-discovery, parameters: {{path: /e.yaml}}}}, {{type: queue-scorer}}]\ndataLayer: {{discovery: {discovery}}}"
        );
        let made = ok("", &config);
        assert_eq!(made.pool().endpoints_file.as_deref().and_then(|file| file.to_str()), Some("/e.yaml"));
        assert!(made.noted("is watched all the same"));
    }
    let wrong = "plugins: [{type: queue-scorer}]\ndataLayer: {discovery: {pluginRef: queue-scorer}}";
    assert_eq!(error("", wrong), "2: `queue-scorer` discovers no endpoints");
}

#[test]
fn dynamos_plugins_of_the_first_generation_need_a_block_size() {
    let config = "plugins: [{type: kv-aware-scorer, name: dyn-kv}, {type: dynamo-inject-workerid}, {type: dynamo-cleanup}]";
    let run =
        |line: &str, variables: &[(&str, &str)]| made(line, config, variables).map_err(|fault| fault.message);
    let said = run(POOL, &[]).err().unwrap();
    assert_eq!(said, "DYNAMO_KV_BLOCK_SIZE must be set for Dynamo's plugins of the first generation");
    for bad in ["0", "17", "8", "16384", "x", "-16", "16.0"] {
        let said = run(POOL, &[("DYNAMO_KV_BLOCK_SIZE", bad)]).err().unwrap();
        assert_eq!(said, format!("DYNAMO_KV_BLOCK_SIZE: `{bad}` is not a power of two from 16 to 8192"));
    }
    let made = run(POOL, &[("DYNAMO_KV_BLOCK_SIZE", "32"), ("DYN_KV_CACHE_BLOCK_SIZE", "64")]).unwrap();
    let picking = &made.pool().picking;
    assert_eq!((picking.strategy, picking.block_size, picking.dynamo), (Strategy::Kv, 64, false));
    assert!(
        matches!(picking.prefixes, Prefixes::Approximate { .. }) && made.noted("no worker's id is known")
    );
    let made =
        run("--endpoints 10.0.0.1:8000@18446744073709551615", &[("DYNAMO_KV_BLOCK_SIZE", "32")]).unwrap();
    assert!(made.pool().picking.dynamo && made.pool().endpoints[0].instance == Some(u64::MAX));
    let later = "plugins: [{type: dyn-decode-scorer}, {type: dyn-prefill-scorer}]";
    assert_eq!(ok(POOL, later).pool().picking.strategy, Strategy::Kv);
}

#[test]
fn standalone_mode_names_what_it_needs() {
    let standalone = ("DYN_EPP_MODE", "standalone");
    let said = |variables: &[(&str, &str)]| {
        made(POOL, "", variables).err().map(|fault| fault.message).unwrap_or_default()
    };
    assert_eq!(said(&[standalone]), "DYN_MODEL_NAME must be set in standalone mode");
    let model = ("DYN_MODEL_NAME", "Qwen/Qwen3-8B");
    assert_eq!(said(&[standalone, model]), "DYN_KV_CACHE_BLOCK_SIZE must be set in standalone mode");
    let size = ("DYN_KV_CACHE_BLOCK_SIZE", "128");
    assert!(said(&[standalone, model, size]).contains("--tokenizer DIR"));
    let url = ("DYN_EPP_TOKENIZER_SERVICE_URL", "http://render:8000");
    let all = [
        standalone,
        model,
        size,
        url,
        ("DYN_EPP_INFERENCE_POOL_NAME", "pool"),
        ("DYN_EPP_TOKENIZER_PROTOCOL", "vllm-render"),
    ];
    let made = made(&format!("{POOL} --tokenizer t"), "", &all).unwrap();
    let pool = made.pool();
    assert_eq!((&*pool.name, &*pool.upstream_id, pool.picking.block_size), ("pool", "Qwen/Qwen3-8B", 128));
    assert_eq!((pool.picking.strategy, pool.picking.prefixes), (Strategy::Kv, Prefixes::Events));
    assert_eq!(&*pool.endpoints[1].events.as_ref().unwrap().address, "tcp://10.0.0.2:5557");
    assert!(made.noted("DYN_EPP_TOKENIZER_SERVICE_URL is not needed"));
}

#[test]
fn every_variable_has_its_meaning_and_refuses_nonsense() {
    let base = [("DYN_EPP_MODE", "dynamo")];
    let set = |name, value| with(&[base[0], (name, value)]);
    let picking = |name, value| (*set(name, value).unwrap().pool().picking).clone();
    assert_eq!(picking("DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT", "2").kv.overlap_credit, 2.0);
    for name in
        ["DYN_ROUTER_PREFILL_LOAD_SCALE", "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT", "DYNAMO_OVERLAP_SCORE_WEIGHT"]
    {
        assert_eq!(
            (picking(name, "0.5").kv.prefill_load_scale, picking(name, "-1").kv.prefill_load_scale),
            (0.5, 1.0)
        );
    }
    for name in ["DYN_ROUTER_TEMPERATURE", "DYNAMO_ROUTER_TEMPERATURE"] {
        assert_eq!((picking(name, "0.3").kv.temperature, picking(name, "-1").kv.temperature), (0.3, 0.0));
    }
    let both =
        with(&[base[0], ("DYN_ROUTER_TEMPERATURE", "0.1"), ("DYNAMO_ROUTER_TEMPERATURE", "0.9")]).unwrap();
    assert_eq!(both.pool().picking.kv.temperature, 0.1);
    for (word, strategy) in
        [("kv", Strategy::Kv), ("round-robin", Strategy::RoundRobin), ("least-loaded", Strategy::LeastLoad)]
    {
        assert_eq!(picking("DYN_ROUTER_MODE", word).strategy, strategy);
    }
    assert_eq!(picking("DYNAMO_USE_KV_ROUTING", "false").strategy, Strategy::LeastLoad);
    for name in ["DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD", "DYNAMO_BUSY_THRESHOLD"] {
        assert_eq!(
            (picking(name, "0.5").busy.kv_share, picking(name, "-1").busy.kv_share),
            (Some(0.5), None)
        );
        assert!(picking(name, "0.5").metrics.is_some());
    }
    assert_eq!(picking("DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD", "1000").busy.prefill_tokens, Some(1000));
    let share = ("DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC", "0.5");
    let of = with(&[base[0], share, ("DYN_EPP_MAX_NUM_BATCHED_TOKENS", "8192")]).unwrap();
    assert_eq!(of.pool().picking.busy.prefill_tokens, Some(4096));
    assert!(with(&[base[0], share]).err().unwrap().contains("needs DYN_EPP_MAX_NUM_BATCHED_TOKENS"));
    assert_eq!(set("DYN_EPP_MAX_INFLIGHT_REQUESTS", "5").unwrap().snapshot.limits.requests_in_flight, 5);
    assert_eq!(set("DYN_EPP_EMIT_FALLBACKS", "true").unwrap().snapshot.ext_proc.unwrap().fallbacks, 3);
    let events =
        with(&[base[0], ("DYN_EPP_KV_EVENT_PORT", "6000"), ("DYN_EPP_KV_EVENT_REPLAY_PORT", "6001")])
            .unwrap();
    let source = events.pool().endpoints[0].events.clone().unwrap();
    assert_eq!(
        (&*source.address, source.replay.as_deref()),
        ("tcp://10.0.0.1:6000", Some("tcp://10.0.0.1:6001"))
    );
    for name in ["DYN_ROUTER_USE_KV_EVENTS", "DYN_USE_KV_EVENTS", "DYNAMO_USE_KV_EVENTS"] {
        let made = with(&[base[0], ("DYN_EPP_KV_EVENT_PORT", "6000"), (name, "false")]).unwrap();
        assert!(made.pool().endpoints[0].events.is_none(), "{name}");
    }
    for name in ["DYN_ROUTER_REPLICA_SYNC", "DYNAMO_ROUTER_REPLICA_SYNC"] {
        assert!(
            set(name, "true").unwrap().noted("--redis URL") && !set(name, "false").unwrap().noted("--redis")
        );
    }
    assert!(set("DYN_ENFORCE_DISAGG", "true").unwrap().noted("served whole"));
    assert_eq!(
        with(&[("DYN_SECURE_SERVING", "false")]).unwrap().snapshot.ext_proc.unwrap().tls,
        DoorTls::Off
    );
    assert_eq!(&*with(&[("DYN_EPP_INFERENCE_POOL_NAME", "p")]).unwrap().pool().name, "p");
    assert!(with(&[("DYN_ROUTER_TEMPERATURE", "hot")]).is_ok(), "only where Dynamo's are asked for");
    for name in VARIABLES.iter().flat_map(|(names, _)| *names) {
        // Names and addresses may be anything.
        if ["DYN_MODEL_NAME", "DYNAMO_MODEL", "DYN_EPP_INFERENCE_POOL_NAME", "DYN_EPP_TOKENIZER_SERVICE_URL"]
            .contains(name)
        {
            continue;
        }
        let mut variables =
            vec![base[0], share, ("DYN_EPP_MAX_NUM_BATCHED_TOKENS", "8"), ("DYN_EPP_KV_EVENT_PORT", "1")];
        variables.retain(|(known, _)| known != name);
        variables.push((*name, "nonsense"));
        let said = with(&variables).err().unwrap_or_default();
        assert!(said.starts_with(&format!("{name}: `nonsense` is not ")), "{name}: {said:?}");
    }
}

#[test]
fn odd_names_stay_text() {
    let made = ok("--endpoints 10.0.0.1:1 --pool-name null --model-name ${HOME}", "");
    assert_eq!((&*made.pool().name, &*made.pool().upstream_id), ("null", "${HOME}"));
    assert_eq!(&*ok("--endpoints 10.0.0.1:1 --pool-name 1.50", "").pool().name, "1.50");
}

/// Rows of a table; texts that are the same stand once, behind all their names.
fn grouped<'a>(rows: impl Iterator<Item = (String, &'a str)>) -> Vec<(Vec<String>, &'a str)> {
    let mut groups: Vec<(Vec<String>, &str)> = Vec::new();
    for (name, says) in rows {
        match groups.iter_mut().find(|(_, known)| *known == says) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], says)),
        }
    }
    groups
}

fn table<'a>(head: &str, rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let mut out = format!("| {head} | Here |\n| --- | --- |\n");
    for (names, says) in grouped(rows) {
        out += &format!("| {} | {} |\n", names.join(", "), says.replace('|', "\\|"));
    }
    out
}

fn flags_table() -> String {
    let name = |flag: &super::flags::Flag| format!("`--{}`", flag.name);
    let of = |wanted: fn(&Means) -> Option<&'static str>| {
        FLAGS.iter().filter_map(move |flag| Some((name(flag), wanted(&flag.means)?)))
    };
    let does = |means: &Means| match means {
        Means::Does(says) => Some(*says),
        _ => None,
    };
    let ours = |means: &Means| match means {
        Means::Ours(says) if *says != "print this" => Some(*says),
        _ => None,
    };
    let refused = |means: &Means| match means {
        Means::Only(_, instead) | Means::Removed(instead) => Some(*instead),
        _ => None,
    };
    let nothing = |means: &Means| match means {
        Means::Nothing(why) => Some(*why),
        _ => None,
    };
    let list =
        |rows: Vec<(String, &str)>| rows.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    format!(
        "{}\n{}\nRefused, with what to use instead, unless they have their default: {}.\n\nAccepted without an effect, each with a \
         line in the log that says why: {}.\n",
        table("Theirs", of(does)),
        table("Waypost's own", of(ours)),
        list(of(refused).collect()),
        list(of(nothing).collect())
    )
}

fn plugins_table() -> String {
    let of = |wanted: fn(&Part) -> bool| {
        let plugins = PLUGINS.iter().filter(move |(_, part, _)| wanted(part));
        plugins.map(|(kind, _, says)| (format!("`{kind}`"), *says))
    };
    let list = |wanted| of(wanted).map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    format!(
        "{}\nNothing has to be done for {}.\n\nKnown, and refused with what to use instead: {}.\n",
        table("Type", of(|part| !matches!(part, Part::Missing | Part::Quiet))),
        list(|part| *part == Part::Quiet),
        list(|part| *part == Part::Missing)
    )
}

fn variables_table() -> String {
    let names = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    table("Variable, newest name first", VARIABLES.iter().map(|(all, says)| (names(all), *says)))
}

#[test]
fn the_tables_of_the_page_are_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migrating-from-epp.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (name, wanted) in
        [("flags", flags_table()), ("plugins", plugins_table()), ("variables", variables_table())]
    {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let (before, rest) = text.split_once(&begin).unwrap();
        let (found, after) = rest.split_once(&end).unwrap();
        if std::env::var_os("WAYPOST_BLESS").is_none() {
            assert_eq!(found, wanted, "run this test with WAYPOST_BLESS=1");
        }
        text = format!("{before}{begin}{wanted}{end}{after}");
    }
    if std::env::var_os("WAYPOST_BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
}
