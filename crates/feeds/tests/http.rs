//! Scraping and health checks against real servers, good ones and bad.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waypost_config::{Health, Metrics, MetricsForm};
use waypost_feeds::Client;
use waypost_feeds::Clock;
use waypost_feeds::health::Checks;
use waypost_feeds::scrape::{MAX_PAGE_BYTES, Scraper, Tally};
use waypost_picker::{Endpoint, Failure, Pool};

const SOON: Duration = Duration::from_secs(5);
const PAGE: &str = "vllm:num_requests_waiting{engine=\"0\"} 3\nvllm:num_requests_waiting{engine=\"1\"} 5\n";

/// Serves each connection with `serve`; gives the base URL.
async fn server<F: Future<Output = std::io::Result<()>> + Send>(
    serve: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move { serve(stream).await });
        }
    });
    format!("http://{address}")
}

/// Answers every request on a connection with this.
async fn answering(status: u16, body: &str) -> String {
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            while stream.read(&mut [0; 4096]).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await
}

/// A port that nobody listens on.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn pool(places: &[(&str, Option<u32>)]) -> Arc<Pool> {
    let spec = |(base, rank): &(&str, _)| waypost_config::Endpoint {
        rank: *rank,
        ..waypost_config::Endpoint::at(*base)
    };
    Arc::new(Pool::new(Arc::default(), &places.iter().map(spec).collect::<Vec<_>>(), None))
}

fn metrics() -> Metrics {
    Metrics {
        form: MetricsForm::Vllm,
        path: "/metrics".into(),
        interval: Duration::from_millis(20),
        stale_after: Duration::from_millis(300),
    }
}

fn clock() -> Clock {
    let begun = Instant::now();
    Arc::new(move || begun.elapsed().as_millis() as u64 + 1)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Scrapes one endpoint until `holds`.
async fn scraped(base: &str, what: &str, holds: impl FnMut(Tally) -> bool) -> Arc<Endpoint> {
    scraped_with(&metrics(), base, what, holds).await
}

async fn scraped_with(
    metrics: &Metrics,
    base: &str,
    what: &str,
    mut holds: impl FnMut(Tally) -> bool,
) -> Arc<Endpoint> {
    let pool = pool(&[(base, None)]);
    let mut scraper = Scraper::default();
    scraper.add(&pool, metrics).unwrap();
    tokio::select! {
        () = scraper.run(Client::new(), clock()) => panic!("it ends only when dropped"),
        () = until(what, || holds(scraper.tallies().next().unwrap().1)) => {}
    }
    Arc::clone(&pool.endpoints()[0])
}

#[tokio::test]
async fn ranks_share_a_read_and_a_connection() {
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&connections), Arc::clone(&requests));
    let base = server(move |mut stream| {
        let (connections, requests) = counters.clone();
        connections.fetch_add(1, SeqCst);
        async move {
            while stream.read(&mut [0; 4096]).await? > 0 {
                requests.fetch_add(1, SeqCst);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{PAGE}", PAGE.len());
                // In two pieces, cut within a line.
                stream.write_all(&answer.as_bytes()[..80]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                stream.write_all(&answer.as_bytes()[80..]).await?;
            }
            Ok(())
        }
    })
    .await;
    let pool = pool(&[(&base, Some(0)), (&base, Some(1)), (&base, None)]);
    let endpoints = pool.endpoints();
    let mut scraper = Scraper::default();
    scraper.add(&pool, &metrics()).unwrap();
    let tally = || scraper.tallies().next().unwrap().1;
    tokio::select! {
        () = scraper.run(Client::new(), clock()) => panic!("it ends only when dropped"),
        () = until("ten reads", || tally().ok >= 10) => {}
    }
    assert_eq!(scraper.tallies().count(), 1);
    assert_eq!(
        endpoints.iter().map(|e| e.observed().waiting).collect::<Vec<_>>(),
        [Some(3), Some(5), Some(8)]
    );
    assert!(endpoints[0].observed().at > 0 && tally().last_ok == Some(endpoints[0].observed().at));
    assert_eq!(connections.load(SeqCst), 1, "the connection is kept");
    assert!(requests.load(SeqCst) as u64 - tally().ok <= 1, "one request for all ranks");
}

#[tokio::test]
async fn bad_engines_are_counted_and_change_nothing() {
    let unreached = scraped(&refusing().await, "refused", |t| t.failed >= 2).await;
    let status = scraped(&answering(503, PAGE).await, "503", |t| t.failed >= 2).await;
    let garbage = scraped(&answering(200, "<html>hello</html>").await, "garbage", |t| t.garbage >= 2).await;
    let not_http = server(|mut stream| async move { stream.write_all(b"\x00\x01hello\r\n\r\n").await }).await;
    let not_http = scraped(&not_http, "no HTTP", |t| t.failed >= 2).await;
    let cut = server(|mut stream| async move {
        _ = stream.read(&mut [0; 4096]).await?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{PAGE}");
        stream.write_all(head.as_bytes()).await
    });
    let cut = scraped(&cut.await, "cut off", |t| t.failed >= 2).await;
    let slow = server(|mut stream| async move {
        _ = stream.read(&mut [0; 4096]).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n").await?;
        loop {
            stream.write_all(b"vllm:num_requests_waiting 1\n").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let slow = scraped(&slow.await, "slow", |t| t.failed >= 2).await;
    for endpoint in [unreached, status, garbage, not_http, cut, slow] {
        assert_eq!(endpoint.observed().at, 0, "{}", endpoint.base());
    }
}

#[tokio::test]
async fn a_page_of_fifty_megabytes_is_cut_off() {
    const PAGE_BYTES: usize = 50_000_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let base = server(move |mut stream| {
        let sent = Arc::clone(&counter);
        async move {
            _ = stream.read(&mut [0; 4096]).await?;
            // Without a length: only reading shows how large it is.
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            let line = "vllm:num_requests_waiting 1\n".repeat(1000);
            for _ in 0..PAGE_BYTES / line.len() {
                stream.write_all(line.as_bytes()).await?;
                sent.fetch_add(line.len(), SeqCst);
            }
            Ok(())
        }
    })
    .await;
    // Time enough to read that much in a debug build.
    let patient = Metrics { stale_after: SOON, ..metrics() };
    let endpoint = scraped_with(&patient, &base, "too large", |t| t.too_large >= 1).await;
    assert_eq!(endpoint.observed().at, 0);
    assert!(sent.load(SeqCst) < 6 * MAX_PAGE_BYTES as usize, "{} bytes sent", sent.load(SeqCst));
    let announced = server(|mut stream| async move {
        _ = stream.read(&mut [0; 4096]).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n").await?;
        stream.read(&mut [0; 1]).await.map(drop)
    });
    scraped(&announced.await, "announced as too large", |t| t.too_large >= 1).await;
}

#[tokio::test]
async fn a_wrong_path_adds_nothing() {
    let mut scraper = Scraper::default();
    let metrics = Metrics { path: "/a b".into(), ..metrics() };
    let error = scraper.add(&pool(&[("http://e", None)]), &metrics).unwrap_err().to_string();
    assert!(error.contains("`/a b`"), "{error}");
    assert_eq!(scraper.tallies().count(), 0);
}

#[tokio::test]
async fn failing_checks_put_aside_and_a_good_one_brings_back() {
    let well = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&well);
    let base = server(move |mut stream| {
        let well = Arc::clone(&state);
        async move {
            while stream.read(&mut [0; 4096]).await? > 0 {
                let status = if well.load(SeqCst) { 204 } else { 500 };
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
    })
    .await;
    let other = answering(200, "ok").await;
    let pool = pool(&[(&base, None), (&other, None)]);
    let health = Health {
        path: "/health".into(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(200),
        failures: 3,
    };
    let mut checks = Checks::default();
    checks.add(&pool, &health).unwrap();
    let first = || checks.tallies().next().unwrap().1;
    let aside = || pool.endpoints().iter().map(|e| e.is_aside()).collect::<Vec<_>>();
    let course = async {
        until("it is well", || first().ok >= 2).await;
        well.store(false, SeqCst);
        until("two failures", || first().failing == 2).await;
        assert_eq!(aside(), [false, false], "two are not enough");
        until("it is put aside", || aside() == [true, false]).await;
        assert!(first().failing >= 3);
        well.store(true, SeqCst);
        until("it is back", || aside() == [false, false] && first().failing == 0).await;
        pool.failed(1, Failure::Broken, 1);
        until("one that requests put aside is back", || aside() == [false, false]).await;
    };
    tokio::select! {
        () = checks.run(Client::new(), clock()) => panic!("it ends only when dropped"),
        () = course => {}
    }
}

#[tokio::test]
async fn silence_counts_as_a_failure() {
    let base = server(|mut stream| async move {
        while stream.read(&mut [0; 4096]).await? > 0 {}
        Ok(())
    })
    .await;
    let pool = pool(&[(&base, None), (&answering(200, "").await, None)]);
    let health = Health {
        path: "/health".into(),
        interval: Duration::from_millis(10),
        timeout: Duration::from_millis(30),
        failures: 1,
    };
    let mut checks = Checks::default();
    checks.add(&pool, &health).unwrap();
    tokio::select! {
        () = checks.run(Client::new(), clock()) => panic!("it ends only when dropped"),
        () = until("it is put aside", || pool.endpoints()[0].is_aside()) => {}
    }
    assert!(!pool.endpoints()[1].is_aside());
}
