//! Saving a run, and going on with one.

use std::path::Path;
use std::time::Instant;

use super::Trainer;
use crate::average::Average;
use crate::checkpoint::{AVERAGE, Best, Contents, TRAINED};
use crate::event::Event;
use crate::{Result, TrainError};

impl Trainer<'_> {
    /// Takes up the newest checkpoint, if one is asked for and there is one.
    pub(super) fn restore(&mut self) -> Result<()> {
        let (Some(store), true) = (&self.store, self.settings.resume) else { return Ok(()) };
        let mut skipped = Vec::new();
        let mut complain = |path: &Path, error: &TrainError| {
            skipped.push(Event::Skipped { path: path.into(), problem: error.to_string() });
        };
        // Rank 0 chooses, and the others read what it has chosen.
        let chosen = match self.ranks.rank() {
            0 => {
                store.recover()?;
                store.newest(&mut complain)?
            }
            _ => None,
        };
        let steps = chosen.as_ref().map(|(_, state)| state.steps as u64);
        let mut steps = steps.map_or(vec![], |steps| steps.to_le_bytes().to_vec());
        self.ranks.broadcast(&mut steps)?;
        let Ok(steps) = <[u8; 8]>::try_from(steps) else { return Ok(()) };
        let (path, state) = match chosen {
            Some(chosen) => chosen,
            None => store.whole(u64::from_le_bytes(steps) as usize)?,
        };
        let changes = self.state.identity.changes(&state.identity);
        if !changes.is_empty() {
            return Err(TrainError::Changed { path, changes });
        }
        let Contents { state, model, other, optimizer, recorders } =
            store.read(&path, self.problem.net, &self.device)?;
        let (trained, average) = match other {
            Some((TRAINED, trained)) => (trained, Some(model)),
            Some((_, average)) => (model, Some(average)),
            None => (model, None),
        };
        self.problem.params.load(trained)?;
        if let (Some(average), Some(saved)) = (&mut self.average, average) {
            average.load(saved, state.averaged)?;
        }
        self.log_variances.load(&state.log_variances)?;
        self.optimizer.restore(optimizer)?;
        (self.state, self.recorders) = (state, recorders);
        if self.ranks.rank() == 0 {
            store.prune(&self.state)?;
        }
        self.saved = (self.state.steps, Instant::now());
        let (steps, position) = (self.state.steps, self.state.position);
        let state = self.state.digest()?;
        self.emit(Event::Resumed { path, steps, phase: position.phase, step: position.step, state });
        skipped.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }

    /// Saves where the configuration's minutes or steps have passed.
    pub(super) fn save_when_due(&mut self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let (config, (steps, at)) = (store.config(), self.saved);
        let of_steps = config.steps > 0 && self.state.steps >= steps + config.steps;
        let of_time = config.minutes > 0.0 && at.elapsed().as_secs_f64() >= 60.0 * config.minutes;
        // Clocks differ; rank 0's counts.
        let of_time = self.ranks.any(of_time && self.ranks.rank() == 0)?;
        if of_steps || of_time { self.save() } else { Ok(()) }
    }

    pub(super) fn save(&mut self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        self.check_parameters()?;
        self.saved = (self.state.steps, Instant::now());
        if self.ranks.rank() > 0 {
            return Ok(());
        }
        self.state.averaged = self.average.as_ref().map_or(0, Average::updates);
        self.state.log_variances = self.log_variances.values()?;
        let (steps, path) = (self.state.steps, store.place(self.state.steps));
        (self.sink)(&Event::Saving { steps, path, state: self.state.digest()? });
        let (trained, evaluate) = (self.problem.params.tensors(), self.settings.ema.evaluate);
        let (model, other) = match self.average.as_ref().map(Average::tensors) {
            Some(average) if evaluate => (average, Some((TRAINED, trained))),
            average => (trained, average.map(|average| (AVERAGE, average))),
        };
        let contents = Contents {
            state: self.state.clone(),
            model,
            other,
            optimizer: self.optimizer.tensors()?,
            recorders: self.recorders.clone(),
        };
        let path = store.save(&contents)?;
        self.saved = (steps, Instant::now());
        self.emit(Event::Saved { path });
        Ok(())
    }

    /// Notes whether the scores are the best so far.
    pub(super) fn find_best(&mut self) -> Result<()> {
        let Some(watched) = &self.settings.checkpoints.best else { return Ok(()) };
        let scores = &self.state.scores;
        let matching: Vec<_> = scores.iter().filter(|score| score.key().contains(watched.as_str())).collect();
        let [score] = matching[..] else {
            let among = if matching.is_empty() { scores.iter().collect() } else { matching };
            let names: Vec<String> = among.iter().map(|score| format!("{:?}", score.key())).collect();
            return Err(TrainError::invalid(format!(
                "checkpoints.best is {watched:?}, which must be part of the name of one score: one of {}",
                names.join(", ")
            )));
        };
        let better =
            |best: &Best| (score.value > best.value) == score.higher_is_better && score.value != best.value;
        if self.state.best.as_ref().is_none_or(better) {
            self.state.best = Some(Best { steps: self.state.steps, value: score.value });
        }
        Ok(())
    }
}
