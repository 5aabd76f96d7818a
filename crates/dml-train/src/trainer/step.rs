//! Forward and backward of one step.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use dml_model::Mode;
use dml_ops::RowKeys;

use super::Trainer;
use super::exchange::Exchange;
use super::plan::{Draws, samples};
use super::record::Responders;
use crate::event::Event;
use crate::monitor::gradient_cosines;
use crate::responses::Responder;
use crate::sampler::Draw;
use crate::schedule::{Phase, Stream, Supervise};
use crate::task::Loss;
use crate::weighting::Weighting;
use crate::{Result, TrainError};

/// What one step takes, stream by stream: the samples of all ranks and this one's own, its inputs, and who answers for the
/// preserved tasks.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) whole: &'a Draws,
    pub(super) own: &'a Draws,
    pub(super) inputs: &'a [Tensor],
    pub(super) responders: &'a Responders,
}

impl Trainer<'_> {
    /// Gradients of one step, which `step` counts from 1.
    pub(super) fn step(
        &mut self,
        number: usize,
        step: usize,
        phase: &Phase,
        batch: Batch,
        (vars, exchange): (&[(String, Var)], &mut Exchange),
    ) -> Result<GradStore> {
        let Batch { whole, own, .. } = batch;
        let parts = self.micro_batches(own.iter().map(|draw| draw.indices.len()));
        // Where no rank cuts its part of the batch, all send gradients while they compute.
        let ranks = self.ranks.size();
        let together = self.micro_batches(whole.iter().map(|draw| draw.indices.len().div_ceil(ranks))) == 1;
        let (mut gradients, mut losses): (Option<GradStore>, Vec<(String, f64, Tensor)>) = (None, Vec::new());
        for part in 0..parts {
            let terms = self.objectives(phase, batch, (part, parts))?;
            let weighted = terms
                .iter()
                .map(|term| &term.objective * term.weight)
                .collect::<candle_core::Result<Vec<_>>>()?;
            let total =
                weighted.into_iter().map(Ok::<_, candle_core::Error>).reduce(|sum, loss| sum? + loss?);
            let total =
                total.ok_or_else(|| TrainError::invalid(format!("phase {:?} has no loss", phase.name)))??;
            self.profile.lap("heads and losses")?;
            let new = match together {
                true => self.gradients(&total, vars, exchange)?,
                false => dml_ops::backward(&total)?,
            };
            self.profile.lap("backward")?;
            gradients = Some(match gradients {
                Some(sum) => added(vars, sum, &new)?,
                None => new,
            });
            // Of a part only the values stay.
            losses.extend(terms.into_iter().map(|Term { name, weight, loss, .. }| {
                (name, weight, if parts > 1 { loss.detach() } else { loss })
            }));
        }
        let gradients = gradients.ok_or_else(|| TrainError::invalid("a step has no samples"))?;
        // A look at a value waits for a GPU, so there is one, when the backward pass is on its way.
        let gradients = if together { gradients } else { self.mean_gradients(vars, gradients)? };
        let mut values = values(losses.iter().map(|(.., loss)| loss).chain(self.log_variances.tensors()))?;
        let log_variances = values.split_off(losses.len());
        let log_variances = self.log_variances.names().cloned().zip(log_variances).collect();
        let (mut total_value, mut terms) = (0.0, BTreeMap::<String, f64>::new());
        for ((name, weight, _), value) in losses.iter().zip(values) {
            total_value += weight * value;
            *terms.entry(name.clone()).or_default() += value;
        }
        let mut means = self.mean_of(terms.values().copied().chain([total_value]).collect())?;
        let total_value = means.pop().unwrap_or(f64::NAN);
        terms.values_mut().zip(means).for_each(|(value, mean)| *value = mean);
        if !total_value.is_finite() {
            return Err(self.not_finite(step, phase, whole, total_value, &terms));
        }
        let weights = match self.settings.weighting {
            Weighting::Fixed => BTreeMap::new(),
            Weighting::Uncertainty => self.weights(phase, &log_variances),
        };
        self.emit(Event::Step { phase: number, step, samples: samples(whole), terms, weights });
        let every = self.settings.monitor.gradient_cosine_every;
        if every > 0 && together && losses.len() > 1 && self.state.steps.is_multiple_of(every) {
            let pairs = gradient_cosines(&losses, vars, &|gradients| self.mean_gradients(vars, gradients))?;
            if !pairs.is_empty() {
                self.emit(Event::GradientCosine { phase: number, step, pairs });
            }
        }
        Ok(gradients)
    }

    /// Into how many parts a batch with so many samples of each stream is cut, none of which has more than the settings allow.
    fn micro_batches(&self, samples: impl Iterator<Item = usize>) -> usize {
        let most = match self.settings.micro_batch {
            0 => usize::MAX,
            most => most,
        };
        samples.map(|samples| samples.div_ceil(most)).max().unwrap_or(1).max(1)
    }

    /// The terms of a part of the batch, scaled so that the parts' sums are the terms of the whole.
    fn objectives(
        &self,
        phase: &Phase,
        Batch { whole, own, inputs, responders }: Batch,
        (part, parts): (usize, usize),
    ) -> Result<Vec<Term>> {
        let mut all = Vec::new();
        for (s, stream) in phase.streams.iter().enumerate() {
            let samples = own[s].indices.len();
            let range = samples * part / parts..samples * (part + 1) / parts;
            if range.is_empty() {
                continue;
            }
            let draw = Draw { epoch: own[s].epoch, indices: own[s].indices[range.clone()].to_vec() };
            let inputs =
                if parts == 1 { inputs[s].clone() } else { inputs[s].narrow(0, range.start, range.len())? };
            let share = range.len() as f64 / samples as f64;
            all.extend(self.objective(phase, stream, (&whole[s], &draw, share), &inputs, &responders[s])?);
        }
        Ok(all)
    }

    fn not_finite(
        &self,
        step: usize,
        phase: &Phase,
        draws: &Draws,
        value: f64,
        terms: &BTreeMap<String, f64>,
    ) -> TrainError {
        let ids = phase.streams.iter().zip(draws).flat_map(|(stream, draw)| {
            draw.indices.iter().map(|&index| self.problem.sets[&stream.dataset].dataset.id(index))
        });
        let terms: Vec<String> = terms.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let (phase, terms) = (phase.name.clone(), terms.join(", "));
        TrainError::NotFinite { phase, step, value, terms, samples: ids.collect() }
    }

    /// The terms of a stream's loss. The draws are that of all ranks, and that which this is about
    /// with its share of this rank's samples.
    fn objective(
        &self,
        phase: &Phase,
        stream: &Stream,
        (whole, draw, part): (&Draw, &Draw, f64),
        inputs: &Tensor,
        responders: &[(usize, Responder)],
    ) -> Result<Vec<Term>> {
        // Samples of two datasets must not share dropout masks, so the dataset's name is part of the key.
        let dataset = dml_rand::hash(&stream.dataset);
        let samples = draw.indices.iter().map(|&index| dataset.wrapping_add(index as u64)).collect();
        let keys = RowKeys { seed: self.settings.seed, epoch: draw.epoch, samples };
        self.profile.lap("heads and losses")?;
        let mut features = self.net.features(inputs, &Mode::Train(&keys))?;
        self.profile.lap("forward")?;
        if phase.freezes("root") {
            features = features.detach();
        }
        let Supervise { task, weight } = &stream.supervise;
        let targets = &self.problem.sets[&stream.dataset].targets;
        let target = |draw: &Draw| targets.batch(&draw.indices, self.settings.seed, draw.epoch, &self.device);
        let output = self.net.head(task, &features)?;
        // A tensor of its own: candle follows no gradient through a product with the number 0.
        let by = |loss: Tensor, factor: f64| -> Result<Tensor> {
            Ok(loss.mul(&Tensor::new(factor as f32, &self.device)?.to_dtype(loss.dtype())?)?)
        };
        let share = self.share(whole) * part;
        let term = |name: String, weight, loss: Tensor, (least, share): (f64, f64)| -> Result<Term> {
            let scaled = |loss: Tensor| if share == 1.0 { Ok(loss) } else { by(loss, share) };
            let learnt = self.log_variances.objective(&name, &loss, least)?.map(scaled).transpose()?;
            let loss = scaled(loss)?;
            Ok(Term { name, weight, objective: learnt.unwrap_or_else(|| loss.clone()), loss })
        };
        let learnt = &self.problem.tasks[task];
        let (loss, share_of_it) = match learnt.loss {
            Loss::InfoNce { .. } if self.ranks.size() > 1 => {
                let loss = learnt.supervised(&self.whole_batch(&output, whole)?, &target(whole)?)?;
                // Every rank has the loss of the whole batch, and its own samples' part of the gradient.
                let ranks = self.ranks.size() as f64;
                let loss = ((&loss * ranks)? - (loss.detach() * (ranks - 1.0))?)?;
                ((loss + by(output.sum_all()?, 0.0)?)?, 1.0)
            }
            _ => (learnt.supervised(&output, &target(draw)?)?, share),
        };
        let mut terms = vec![term(supervised(task), *weight, loss, (learnt.loss.least(), share_of_it))?];
        for (p, responder) in responders {
            let preserve = &stream.preserve[*p];
            self.profile.lap("heads and losses")?;
            let responses = responder.respond(self.problem.tasks, &[&preserve.task], draw, inputs)?;
            self.profile.lap("answers of the recorded network")?;
            let output = self.net.head(&preserve.task, &features)?;
            let kept = &self.problem.tasks[&preserve.task];
            let loss = kept.preserved(&output, &responses[&preserve.task])?;
            let least = (kept.preserve.least(), share);
            terms.push(term(preserved(&preserve.task), preserve.weight, loss, least)?);
        }
        Ok(terms)
    }

    /// Weight of each term of a phase's loss, with these logarithms of learnt variances.
    pub(super) fn weights(
        &self,
        phase: &Phase,
        log_variances: &BTreeMap<String, f64>,
    ) -> BTreeMap<String, f64> {
        let learnt = |name: &str| log_variances.get(name).map_or(1.0, |s| (-s).exp());
        terms(phase).map(|(name, weight)| (name.clone(), weight * learnt(&name))).collect()
    }
}

/// A term of a loss.
struct Term {
    name: String,
    weight: f64,
    /// Its value, with a gradient.
    loss: Tensor,
    /// What times its weight goes into the loss: the value, or what is made of it where weights are learnt.
    objective: Tensor,
}

/// The terms of a phase's loss, with their weights in the schedule.
pub(crate) fn terms(phase: &Phase) -> impl Iterator<Item = (String, f64)> + '_ {
    phase.streams.iter().flat_map(|stream| {
        let kept = stream.preserve.iter().map(|p| (preserved(&p.task), p.weight));
        std::iter::once((supervised(&stream.supervise.task), stream.supervise.weight)).chain(kept)
    })
}

/// The sum of two parts' gradients.
fn added(vars: &[(String, Var)], mut sum: GradStore, new: &GradStore) -> Result<GradStore> {
    for (_, var) in vars {
        if let Some(new) = new.get(var) {
            let both = match sum.get(var) {
                Some(sum) => (sum + new)?,
                None => new.clone(),
            };
            sum.insert(var, both);
        }
    }
    Ok(sum)
}

/// Name of the term of a task that is learnt.
fn supervised(task: &str) -> String {
    format!("{task} loss")
}

/// Name of the term of a task that is preserved.
fn preserved(task: &str) -> String {
    format!("{task} kept")
}

/// Scalars as numbers, in one transfer.
fn values<'a>(losses: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>> {
    let all =
        losses.map(|loss| loss.to_dtype(DType::F32)?.reshape(1)).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&all, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// Every parameter that the phase trains, and whose head takes part, must have a gradient.
pub(super) fn check_reached(phase: &Phase, vars: &[(String, Var)], gradients: &GradStore) -> Result<()> {
    let tasks = phase.tasks();
    let takes_part = |name: &str| match name.strip_prefix("head.") {
        Some(rest) => {
            tasks.iter().any(|task| rest.strip_prefix(task).is_some_and(|rest| rest.starts_with('.')))
        }
        None => true,
    };
    let names: Vec<String> = vars
        .iter()
        .filter(|(name, var)| takes_part(name) && gradients.get(var).is_none())
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() { Ok(()) } else { Err(TrainError::NoGradient { phase: phase.name.clone(), names }) }
}
