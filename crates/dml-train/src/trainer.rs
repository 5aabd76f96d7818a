use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use dml_data::{Dataset, Prefetch, Prefetched, View};
use dml_model::{Mode, MultiTaskNet, NetConfig, Params};
use dml_ops::RowKeys;

use crate::checkpoint::Checkpoint;
use crate::evaluate::{EvalSet, Score, evaluate};
use crate::event::Event;
use crate::optimizer::{AdamSharing, LearningRates, Optimizer};
use crate::responses::{Recording, Responder, Table, answer};
use crate::sampler::{Cursor, Draw};
use crate::schedule::{Length, Phase, Recorded, Schedule, Stream, Supervise};
use crate::targets::Targets;
use crate::task::Task;
use crate::{Result, TrainError};

/// A dataset to train on, with its labels as numbers.
#[derive(Clone)]
pub struct TrainSet {
    /// The inputs.
    pub dataset: Arc<dyn Dataset>,
    /// The labels.
    pub targets: Targets,
}

/// How a schedule is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of every draw.
    pub seed: u64,
    /// Samples of a step, from each stream.
    pub batch: usize,
    /// Learning rates.
    pub learning_rates: LearningRates,
    /// Which phases share Adam's moments.
    pub adam: AdamSharing,
    /// How responses are kept.
    pub recording: Recording,
    /// Whether tasks are evaluated before training and after each phase of at least an epoch, or only at the end.
    pub evaluate_throughout: bool,
    /// Where checkpoints go; none are written without it.
    pub checkpoints: Option<PathBuf>,
    /// Set from outside to end the run after the current step.
    pub stop: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Scores after the last step.
    pub scores: Vec<Score>,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
}

/// What is trained on what.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// The network.
    pub net: &'a NetConfig,
    /// Its parameters, which training changes.
    pub params: &'a Params,
    /// The tasks by name; each has a head of that name.
    pub tasks: &'a BTreeMap<String, Task>,
    /// The datasets to train on, by name.
    pub sets: &'a BTreeMap<String, TrainSet>,
    /// The sets to evaluate on.
    pub evals: &'a [EvalSet],
}

/// Runs a schedule.
pub struct Trainer<'a> {
    problem: Problem<'a>,
    net: MultiTaskNet,
    settings: Settings,
    device: Device,
    cursors: BTreeMap<String, Cursor>,
    optimizer: Optimizer,
    kept: BTreeMap<(String, String), Arc<MultiTaskNet>>,
    samples: usize,
    evaluated_at: usize,
    sink: &'a mut dyn FnMut(&Event),
}

impl<'a> Trainer<'a> {
    /// A trainer on the device of the parameters; events go to `sink`.
    ///
    /// # Errors
    /// If a dataset is empty, or the network or a setting is not usable.
    pub fn new(problem: Problem<'a>, settings: Settings, sink: &'a mut dyn FnMut(&Event)) -> Result<Self> {
        for (name, task) in problem.tasks {
            task.check(name)?;
        }
        if settings.batch == 0 {
            return Err(TrainError::invalid("the batch must have at least one sample"));
        }
        let mut cursors = BTreeMap::new();
        for (name, set) in problem.sets {
            let (inputs, labels) = (set.dataset.len(), set.targets.len());
            if inputs == 0 || inputs != labels {
                let problem = format!("dataset {name:?} has {inputs} inputs and {labels} labels");
                return Err(TrainError::invalid(problem));
            }
            cursors.insert(name.clone(), Cursor::new(settings.seed, inputs));
        }
        Ok(Self {
            net: MultiTaskNet::new(problem.net, problem.params.builder())?,
            optimizer: Optimizer::new(settings.adam, settings.learning_rates)?,
            device: problem.params.device().clone(),
            problem,
            settings,
            cursors,
            kept: BTreeMap::new(),
            samples: 0,
            evaluated_at: 0,
            sink,
        })
    }

    /// Runs the schedule from its start to its end, or until it is stopped.
    ///
    /// # Errors
    /// If the schedule does not fit tasks and datasets, a loss becomes NaN or infinite, a trainable parameter of a phase
    /// gets no gradient, or data or checkpoints cannot be read or written.
    pub fn run(&mut self, schedule: &Schedule) -> Result<Outcome> {
        let began = Instant::now();
        self.check(schedule)?;
        let parameters = self.problem.params.vars().iter().map(|(_, var)| var.elem_count()).sum();
        let steps = schedule.phases().map(|(_, phase)| self.steps(phase)).sum();
        self.emit(Event::Started { phases: schedule.phases().count(), steps, parameters });
        let mut scores = Vec::new();
        if self.settings.evaluate_throughout {
            scores = self.evaluate(0, "before training")?;
        }
        let mut interrupted = false;
        for (index, (round, phase)) in schedule.phases().enumerate() {
            interrupted = self.phase(index + 1, round, phase, &mut scores)?;
            if interrupted {
                break;
            }
        }
        if !interrupted && (self.evaluated_at != self.samples || scores.is_empty()) {
            scores = self.evaluate(schedule.phases().count(), "end")?;
        }
        self.save()?;
        self.emit(Event::Finished { interrupted, seconds: began.elapsed().as_secs_f64() });
        Ok(Outcome { scores, interrupted })
    }

    /// Runs one phase; true if it was stopped before its end.
    fn phase(&mut self, number: usize, round: usize, phase: &Phase, scores: &mut Vec<Score>) -> Result<bool> {
        let plan = self.plan(phase);
        let samples = plan.iter().flatten().map(|draw| draw.indices.len()).sum();
        let name = phase.name.clone();
        self.emit(Event::PhaseStarted { phase: number, name, round, steps: plan.len(), samples });
        let responders = self.record(number, phase, &plan)?;
        self.optimizer.start_phase(phase);
        let vars: Vec<(String, Var)> =
            self.problem.params.vars().into_iter().filter(|(name, _)| !phase.freezes(name)).collect();
        let mut ahead = self.read_ahead(phase, &plan)?;
        for (step, draws) in plan.iter().enumerate() {
            let inputs = ahead.iter_mut().map(next_inputs).collect::<Result<Vec<_>>>()?;
            let gradients = self.step(number, step + 1, phase, draws, &inputs, &responders)?;
            if step == 0 {
                check_reached(phase, &vars, &gradients)?;
            }
            self.optimizer.step(&vars, &gradients)?;
            self.samples += draws.iter().map(|draw| draw.indices.len()).sum::<usize>();
            if self.settings.stop.load(Ordering::Relaxed) {
                return Ok(true);
            }
        }
        if self.settings.evaluate_throughout && self.epoch_has_passed(phase) {
            *scores = self.evaluate(number, &phase.name)?;
            self.save()?;
        }
        Ok(false)
    }

    /// The batches of every step, drawn before the first one so that responses can be recorded for them.
    fn plan(&mut self, phase: &Phase) -> Vec<Vec<Draw>> {
        let steps = self.steps(phase);
        if let Length::Epochs(_) = phase.length {
            for stream in &phase.streams {
                if let Some(cursor) = self.cursors.get_mut(&stream.dataset) {
                    cursor.align();
                }
            }
        }
        let batch = self.settings.batch;
        let mut step = || {
            phase.streams.iter().filter_map(|s| Some(self.cursors.get_mut(&s.dataset)?.draw(batch))).collect()
        };
        (0..steps).map(|_| step()).collect()
    }

    /// Steps of a phase.
    fn steps(&self, phase: &Phase) -> usize {
        match phase.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs * self.epoch_steps(phase),
        }
    }

    /// Steps of one epoch over the largest dataset of the phase.
    fn epoch_steps(&self, phase: &Phase) -> usize {
        let steps =
            |stream: &Stream| self.problem.sets[&stream.dataset].dataset.len().div_ceil(self.settings.batch);
        phase.streams.iter().map(steps).max().unwrap_or(1)
    }

    /// Whether an epoch's worth of samples has been seen since the last evaluation: phases of a few steps are not each
    /// worth one.
    fn epoch_has_passed(&self, phase: &Phase) -> bool {
        let smallest = phase
            .streams
            .iter()
            .map(|stream| self.problem.sets[&stream.dataset].dataset.len())
            .min()
            .unwrap_or(0);
        self.samples - self.evaluated_at >= smallest
    }

    /// Records the responses of the preserved tasks, one responder a stream.
    fn record(
        &mut self,
        number: usize,
        phase: &Phase,
        plan: &[Vec<Draw>],
    ) -> Result<Vec<Vec<(usize, Responder)>>> {
        let mut current: Option<Arc<MultiTaskNet>> = None;
        let mut all = Vec::new();
        for (s, stream) in phase.streams.iter().enumerate() {
            let mut responders = Vec::new();
            for (p, preserve) in stream.preserve.iter().enumerate() {
                let key = (stream.dataset.clone(), preserve.task.clone());
                let kept = self.kept.get(&key).filter(|_| preserve.recorded == Recorded::Kept).cloned();
                let net = match (kept, &current) {
                    (Some(kept), _) => kept,
                    (None, Some(current)) => current.clone(),
                    (None, None) => {
                        Arc::new(MultiTaskNet::frozen_copy(self.problem.net, self.problem.params)?)
                    }
                };
                match preserve.recorded {
                    Recorded::Kept => drop(self.kept.entry(key).or_insert_with(|| net.clone())),
                    Recorded::AtStart => current = Some(net.clone()),
                }
                let mut samples = 0;
                let responder = match self.settings.recording {
                    Recording::FrozenCopy => Responder::Frozen(net),
                    Recording::Table => {
                        let mut table = Table::default();
                        let mut ahead = self.read_stream(s, stream, plan)?;
                        for draws in plan {
                            let inputs = next_inputs(&mut ahead)?;
                            table.record(
                                &answer(&net, self.problem.tasks, &[&preserve.task], &inputs)?,
                                &draws[s],
                            )?;
                            samples += draws[s].indices.len();
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
        Ok(all)
    }

    /// Forward and backward of one step.
    fn step(
        &mut self,
        number: usize,
        step: usize,
        phase: &Phase,
        draws: &[Draw],
        inputs: &[Tensor],
        responders: &[Vec<(usize, Responder)>],
    ) -> Result<GradStore> {
        let mut total: Option<Tensor> = None;
        let mut terms = BTreeMap::new();
        for (((stream, draw), inputs), responders) in
            phase.streams.iter().zip(draws).zip(inputs).zip(responders)
        {
            for (name, weight, loss) in self.objective(phase, stream, draw, inputs, responders)? {
                let weighted = (&loss * weight)?;
                total = Some(match total {
                    Some(total) => (total + weighted)?,
                    None => weighted,
                });
                terms.insert(name, f64::from(loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?));
            }
        }
        let total =
            total.ok_or_else(|| TrainError::invalid(format!("phase {:?} has no loss", phase.name)))?;
        let value = f64::from(total.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?);
        if !value.is_finite() {
            let ids = phase.streams.iter().zip(draws).flat_map(|(stream, draw)| {
                draw.indices.iter().map(|&index| self.problem.sets[&stream.dataset].dataset.id(index))
            });
            let terms: Vec<String> = terms.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let (phase, terms) = (phase.name.clone(), terms.join(", "));
            return Err(TrainError::NotFinite { phase, step, value, terms, samples: ids.collect() });
        }
        let samples = draws.iter().map(|draw| draw.indices.len()).sum();
        self.emit(Event::Step { phase: number, step, samples, terms });
        Ok(dml_ops::backward(&total)?)
    }

    /// The terms of a stream's loss: name, weight, value.
    fn objective(
        &self,
        phase: &Phase,
        stream: &Stream,
        draw: &Draw,
        inputs: &Tensor,
        responders: &[(usize, Responder)],
    ) -> Result<Vec<(String, f64, Tensor)>> {
        // Samples of two datasets must not share dropout masks, so the dataset's name is part of the key.
        let dataset = dml_rand::hash(&stream.dataset);
        let samples = draw.indices.iter().map(|&index| dataset.wrapping_add(index as u64)).collect();
        let keys = RowKeys { seed: self.settings.seed, epoch: draw.epoch, samples };
        let mut features = self.net.features(inputs, &Mode::Train(&keys))?;
        if phase.freezes("root") {
            features = features.detach();
        }
        let Supervise { task, weight } = &stream.supervise;
        let targets = &self.problem.sets[&stream.dataset].targets;
        let target = targets.batch(&draw.indices, self.settings.seed, draw.epoch, &self.device)?;
        let output = self.net.head(task, &features)?;
        let mut terms =
            vec![(format!("{task} loss"), *weight, self.problem.tasks[task].supervised(&output, &target)?)];
        for (p, responder) in responders {
            let preserve = &stream.preserve[*p];
            let responses = responder.respond(self.problem.tasks, &[&preserve.task], draw, inputs)?;
            let output = self.net.head(&preserve.task, &features)?;
            let loss = self.problem.tasks[&preserve.task].preserved(&output, &responses[&preserve.task])?;
            terms.push((format!("{} kept", preserve.task), preserve.weight, loss));
        }
        Ok(terms)
    }

    /// The inputs of a phase, one iterator a stream, read by threads of their own while steps are computed.
    fn read_ahead(&self, phase: &Phase, plan: &[Vec<Draw>]) -> Result<Vec<Prefetched>> {
        phase.streams.iter().enumerate().map(|(s, stream)| self.read_stream(s, stream, plan)).collect()
    }

    fn read_stream(&self, s: usize, stream: &Stream, plan: &[Vec<Draw>]) -> Result<Prefetched> {
        let view = |draw: &Draw| View { seed: self.settings.seed, epoch: Some(draw.epoch) };
        let batches = plan.iter().map(|draws| (view(&draws[s]), draws[s].indices.clone())).collect();
        let dataset = self.problem.sets[&stream.dataset].dataset.clone();
        Ok(Prefetch::default().read(dataset, batches, &self.device)?)
    }

    fn evaluate(&mut self, phase: usize, name: &str) -> Result<Vec<Score>> {
        let scores = evaluate(&self.net, self.problem.evals, self.settings.batch, &self.device)?;
        self.evaluated_at = self.samples;
        let total: usize = self.problem.sets.values().map(|set| set.dataset.len()).sum();
        let epochs = self.samples as f64 / total.max(1) as f64;
        self.emit(Event::Evaluated { phase, name: name.into(), epochs, scores: scores.clone() });
        Ok(scores)
    }

    fn save(&mut self) -> Result<()> {
        if let Some(path) = self.settings.checkpoints.clone() {
            Checkpoint { model: self.problem.params.tensors(), optimizer: self.optimizer.tensors()? }
                .save(&path)?;
            self.emit(Event::Saved { path });
        }
        Ok(())
    }

    fn check(&self, schedule: &Schedule) -> Result<()> {
        schedule.check(
            self.problem.sets.keys().map(String::as_str),
            self.problem.tasks.keys().map(String::as_str),
        )?;
        for stream in schedule.phases().flat_map(|(_, phase)| &phase.streams) {
            let task = &stream.supervise.task;
            self.problem.sets[&stream.dataset].targets.check(
                &stream.dataset,
                task,
                &self.problem.tasks[task].head,
            )?;
        }
        Ok(())
    }

    fn emit(&mut self, event: Event) {
        (self.sink)(&event);
    }
}

fn next_inputs(ahead: &mut Prefetched) -> Result<Tensor> {
    match ahead.next() {
        Some(batch) => Ok(batch?.inputs),
        None => Err(TrainError::invalid("there are fewer batches than steps")),
    }
}

/// Every parameter that the phase trains, and whose head takes part, must have a gradient.
fn check_reached(phase: &Phase, vars: &[(String, Var)], gradients: &GradStore) -> Result<()> {
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
