//! What a door may want to know beside the endpoint that was picked: who comes next, and how good each looked.
//!
//! For proxies that try others by themselves, such as Envoy. Costs nothing where it is not wished for. Called by placing.

use crate::brain::Brain;
use crate::placing::Picked;
use smallvec::SmallVec;
use waypost_config::ModelIndex;
use waypost_picker::Ask;

/// What is to be told beside an endpoint; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// So many further endpoints, to be tried in order.
    pub fallbacks: usize,
    /// The score of each endpoint that could have been taken.
    pub scores: bool,
}

/// The answer to a [`Wish`]. Endpoints are positions in the model's pool.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// Who would be picked without those before. Only endpoints with an IP address that are told the same as the one that
    /// was picked: a request dressed for one rank or worker cannot go to another.
    pub fallbacks: Vec<usize>,
    /// See [`waypost_picker::Pool::scores`].
    pub scores: Vec<(usize, f64)>,
}

impl Brain {
    pub(crate) fn others(&self, model: ModelIndex, wish: Wish, ask: &Ask<'_>, picked: &Picked) -> Others {
        let (pool, now) = (self.pool(model), self.now());
        let scores = if wish.scores { pool.scores(&picked.decode, ask, now) } else { Vec::new() };
        if wish.fallbacks == 0 {
            return Others { fallbacks: Vec::new(), scores };
        }
        let spec = picked.decode.booking.endpoint().spec();
        let (rank, instance) = (spec.rank, spec.instance);
        let alike = pool.endpoints().iter().enumerate().filter(|(index, endpoint)| {
            let spec = endpoint.spec();
            let wanted = ask.only.is_none_or(|only| only.contains(index));
            wanted && spec.address().is_some() && (spec.rank, spec.instance) == (rank, instance)
        });
        let only: SmallVec<[usize; 8]> = alike.map(|(index, _)| index).collect();
        let mut tried: SmallVec<[usize; 8]> = ask.tried.into();
        tried.push(picked.decode.index);
        tried.extend(picked.prefill.as_ref().map(|reader| reader.index));
        let ask = Ask { only: Some(&only), tried: &tried, ..*ask };
        Others { fallbacks: pool.next_best(&ask, wish.fallbacks, now), scores }
    }
}
