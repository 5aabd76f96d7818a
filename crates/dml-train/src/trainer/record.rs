//! Recording the responses of preserved tasks.

use std::sync::Arc;

use dml_data::View;
use dml_model::MultiTaskNet;

use super::Trainer;
use super::plan::{Draws, next_inputs};
use crate::Result;
use crate::event::Event;
use crate::monitor::drift;
use crate::responses::{Recorder, Recording, Responder, Table, answer};
use crate::schedule::{Length, Phase, Preserve, Recorded, Stream};

/// For each stream, who answers for each of its preserved tasks.
pub(super) type Responders = Vec<Vec<(usize, Responder)>>;

impl Trainer<'_> {
    /// Records the responses of the preserved tasks for these steps; none if it was stopped. A phase that is gone on with
    /// has its recording networks already. A rank records the responses to its `own` samples of the `whole`.
    pub(super) fn record(
        &mut self,
        number: usize,
        phase: &Phase,
        whole: &[Draws],
        own: &[Draws],
        goes_on: bool,
    ) -> Result<Option<Responders>> {
        if !goes_on {
            self.recorders.current = None;
        }
        let mut all = Vec::new();
        for (s, stream) in phase.streams.iter().enumerate() {
            let mut responders = Vec::new();
            for (p, preserve) in stream.preserve.iter().enumerate() {
                if let (Recorded::MeanTeacher, Some(average)) = (preserve.recorded, &self.average) {
                    let teacher = average.net().clone();
                    if matches!(phase.length, Length::Epochs(_)) {
                        self.probe(number, stream, preserve, &teacher)?;
                    }
                    responders.push((p, Responder::Average(teacher)));
                    continue;
                }
                let recorder = self.recorder(stream, preserve)?;
                if matches!(phase.length, Length::Epochs(_)) {
                    self.probe(number, stream, preserve, &recorder.net)?;
                }
                let mut samples = 0;
                let responder = match self.settings.recording {
                    Recording::FrozenCopy => Responder::Frozen(recorder),
                    Recording::Table => {
                        let mut table = Table::default();
                        let mut ahead = self.read_stream(s, stream, own)?;
                        for (step, draws) in own.iter().enumerate() {
                            if self.stopped()? {
                                return Ok(None);
                            }
                            let inputs = next_inputs(&mut ahead)?;
                            let tasks = self.problem.tasks;
                            let answers = answer(&recorder.net, tasks, &[&preserve.task], &inputs)?;
                            table.record(&answers, &draws[s])?;
                            samples += whole[step][s].indices.len();
                            let what = format!("responses of {} on {}", preserve.task, stream.dataset);
                            self.emit(Event::Preparing { what, done: step + 1, of: own.len() });
                        }
                        Responder::Table(table)
                    }
                };
                responders.push((p, responder));
                let tasks = vec![preserve.task.clone()];
                self.emit(Event::Recorded { phase: number, dataset: stream.dataset.clone(), tasks, samples });
            }
            all.push(responders);
        }
        Ok(Some(all))
    }

    /// The network that answers for a preserved task: the one kept for it, or the network as the phase found it.
    fn recorder(&mut self, stream: &Stream, preserve: &Preserve) -> Result<Arc<Recorder>> {
        let key = (stream.dataset.clone(), preserve.task.clone());
        let kept = self.recorders.kept.get(&key).filter(|_| preserve.recorded == Recorded::Kept);
        if let Some(kept) = kept {
            return Ok(kept.clone());
        }
        let current = match &self.recorders.current {
            Some(current) => current.clone(),
            None => {
                let tensors = self.problem.params.copy_frozen()?;
                Arc::new(Recorder::new(self.problem.net, tensors, &self.device)?)
            }
        };
        self.recorders.current = Some(current.clone());
        if preserve.recorded == Recorded::Kept {
            self.recorders.kept.insert(key, current.clone());
        }
        Ok(current)
    }

    /// Measures how far the answers have moved since the last recording.
    fn probe(
        &mut self,
        phase: usize,
        stream: &Stream,
        preserve: &Preserve,
        net: &MultiTaskNet,
    ) -> Result<()> {
        let dataset = &*self.problem.sets[&stream.dataset].dataset;
        let samples = self.settings.monitor.drift_samples.min(dataset.len());
        let key = (stream.dataset.clone(), preserve.task.clone());
        let kept = preserve.recorded == Recorded::Kept;
        if samples == 0 || kept || !self.state.probed.insert(key.clone()) {
            return Ok(());
        }
        let order = (0..samples).map(|i| i * dataset.len() / samples).collect();
        let task = &self.problem.tasks[&preserve.task];
        let mut answers = Vec::new();
        for batch in dml_data::batches(dataset, order, View::evaluation(), self.settings.batch, &self.device)
        {
            let all = answer(net, self.problem.tasks, &[&preserve.task], &batch?.inputs)?;
            answers.extend(all.into_values());
        }
        let new = candle_core::Tensor::cat(&answers, 0)?;
        if let Some(old) = self.recorders.probes.insert(key, new.clone()) {
            let (kl, cosine) = drift(task, &old, &new)?;
            let (dataset, task) = (stream.dataset.clone(), preserve.task.clone());
            self.emit(Event::Drift { phase, dataset, task, samples, kl, cosine });
        }
        Ok(())
    }
}
