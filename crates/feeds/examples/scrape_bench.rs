//! What scraping costs: 100 endpoints with a 40 KB page of vLLM's, each read every 200 ms.
//!
//! Prints one JSON row with the share of a core that this process used, user and system time together. The servers are
//! a child process, whose time does not count. `cargo run --release -p waypost-feeds --example scrape_bench`.

#![expect(clippy::print_stdout, reason = "the row is what it is run for")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waypost_config::{Metrics, MetricsForm};
use waypost_feeds::Client;
use waypost_feeds::scrape::Scraper;
use waypost_picker::{Endpoint, Worker};

const ENDPOINTS: u16 = 100;
const INTERVAL: Duration = Duration::from_millis(200);
const PAGE_BYTES: usize = 40 << 10;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// Linux gives the times in `/proc/self/stat` in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("serve") { serve().await } else { measure().await }
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let mut servers = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let addresses = BufReader::new(servers.stdout.take().ok_or("no pipe")?).lines().take(ENDPOINTS.into());
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let endpoint = |(number, address): (u16, &String)| {
        Arc::new(Endpoint::new(waypost_config::Endpoint::at(format!("http://{address}")), Worker(number)))
    };
    let endpoints: Vec<_> = (0..).zip(&addresses).map(endpoint).collect();
    let mut scraper = Scraper::default();
    scraper.add(
        &endpoints,
        &Metrics {
            form: MetricsForm::Vllm,
            path: "/metrics".into(),
            interval: INTERVAL,
            stale_after: Duration::from_secs(2),
        },
    )?;
    let scraper = Arc::new(scraper);
    let begun = Instant::now();
    let clock = Arc::new(move || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    let task = tokio::spawn({
        let scraper = Arc::clone(&scraper);
        async move { scraper.run(Client::new(), clock).await }
    });
    tokio::time::sleep(WARM_UP).await;
    let (cpu, pages, since) = (cpu_seconds()?, pages(&scraper), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let seconds = since.elapsed().as_secs_f64();
    let cores = (cpu_seconds()? - cpu) / seconds;
    let (ok, bad) =
        (pages_since(&scraper, pages), scraper.tallies().map(|(_, tally)| tally.failed).sum::<u64>());
    task.abort();
    drop(servers.stdin.take());
    servers.wait()?;
    println!(
        r#"{{"case":"scrape_100x200ms","cores":{cores:.4},"pages_per_second":{:.1},"failed":{bad},"page_bytes":{}}}"#,
        ok as f64 / seconds,
        page().len()
    );
    Ok(())
}

fn pages(scraper: &Scraper) -> u64 {
    scraper.tallies().map(|(_, tally)| tally.ok).sum()
}

fn pages_since(scraper: &Scraper, before: u64) -> u64 {
    pages(scraper) - before
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}

/// Listens on as many ports, names them, and answers until its input ends.
async fn serve() -> Result<(), Box<dyn Error>> {
    let page = page();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
        page.len()
    );
    let answer: Arc<[u8]> = (head + &page).into_bytes().into();
    for _ in 0..ENDPOINTS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&answer)));
            }
        });
    }
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

async fn converse(mut stream: TcpStream, answer: Arc<[u8]>) {
    let mut request = [0; 4096];
    // A request without a body fits one read on the loopback.
    while matches!(stream.read(&mut request).await, Ok(1..)) {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Histograms fill most of a page; the wanted series stand among them.
fn page() -> String {
    let model = r#"engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct""#;
    let mut page = format!(
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
         # TYPE vllm:num_requests_running gauge\n\
         vllm:num_requests_running{{{model}}} 17.0\n\
         vllm:num_requests_waiting{{{model}}} 3.0\n\
         vllm:kv_cache_usage_perc{{{model}}} 0.4375\n\
         vllm:cache_config_info{{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"27600\"}} 1.0\n\
         vllm:lora_requests_info{{max_lora=\"4\",running_lora_adapters=\"sql,chat\",waiting_lora_adapters=\"\"}} 1.73e+09\n"
    );
    let families =
        ["time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"];
    for (bucket, family) in (0..).zip(families.iter().cycle()) {
        if page.len() >= PAGE_BYTES {
            break;
        }
        let bound = f64::from(bucket) * 0.001;
        _ = writeln!(page, "vllm:{family}_bucket{{{model},le=\"{bound:.3}\"}} {}.0", bucket * 37);
    }
    page
}
