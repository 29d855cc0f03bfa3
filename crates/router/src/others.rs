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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loaded;
    use std::sync::Arc;
    use waypost_classify::Engine;

    fn brain() -> Brain {
        let text = "
models:
  - name: m
    pick: {strategy: round-robin, dynamo: true}
    endpoints:
      - {url: http://10.0.0.1, instance: 1}
      - {url: http://10.0.0.2, instance: 2}
      - {url: http://engine, instance: 1}
      - {url: http://10.0.0.4, instance: 1}
      - {url: http://10.0.0.5, instance: 1}
";
        let snapshot = waypost_config::load_str(text, "waypost.yaml", &|_| None).unwrap();
        let loaded = Loaded::load(Arc::new(Engine::embedded().unwrap()), &snapshot, None).unwrap();
        Brain::new(snapshot, loaded, None)
    }

    #[test]
    fn fallbacks_are_those_that_a_dressed_request_can_go_to() {
        let place = |wish| brain().place_any(0, None, wish).unwrap();
        let told = place(Wish { fallbacks: 9, scores: true });
        assert_eq!((told.held.index(), told.others.fallbacks), (0, vec![3, 4]));
        assert_eq!(told.others.scores.len(), 5, "of all that could be taken");
        assert_eq!(place(Wish { fallbacks: 1, scores: false }).others.fallbacks, [3]);
        let nothing = place(Wish::default()).others;
        assert!(nothing.fallbacks.is_empty() && nothing.scores.is_empty());
    }

    #[test]
    fn a_subset_binds_fallbacks_too() {
        let only = ["10.0.0.1".to_owned(), "10.0.0.5".to_owned()];
        let place = brain().place_any(0, Some(&only), Wish { fallbacks: 9, scores: true }).unwrap();
        assert_eq!(place.others.fallbacks, [4]);
        let told: Vec<_> = place.others.scores.iter().map(|(index, _)| *index).collect();
        assert_eq!(told, [0, 4]);
    }
}
