//! Scores, after phases and at the end.

use std::sync::atomic::Ordering;

use super::{Ended, Trainer};
use crate::Result;
use crate::evaluate::{Score, evaluate_while};
use crate::event::{Change, Event};

impl Trainer<'_> {
    pub(super) fn evaluate(&mut self, phase: usize, name: &str) -> Result<Ended> {
        let (sink, stop) = (&mut *self.sink, &self.settings.stop);
        let mut go_on = |done, of| {
            sink(&Event::Evaluating { done, of });
            !stop.load(Ordering::Relaxed)
        };
        let batch = self.settings.batch.div_ceil(self.ranks.size());
        let (evals, ranks) = (self.problem.evals, &*self.ranks);
        let net = match &self.average {
            Some(average) if self.settings.ema.evaluate => average.net(),
            _ => &self.net,
        };
        let scores = evaluate_while(net, evals, batch, &self.device, ranks, &mut go_on)?;
        let Some(scores) = scores else { return Ok(Ended::Stopped) };
        self.state.evaluated_at = self.state.samples;
        self.state.scores = scores.clone();
        self.find_best()?;
        let total: usize = self.problem.sets.values().map(|set| set.dataset.len()).sum();
        let epochs = self.state.samples as f64 / total.max(1) as f64;
        self.emit(Event::Evaluated { phase, name: name.into(), epochs, scores });
        Ok(Ended::Whole)
    }
}

/// The scores that both have.
pub(super) fn differences(before: &[Score], after: &[Score]) -> Vec<Change> {
    let value = |key: &str| before.iter().find(|score| score.key() == key).map(|score| score.value);
    let change = |score: &Score| {
        let key = score.key();
        Some(Change { before: value(&key)?, after: score.value, key })
    };
    after.iter().filter_map(change).collect()
}
