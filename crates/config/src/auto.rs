//! An auto policy: its contestants, where their expected quality comes from, and the rule.
//!
//! What the outcomes or the network know is only told when they are read; the router holds names against them. Called by
//! `classifiers`.

use std::sync::Arc;

use serde_saphyr::Location;

use crate::error::Fault;
use crate::file::{AutoSpec, EmbeddingSpec, Numbers};
use crate::models::Models;
use crate::nearest::hint;
use crate::raw::{Raw, Reader};
use crate::resolve::{at_least_zero, fraction};
use crate::snapshot::{
    Auto, AutoRule, AutoSource, Contestant, Embedding, EmbeddingIndex, EmbeddingKind, Secret,
};

/// How far below the best the taken model may be, where nothing is said.
const TOLERANCE: f32 = 0.03;
/// Most models an auto policy chooses from.
const MAX_CONTESTANTS: usize = 64;

/// The policy's part of the snapshot.
pub(crate) fn bind(
    reader: &mut Reader<'_>,
    spec: &AutoSpec,
    at: Location,
    models: &Models<'_>,
    embeddings: &[Embedding],
) -> Result<Auto, Fault> {
    let contestants = contestants(reader, spec, at, models)?;
    let source = source(reader, spec, at, embeddings)?;
    let rule = rule(reader, spec, at, models, &contestants)?;
    Ok(Auto { contestants, source, rule })
}

fn contestants(
    reader: &mut Reader<'_>,
    spec: &AutoSpec,
    at: Location,
    models: &Models<'_>,
) -> Result<Vec<Contestant>, Fault> {
    let mut contestants: Vec<Contestant> = Vec::with_capacity(spec.models.len());
    for raw in &spec.models {
        let model = models.find(reader, raw)?;
        if contestants.iter().any(|known| known.model == model) {
            return Err(raw.fault("this model is listed twice"));
        }
        contestants.push(Contestant { model, known_as: Arc::clone(&models.list[model].name) });
    }
    if !(2..=MAX_CONTESTANTS).contains(&contestants.len()) {
        let message = format!("`auto` chooses from 2 to {MAX_CONTESTANTS} `models`");
        return Err(Fault::new(at, message));
    }
    for (name, model) in spec.names.iter().flat_map(|names| &names.0) {
        let (known_as, index) = (reader.get(name)?, models.find(reader, model)?);
        let Some(contestant) = contestants.iter_mut().find(|known| known.model == index) else {
            return Err(model.fault(format!("{} is not among `models`", model.quoted().trim())));
        };
        contestant.known_as = known_as.into();
    }
    for (i, contestant) in contestants.iter().enumerate() {
        if contestants[..i].iter().any(|other| other.known_as == contestant.known_as) {
            let message = format!("two models go by the name `{}`", contestant.known_as);
            return Err(Fault::new(at, message));
        }
    }
    Ok(contestants)
}

fn source(
    reader: &mut Reader<'_>,
    spec: &AutoSpec,
    at: Location,
    embeddings: &[Embedding],
) -> Result<AutoSource, Fault> {
    match (&spec.outcomes, &spec.network, &spec.embeddings) {
        (Some(folder), None, None) => {
            Ok(AutoSource::Outcomes { folder: reader.folder.join(reader.get(folder)?).into() })
        }
        (Some(_), None, Some(raw)) => Err(raw.fault("`embeddings` belongs to `network`")),
        (None, Some(network), Some(raw)) => {
            let file = reader.folder.join(reader.get(network)?).into();
            Ok(AutoSource::Network { file, embeddings: find_embedding(reader, raw, embeddings)? })
        }
        (None, Some(raw), None) => {
            Err(raw.fault("`network` needs `embeddings`: the entry that makes its input"))
        }
        _ => Err(Fault::new(
            at,
            "`auto` needs one of `outcomes` (a folder from `waypost train --outcomes`) and `network`",
        )),
    }
}

fn find_embedding(
    reader: &mut Reader<'_>,
    raw: &Raw<String>,
    embeddings: &[Embedding],
) -> Result<EmbeddingIndex, Fault> {
    let name = reader.get(raw)?;
    embeddings.iter().position(|known| *known.name == *name).ok_or_else(|| {
        let hint = hint(&name, embeddings.iter().map(|known| &*known.name));
        raw.fault(format!("`embeddings` of this file has no entry{}{hint}", raw.quoted()))
    })
}

fn rule(
    reader: &mut Reader<'_>,
    spec: &AutoSpec,
    at: Location,
    models: &Models<'_>,
    contestants: &[Contestant],
) -> Result<AutoRule, Fault> {
    let said =
        [spec.tolerance.is_some(), spec.maximize.is_some(), spec.budget.is_some(), spec.thresholds.is_some()];
    if said.into_iter().filter(|said| *said).count() > 1 {
        return Err(Fault::new(at, "keep one of `tolerance`, `maximize`, `budget` and `thresholds`"));
    }
    if let Some(thresholds) = &spec.thresholds {
        let thresholds = numbers(reader, thresholds, models, contestants)?;
        let costs =
            spec.costs.as_ref().map(|costs| numbers(reader, costs, models, contestants)).transpose()?;
        warn_unreachable(reader, at, models, contestants, &thresholds, costs.as_deref());
        // v2's defaults for models that are not listed.
        return Ok(AutoRule::Thresholds {
            thresholds: thresholds.into_iter().map(|value| value.unwrap_or(0.0)).collect(),
            costs: costs.map(|costs| costs.into_iter().map(|value| value.unwrap_or(f64::INFINITY)).collect()),
        });
    }
    if spec.costs.is_some() {
        return Err(Fault::new(
            at,
            "`costs` belongs to `thresholds`; other rules go by each model's `price`",
        ));
    }
    let rule = match (&spec.tolerance, &spec.maximize, &spec.budget) {
        (Some(raw), ..) => AutoRule::Tolerance(fraction(reader, raw)?),
        (_, Some(raw), _) => {
            let objective = reader.get(raw)?;
            AutoRule::Maximize { cost: objective.cost, latency: objective.latency }
        }
        (.., Some(raw)) => AutoRule::Budget(at_least_zero(reader, raw)?),
        _ => AutoRule::Tolerance(TOLERANCE),
    };
    let by_price = !matches!(rule, AutoRule::Maximize { cost: 0.0, .. });
    let unpriced = contestants.iter().find(|known| models.list[known.model].price.is_none());
    if let Some(unpriced) = unpriced.filter(|_| by_price) {
        let message = format!(
            "this rule compares costs, and model `{}` has no `price`; for one of your own write what its tokens cost you",
            models.list[unpriced.model].name
        );
        return Err(Fault::new(at, message));
    }
    Ok(rule)
}

/// The number of each contestant, by its name in this file or in the outcomes.
fn numbers(
    reader: &mut Reader<'_>,
    pairs: &Numbers,
    models: &Models<'_>,
    contestants: &[Contestant],
) -> Result<Vec<Option<f64>>, Fault> {
    let mut numbers = vec![None; contestants.len()];
    for (name, raw) in &pairs.0 {
        let wanted = reader.get(name)?;
        let found = contestants
            .iter()
            .position(|known| *models.list[known.model].name == *wanted || *known.known_as == *wanted);
        let Some(position) = found else {
            let hint = hint(&wanted, contestants.iter().map(|known| &*models.list[known.model].name));
            return Err(name.fault(format!("no model of this policy is called{}{hint}", name.quoted())));
        };
        if numbers[position].replace(at_least_zero(reader, raw)?).is_some() {
            return Err(name.fault("this model is listed twice"));
        }
    }
    Ok(numbers)
}

/// Under v2's rule a model can be out of reach whatever the network says.
fn warn_unreachable(
    reader: &mut Reader<'_>,
    at: Location,
    models: &Models<'_>,
    contestants: &[Contestant],
    thresholds: &[Option<f64>],
    costs: Option<&[Option<f64>]>,
) {
    let name = |i: usize| &models.list[contestants[i].model].name;
    let cost = |i: usize| costs.map_or(0.0, |costs| costs[i].unwrap_or(f64::INFINITY));
    for (i, threshold) in thresholds.iter().enumerate() {
        // Qualified whatever happens, and cheaper: then nobody dearer is ever taken.
        let always =
            (0..thresholds.len()).find(|j| thresholds[*j].unwrap_or(0.0) <= 0.0 && cost(*j) < cost(i));
        let why = match (threshold, always) {
            (Some(threshold), _) if *threshold > 1.0 => {
                format!(
                    "its threshold of {threshold} is above 1, so it is taken only when no model qualifies"
                )
            }
            (_, Some(j)) => format!("`{}` costs less and always qualifies", name(j)),
            _ => continue,
        };
        reader.warn(at, format!("`{}` is hardly ever chosen: {why}", name(i)));
    }
}

/// The entries of `embeddings`.
pub(crate) fn embeddings(reader: &mut Reader<'_>, specs: &[EmbeddingSpec]) -> Result<Vec<Embedding>, Fault> {
    let mut list: Vec<Embedding> = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = reader.get(&spec.name)?;
        if list.iter().any(|known| *known.name == *name) {
            return Err(spec.name.fault("another entry has this name"));
        }
        let kind = embedding(reader, spec)?;
        list.push(Embedding { name: name.into(), kind });
    }
    Ok(list)
}

fn embedding(reader: &mut Reader<'_>, spec: &EmbeddingSpec) -> Result<EmbeddingKind, Fault> {
    if spec.url.is_none() && (spec.model.is_some() || spec.api_key.is_some()) {
        return Err(spec.name.fault("`model` and `api_key` belong to `url`"));
    }
    match (&spec.folder, &spec.url, &spec.jina) {
        (Some(folder), None, None) => {
            Ok(EmbeddingKind::Folder(reader.folder.join(reader.get(folder)?).into()))
        }
        (None, Some(url), None) => {
            let Some(model) = &spec.model else {
                return Err(url.fault("this server needs a `model` to ask for, such as `nvidia/nvclip`"));
            };
            Ok(EmbeddingKind::OpenAi {
                url: reader.get(url)?.0.into(),
                model: reader.get(model)?.into(),
                api_key: reader.opt::<Secret>(spec.api_key.as_ref())?.unwrap_or_default(),
            })
        }
        (None, None, Some(base)) => Ok(EmbeddingKind::Jina { base: reader.get(base)?.0.into() }),
        _ => Err(spec.name.fault("needs one of `folder`, `url` and `jina`")),
    }
}
