//! `waypost sim`: one simulated engine, until it is stopped.

use crate::cli::Sim;
use crate::error::Error;
use crate::print;
use waypost_sim::{Engine, Fault, Options};

pub(crate) fn run(options: Sim) -> Result<(), Error> {
    let faults = options.faults.iter().map(|spec| spec.parse::<Fault>()).collect::<Result<_, _>>()?;
    let engine = Options {
        models: options.models,
        any_model: options.any_model,
        prefill_ms_per_token: options.prefill_ms,
        decode_ms_per_token: options.decode_ms,
        max_running: options.max_running,
        record: options.record,
        faults,
        ..Options::default()
    };
    let names = engine.models.join(", ");
    crate::serve::runtime()?.block_on(async move {
        let engine = Engine::start(options.listen, engine).await?;
        print(&format!("simulated engine for {names} on http://{} (not a real model)\n", engine.addr()))?;
        crate::serve::stop_signal().await?;
        engine.stop().await;
        Ok(())
    })
}
