//! What one worker's engine calls its blocks, and which of them go first when the index is full.

use super::line::{Line, Named, Names};
use super::room::{Full, Room};
use super::table::Table;
use super::view::{At, name};

const DEPTHS: usize = Named::MAX_DEPTH as usize + 1;

/// The blocks of a worker in one tier.
#[derive(Debug)]
pub(super) struct Book(Table<Names>);

/// What became of a block that was to be written down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// Counted once more.
    Again,
    /// The name stands for another block.
    Other,
    /// Not known; may be written down here.
    No(At),
}

impl Book {
    pub(super) fn new(secret: u64, room: &mut Room) -> Result<Self, Full> {
        Table::new(secret, room).map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, engine: u64) -> Option<Named> {
        self.0.find(name(engine)).map(|(line, slot)| line.value(slot))
    }

    /// Counts one more store of a known name, or says where it may be written down.
    #[inline]
    pub(super) fn again(&self, engine: u64, chain: u64) -> Known {
        let (at, known) = self.0.seek(name(engine));
        if !known {
            return Known::No(at);
        }
        let line = self.0.line(at);
        let named = line.value(at.slot);
        if named.chain != chain {
            return Known::Other;
        }
        line.set(at.slot, Named { count: (named.count + 1).min(Named::MAX_COUNT), ..named });
        Known::Again
    }

    /// Writes down a name that is not known, at the place just said.
    #[inline]
    pub(super) fn add(
        &mut self,
        at: At,
        engine: u64,
        chain: u64,
        depth: u16,
        room: &mut Room,
    ) -> Result<(), Full> {
        let depth = depth.min(Named::MAX_DEPTH);
        self.0.insert(at, name(engine), Named { chain, depth, count: 1 }, room)
    }

    /// Takes back one store: the block's chain hash if that was the last one, `Err` if the name is unknown.
    pub(super) fn take(&mut self, engine: u64, room: &mut Room) -> Result<Option<u64>, ()> {
        let (at, true) = self.0.seek(name(engine)) else { return Err(()) };
        let line = self.0.line(at);
        let named = line.value(at.slot);
        if named.count > 1 {
            line.set(at.slot, Named { count: named.count - 1, ..named });
            return Ok(None);
        }
        self.0.remove(at, room);
        Ok(Some(named.chain))
    }

    /// Asks memory for where looking for this name begins.
    #[inline]
    pub(super) fn approach(&self, engine: u64) {
        self.0.approach(engine);
    }

    /// Asks memory for where looking for this name goes on, if it will.
    #[inline]
    pub(super) fn look_on(&self, engine: u64) {
        self.0.look_on(engine);
    }

    /// Takes out a part of the names: the chain hashes they stood for; `None` when no names are left.
    pub(super) fn take_some(&mut self, room: &mut Room) -> Option<Vec<u64>> {
        let lines = self.0.take_segment(room)?;
        let chains = lines.iter().flat_map(Names::values).map(|named| named.chain);
        Some(chains.collect())
    }

    pub(super) fn free(self, room: &mut Room) {
        self.0.free(room);
    }

    /// Gives up at least one block and about `1 / share` of them, the deepest in their prompts first, since
    /// a block is worth nothing without those before it; returns their chain hashes.
    pub(super) fn trim(&mut self, share: usize, room: &mut Room) -> Vec<u64> {
        let mut depths = vec![0u32; DEPTHS];
        let depth_of = |named: Named| usize::from(named.depth);
        self.0.iter().for_each(|(line, slot)| depths[depth_of(line.value(slot))] += 1);
        let quota = self.0.len() / share + 1;
        let (mut above, mut limit) = (0, 0);
        for (depth, count) in depths.iter().enumerate().rev() {
            if above + *count as usize >= quota {
                limit = depth;
                break;
            }
            above += *count as usize;
        }
        let mut at_limit = quota - above;
        let mut chains = Vec::with_capacity(quota);
        self.0.retain(room, |line, slot| {
            let named = line.value(slot);
            let spare = depth_of(named) == limit && at_limit > 0;
            at_limit -= usize::from(spare);
            let drop = spare || depth_of(named) > limit;
            if drop {
                chains.push(named.chain);
            }
            !drop
        });
        chains
    }
}
