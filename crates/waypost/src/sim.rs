//! `waypost sim`: one simulated engine, until it is stopped.

use crate::cli::{self, Sim, SimRole};
use crate::error::Error;
use crate::print;
use waypost_sim::{Engine, EventsForm, Fault, MetricsForm, Options, Role};

pub(crate) fn run(options: Sim) -> Result<(), Error> {
    let faults = options.faults.iter().map(|spec| spec.parse::<Fault>()).collect::<Result<_, _>>()?;
    let engine = Options {
        models: options.models,
        any_model: options.any_model,
        prefill_ms_per_token: options.prefill_ms,
        decode_ms_per_token: options.decode_ms,
        host_ms_per_token: options.host_ms,
        transfer_ms_per_token: options.transfer_ms,
        batch_factor: options.batch_factor,
        max_running: options.max_running,
        block_size: options.block_size,
        cache_blocks: options.cache_blocks,
        host_blocks: options.host_blocks,
        data_parallel: options.data_parallel,
        lora: options.lora,
        role: match options.role {
            SimRole::Both => Role::Both,
            SimRole::Prefill => Role::Prefill,
            SimRole::Decode => Role::Decode,
        },
        kv_hold_ms: options.kv_hold_ms,
        kv_events: options.kv_events,
        kv_replay: options.kv_replay,
        kv_events_form: match options.kv_events_form {
            cli::EventsForm::Array => EventsForm::Array,
            cli::EventsForm::Map => EventsForm::Map,
        },
        kv_topic: options.kv_topic,
        kv_replay_topic: options.kv_replay_topic,
        metrics: match options.metrics_form {
            cli::MetricsForm::Vllm => MetricsForm::Vllm,
            cli::MetricsForm::Sglang => MetricsForm::Sglang,
            cli::MetricsForm::Trtllm => MetricsForm::Trtllm,
        },
        record: options.record,
        faults,
        ..Options::default()
    };
    let names = engine.models.join(", ");
    crate::serve::runtime()?.block_on(async move {
        let engine = Engine::start(options.listen, engine).await?;
        print(&format!("simulated engine for {names} on http://{} (not a real model)\n", engine.addr()))?;
        for (what, addresses) in [("events", engine.kv_events()), ("replay", engine.kv_replay())] {
            if !addresses.is_empty() {
                print(&format!("KV {what} on {}\n", addresses.join(", ")))?;
            }
        }
        crate::serve::stop_signal().await?;
        engine.stop().await;
        Ok(())
    })
}
