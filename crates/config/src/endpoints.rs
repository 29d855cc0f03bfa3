//! A model's replicas: addresses, roles, ranks and where their KV events come from.
//!
//! Data-parallel ranks become endpoints of their own, with ports that count up. Called by `models`.

use std::sync::Arc;

use crate::error::Fault;
use crate::file::{EndpointOption, EndpointSpec, ModelSpec};
use crate::leaf::BaseUrl;
use crate::raw::{Raw, Reader};
use crate::resolve::number;
use crate::snapshot::{Endpoint, EventSource};

/// Ranks behind one address.
const MAX_RANKS: u64 = 256;
/// Of one model.
pub const MAX_ENDPOINTS: usize = 4096;

pub(crate) fn endpoints(reader: &mut Reader<'_>, spec: &ModelSpec) -> Result<Vec<Endpoint>, Fault> {
    let all: Vec<_> = match (&spec.endpoints[..], &spec.endpoint) {
        ([], None) if spec.endpoints_file.is_none() => {
            return Err(spec.name.fault("this model has no `endpoints`"));
        }
        ([_, ..], Some(one)) => {
            return Err(place(one).fault("give either `endpoint` or `endpoints`, not both"));
        }
        (many, one) => many.iter().chain(one).collect(),
    };
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(all.len());
    for option in all {
        for endpoint in one(reader, option)? {
            if endpoints.iter().any(|seen| seen.id() == endpoint.id()) {
                return Err(place(option).fault("this endpoint is listed twice"));
            }
            endpoints.push(endpoint);
        }
    }
    if endpoints.len() > MAX_ENDPOINTS {
        return Err(spec.name.fault(format!("this model has more than {MAX_ENDPOINTS} endpoints")));
    }
    Ok(endpoints)
}

fn place(option: &EndpointOption) -> &Raw<BaseUrl> {
    match option {
        EndpointOption::Url(raw) => raw,
        EndpointOption::Own(spec) => &spec.url,
    }
}

/// An endpoint, or as many as it has ranks.
fn one(reader: &mut Reader<'_>, option: &EndpointOption) -> Result<Vec<Endpoint>, Fault> {
    let spec = match option {
        EndpointOption::Url(raw) => {
            let BaseUrl(base) = reader.get(raw)?;
            return Ok(vec![Endpoint::at(base)]);
        }
        EndpointOption::Own(spec) => spec,
    };
    let BaseUrl(base) = reader.get(&spec.url)?;
    let port = spec.bootstrap_port.as_ref().map(|raw| number(reader, raw, 1..=65_535));
    let all = Endpoint {
        role: reader.opt(spec.role.as_ref())?.unwrap_or_default(),
        instance: reader.opt(spec.instance.as_ref())?,
        bootstrap_port: port.transpose()?.map(|port| port as u16),
        ..Endpoint::at(base)
    };
    let ranks = spec.ranks.as_ref().map(|raw| number(reader, raw, 1..=MAX_RANKS)).transpose()?;
    let rank = spec.rank.as_ref().map(|raw| number(reader, raw, 0..=MAX_RANKS - 1)).transpose()?;
    let Some(ranks) = ranks else {
        let rank = rank.map(|rank| rank as u32);
        return Ok(vec![Endpoint { rank, events: events(reader, spec, 0)?, ..all }]);
    };
    if let Some(raw) = &spec.rank {
        return Err(raw.fault("give either `rank` or `ranks`, not both"));
    }
    (0..ranks as u32)
        .map(|rank| Ok(Endpoint { rank: Some(rank), events: events(reader, spec, rank)?, ..all.clone() }))
        .collect()
}

fn events(reader: &mut Reader<'_>, spec: &EndpointSpec, rank: u32) -> Result<Option<EventSource>, Fault> {
    let Some(raw) = &spec.kv_events else {
        return match (&spec.kv_replay, &spec.kv_topic) {
            (Some(replay), _) => Err(replay.fault("`kv_replay` without `kv_events`")),
            (None, Some(topic)) => Err(topic.fault("`kv_topic` without `kv_events`")),
            (None, None) => Ok(None),
        };
    };
    let address = reader.get(raw)?;
    let nats = address.starts_with("nats://");
    let bind = address.starts_with("tcp://*:") || address.starts_with("tcp://0.0.0.0:");
    Ok(Some(EventSource {
        address: if nats { address.into() } else { zmq(raw, &address, rank)? },
        bind,
        replay: match &spec.kv_replay {
            Some(raw) => Some(zmq(raw, &reader.get(raw)?, rank)?),
            None => None,
        },
        topic: reader.opt(spec.kv_topic.as_ref())?.unwrap_or_default().into(),
    }))
}

/// A ZMQ address over TCP, its port counted up by `rank`.
fn zmq(raw: &Raw<String>, address: &str, rank: u32) -> Result<Arc<str>, Fault> {
    let wrong = || raw.wrong("is not a ZMQ address such as `tcp://10.0.0.7:5557`");
    let (host, port) =
        address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    if host.is_empty() {
        return Err(wrong());
    }
    let port = u16::try_from(u32::from(port) + rank)
        .map_err(|_| raw.wrong(&format!("has no port left for rank {rank}")))?;
    Ok(format!("tcp://{host}:{port}").into())
}

#[cfg(test)]
mod tests {
    fn ids(endpoints: &str) -> Result<Vec<(String, String)>, String> {
        let text = format!(
            "models: [{{name: m, endpoints: [{endpoints}], pick: {{dynamo: true, prefixes: dynamo}}}}]"
        );
        let snapshot = crate::load_str(&text, "test", &|_| None).map_err(|error| error.to_string())?;
        let one = |e: &crate::Endpoint| (e.id().to_string(), e.events.as_ref().unwrap().address.to_string());
        Ok(snapshot.models[0].endpoints.iter().map(one).collect())
    }

    #[test]
    fn workers_behind_one_frontend_are_told_apart_by_instance_and_rank() {
        let one = |rest: &str, port: u16| format!("{{url: 'http://f', kv_events: 'tcp://w:{port}', {rest}}}");
        let list =
            [one("instance: 7, rank: 0", 1), one("instance: 7, rank: 1", 9), one("instance: 8", 5)].join(",");
        let found = ids(&list).unwrap();
        let expected =
            [("http://f@7#0", "tcp://w:1"), ("http://f@7#1", "tcp://w:9"), ("http://f@8", "tcp://w:5")];
        assert_eq!(found, expected.map(|(id, address)| (id.to_owned(), address.to_owned())));

        let twice = ids(&[one("instance: 7", 1), one("instance: 7", 2)].join(",")).unwrap_err();
        assert!(twice.contains("this endpoint is listed twice"), "{twice}");
        let both = ids(&one("instance: 7, rank: 0, ranks: 2", 1)).unwrap_err();
        assert!(both.contains("give either `rank` or `ranks`, not both"), "{both}");
    }

    #[test]
    fn ranks_are_endpoints_whose_ports_count_up() {
        let found = ids("{url: 'http://f', instance: 7, kv_events: 'tcp://w:5', ranks: 2}").unwrap();
        assert_eq!(
            found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
            ["http://f@7#0", "http://f@7#1"]
        );
        assert_eq!(found[1].1, "tcp://w:6");
    }
}
