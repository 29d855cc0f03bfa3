//! The list of models: those declared, and those that v1 `llms` entries imply.
//!
//! Guards the one name space that models, policies and `auto` share. Called by `resolve`.

use std::path::Path;
use std::sync::Arc;

use crate::endpoints::endpoints;
use crate::error::Fault;
use crate::file::{LlmSpec, ModelSpec, PolicySpec, PriceSpec, TimeoutsSpec};
use crate::leaf::{BaseUrl, Capability};
use crate::nearest::hint;
use crate::picking::picking;
use crate::raw::{Raw, Reader};
use crate::reasoning;
use crate::resolve::{at_least_zero, number, positive};
use crate::snapshot::{Accepts, Endpoint, Model, ModelIndex, Price, Timeouts};

/// What a cached prompt token costs, as a share of an uncached one, where nothing is said. Providers ask 0.1 to 0.5.
const CACHED_SHARE: f64 = 0.25;

/// Models so far, and the names they must not take.
pub(crate) struct Models<'a> {
    pub(crate) list: Vec<Model>,
    policies: &'a [String],
}

/// A v1 `llms` entry with its label read and its model found.
pub(crate) struct Adopted {
    pub(crate) label: String,
    pub(crate) model: ModelIndex,
}

impl<'a> Models<'a> {
    /// The models under `models:`.
    pub(crate) fn declared(
        reader: &mut Reader<'_>,
        specs: &[ModelSpec],
        policies: &'a [String],
    ) -> Result<Self, Fault> {
        let list = Vec::with_capacity(specs.len());
        let mut models = Self { list, policies };
        for spec in specs {
            let name = reader.get(&spec.name)?;
            if let Some(problem) = models.name_taken(&name) {
                return Err(spec.name.fault(problem));
            }
            let base = spec.adapter_of.as_ref().map(|raw| models.base(reader, raw, spec)).transpose()?;
            let any_name = models.any_name(reader, spec)?;
            let model = declared(reader, spec, name, base.map(|index| (index, &models.list[index])))?;
            models.list.push(Model { any_name, ..model });
        }
        Ok(models)
    }

    /// The model that an adapter belongs to.
    fn base(
        &self,
        reader: &mut Reader<'_>,
        raw: &Raw<String>,
        spec: &ModelSpec,
    ) -> Result<ModelIndex, Fault> {
        if !spec.endpoints.is_empty()
            || spec.endpoint.is_some()
            || spec.endpoints_file.is_some()
            || spec.pick.is_some()
        {
            return Err(raw.fault(
                "an adapter has the endpoints of its model, and is picked as that is: leave them out here",
            ));
        }
        let base = self.find(reader, raw)?;
        match self.list[base].adapter_of {
            None => Ok(base),
            Some(_) => Err(raw.wrong("is an adapter itself")),
        }
    }

    /// Whether the model takes every name.
    fn any_name(&self, reader: &mut Reader<'_>, spec: &ModelSpec) -> Result<bool, Fault> {
        let Some(raw) = &spec.any_name else { return Ok(false) };
        let any_name = reader.get(raw)?;
        if any_name && spec.adapter_of.is_some() {
            return Err(raw.fault("an adapter has one name; let its model take the others"));
        }
        match self.list.iter().find(|model| any_name && model.any_name) {
            Some(other) => Err(raw.fault(format!("`{}` takes every name already", other.name))),
            None => Ok(any_name),
        }
    }

    /// The models behind v1's `llms`, one list per policy (empty for policies of Waypost's own form).
    pub(crate) fn adopt_v1(
        &mut self,
        reader: &mut Reader<'_>,
        policies: &[PolicySpec],
    ) -> Result<Vec<Vec<Adopted>>, Fault> {
        policies
            .iter()
            .map(|policy| {
                let entries = policy.llms.iter().flatten();
                entries.map(|llm| self.adopt(reader, llm)).collect()
            })
            .collect()
    }

    /// The index of the model that `raw` names.
    pub(crate) fn find(&self, reader: &mut Reader<'_>, raw: &Raw<String>) -> Result<ModelIndex, Fault> {
        let name = reader.get(raw)?;
        self.position(&name).ok_or_else(|| {
            let hint = hint(&name, self.list.iter().map(|model| &*model.name));
            raw.fault(format!("unknown model{}{hint}", raw.quoted()))
        })
    }

    fn position(&self, name: &str) -> Option<ModelIndex> {
        self.list.iter().position(|model| &*model.name == name)
    }

    fn name_taken(&self, name: &str) -> Option<String> {
        if self.policies.iter().any(|policy| policy == name) {
            return Some("a policy has this name too; clients could not tell them apart".to_owned());
        }
        self.position(name).map(|_| "another model has this name".to_owned())
    }

    /// Entries that agree in model id, address and key share one model, and so its health and load.
    fn adopt(&mut self, reader: &mut Reader<'_>, llm: &LlmSpec) -> Result<Adopted, Fault> {
        let label = reader.get(&llm.name)?;
        let id = reader.get(&llm.model)?;
        let BaseUrl(base) = reader.get(&llm.api_base)?;
        let api_key = reader.opt(llm.api_key.as_ref())?.unwrap_or_default();

        let same = self.list.iter().position(|model| {
            *model.upstream_id == *id
                && matches!(&model.endpoints[..], [only] if *only.base == *base)
                && model.api_key == api_key
        });
        if let Some(model) = same {
            return Ok(Adopted { label, model });
        }
        let name = self.free_name(&id, &base);
        if name != id {
            reader.warn(
                llm.model.location(),
                format!(
                    "`{id}` is already the name of something else here (another address or key); \
                     this one is listed as `{name}`"
                ),
            );
        }
        self.list.push(Model {
            name: name.into(),
            upstream_id: id.into(),
            endpoints: vec![Endpoint::at(base)],
            endpoints_file: None,
            picking: Arc::default(),
            adapter_of: None,
            any_name: false,
            api_key,
            price: None,
            context_length: None,
            accepts: EVERYTHING,
            reasoning: None,
            timeouts: timeouts(reader, &TimeoutsSpec::default())?,
            listed: true,
        });
        let model = self.list.len() - 1;
        Ok(Adopted { label, model })
    }

    /// `id`, else `id@host`, else `id@host#2` and on.
    fn free_name(&self, id: &str, base: &str) -> String {
        if self.name_taken(id).is_none() {
            return id.to_owned();
        }
        let host = base.split_once("//").map_or(base, |(_, host)| host);
        let at_host = format!("{id}@{host}");
        let mut name = at_host.clone();
        let mut count = 1;
        while self.name_taken(&name).is_some() {
            count += 1;
            name = format!("{at_host}#{count}");
        }
        name
    }
}

const EVERYTHING: Accepts = Accepts { images: true, audio: true, tools: true, json_schema: true };

fn declared(
    reader: &mut Reader<'_>,
    spec: &ModelSpec,
    name: String,
    base: Option<(ModelIndex, &Model)>,
) -> Result<Model, Fault> {
    let name: Arc<str> = name.into();
    let upstream_id = reader.opt(spec.model.as_ref())?;
    let context_length = match &spec.context_length {
        Some(raw) => u32::try_from(number(reader, raw, 1..=u64::from(u32::MAX))?).ok(),
        None => None,
    };
    let endpoints_file: Option<Arc<Path>> = match &spec.endpoints_file {
        Some(raw) => Some(reader.folder.join(reader.get(raw)?).into()),
        None => None,
    };
    let (endpoints, picking) = match base {
        Some((_, base)) => (base.endpoints.clone(), Arc::clone(&base.picking)),
        None => {
            let endpoints = endpoints(reader, spec)?;
            let picking = Arc::new(picking(reader, spec.pick.as_ref(), &endpoints)?);
            (endpoints, picking)
        }
    };
    Ok(Model {
        upstream_id: upstream_id.map_or_else(|| Arc::clone(&name), Into::into),
        picking,
        adapter_of: base.map(|(index, _)| index),
        any_name: false,
        endpoints,
        endpoints_file,
        api_key: reader.opt(spec.api_key.as_ref())?.unwrap_or_default(),
        price: spec.price.as_ref().map(|p| price(reader, p)).transpose()?,
        context_length,
        accepts: accepts(reader, spec.accepts.as_deref())?,
        reasoning: spec
            .reasoning
            .as_ref()
            .map(|told| reasoning::told(reader, told, &spec.name))
            .transpose()?,
        timeouts: timeouts(reader, &spec.timeouts)?,
        listed: true,
        name,
    })
}

fn price(reader: &mut Reader<'_>, spec: &PriceSpec) -> Result<Price, Fault> {
    let input = at_least_zero(reader, &spec.input)?;
    let cached_input = match &spec.cached_input {
        Some(raw) => at_least_zero(reader, raw)?,
        None => input * CACHED_SHARE,
    };
    Ok(Price { input, output: at_least_zero(reader, &spec.output)?, cached_input })
}

fn accepts(reader: &mut Reader<'_>, listed: Option<&[Raw<Capability>]>) -> Result<Accepts, Fault> {
    let Some(listed) = listed else {
        return Ok(EVERYTHING);
    };
    let mut accepts = Accepts { images: false, audio: false, tools: false, json_schema: false };
    for raw in listed {
        match reader.get(raw)? {
            Capability::Images => accepts.images = true,
            Capability::Audio => accepts.audio = true,
            Capability::Tools => accepts.tools = true,
            Capability::JsonSchema => accepts.json_schema = true,
        }
    }
    Ok(accepts)
}

fn timeouts(reader: &mut Reader<'_>, spec: &TimeoutsSpec) -> Result<Timeouts, Fault> {
    Ok(Timeouts {
        connect: positive(reader, &spec.connect)?,
        first_byte: positive(reader, &spec.first_byte)?,
        idle: positive(reader, &spec.idle)?,
        total: positive(reader, &spec.total)?,
    })
}
