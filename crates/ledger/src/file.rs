//! The decision file: whole records, one JSON object a line, appended by a thread of its own.
//!
//! A request never waits for the disk: what the thread cannot take in time is dropped and counted. Called at settle;
//! read by `waypost report` and `waypost replay`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait for the disk.
const QUEUE_LINES: usize = 8 * 1024;
/// Bytes that may wait for the disk.
const QUEUE_BYTES: usize = 64 << 20;
/// What is written is on its way to the disk after this at the latest.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// The disk is waited for no longer than this when the process ends.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// What the thread is to do.
#[derive(Debug)]
enum Job {
    Append(Vec<u8>),
    /// Write all that came before, and say so.
    Flush(SyncSender<()>),
}

/// See the module. Dropping it writes what waits.
#[derive(Debug)]
pub struct DecisionFile {
    queue: Option<SyncSender<Job>>,
    counts: Arc<Counts>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl DecisionFile {
    /// Appends to the file at `path`, which only its owner may read if it is made now.
    ///
    /// # Errors
    /// When it cannot be opened, or the thread not be started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("waypost-decisions".to_owned())
            .spawn(move || write(file, &lines, &of_thread))?;
        Ok(Self { queue: Some(queue), counts, thread: Some(thread) })
    }

    /// Hands over a line, without its line break; dropped when too much waits.
    pub fn append(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let bytes = line.len();
        let room = self.counts.waiting_bytes.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES;
        let sent = room && self.queue.as_ref().is_some_and(|queue| queue.try_send(Job::Append(line)).is_ok());
        if !sent {
            self.counts.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until everything appended so far is written, but not for a disk that hangs: for a process that ends, in
    /// which nobody drops this.
    pub fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (done, written) = sync_channel(1);
        let (mut job, end) = (Job::Flush(done), Instant::now() + LAST_FLUSH);
        while let Err(TrySendError::Full(back)) = queue.try_send(job) {
            if Instant::now() > end {
                return;
            }
            job = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    /// Lines lost so far, to a full queue or a full disk.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }
}

impl Drop for DecisionFile {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It ends once it has written what waits; if it broke, there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn write(file: File, jobs: &Receiver<Job>, counts: &Counts) {
    let mut out = BufWriter::new(file);
    let put = |out: &mut BufWriter<File>, line: Vec<u8>| {
        counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
        if out.write_all(&line).is_err() {
            counts.dropped.fetch_add(1, Relaxed);
        }
    };
    loop {
        match jobs.recv_timeout(FLUSH_EVERY) {
            Ok(Job::Append(line)) => put(&mut out, line),
            Ok(Job::Flush(done)) => {
                let _ = out.flush();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                // A disk that is full now may have room later; what is buffered is tried again then.
                let _ = out.flush();
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                let _ = out.flush();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_and_a_second_run_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        for run in 0..2 {
            let file = DecisionFile::open(&path).unwrap();
            (0..1000).for_each(|i| file.append(format!("{run} {i}").into_bytes()));
            assert_eq!(file.dropped(), 0);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<_> = (0..2).flat_map(|run| (0..1000).map(move |i| format!("{run} {i}"))).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(DecisionFile::open(folder.path()).is_err(), "a folder is no file");
    }

    #[test]
    fn a_flush_waits_until_all_is_on_its_way_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        let file = DecisionFile::open(&path).unwrap();
        for i in 1..100 {
            file.append(b"x".to_vec());
            file.flush();
            assert_eq!(std::fs::read(&path).unwrap().len(), 2 * i);
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = DecisionFile::open(&folder.path().join("d")).unwrap();
        file.append(vec![b'x'; QUEUE_BYTES + 1]);
        file.append(b"small".to_vec());
        assert_eq!(file.dropped(), 1);
        drop(file);
        assert_eq!(std::fs::read(folder.path().join("d")).unwrap(), b"small\n");
    }
}
