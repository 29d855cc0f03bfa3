//! Reads the few figures the picker wants from a page of Prometheus text, in one pass and as it arrives.
//!
//! A page has hundreds of series, six of which matter: the others cost one comparison per name and no memory. Pages
//! are not trusted: a figure that is absent, negative, not finite or no number is unknown, never zero. Pure; called by
//! the scraper.

mod series;

use series::{Label, Series, number};
use std::sync::Arc;
use waypost_config::MetricsForm;
use waypost_picker::{Adapters, Millis, Observed};

/// Longest line that is read, in bytes; a longer one is skipped and counted.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Most series of one figure on a page, such as one for each data-parallel rank; more are skipped and counted.
pub const MAX_SERIES: usize = 256;
/// Most names of LoRA adapters taken from one list.
pub const MAX_ADAPTERS: usize = 1024;
/// A share up to this counts as 1: engines round, and overshoot when full. Above, it is something else.
const MAX_SHARE: f64 = 1.05;

/// Something a page tells; the place of its series in a [`Reader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Waiting,
    Running,
    Usage,
    /// The same by an older name, used where the newer is absent.
    UsageOld,
    Blocks,
    BlockSize,
    /// A series whose labels of these names give `BlockSize` and `Blocks`.
    Cache(&'static str, &'static str),
    Lora,
}

const SLOTS: usize = 6;

impl Figure {
    fn slot(self) -> Option<usize> {
        match self {
            Self::Waiting => Some(0),
            Self::Running => Some(1),
            Self::Usage => Some(2),
            Self::UsageOld => Some(3),
            Self::Blocks => Some(4),
            Self::BlockSize => Some(5),
            Self::Cache(..) | Self::Lora => None,
        }
    }
}

/// One series that is looked for.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    figure: Figure,
    name: Box<[u8]>,
    /// All of them must be there with these values.
    labels: Vec<Label>,
}

/// A spec that is not `name` or `name{label=value,…}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a metric: write `name` or `name{{label=value,other=value}}`")]
pub struct SpecError(pub Arc<str>);

/// Names of the figures that are read from a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Names(Vec<Spec>);

impl Names {
    /// The names of an engine.
    ///
    /// # Errors
    /// A custom name that cannot be one; the built-in forms never fail.
    pub fn of(form: &MetricsForm) -> Result<Self, SpecError> {
        use Figure::{BlockSize, Blocks, Cache, Lora, Running, Usage, UsageOld, Waiting};
        let built_in: &[(Figure, &str)] = match form {
            MetricsForm::Vllm => &[
                (Waiting, "vllm:num_requests_waiting"),
                (Running, "vllm:num_requests_running"),
                (Usage, "vllm:kv_cache_usage_perc"),
                (UsageOld, "vllm:gpu_cache_usage_perc"),
                (Cache("block_size", "num_gpu_blocks"), "vllm:cache_config_info"),
                (Lora, "vllm:lora_requests_info"),
            ],
            MetricsForm::Sglang => &[
                (Waiting, "sglang:num_queue_reqs"),
                (Running, "sglang:num_running_reqs"),
                (Usage, "sglang:token_usage"),
                (Cache("page_size", "num_pages"), "sglang:cache_config_info"),
            ],
            MetricsForm::TrtLlm => &[
                (Waiting, "trtllm_num_requests_waiting"),
                (Running, "trtllm_num_requests_running"),
                (Usage, "trtllm_kv_cache_utilization"),
                (BlockSize, "trtllm_kv_cache_tokens_per_block"),
                (Blocks, "trtllm_kv_cache_max_blocks"),
            ],
            MetricsForm::Triton => &[
                (Waiting, "nv_trt_llm_request_metrics{request_type=waiting}"),
                (Running, "nv_trt_llm_request_metrics{request_type=scheduled}"),
                (Usage, "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
                (BlockSize, "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"),
                (Blocks, "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),
            ],
            MetricsForm::Custom(specs) => {
                let given = [
                    (Waiting, &specs.waiting),
                    (Running, &specs.running),
                    (Usage, &specs.kv_usage),
                    (Blocks, &specs.total_blocks),
                ];
                let given = given.iter().filter_map(|(figure, spec)| Some((*figure, spec.as_deref()?)));
                return given
                    .map(|(figure, text)| Spec::parse(figure, text))
                    .collect::<Result<_, _>>()
                    .map(Self);
            }
        };
        built_in.iter().map(|(figure, text)| Spec::parse(*figure, text)).collect::<Result<_, _>>().map(Self)
    }
}

impl Spec {
    fn parse(figure: Figure, text: &str) -> Result<Self, SpecError> {
        let wrong = || SpecError(text.into());
        let (name, labels) = match text.trim().split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').ok_or_else(wrong)?),
            None => (text.trim(), ""),
        };
        let is_name = |name: &str, colon: bool| {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
            name.chars().all(inner) && name.starts_with(|c: char| !c.is_ascii_digit())
        };
        let pair = |pair: &str| {
            let (label, value) = pair.split_once('=')?;
            let (label, value) = (label.trim(), value.trim());
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            let plain = is_name(label, false) && !value.contains(['"', '\\', '\n']);
            plain.then(|| (label.as_bytes().into(), value.as_bytes().into()))
        };
        let pairs = labels.split(',').filter(|part| !part.trim().is_empty());
        let labels = pairs.map(pair).collect::<Option<_>>().ok_or_else(wrong)?;
        is_name(name, true).then(|| Self { figure, name: name.as_bytes().into(), labels }).ok_or_else(wrong)
    }
}

/// A series' value, with the rank it names.
type Sample = (Option<u32>, f64);

/// LoRA's newest series of one rank: when it was set, and its labels, read only at the end.
#[derive(Debug)]
struct Newest {
    rank: Option<u32>,
    value: f64,
    labels: Vec<u8>,
}

/// A page being read; see the module.
#[derive(Debug)]
pub struct Reader<'n> {
    names: &'n Names,
    /// A line whose end has not arrived.
    rest: Vec<u8>,
    /// Within a line longer than [`MAX_LINE_BYTES`].
    skipping: bool,
    samples: [Vec<Sample>; SLOTS],
    lora: Vec<Newest>,
    skipped: u64,
}

impl<'n> Reader<'n> {
    /// A reader of one page.
    #[must_use]
    pub fn new(names: &'n Names) -> Self {
        Self {
            names,
            rest: Vec::new(),
            skipping: false,
            samples: Default::default(),
            lora: Vec::new(),
            skipped: 0,
        }
    }

    /// Reads the next piece of the page, wherever it was cut.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = chunk.get(start..end).unwrap_or_default();
            start = end + 1;
            if self.rest.is_empty() && !self.skipping {
                self.line(line);
            } else {
                self.hold(line);
                self.held();
            }
        }
        self.hold(chunk.get(start..).unwrap_or_default());
    }

    /// The page is over.
    #[must_use]
    pub fn finish(mut self) -> Page {
        self.held();
        Page { samples: self.samples, lora: self.lora, skipped: self.skipped }
    }

    fn hold(&mut self, part: &[u8]) {
        if self.rest.len() + part.len() > MAX_LINE_BYTES {
            self.skipping = true;
        }
        if self.skipping {
            self.rest.clear();
        } else {
            self.rest.extend_from_slice(part);
        }
    }

    /// Reads the line that was held.
    fn held(&mut self) {
        let mut rest = std::mem::take(&mut self.rest);
        self.skipped += u64::from(std::mem::take(&mut self.skipping));
        self.line(&rest);
        rest.clear();
        self.rest = rest;
    }

    fn line(&mut self, line: &[u8]) {
        if line.len() > MAX_LINE_BYTES {
            self.skipped += 1;
            return;
        }
        let line = line.trim_ascii_start();
        let names = self.names;
        for spec in &names.0 {
            let Some(rest) = line.strip_prefix(&*spec.name) else { continue };
            if !matches!(rest.first(), Some(b'{' | b' ' | b'\t')) {
                continue;
            }
            // A garbled series is as much a sign of life as a good one, and its figure is unknown.
            match Series::read(rest) {
                Some(series) if series.has(&spec.labels) => self.take(spec.figure, &series),
                Some(_) => {}
                None => self.skipped += 1,
            }
        }
    }

    fn take(&mut self, figure: Figure, series: &Series<'_>) {
        let rank = series.rank();
        match figure {
            Figure::Lora => self.newest(rank, series),
            Figure::Cache(size, blocks) => {
                for (figure, label) in [(Figure::BlockSize, size), (Figure::Blocks, blocks)] {
                    let value = series.label(label.as_bytes()).map_or(f64::NAN, number);
                    self.sample(figure, (rank, value));
                }
            }
            plain => self.sample(plain, (rank, series.value)),
        }
    }

    fn sample(&mut self, figure: Figure, sample: Sample) {
        match figure.slot().and_then(|slot| self.samples.get_mut(slot)) {
            Some(samples) if samples.len() < MAX_SERIES => samples.push(sample),
            _ => self.skipped += 1,
        }
    }

    /// Adapters come and go as series of their own, none of which ever ends; the highest value is the newest.
    fn newest(&mut self, rank: Option<u32>, series: &Series<'_>) {
        if series.value.is_nan() {
            self.skipped += 1;
            return;
        }
        let room = self.lora.len() < MAX_SERIES;
        match self.lora.iter_mut().find(|newest| newest.rank == rank) {
            Some(newest) if newest.value < series.value => {
                newest.value = series.value;
                newest.labels.clear();
                newest.labels.extend_from_slice(series.labels);
            }
            Some(_) => {}
            None if room => {
                self.lora.push(Newest { rank, value: series.value, labels: series.labels.to_vec() });
            }
            None => self.skipped += 1,
        }
    }
}

/// What a page told.
#[derive(Debug)]
pub struct Page {
    samples: [Vec<Sample>; SLOTS],
    lora: Vec<Newest>,
    skipped: u64,
}

impl Page {
    /// Whether none of the wanted series is on it: then it is another engine's page, or none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lora.is_empty() && self.samples.iter().all(Vec::is_empty)
    }

    /// Wanted series that could not be read, lines that were too long, and series above [`MAX_SERIES`].
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The figures of one data-parallel rank, or of all ranks together: requests and blocks summed, shares averaged.
    ///
    /// Where the page tells ranks apart, only the rank's own series count.
    #[must_use]
    pub fn observed(&self, rank: Option<u32>, at: Millis) -> Observed {
        let usage = self.of(Figure::Usage, rank);
        let usage = if usage.is_empty() { self.of(Figure::UsageOld, rank) } else { usage };
        let total = |figure| whole(&self.of(figure, rank));
        let small = |figure| total(figure).and_then(|n| u32::try_from(n).ok());
        Observed {
            waiting: small(Figure::Waiting),
            running: small(Figure::Running),
            kv_usage: share(&usage),
            total_blocks: total(Figure::Blocks).filter(|n| *n > 0),
            // One size for all ranks: an engine has one configuration.
            block_size: self
                .of(Figure::BlockSize, rank)
                .first()
                .and_then(|size| whole(&[*size]).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)),
            adapters: self.adapters(rank),
            at,
        }
    }

    fn of(&self, figure: Figure, rank: Option<u32>) -> Vec<f64> {
        let samples = figure.slot().and_then(|slot| self.samples.get(slot)).map_or(&[][..], Vec::as_slice);
        let told_apart = rank.is_some() && samples.iter().any(|(of, _)| of.is_some());
        samples.iter().filter(|(of, _)| !told_apart || *of == rank).map(|(_, value)| *value).collect()
    }

    fn adapters(&self, rank: Option<u32>) -> Option<Adapters> {
        let told_apart = rank.is_some() && self.lora.iter().any(|newest| newest.rank.is_some());
        let ours = self.lora.iter().filter(|newest| !told_apart || newest.rank == rank);
        let newest = ours.max_by(|a, b| a.value.total_cmp(&b.value))?;
        let series = Series { labels: &newest.labels, value: newest.value };
        let max = number(series.label(b"max_lora")?);
        let list = |label: &[u8]| names(series.label(label).unwrap_or_default());
        Some(Adapters {
            max: whole(&[max]).and_then(|n| u32::try_from(n).ok())?,
            running: list(b"running_lora_adapters"),
            waiting: list(b"waiting_lora_adapters"),
        })
    }
}

/// The sum, if there is anything to sum and every part is a count.
fn whole(values: &[f64]) -> Option<u64> {
    let sum: f64 = values.iter().sum();
    let counts = !values.is_empty() && values.iter().all(|v| *v >= 0.0) && sum <= MAX_COUNT;
    counts.then_some(sum as u64)
}

/// Above this a double no longer holds every whole number.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// The mean, if every part is a share.
fn share(values: &[f64]) -> Option<f64> {
    let shares = !values.is_empty() && values.iter().all(|v| (0.0..=MAX_SHARE).contains(v));
    shares.then(|| (values.iter().sum::<f64>() / values.len() as f64).min(1.0))
}

/// A list of names with commas between them.
fn names(list: &[u8]) -> Vec<Arc<str>> {
    let text = String::from_utf8_lossy(list);
    let name = |name: &str| Arc::from(unescape(name.trim()).as_str());
    text.split(',').filter(|part| !part.trim().is_empty()).take(MAX_ADAPTERS).map(name).collect()
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|c| if c == 'n' { '\n' } else { c })),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
