//! The decision file: whole records, one JSON object a line, appended by a thread of its own.
//!
//! A request never waits for the disk: what the thread cannot take in time, or the disk not at all, is lost and counted,
//! and the log says so now and then. Called at settle; read by `waypost report` and `waypost replay`.

use crate::batch::{Batch, Lost};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait for the disk.
const QUEUE_LINES: usize = 8 * 1024;
/// Bytes that may wait for the disk.
const QUEUE_BYTES: usize = 64 << 20;
/// What is written is on its way to the disk after this at the latest.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Written at once when it is more than that.
const BATCH_BYTES: usize = 64 * 1024;
/// Lost lines are told of in the log no oftener.
const WARN_EVERY: Duration = Duration::from_secs(600);
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
        let batch = Batch::new(options.open(path)?, is_torn(path));
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("waypost-decisions".to_owned())
            .spawn(move || write(batch, &lines, &of_thread))?;
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

/// Takes jobs until there can be no more.
fn write(mut batch: Batch<File>, jobs: &Receiver<Job>, counts: &Counts) {
    let mut warned = None;
    loop {
        let job = jobs.recv_timeout(batch.due_in(FLUSH_EVERY));
        let ended = matches!(job, Err(RecvTimeoutError::Disconnected));
        let mut asked = None;
        let mut due = true;
        match job {
            Ok(Job::Append(line)) => {
                counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
                batch.put(&line);
                // Also when lines come without a pause.
                due = batch.bytes() >= BATCH_BYTES || batch.due_in(FLUSH_EVERY).is_zero();
            }
            Ok(Job::Flush(done)) => asked = Some(done),
            Err(_) => {}
        }
        let failed = if due { batch.write().err() } else { None };
        if let Some(Lost { lines, .. }) = &failed {
            counts.dropped.fetch_add(*lines, Relaxed);
        }
        warn(counts, failed.map(|lost| lost.error), &mut warned);
        if let Some(done) = asked {
            // Whoever asked may have lost patience.
            let _ = done.try_send(());
        }
        if ended {
            return;
        }
    }
}

/// Says that lines were lost since it was said last, and why if it is known; not oftener than is of use.
fn warn(counts: &Counts, error: Option<io::Error>, last: &mut Option<(Instant, u64)>) {
    let dropped = counts.dropped.load(Relaxed);
    let news = last.is_none_or(|(at, told)| dropped > told && at.elapsed() >= WARN_EVERY);
    if dropped > 0 && news {
        let error = error.as_ref().map(tracing::field::display);
        tracing::warn!(
            lines = dropped,
            error,
            "the decision file's disk is full or too slow: lines are lost"
        );
        *last = Some((Instant::now(), dropped));
    }
}

/// Whether the file's last line is not whole, as a process leaves it that was killed.
fn is_torn(path: &Path) -> bool {
    let last = || -> io::Result<[u8; 1]> {
        let (mut file, mut last) = (File::open(path)?, [0]);
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last)
    };
    // What is no plain file, is empty or cannot be read has no last line that is known of.
    path.is_file() && last().is_ok_and(|last| last != *b"\n")
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
    fn a_busy_file_is_written_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        let file = DecisionFile::open(&path).unwrap();
        let begun = Instant::now();
        while std::fs::metadata(&path).unwrap().len() == 0 {
            file.append(b"x".to_vec());
            std::thread::sleep(Duration::from_millis(5));
            assert!(begun.elapsed() < 20 * FLUSH_EVERY);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let file = DecisionFile::open(Path::new("/dev/full")).unwrap();
        (0..5).for_each(|_| file.append(b"line".to_vec()));
        file.flush();
        assert_eq!(file.dropped(), 5);
    }

    #[test]
    fn a_line_that_a_killed_process_left_torn_swallows_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        for (before, after) in [("a\ntorn", "a\ntorn\nb\n"), ("a\n", "a\nb\n"), ("", "b\n")] {
            std::fs::write(&path, before).unwrap();
            DecisionFile::open(&path).unwrap().append(b"b".to_vec());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
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
