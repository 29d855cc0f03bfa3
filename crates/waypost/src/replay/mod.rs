//! `waypost replay`: logged requests decided again, and what would change.
//!
//! Nothing is sent to a model. The decision code is the gateway's own; what it cannot know again comes from the log.
//! Called by `main`.

mod again;
mod costs;
mod order;
mod same;
mod summary;

use crate::cli::Replay;
use crate::error::Error;
use crate::logged::{self, Log};
use crate::offline::Offline;
use crate::print;
use again::{Again, New};
use order::Order;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use summary::Summary;

pub(crate) fn run(options: &Replay) -> Result<(), Error> {
    let offline = Offline::open(&options.config)?;
    let policy = options.policy.as_deref().map(|name| offline.policy(name)).transpose()?;
    let mut log = Log::open(&options.log)?;
    let mut out = options.out.as_ref().map(|path| create(path, &options.log)).transpose()?;
    let mut summary = Summary::new(offline.snapshot(), options.policy.as_deref());
    crate::serve::runtime()?.block_on(async {
        let mut again = Again::new(&offline, policy)?;
        let mut order = Order::default();
        loop {
            let ended = match log.next() {
                Some((number, line)) => {
                    let (line, number) = (line.to_vec(), number);
                    match logged::read(&line) {
                        Ok((_, recorded)) => order.put(recorded.at_unix_ms, recorded.id, number, line),
                        Err(reason) => log.unread.note(number, &reason),
                    }
                    false
                }
                None => true,
            };
            while let Some((_, line)) = order.take(ended) {
                one(&mut again, &mut summary, &line, out.as_mut()).await?;
            }
            if ended {
                return Ok::<_, Error>(());
            }
        }
    })?;
    if let Some(mut out) = out {
        out.flush()?;
    }
    if !summary.any_line() {
        log.whole()?;
        return Err(log.nothing("no decision to replay"));
    }
    if !summary.any_request() {
        return Err(Error::Data(format!(
            "{}: no line holds a request, so nothing can be decided again; `log: {{file: {{path: ..., prompts: true}}}}` has the gateway write them",
            log.name()
        )));
    }
    match options.json {
        true => print(&format!("{}\n", summary.json(log.unread.lines)))?,
        false => print(&format!("{}{}", log.unread.shown(), summary.text(log.name())))?,
    }
    match summary.unlike() {
        Some(difference) if options.verify => Err(Error::Data(difference)),
        _ => log.whole(),
    }
}

/// The file for new Decisions, which must not be the log that they are made from.
fn create(path: &Path, log: &Path) -> Result<BufWriter<File>, Error> {
    if path.canonicalize().is_ok_and(|path| log.canonicalize().is_ok_and(|log| log == path)) {
        return Err(Error::Usage(format!("--out {} is the log itself", path.display())));
    }
    File::create(path).map(BufWriter::new).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Decides one line again and counts what came of it.
async fn one(
    again: &mut Again<'_>,
    summary: &mut Summary,
    line: &[u8],
    out: Option<&mut BufWriter<File>>,
) -> Result<(), Error> {
    // It could be read before.
    let Ok((line, recorded)) = logged::read(line) else { return Ok(()) };
    let (decision, error, midway) = match again.decide(&line, &recorded).await? {
        New::Left(reason) => {
            summary.left(reason, line.request.is_some());
            return Ok(());
        }
        New::Decided { decision, error, midway } => (decision, error, midway),
    };
    let new = serde_json::to_value(&*decision).map_err(io::Error::from)?;
    let old: Value = serde_json::from_str(line.decision.get()).map_err(io::Error::from)?;
    summary.add(&recorded, &decision, same::difference(&old, &new), midway);
    if let Some(out) = out {
        let mut told = new;
        if let Some(error) = error {
            told["error"] = error.code.as_str().into();
        }
        serde_json::to_writer(&mut *out, &told).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
