//! Learnt outcomes at the command line: rows, prices, and how good routing by expectations is.
//!
//! Shared by `train --outcomes`, which makes a folder, and `eval --outcomes`, which judges one.

mod curve;
mod draw;
mod measure;
mod pair;
mod prices;
mod report;
mod rows;

use waypost_classify::OutcomeModel;
use waypost_classify::outcomes::Expected;
use waypost_classify::train::outcomes::Outcomes;
use waypost_router::ANSWER_TOKENS;

pub(crate) use draw::picture;
pub(crate) use measure::{Judged, Measured};
pub(crate) use prices::{Price, for_models as prices_for, parse as parse_price};
pub(crate) use report::{shown, summary};
pub(crate) use rows::{Fields, MODEL_FIELD, Sheet};

/// Prompts of a sheet with everything needed to judge a model by them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) sheet: &'a Sheet,
    pub(crate) outcomes: &'a Outcomes,
    /// Which prompt of the sheet each row of `outcomes` is.
    pub(crate) prompts: &'a [usize],
    pub(crate) prices: Option<&'a [Price]>,
}

impl Asked<'_> {
    /// The text of a row.
    pub(crate) fn text(&self, row: usize) -> &str {
        &self.sheet.prompts[self.prompts[row]]
    }

    /// The rows among these of which every model's outcome is known.
    pub(crate) fn complete(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().copied().filter(|&row| self.outcomes.row(row).iter().all(|q| !q.is_nan())).collect()
    }

    /// Judges by these complete rows, in which `expect` tells what the model expects.
    pub(crate) fn judge<E>(
        &self,
        model: &OutcomeModel,
        rows: &[usize],
        mut expect: impl FnMut(usize) -> Result<Vec<Expected>, E>,
    ) -> Result<Judged, E> {
        let m = self.outcomes.models.len();
        let best_single = model.best_single();
        let mut judged = Judged {
            models: self.outcomes.models.clone(),
            best_single,
            expected: Vec::with_capacity(rows.len() * m),
            truth: Vec::with_capacity(rows.len() * m),
            foreseen: Vec::with_capacity(rows.len() * m),
            cost: Vec::with_capacity(rows.len() * m),
            in_usd: self.prices.is_some(),
        };
        for &row in rows {
            let expected = expect(row)?;
            let input = prices::prompt_tokens(self.sheet.prompt_tokens[self.prompts[row]], self.text(row));
            for (at, (expected, quality)) in expected.iter().zip(self.outcomes.row(row)).enumerate() {
                let foreseen = expected.tokens.unwrap_or(ANSWER_TOKENS as f32);
                let told = self.outcomes.tokens.get(row * m + at).copied().filter(|tokens| !tokens.is_nan());
                let cost = |tokens: f32| match self.prices {
                    Some(prices) => prices[at].of(input, f64::from(tokens)),
                    None => f64::from(u8::from(at == best_single)),
                };
                judged.expected.push(expected.quality);
                judged.truth.push(*quality);
                judged.foreseen.push(cost(foreseen));
                judged.cost.push(cost(told.unwrap_or(foreseen)));
            }
        }
        Ok(judged)
    }
}
