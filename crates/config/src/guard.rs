//! The guard: from the file's form to the checked one.

use crate::classifiers::false_alarms;
use crate::error::Fault;
use crate::file::GuardSpec;
use crate::labels::Known;
use crate::leaf::{Attack, OnFailure};
use crate::raw::Reader;
use crate::snapshot::Guard;

pub(crate) fn guard(reader: &mut Reader<'_>, spec: &GuardSpec) -> Result<Guard, Fault> {
    let refuse = match &spec.refuse {
        // The first label is no attack.
        None => Known::Safety.labels().iter().skip(1).copied().collect(),
        Some(labels) => labels
            .iter()
            .map(|raw| reader.get(raw).map(|Attack(label)| label))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if refuse.is_empty() {
        return Err(spec
            .false_alarms
            .fault("a guard with an empty `refuse` refuses nothing; leave `guard` out"));
    }
    Ok(Guard {
        refuse,
        false_alarms: false_alarms(reader, &spec.false_alarms)?,
        explicit_models: reader.get(&spec.explicit_models)?,
        refuse_unchecked: reader.get(&spec.on_failure)? == OnFailure::Refuse,
    })
}
