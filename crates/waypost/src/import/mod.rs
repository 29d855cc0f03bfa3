//! stub
use crate::cli::ImportFrom;
use crate::error::Error;
pub(crate) fn run(_: &ImportFrom) -> Result<(), Error> {
    Ok(())
}
