//! The Envoy door: from the file's form to the checked one.

use std::path::Path;
use std::sync::Arc;

use crate::error::Fault;
use crate::file::ExtProcSpec;
use crate::leaf::DoorTls as Word;
use crate::raw::{Raw, Reader};
use crate::resolve::{number, positive};
use crate::snapshot::{DoorTls, ExtProc};

const MAX_STREAMS: u64 = 1_000_000;
/// Nobody tries more one after the other, and each makes the header longer.
const MAX_FALLBACKS: u64 = 16;

pub(crate) fn ext_proc(reader: &mut Reader<'_>, spec: &ExtProcSpec) -> Result<ExtProc, Fault> {
    Ok(ExtProc {
        listen: reader.get(&spec.listen)?,
        health_listen: reader.get(&spec.health_listen)?,
        tls: tls(reader, spec)?,
        deadline: positive(reader, &spec.deadline)?,
        streams: number(reader, &spec.streams, 1..=MAX_STREAMS)? as usize,
        fallbacks: number(reader, &spec.fallbacks, 0..=MAX_FALLBACKS)? as usize,
        scores: reader.get(&spec.scores)?,
        mode_override: reader.get(&spec.mode_override)?,
        model_headers: reader.get(&spec.model_headers)?,
        trust_clients: reader.get(&spec.trust_clients)?,
        gaie_errors: reader.get(&spec.gaie_errors)?,
        conformance: reader.get(&spec.conformance)?,
    })
}

fn tls(reader: &mut Reader<'_>, spec: &ExtProcSpec) -> Result<DoorTls, Fault> {
    let word = reader.get(&spec.tls)?;
    match (word, &spec.certificate, &spec.key) {
        (Word::Files, Some(certificate), Some(key)) => {
            Ok(DoorTls::Files { certificate: file(reader, certificate)?, key: file(reader, key)? })
        }
        (Word::Files, ..) => Err(spec.tls.fault("`tls: files` needs `certificate` and `key`")),
        (_, Some(unused), _) | (_, _, Some(unused)) => {
            Err(unused.fault("`certificate` and `key` are read with `tls: files` only"))
        }
        (Word::Off, ..) => Ok(DoorTls::Off),
        (Word::SelfSigned, ..) => Ok(DoorTls::SelfSigned),
    }
}

fn file(reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<Arc<Path>, Fault> {
    let path = reader.get(raw)?;
    Ok(reader.folder.join(path).into())
}
