//! What a policy does beyond one request: conversations that keep their model, shadows, and shared traffic.
//!
//! Called by `policies`.

use serde_saphyr::Location;

use crate::error::Fault;
use crate::file::{PolicySpec, SplitSpec, StickyOption};
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::{fraction, positive};
use crate::snapshot::{PolicyIndex, Split, SplitBy, Sticky};

/// Most policies that may decide beside another.
const MAX_SHADOWS: usize = 8;

/// How conversations are kept together.
pub(crate) fn sticky(reader: &mut Reader<'_>, spec: &PolicySpec) -> Result<Option<Sticky>, Fault> {
    let default;
    let own = match &spec.sticky {
        None => return Ok(None),
        Some(StickyOption::Named(word)) => {
            reader.get(word)?;
            default = crate::file::StickySpec::default();
            &default
        }
        Some(StickyOption::Own(own)) => own,
    };
    Ok(Some(Sticky {
        spend: f64::from(fraction(reader, &own.spend)?),
        keep: positive(reader, &own.keep)?,
        complaints: reader.get(&own.complaints)?,
    }))
}

/// The policies that decide beside this one.
pub(crate) fn shadow(
    reader: &mut Reader<'_>,
    spec: &PolicySpec,
    all: &[PolicySpec],
    names: &[String],
) -> Result<Vec<PolicyIndex>, Fault> {
    let mut shadows = Vec::with_capacity(spec.shadow.len());
    for raw in &spec.shadow {
        let index = find(reader, raw, names)?;
        if std::ptr::eq(&raw const all[index], &raw const *spec) {
            return Err(raw.fault("a policy is no shadow of itself"));
        }
        if all[index].split.is_some() {
            return Err(raw.fault("this policy is a split; name one of its arms"));
        }
        if shadows.contains(&index) {
            return Err(raw.fault("this policy is listed twice"));
        }
        if shadows.len() == MAX_SHADOWS {
            return Err(raw.fault(format!("more than {MAX_SHADOWS} shadows")));
        }
        shadows.push(index);
    }
    Ok(shadows)
}

/// The arms of a policy that shares its traffic among others.
pub(crate) fn split(
    reader: &mut Reader<'_>,
    spec: &SplitSpec,
    at: Location,
    all: &[PolicySpec],
    names: &[String],
) -> Result<Split, Fault> {
    let by = reader.get(&spec.by)?.to_ascii_lowercase();
    let by = match by.as_str() {
        "conversation" => SplitBy::Conversation,
        "request" => SplitBy::Request,
        name if http::HeaderName::from_bytes(name.as_bytes()).is_ok() => {
            let hint = hint(name, ["conversation", "request"]);
            if !hint.is_empty() {
                reader
                    .warn(spec.by.location(), format!("requests are shared out by a header `{name}`{hint}"));
            }
            SplitBy::Header(name.into())
        }
        _ => return Err(spec.by.wrong("is neither `conversation`, `request` nor the name of a header")),
    };
    let mut arms: Vec<(PolicyIndex, f64)> = Vec::with_capacity(spec.arms.0.len());
    for (name, weight) in &spec.arms.0 {
        let index = find(reader, name, names)?;
        if all[index].split.is_some() {
            return Err(name.fault("an arm cannot be a split itself"));
        }
        if arms.iter().any(|(known, _)| *known == index) {
            return Err(name.fault("this policy is listed twice"));
        }
        let share = reader.get(weight)?;
        if !(0.0..=1e9).contains(&share) {
            return Err(weight.wrong("is not a weight such as `90`"));
        }
        if share == 0.0 {
            reader.warn(weight.location(), format!("the arm{} gets no traffic", name.quoted()));
        }
        arms.push((index, share));
    }
    if arms.iter().all(|(_, weight)| *weight == 0.0) {
        return Err(Fault::new(at, "`arms` needs a policy with a weight above 0"));
    }
    Ok(Split { by, arms })
}

fn find(reader: &mut Reader<'_>, raw: &Raw<String>, names: &[String]) -> Result<PolicyIndex, Fault> {
    let name = reader.get(raw)?;
    names.iter().position(|known| *known == name).ok_or_else(|| {
        let hint = hint(&name, names.iter().map(String::as_str));
        raw.fault(format!("unknown policy{}{hint}", raw.quoted()))
    })
}
