//! stub
use crate::cli::Collect;
use crate::error::Error;
pub(crate) fn run(_: &Collect) -> Result<(), Error> {
    Ok(())
}
