//! A simulated engine by hand: `cargo run -p waypost-sim --example serve -- 127.0.0.1:9000 sim-small [FAULT ...]`.
//!
//! `ZERO=1` in the environment turns all latency off. The full command is `waypost sim`.
#![expect(clippy::print_stdout, reason = "an example that says where it listens")]

use waypost_sim::{Engine, Options};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or("127.0.0.1:9000".into()).parse()?;
    let mut options = match std::env::var_os("ZERO") {
        Some(_) => Options::instant(),
        None => Options::default(),
    };
    if let Some(model) = arguments.next() {
        options.models = vec![model];
    }
    for spec in arguments {
        options.faults.push(spec.parse()?);
    }
    let engine = Engine::start(addr, options).await?;
    println!("simulated engine on http://{}", engine.addr());
    tokio::signal::ctrl_c().await?;
    engine.stop().await;
    Ok(())
}
