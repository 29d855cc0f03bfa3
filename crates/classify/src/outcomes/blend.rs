//! How much each part of an outcome model counts: what training found worth it on rows that the part was not taught.
//!
//! Pure data, kept in the file as JSON. Called by `outcomes`; training fits it.

use serde::{Deserialize, Serialize};

/// What can move an expectation away from a model's mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The table by domain, task and difficulty.
    Table,
    /// A linear model over what the built-in classifiers say, and over cues.
    Cues,
    /// A linear model over words and pairs of words.
    Terms,
    /// Known prompts that resemble this one by the encoder's embedding.
    Neighbours,
    /// A linear model over what the built-in classifiers say, and over the encoder's output.
    Encoder,
}

impl Part {
    /// All of them, in the order in which training tries them.
    pub const ALL: [Self; 5] = [Self::Terms, Self::Table, Self::Cues, Self::Neighbours, Self::Encoder];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Cues => "cues",
            Self::Terms => "words",
            Self::Encoder => "encoder",
            Self::Neighbours => "neighbours",
        }
    }

    /// Whether it needs the encoder's output.
    pub fn asks_encoder(self) -> bool {
        matches!(self, Self::Encoder | Self::Neighbours)
    }
}

/// The weight of each part; nothing where a part was not worth it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Blend {
    /// Of [`Part::Table`].
    pub table: f32,
    /// Of [`Part::Cues`].
    pub cues: f32,
    /// Of [`Part::Terms`].
    pub terms: f32,
    /// Of [`Part::Encoder`].
    pub encoder: f32,
    /// Of [`Part::Neighbours`].
    pub neighbours: f32,
    /// Whether any model may be expected to be better than the best single one: only if it paid on prompts not taught.
    pub others_may_lead: bool,
}

impl Blend {
    /// The weight of a part.
    pub fn weight(&self, part: Part) -> f32 {
        match part {
            Part::Table => self.table,
            Part::Cues => self.cues,
            Part::Terms => self.terms,
            Part::Encoder => self.encoder,
            Part::Neighbours => self.neighbours,
        }
    }

    /// The same with another weight for a part.
    #[must_use]
    pub fn with(mut self, part: Part, weight: f32) -> Self {
        match part {
            Part::Table => self.table = weight,
            Part::Cues => self.cues = weight,
            Part::Terms => self.terms = weight,
            Part::Encoder => self.encoder = weight,
            Part::Neighbours => self.neighbours = weight,
        }
        self
    }

    /// Whether any part counts.
    pub fn moves(&self) -> bool {
        Part::ALL.into_iter().any(|part| self.weight(part) > 0.0)
    }
}

/// The weights for both tiers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Parts {
    /// Without an encoding.
    pub tier0: Blend,
    /// With one.
    pub tier1: Blend,
}

impl Parts {
    /// Whether an encoding changes anything.
    pub fn asks_encoder(&self) -> bool {
        Part::ALL.into_iter().any(|part| part.asks_encoder() && self.tier1.weight(part) > 0.0)
    }

    /// Whether every weight is one that training could have found.
    pub(crate) fn sound(&self) -> bool {
        let fine = |blend: &Blend| {
            Part::ALL.into_iter().all(|part| (0.0..=MAX_WEIGHT).contains(&blend.weight(part)))
        };
        fine(&self.tier0) && fine(&self.tier1) && self.tier0.encoder == 0.0 && self.tier0.neighbours == 0.0
    }
}

/// Most that a part may be magnified.
pub(crate) const MAX_WEIGHT: f32 = 4.0;
