//! The flags of endpoint pickers: llm-d's, the Gateway API's full and light ones, and a few of our own.
//!
//! Both spellings are read, `--grpc-port` and the `-grpcPort` of older charts. Each flag that is accepted without an
//! effect is named once; what would change what users get, and is not built, is refused with what to use instead. The
//! table is also the help, and the one in docs/migrating-from-epp.md. Used by `epp`.

use crate::cli::LogFormat;

/// One flag.
pub(super) struct Flag {
    /// Its name in kebab case, without dashes.
    pub(super) name: &'static str,
    /// What stands for its value in the help; empty for a switch.
    value: &'static str,
    pub(super) means: Means,
}

/// What a flag does.
pub(super) enum Means {
    /// What the help says.
    Does(&'static str),
    /// The same, for a flag that only Waypost has.
    Ours(&'static str),
    /// It has no effect, for this reason.
    Nothing(&'static str),
    /// It may only have this value: another would need what is not built. What to use instead.
    Only(&'static str, &'static str),
    /// Pickers themselves refuse it: what to use instead.
    Removed(&'static str),
}

use Means::{Does, Nothing, Only, Ours, Removed};

const fn flag(name: &'static str, value: &'static str, means: Means) -> Flag {
    Flag { name, value, means }
}

const IN_CONFIG: &str = "give the engine's metric names as `engineConfigs` of the core-metrics-extractor";
const TWO_PORTS: &str = "metrics are read from the port that requests go to";

/// All of them, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    flag(
        "endpoints",
        "IP:PORT[@ID],…",
        Ours("the pool, may be repeated; ID is a worker's instance in Dynamo"),
    ),
    flag("prefill-endpoints", "IP:PORT[@ID],…", Ours("those of the pool that only read prompts")),
    flag("config-file", "FILE", Does("an EndpointPickerConfig")),
    flag("config-text", "TEXT", Does("the same as text")),
    flag("grpc-port", "PORT", Does("where Envoy asks [9002]")),
    flag("grpc-health-port", "PORT", Does("gRPC health [9003]")),
    flag("metrics-port", "PORT", Does("metrics, over HTTP [9090]")),
    flag("secure-serving", "", Does("TLS on the gRPC port [true]")),
    flag(
        "cert-path",
        "DIR",
        Does("folder with tls.crt and tls.key; without it the certificate is self-signed"),
    ),
    flag("drain-timeout", "DURATION", Does("after SIGTERM: not ready, but serving [30s]")),
    flag("pool-name", "NAME", Does("the pool's name in decisions and metrics [epp]")),
    flag(
        "refresh-metrics-interval",
        "DURATION",
        Does("time between two reads of an engine's metrics [200ms]"),
    ),
    flag("metrics-staleness-threshold", "DURATION", Does("older metrics are not used [2s]")),
    flag("emit-endpoint-scores", "", Does("every endpoint's score in the dynamic metadata")),
    flag("model-server-metrics-path", "PATH", Does("path of the engines' metrics [/metrics]")),
    flag("zap-encoder", "json|console", Does("form of the log")),
    flag(
        "model-name",
        "NAME",
        Ours("the base model's name; other names are LoRA adapters. Needed with KV events"),
    ),
    flag("tokenizer", "DIR", Ours("folder with the model's tokenizer.json and chat template")),
    flag("engine", "NAME", Ours("vllm, sglang, trtllm or triton: whose metrics are read [vllm]")),
    flag(
        "objective",
        "NAME=N",
        Ours("priority of an inference objective, with flow control; may be repeated"),
    ),
    flag("redis", "URL", Ours("through which replicas tell each other what they have booked")),
    flag("body-limit", "SIZE", Ours("longest request body [10MiB]")),
    flag("conformance", "", Ours("hooks of the Gateway API's conformance tests")),
    flag("host", "IP", Ours("address of all ports [0.0.0.0]")),
    flag("log-format", "auto|text|json", Ours("form of the log [auto]")),
    flag("print-config", "", Ours("print the Waypost configuration that this comes to, and stop")),
    flag("help", "", Ours("print this")),
    flag("pool-namespace", "NAMESPACE", Nothing("a pool goes by its name alone")),
    flag("pool-group", "GROUP", Nothing("pools are not looked up")),
    flag(
        "endpoint-selector",
        "SELECTOR",
        Nothing("Kubernetes is not asked; `--endpoints` or file-discovery say where the pool is"),
    ),
    flag("endpoint-target-ports", "PORTS", Nothing("each endpoint is given with its port")),
    flag(
        "ha-enable-leader-election",
        "",
        Nothing("every replica serves; `--redis` shares what they have booked"),
    ),
    flag(
        "metrics-endpoint-auth",
        "",
        Nothing("whoever reaches the metrics port may read; guard it by the network"),
    ),
    flag("health-checking", "", Nothing("health is always answered on the gRPC port, too")),
    flag("enable-pprof", "", Nothing("there is no Go runtime to profile")),
    flag("tracing", "", Nothing("no traces are sent; `waypost explain` tells a request's way")),
    flag("allow-experimental-plugins", "", Nothing("what is built is not split by stability")),
    flag("refresh-prometheus-metrics-interval", "DURATION", Nothing("metrics are always of the moment")),
    flag("enable-grpc-stream-metrics", "", Nothing("streams are always counted: waypost_ext_proc_*")),
    flag("grpc-max-recv-msg-size", "SIZE", Nothing("bodies are bound by `--body-limit`")),
    flag("grpc-max-send-msg-size", "SIZE", Nothing("replies are sent in pieces of 62,000 bytes")),
    flag("enable-cert-reload", "", Nothing("certificate files are always read again when they change")),
    flag("tls-cipher-suites", "NAMES", Nothing("TLS 1.2 and 1.3 with the library's own choice of ciphers")),
    flag("v", "N", Nothing("RUST_LOG=debug says more")),
    flag("zap-devel", "", Nothing("RUST_LOG=debug says more")),
    flag("zap-log-level", "LEVEL", Nothing("RUST_LOG says how much is logged")),
    flag("zap-stacktrace-level", "LEVEL", Nothing("no stack is logged")),
    flag("zap-time-encoding", "NAME", Nothing("times are written as RFC 3339 has them")),
    flag(
        "tls-min-version",
        "VERSION",
        Only("VersionTLS12", "a higher lowest version is not built; the proxy can insist on TLS 1.3"),
    ),
    flag(
        "disable-endpoint-subset-filter",
        "",
        Only("false", "leave `envoy.lb.subset_hint` out of the filter's forwarding_namespaces"),
    ),
    flag("metrics-cert-dir", "DIR", Only("", "metrics are served in plaintext; put a proxy before them")),
    flag(
        "metrics-client-ca-file",
        "FILE",
        Only("", "metrics are served in plaintext; put a proxy before them"),
    ),
    flag("model-server-metrics-port", "PORT", Only("0", TWO_PORTS)),
    flag("model-server-metrics-scheme", "SCHEME", Only("http", "metrics are read over plain HTTP")),
    flag("model-server-metrics-https-insecure-skip-verify", "", Nothing("metrics are read over plain HTTP")),
    flag(
        "destination-endpoint-hint-key",
        "NAME",
        Only("x-gateway-destination-endpoint", "the header has one name"),
    ),
    flag(
        "destination-endpoint-hint-metadata-namespace",
        "NAME",
        Only("envoy.lb", "the namespace has one name"),
    ),
    flag("total-queued-requests-metric", "NAME", Removed(IN_CONFIG)),
    flag("total-running-requests-metric", "NAME", Removed(IN_CONFIG)),
    flag("kv-cache-usage-percentage-metric", "NAME", Removed(IN_CONFIG)),
    flag("lora-info-metric", "NAME", Removed("vLLM's `vllm:lora_requests_info` is read by itself")),
    flag("cache-info-metric", "NAME", Removed(IN_CONFIG)),
];

/// Flags as they were given.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// In their order; a switch has `true` or `false`.
    given: Vec<(&'static str, String)>,
}

impl Flags {
    /// Reads what stands after `waypost epp`.
    ///
    /// # Errors
    /// What is unknown or cannot be, and what to do.
    pub(super) fn read(args: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(dashed) = arg.strip_prefix('-').filter(|name| !name.is_empty()) else {
                return Err(format!("`{arg}` is not a flag; `waypost epp --help` lists them"));
            };
            let dashed = dashed.strip_prefix('-').unwrap_or(dashed);
            let (name, value) = dashed.split_once('=').map_or((dashed, None), |(n, v)| (n, Some(v)));
            let name = if name == "h" { "help".to_owned() } else { kebab(name) };
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                let hint = waypost_config::hint(&name, FLAGS.iter().map(|flag| flag.name));
                return Err(format!("`{arg}` is no flag of an endpoint picker{hint}"));
            };
            let value = match (flag.value.is_empty(), value) {
                (true, None) => "true".to_owned(),
                (true, Some(value)) => truth(value)
                    .ok_or_else(|| format!("--{}: `{value}` is not true or false", flag.name))?
                    .to_string(),
                (false, Some(value)) => value.to_owned(),
                (false, None) => rest
                    .next()
                    .ok_or_else(|| format!("--{} needs a value: {}", flag.name, flag.value))?
                    .clone(),
            };
            flag.accept(&value)?;
            flags.given.push((flag.name, value));
        }
        Ok(flags)
    }

    /// The value that was given last.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last()
    }

    /// All values that were given.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on; absent, if it was not given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, name: &str) -> bool {
        self.switch(name) == Some(true)
    }

    /// A line for each flag that has no effect.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for (name, _) in &self.given {
            let known = FLAGS.iter().find(|flag| flag.name == *name);
            if let Some(Flag { means: Nothing(why), .. }) = known {
                let note = format!("--{name} has no meaning here: {why}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    /// In which form the log is written: ours, or the one that llm-d's flag names.
    pub(super) fn log_format(&self) -> LogFormat {
        match (self.value("log-format"), self.value("zap-encoder")) {
            (Some("text"), _) | (None, Some("console")) => LogFormat::Text,
            (Some("json"), _) | (None, Some("json")) => LogFormat::Json,
            _ => LogFormat::Auto,
        }
    }
}

impl Flag {
    /// Refuses what is not built, and what is gone.
    fn accept(&self, value: &str) -> Result<(), String> {
        match self.means {
            Only(only, instead) if value != only => {
                Err(format!("--{}={value} is not built: {instead}", self.name))
            }
            Removed(instead) => Err(format!("--{} was removed from endpoint pickers: {instead}", self.name)),
            _ => Ok(()),
        }
    }
}

/// Go's words for true and false.
pub(super) fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `grpcPort` as `grpc-port`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The help.
pub(super) fn help() -> String {
    let mut out = String::from(
        "An endpoint picker for Envoy and Gateway API gateways, in the place of llm-d's, Dynamo's or the Gateway API's.\n\n\
         Usage: waypost epp [FLAGS]\n\nFlags, as --grpc-port 9002, --grpc-port=9002 or -grpcPort 9002:\n",
    );
    let line =
        |flag: &Flag, says: &str| format!("  --{:<46} {says}\n", format!("{} {}", flag.name, flag.value));
    for flag in FLAGS {
        if let Does(says) | Ours(says) = flag.means {
            out += &line(flag, says);
        }
    }
    out += "\nAccepted without an effect, each with a line in the log:\n";
    for flag in FLAGS {
        if let Nothing(why) = flag.means {
            out += &line(flag, why);
        }
    }
    out + "\nDynamo's variables are read where DYN_EPP_MODE or one of its plugins asks for them.\n\
           docs/migrating-from-epp.md tells the rest.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Flags, String> {
        Flags::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn both_spellings_and_all_forms_of_values_are_read() {
        let flags = read(
            "-poolName a -grpcPort=1 --grpc-health-port 2 --secure-serving=false --emit-endpoint-scores \
             --endpoints x,y --endpoints z -v=4 --v 5",
        )
        .unwrap();
        let value = |name| flags.value(name).unwrap();
        assert_eq!((value("pool-name"), value("grpc-port"), value("grpc-health-port")), ("a", "1", "2"));
        assert_eq!((flags.switch("secure-serving"), flags.has("emit-endpoint-scores")), (Some(false), true));
        assert_eq!(flags.values("endpoints").collect::<Vec<_>>(), ["x,y", "z"]);
        assert_eq!((flags.switch("tracing"), value("v")), (None, "5"));
        assert!(read("-h").unwrap().has("help"));
    }

    #[test]
    fn every_flag_is_accepted_explained_or_refused() {
        for flag in FLAGS {
            let value = match flag.means {
                Only(only, _) => only,
                _ => "1",
            };
            let arg = format!("--{}={value}", flag.name);
            let read = Flags::read(std::slice::from_ref(&arg));
            match flag.means {
                Removed(instead) => assert!(read.unwrap_err().contains(instead), "{arg}"),
                Nothing(why) => {
                    assert_eq!(read.unwrap().notes(), [format!("--{} has no meaning here: {why}", flag.name)])
                }
                Only(_, instead) => {
                    assert_eq!(read.unwrap().notes(), [""; 0]);
                    let other = match flag.value {
                        "" => format!("--{}=true", flag.name),
                        _ => format!("--{}=other", flag.name),
                    };
                    assert!(Flags::read(&[other]).unwrap_err().contains(instead), "{arg}");
                }
                Does(_) | Ours(_) => assert_eq!(read.unwrap().notes(), [""; 0], "{arg}"),
            }
            let same_name = FLAGS.iter().filter(|other| other.name == flag.name);
            assert_eq!(same_name.count(), 1, "{}", flag.name);
        }
    }

    #[test]
    fn what_is_no_flag_is_named_with_the_nearest() {
        let said = |line| read(line).unwrap_err();
        assert!(
            said("--grpc-prot 1")
                .contains("`--grpc-prot` is no flag of an endpoint picker; did you mean `grpc-port`?")
        );
        assert!(said("serve").contains("`serve` is not a flag"));
        assert!(said("--grpc-port").contains("--grpc-port needs a value: PORT"));
        assert!(said("--secure-serving=maybe").contains("`maybe` is not true or false"));
        assert!(said("-").contains("`-` is not a flag"));
    }

    #[test]
    fn the_help_names_what_has_an_effect_and_what_has_none() {
        let help = help();
        for word in
            ["--endpoints IP:PORT", "--grpc-port PORT", "--enable-pprof", "--zap-encoder json|console"]
        {
            assert!(help.contains(word), "{word}");
        }
        assert!(!help.contains("lora-info-metric"));
    }

    #[test]
    fn the_log_is_as_either_flag_says() {
        let format = |line| read(line).unwrap().log_format();
        assert_eq!(format("--zap-encoder json"), LogFormat::Json);
        assert_eq!(format("--zap-encoder=console"), LogFormat::Text);
        assert_eq!(format("--zap-encoder json --log-format text"), LogFormat::Text);
        assert_eq!(format(""), LogFormat::Auto);
    }
}
