//! Bookings over a real Redis or Valkey, named by `WAYPOST_REDIS_SERVER`; tests/replicas runs these with one from PyPI.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as loudly as tests")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use waypost_config::Secret;
use waypost_feeds::replicas::{
    Bookings, Event, HEARTBEAT, Place, QUEUE_EVENTS, Replicas, Reporter, SILENCE, Tally, Watch,
};
use waypost_picker::BookingEvent;

const PASSWORD: &str = "s3cret-pass";
const SOON: Duration = Duration::from_secs(8);

struct Server(Child);

impl Server {
    async fn start(port: u16) -> Self {
        let path: PathBuf = std::env::var_os("WAYPOST_REDIS_SERVER").expect("WAYPOST_REDIS_SERVER").into();
        let port_text = port.to_string();
        let child = Command::new(path)
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_within(SOON, what, &mut holds).await;
}

async fn until_within(time: Duration, what: &str, holds: &mut impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < time, "not within {time:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Default)]
struct Book {
    heard: Mutex<Vec<(Arc<str>, Event)>>,
    gone: Mutex<Vec<String>>,
    own: Mutex<Vec<(Place, u32)>>,
}

impl Bookings for Book {
    fn remote(&self, replica: &Arc<str>, event: Event) {
        self.heard.lock().unwrap().push((Arc::clone(replica), event));
    }
    fn gone(&self, replica: &str) {
        self.gone.lock().unwrap().push(replica.to_owned());
    }
    fn own(&self) -> Vec<(Place, u32)> {
        self.own.lock().unwrap().clone()
    }
}

struct Process {
    book: Arc<Book>,
    reporter: Reporter,
    watch: Watch,
    task: JoinHandle<()>,
}

impl Process {
    fn start(port: u16, password: &str) -> Self {
        let redis = Secret::new(format!("redis://:{password}@127.0.0.1:{port}"));
        let settings = waypost_config::Replicas { redis, channel: "waypost".into() };
        let replicas = Replicas::new(&settings, Duration::from_secs(300)).unwrap();
        let (book, reporter, watch) = (Arc::<Book>::default(), replicas.reporter(), replicas.watch());
        let bookings: Arc<dyn Bookings> = Arc::clone(&book) as _;
        Self { book, reporter, watch, task: tokio::spawn(replicas.run(bookings)) }
    }

    fn tally(&self) -> Tally {
        self.watch.tally()
    }

    fn heard(&self) -> Vec<Event> {
        self.book.heard.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn add(id: u64) -> Event {
    let what = BookingEvent::Add {
        endpoint: "http://e1".into(),
        chain: [1, u64::MAX].into(),
        blocks: 3,
        prefill_tokens: 40,
    };
    Event { model: "m".into(), id, what }
}

fn free(id: u64) -> Event {
    Event { what: BookingEvent::Free, ..add(id) }
}

async fn acquainted(a: &Process, b: &Process) {
    until("both hear each other", || a.tally().peers == 1 && b.tally().peers == 1).await;
}

#[tokio::test]
#[ignore = "needs WAYPOST_REDIS_SERVER"]
async fn what_one_books_the_other_hears_in_order_and_soon() {
    let port = free_port();
    let _server = Server::start(port).await;
    let (a, b) = (Process::start(port, PASSWORD), Process::start(port, PASSWORD));
    acquainted(&a, &b).await;
    let sent = [add(7), Event { what: BookingEvent::PrefillDone, ..add(7) }, free(7)];
    let begun = Instant::now();
    sent.iter().for_each(|event| a.reporter.report(event.clone()));
    until("all three are heard", || b.heard().len() == 3).await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(b.heard(), sent);
    assert_eq!(a.heard(), [], "one's own are not heard");
    for id in 0..5_000 {
        a.reporter.report(add(id));
    }
    until("many are heard", || b.heard().len() == 5_003).await;
    let (a, b) = (a.tally(), b.tally());
    assert_eq!((a.sent, a.dropped, a.lost), (5_003, 0, 0), "{a:?}");
    assert_eq!((b.heard, b.missed, b.garbage), (5_003, 0, 0), "{b:?}");
}

#[tokio::test]
#[ignore = "needs WAYPOST_REDIS_SERVER"]
async fn drift_is_seen_at_the_heartbeat_and_a_silent_replica_is_gone() {
    let port = free_port();
    let _server = Server::start(port).await;
    let (a, b) = (Process::start(port, PASSWORD), Process::start(port, PASSWORD));
    acquainted(&a, &b).await;
    let own = |endpoint: &str, n| (Place { model: "m".into(), endpoint: endpoint.into() }, n);
    *a.book.own.lock().unwrap() = vec![own("http://e1", 5), own("http://e2", 1)];
    a.reporter.report(add(1));
    a.reporter.report(add(2));
    until("2 heard of 5, and 0 of 1", || b.tally().drift == 4).await;
    *a.book.own.lock().unwrap() = vec![own("http://e1", 1)];
    a.reporter.report(free(1));
    until("1 heard of 1", || b.tally().drift == 0).await;
    let id = b.book.heard.lock().unwrap()[0].0.to_string();
    drop(a);
    let gone = || *b.book.gone.lock().unwrap() == [id.clone()] && b.tally().peers == 0;
    until_within(SILENCE + 2 * HEARTBEAT, "the silent one is gone", &mut { gone }).await;
}

#[tokio::test]
#[ignore = "needs WAYPOST_REDIS_SERVER"]
async fn a_lost_server_costs_events_but_never_waits_and_comes_back() {
    let port = free_port();
    let server = Server::start(port).await;
    let (a, b) = (Process::start(port, PASSWORD), Process::start(port, PASSWORD));
    acquainted(&a, &b).await;
    drop(server);
    until("the loss is seen", || a.tally().disconnects > 0 && b.tally().disconnects > 0).await;
    let many = QUEUE_EVENTS as u64 * 2;
    let begun = Instant::now();
    (0..many).for_each(|id| a.reporter.report(add(id)));
    assert!(begun.elapsed() < Duration::from_secs(1), "reporting never waits");
    assert!(a.tally().dropped >= QUEUE_EVENTS as u64 / 2, "{:?}", a.tally());
    let _server = Server::start(port).await;
    let mut id = many;
    let mut heard_again = || {
        id += 1;
        a.reporter.report(add(id));
        b.heard().iter().any(|event| event.id > many)
    };
    until_within(SOON * 3, "bookings are heard again", &mut heard_again).await;
    let tally = a.tally();
    assert!(tally.lost > 0 && b.heard().len() < 2_000, "what waited is not told late: {tally:?}");
}

#[tokio::test]
#[ignore = "needs WAYPOST_REDIS_SERVER"]
async fn a_wrong_password_is_no_connection_and_rubbish_on_the_channel_is_counted() {
    let port = free_port();
    let _server = Server::start(port).await;
    let (well, ill) = (Process::start(port, PASSWORD), Process::start(port, "wrong"));
    until("it is refused, and tries again", || ill.tally().disconnects > 3).await;
    assert_eq!(ill.tally().sent, 0);
    let client = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut rubbish = async || {
        redis::cmd("PUBLISH")
            .arg("waypost")
            .arg(b"\x95\xff\x00")
            .query_async::<i64>(&mut connection)
            .await
            .unwrap()
    };
    while rubbish().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("the rubbish is counted", || well.tally().garbage > 0).await;
}

#[test]
fn a_wrong_address_is_refused_without_being_shown() {
    for address in [format!("http://:{PASSWORD}@h"), format!("redis://:{PASSWORD}@h:port"), String::new()] {
        let settings = waypost_config::Replicas { redis: Secret::new(address), channel: "c".into() };
        let error = Replicas::new(&settings, Duration::from_secs(1)).err().unwrap();
        assert!(!format!("{error} {error:?}").contains(PASSWORD));
    }
}
