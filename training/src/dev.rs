//! The development prompts: judged in every run, never trained on.
//!
//! Called by `heads` and by `export-dev`.

use std::path::Path;

use waypost_classify::Error;

use crate::corpus::Row;
use crate::own;

/// All development prompts, each file a group of its own.
pub(crate) fn rows(here: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = own::prompts(&here.join("dev"))?;
    for row in &mut rows {
        // These files were written for task and domain; nobody looked for attacks in them.
        row.safety = None;
        row.group = row.group.replacen("own", "dev", 1);
    }
    let mut safety = own::safety(&here.join("safety/dev.txt"))?;
    safety.iter_mut().for_each(|row| row.group = row.group.replacen("ownsafe", "dev", 1));
    rows.extend(safety);
    Ok(rows)
}
