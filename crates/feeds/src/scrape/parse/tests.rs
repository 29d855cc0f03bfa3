//! Pages in the forms of each engine, bad pages, and a slow reader by the book to compare with.

use super::*;
use proptest::prelude::*;
use waypost_config::MetricSpecs;

const VLLM: &str = r#"# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 10207.0
process_resident_memory_bytes 9.12e+08
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 17.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.4375
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",gpu_memory_utilization="0.9",num_gpu_blocks="27600",sliding_window="None"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7291e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql,chat \"x\"",waiting_lora_adapters="math"} 1.7300e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.7295e+09
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="meta-llama/Llama-3.1-8B"} 0.0
"#;

fn page(form: &MetricsForm, text: &str) -> Page {
    let names = Names::of(form).unwrap();
    let mut reader = Reader::new(&names);
    reader.push(text.as_bytes());
    reader.finish()
}

fn vllm(text: &str) -> Observed {
    page(&MetricsForm::Vllm, text).observed(None, 0)
}

/// Waiting, running, usage, blocks, block size.
type Figures = (Option<u32>, Option<u32>, Option<f64>, Option<u64>, Option<u32>);

fn figures(observed: &Observed) -> Figures {
    (observed.waiting, observed.running, observed.kv_usage, observed.total_blocks, observed.block_size)
}

#[test]
fn vllm_tells_everything() {
    let page = page(&MetricsForm::Vllm, VLLM);
    let adapters =
        Adapters { max: 4, running: vec!["sql".into(), "chat \"x\"".into()], waiting: vec!["math".into()] };
    let wanted = Observed {
        waiting: Some(3),
        running: Some(17),
        kv_usage: Some(0.4375),
        total_blocks: Some(27_600),
        block_size: Some(16),
        adapters: Some(adapters),
        at: 42,
    };
    assert_eq!(page.observed(None, 42), wanted);
    assert_eq!(page.observed(Some(0), 42), wanted, "its series have rank 0");
    assert_eq!(page.skipped(), 0);
    assert_eq!(figures(&page.observed(Some(1), 0)), (None, None, None, None, None), "rank 1 is not here");
}

#[test]
fn windows_line_ends_and_a_missing_last_one_are_read() {
    let windows = VLLM.trim_end().replace('\n', "\r\n");
    assert_eq!(vllm(&windows), vllm(VLLM));
}

#[test]
fn the_old_name_of_usage_counts_where_the_new_one_is_absent() {
    assert_eq!(vllm("vllm:gpu_cache_usage_perc 0.25\n").kv_usage, Some(0.25));
    let both = "vllm:gpu_cache_usage_perc 0.25\nvllm:kv_cache_usage_perc 0.5\n";
    assert_eq!(vllm(both).kv_usage, Some(0.5));
}

#[test]
fn ranks_are_told_apart_or_taken_together() {
    let text = r#"
vllm:num_requests_waiting{engine="0"} 1
vllm:num_requests_waiting{engine="1"} 4
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.6
vllm:cache_config_info{engine="0",block_size="32",num_gpu_blocks="100"} 1
vllm:cache_config_info{engine="1",block_size="32",num_gpu_blocks="120"} 1
vllm:num_requests_running 7
"#;
    let page = page(&MetricsForm::Vllm, text);
    assert_eq!(figures(&page.observed(Some(1), 0)), (Some(4), Some(7), Some(0.6), Some(120), Some(32)));
    assert_eq!(figures(&page.observed(None, 0)), (Some(5), Some(7), Some(0.4), Some(220), Some(32)));
}

#[test]
fn sglang_names_pages_and_ranks_its_own_way() {
    let text = r#"
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 12.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="m",pp_rank="0",tp_rank="1"} 2.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 5.0
sglang:token_usage{engine_type="unified",model_name="m",tp_rank="0"} 0.28
sglang:cache_config_info{page_size="64",num_pages="4096"} 1.0
"#;
    let page = page(&MetricsForm::Sglang, text);
    assert_eq!(figures(&page.observed(Some(1), 0)), (Some(5), Some(2), Some(0.28), Some(4096), Some(64)));
    assert_eq!(page.observed(None, 0).running, Some(14));
    assert_eq!(page.observed(None, 0).adapters, None);
}

#[test]
fn tensorrt_llm_has_gauges_for_all() {
    let text = "trtllm_num_requests_waiting 2\ntrtllm_num_requests_running{model=\"m\"} 9\n\
                trtllm_kv_cache_utilization 0.75\ntrtllm_kv_cache_tokens_per_block 32\ntrtllm_kv_cache_max_blocks 812\n";
    let observed = page(&MetricsForm::TrtLlm, text).observed(None, 0);
    assert_eq!(figures(&observed), (Some(2), Some(9), Some(0.75), Some(812), Some(32)));
}

#[test]
fn triton_tells_figures_apart_by_a_label() {
    let text = r#"
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 8
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="free",model="tensorrt_llm",version="1"} 55
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 110
"#;
    let observed = page(&MetricsForm::Triton, text).observed(None, 0);
    assert_eq!(figures(&observed), (Some(8), Some(6), Some(0.5), Some(110), Some(64)));
}

#[test]
fn custom_metrics_are_given_by_name_and_labels() {
    let specs = MetricSpecs {
        waiting: Some("queue{state=waiting, tier=\"gold\"}".into()),
        running: Some("active".into()),
        kv_usage: Some("kv".into()),
        total_blocks: Some("blocks".into()),
    };
    let text = "queue{state=\"waiting\"} 1\nqueue{state=\"waiting\",tier=\"gold\"} 2\nqueue{tier=\"gold\"} 4\n\
                active_total 100\nactive 3\nkv 1.01\nblocks 77\n";
    let observed = page(&MetricsForm::Custom(specs), text).observed(None, 0);
    assert_eq!(figures(&observed), (Some(2), Some(3), Some(1.0), Some(77), None));
    for wrong in ["", "a b", "9x", "x{", "x{a}", "x{a=b", "x{a=\"b\\\"\"}", "x{a-b=c}", "{a=b}", "x}"] {
        let specs = MetricSpecs { waiting: Some(wrong.into()), ..MetricSpecs::default() };
        let error = Names::of(&MetricsForm::Custom(specs)).unwrap_err();
        assert!(error.to_string().contains("name{label=value"), "{wrong}: {error}");
    }
}

#[test]
fn what_is_no_count_is_unknown_and_never_zero() {
    for value in ["NaN", "+Inf", "-Inf", "-1", "abc", "", "0x10", "1e300", "5_000", "\u{663}"] {
        let text = format!("vllm:num_requests_waiting {value}\nvllm:num_requests_running 1\n");
        assert_eq!((vllm(&text).waiting, vllm(&text).running), (None, Some(1)), "{value}");
        let text = format!("vllm:kv_cache_usage_perc {value}\n");
        assert_eq!(vllm(&text).kv_usage, None, "{value}");
    }
    assert_eq!(vllm("vllm:kv_cache_usage_perc 43.75\n").kv_usage, None, "per cent are not shares");
    let one_bad = "vllm:num_requests_waiting{engine=\"0\"} NaN\nvllm:num_requests_waiting{engine=\"1\"} 2\n";
    assert_eq!(vllm(one_bad).waiting, None, "a sum of which a part is unknown");
    assert_eq!(page(&MetricsForm::Vllm, one_bad).observed(Some(1), 0).waiting, Some(2));
    let unset = "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1\n";
    assert_eq!((vllm(unset).total_blocks, vllm(unset).block_size), (None, Some(16)));
    let zero = "vllm:cache_config_info{block_size=\"0\",num_gpu_blocks=\"0\"} 1\n";
    assert_eq!((vllm(zero).total_blocks, vllm(zero).block_size), (None, None));
}

#[test]
fn time_stamps_and_exemplars_are_passed_over() {
    let text = "vllm:num_requests_waiting 2 1700000000000\n\
                vllm:num_requests_running{engine=\"0\"}\t5 1700000000.5 # {trace_id=\"abc\"} 0.5 1700000000.4\n# EOF\n";
    assert_eq!((vllm(text).waiting, vllm(text).running), (Some(2), Some(5)));
}

#[test]
fn labels_may_hold_anything() {
    let text = "vllm:num_requests_waiting{a=\"}\",b=\"\\\"} 9 {\",c=\"x=\\\\\",engine=\"3\",} 4\n";
    assert_eq!(page(&MetricsForm::Vllm, text).observed(Some(3), 0).waiting, Some(4));
    assert_eq!(vllm("vllm:num_requests_waiting{} 4\n").waiting, Some(4));
    let open = page(&MetricsForm::Vllm, "vllm:num_requests_waiting{engine=\"3} 4\n");
    assert_eq!((open.observed(None, 0).waiting, open.skipped()), (None, 1));
}

#[test]
fn another_page_is_seen_to_be_one() {
    for text in ["", "<html><body>not found</body></html>", "{\"detail\":\"Not Found\"}", "\0\u{1}\n\n\n"] {
        assert!(page(&MetricsForm::Vllm, text).is_empty());
    }
    assert!(page(&MetricsForm::Sglang, VLLM).is_empty());
}

#[test]
fn long_lines_and_many_series_cost_bounded_memory() {
    let names = Names::of(&MetricsForm::Vllm).unwrap();
    let mut reader = Reader::new(&names);
    (0..200).for_each(|_| reader.push(&[b'x'; 1000]));
    assert!(reader.rest.capacity() <= MAX_LINE_BYTES * 2);
    reader.push(b"\nvllm:num_requests_waiting 1\n");
    let page = reader.finish();
    assert_eq!((page.skipped(), page.observed(None, 0).waiting), (1, Some(1)));

    let mut reader = Reader::new(&names);
    for rank in 0..MAX_SERIES + 10 {
        reader.push(format!("vllm:num_requests_waiting{{engine=\"{rank}\"}} 1\n").as_bytes());
        reader.push(format!("vllm:lora_requests_info{{engine=\"{rank}\",max_lora=\"1\"}} 1\n").as_bytes());
    }
    assert_eq!((reader.samples[0].len(), reader.lora.len(), reader.skipped), (MAX_SERIES, MAX_SERIES, 20));
    let many = vec!["a"; MAX_ADAPTERS * 2].join(",");
    let text = format!("vllm:lora_requests_info{{max_lora=\"1\",running_lora_adapters=\"{many}\"}} 1\n");
    assert_eq!(vllm(&text).adapters.unwrap().running.len(), MAX_ADAPTERS);
}

/// The same by the book: lines, then a map of labels, then filters, all of it allocated.
mod reference {
    type Series<'a> = (&'a str, Vec<(String, String)>, f64);

    fn series(line: &str) -> Option<Series<'_>> {
        let line = line.trim_start();
        let end = line.find(['{', ' ', '\t'])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(open) = rest.strip_prefix('{') {
            rest = open;
            loop {
                rest = rest.trim_start_matches([' ', '\t', ',']);
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (key, after) = rest.split_once("=\"")?;
                let mut value = String::new();
                let mut chars = after.char_indices();
                loop {
                    match chars.next()? {
                        (at, '"') => {
                            rest = &after[at + 1..];
                            break;
                        }
                        (_, '\\') => value.extend(['\\', chars.next()?.1]),
                        (_, c) => value.push(c),
                    }
                }
                labels.push((key.trim().to_owned(), value));
            }
        }
        let word = rest.split_ascii_whitespace().next();
        Some((name, labels, word.and_then(|w| w.parse().ok()).unwrap_or(f64::NAN)))
    }

    /// The figure `name` of the page for a rank: the values that count.
    pub(super) fn values(text: &str, name: &str, rank: Option<u32>) -> Vec<f64> {
        let all: Vec<_> = text.lines().filter_map(series).filter(|s| s.0 == name).collect();
        let of = |labels: &[(String, String)]| {
            let label = |key: &str| labels.iter().find(|(k, _)| k == key);
            label("engine").or_else(|| label("dp_rank")).and_then(|(_, v)| v.parse::<u32>().ok())
        };
        let apart = rank.is_some() && all.iter().any(|(_, labels, _)| of(labels).is_some());
        all.iter().filter(|(_, labels, _)| !apart || of(labels) == rank).map(|s| s.2).collect()
    }

    pub(super) fn count(values: &[f64]) -> Option<u32> {
        let fine = !values.is_empty() && values.iter().all(|v| *v >= 0.0);
        let sum: f64 = values.iter().sum();
        (fine && sum < 4_294_967_296.0).then_some(sum as u32)
    }
}

fn label() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["engine", "dp_rank", "model_name", "le"]);
    (key, "([0-3]|[a-z}{, =]{0,4}|\\\\\"|\\\\\\\\)").prop_map(|(key, value)| format!("{key}=\"{value}\""))
}

fn line() -> impl Strategy<Value = String> {
    let names = ["num_requests_waiting", "num_requests_running", "num_requests_waiting_total", "other"];
    let name = prop::sample::select(names.to_vec());
    let value = prop::sample::select(vec!["0", "1", "2.0", "3e2", "NaN", "-1", "+Inf", "x", "7 1700", ""]);
    let labels = prop::option::of(prop::collection::vec(label(), 0..4));
    (name, labels, value).prop_map(|(name, labels, value)| {
        let labels = labels.map(|labels| format!("{{{}}}", labels.join(","))).unwrap_or_default();
        format!("vllm:{name}{labels} {value}")
    })
}

proptest! {
    #[test]
    fn reads_what_the_reference_reads(lines in prop::collection::vec(line(), 0..12), rank in prop::option::of(0u32..4)) {
        let text = lines.join("\n");
        let observed = page(&MetricsForm::Vllm, &text).observed(rank, 0);
        let count = |name| reference::count(&reference::values(&text, name, rank));
        prop_assert_eq!(observed.waiting, count("vllm:num_requests_waiting"), "{}", text);
        prop_assert_eq!(observed.running, count("vllm:num_requests_running"), "{}", text);
    }

    #[test]
    fn where_a_page_is_cut_does_not_matter(
        lines in prop::collection::vec(prop_oneof![line(), ".*"], 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..64),
        cuts in prop::collection::vec(1usize..40, 1..5),
    ) {
        let mut bytes = lines.join("\n").into_bytes();
        bytes.extend(noise);
        let names = Names::of(&MetricsForm::Vllm).unwrap();
        let (mut whole, mut cut) = (Reader::new(&names), Reader::new(&names));
        whole.push(&bytes);
        let (mut rest, mut turn) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            cut.push(chunk);
            (rest, turn) = (after, turn + 1);
        }
        let (whole, cut) = (whole.finish(), cut.finish());
        prop_assert_eq!(whole.observed(Some(1), 5), cut.observed(Some(1), 5));
        prop_assert_eq!(whole.observed(None, 5), cut.observed(None, 5));
        prop_assert_eq!(whole.skipped(), cut.skipped());
    }
}
