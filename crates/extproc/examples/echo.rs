//! The smallest judge: `echo LISTEN [--to IP:PORT] [--edit] [--refuse] [--wait-ms N] [--override] [--tls] [--quiet]`.
//!
//! Lets every request pass, or sends it to one address; with `--edit` the body's `"model":"auto"` becomes
//! `"model":"chosen-model"`. For trying an Envoy configuration.

#![expect(clippy::print_stderr, clippy::expect_used, reason = "a program for trying things")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use waypost_extproc::{
    Blind, Case, Certificate, Closing, Door, End, Fault, Go, Head, Health, Judge, Options, Refusal, Verdict,
};

#[derive(Debug, Clone)]
struct Echo {
    to: Option<String>,
    edit: bool,
    refuse: bool,
    quiet: bool,
    wait: Duration,
}

struct Request {
    echo: Echo,
    path: String,
    bytes: usize,
    ended: bool,
}

impl Judge for Echo {
    type Case = Request;

    fn open(&self, head: Head) -> Option<Request> {
        if !self.quiet {
            eprintln!("open {} {} ends={} subset={:?}", head.method, head.path, head.ends, head.subset);
        }
        let (echo, path) = (self.clone(), head.path);
        (!path.starts_with("/untouched")).then_some(Request { echo, path, bytes: 0, ended: false })
    }

    fn steers(&self, name: &HeaderName) -> bool {
        name.as_str().starts_with("x-steer-")
    }
}

impl Request {
    fn go(&self, how: &'static str) -> Verdict {
        if self.echo.refuse {
            return Verdict::No(refusal(429, "refused"));
        }
        let set = vec![(HeaderName::from_static("x-judged"), HeaderValue::from_static(how))];
        Verdict::Go(Go { set, destination: self.echo.to.clone(), reroute: true, ..Go::default() })
    }
}

fn refusal(status: u16, details: &str) -> Refusal {
    let body = Bytes::from(format!("{{\"error\":{{\"message\":\"{details}\"}}}}"));
    let json = (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Refusal { status, headers: vec![json], body, details: details.to_owned() }
}

impl Case for Request {
    fn needs_body(&self) -> bool {
        !self.path.starts_with("/upload")
    }

    fn body_limit(&self) -> usize {
        usize::MAX
    }

    async fn decide(&mut self, body: Bytes) -> Verdict {
        if !self.echo.wait.is_zero() {
            tokio::time::sleep(self.echo.wait).await;
        }
        let mut verdict = self.go("whole");
        let find = &b"\"auto\""[..];
        if let (Verdict::Go(go), true) = (&mut verdict, self.echo.edit)
            && let Some(at) = body.windows(find.len()).position(|window| window == find)
        {
            let new = Bytes::from_static(b"\"chosen-model\"");
            go.body = Some(vec![body.slice(..at), new, body.slice(at + find.len()..)]);
        }
        verdict
    }

    async fn decide_blind(&mut self, why: Blind) -> Verdict {
        self.go(match why {
            Blind::NotNeeded => "blind-not-needed",
            Blind::Upgrade => "blind-upgrade",
            Blind::Mode => "blind-mode",
            Blind::Partial => "blind-partial",
        })
    }

    fn fault(&mut self, fault: Fault) -> Refusal {
        match fault {
            Fault::TooLarge(_) => refusal(413, "too_large"),
            Fault::NoBody => refusal(400, "no_body"),
            Fault::Full => refusal(503, "full"),
        }
    }

    fn response_head(
        &mut self,
        status: u16,
        _: &HeaderMap,
        served: Option<&str>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        if !self.echo.quiet {
            eprintln!("head {} {status} served={served:?}", self.path);
        }
        vec![(HeaderName::from_static("x-seen"), HeaderValue::from(status))]
    }

    fn response_data(&mut self, data: &[u8]) {
        self.bytes += data.len();
    }

    fn response_end(&mut self, end: End) {
        self.ended = true;
        if !self.echo.quiet {
            eprintln!("end {} {end:?} {} bytes", self.path, self.bytes);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.ended && !self.echo.quiet {
            eprintln!("dropped {} after {} bytes", self.path, self.bytes);
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1).cloned());
    let address = args.first().cloned().unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the address is free");
    let wait = value("--wait-ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let echo = Echo {
        to: value("--to"),
        edit: has("--edit"),
        refuse: has("--refuse"),
        quiet: has("--quiet"),
        wait: Duration::from_millis(wait),
    };
    let certificate = has("--tls").then(|| Certificate::self_signed().expect("a key"));
    let health = Health::default();
    health.set_ready(true);
    let options = Options { mode_override: has("--override"), ..Options::default() };
    let door = Door::new(echo, options, health);
    let counts = door.counts();
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
        eprintln!("{counts:?}");
        Closing { delay: Duration::ZERO, grace: Duration::from_secs(5) }
    };
    door.serve(listener, certificate.as_ref(), stop).await.expect("a certificate");
}
