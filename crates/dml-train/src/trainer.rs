mod durable;
mod evaluation;
mod exchange;
mod memory;
mod plan;
mod profile;
pub(crate) mod ranks;
mod record;
mod settings;
pub(crate) mod step;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use dml_collective::{Alone, Collective};
use dml_data::Dataset;
use dml_model::{MultiTaskNet, NetConfig, Params};

use crate::average::Average;
use crate::checkpoint::{Identity, Position, Recorders, State, Store};
use crate::evaluate::{EvalSet, Score};
use crate::event::Event;
use crate::monitor::peak_memory;
use crate::optimizer::Optimizer;
use crate::sampler::Cursor;
use crate::schedule::{Phase, Schedule};
use crate::targets::Targets;
use crate::task::{Loss, Task};
use crate::weighting::{LogVariances, Weighting};
use crate::{Result, TrainError};
use exchange::Exchange;
use profile::Profile;
pub use settings::Settings;
use step::Batch;

/// A dataset to train on, with its labels as numbers.
#[derive(Clone)]
pub struct TrainSet {
    /// The inputs.
    pub dataset: Arc<dyn Dataset>,
    /// The labels.
    pub targets: Targets,
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
    /// Its parameters, which training changes; when a run that evaluates their average has ended, that average.
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
    recorders: Recorders,
    average: Option<Average>,
    log_variances: LogVariances,
    /// The parameters that the run began with, where a phase begins with them again.
    initial: Option<BTreeMap<String, Tensor>>,
    state: State,
    store: Option<Store>,
    ranks: Arc<dyn Collective>,
    /// How the gradients of each phase travel, by all that is in the phase: schedules repeat their phases.
    exchanges: HashMap<String, Exchange>,
    /// Steps and time of the last checkpoint.
    saved: (usize, Instant),
    profile: Profile,
    sink: &'a mut dyn FnMut(&Event),
}

/// Whether something came to its end, or was stopped from outside before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    Stopped,
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
        settings.ema.check()?;
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
            optimizer: Optimizer::new(
                settings.adam,
                settings.learning_rates,
                settings.weighting_learning_rate,
            )?,
            device: problem.params.device().clone(),
            profile: Profile::new(settings.monitor.profile, problem.params.device()),
            store: settings.folder.as_deref().map(|run| Store::open(run, settings.checkpoints.clone())),
            problem,
            settings,
            cursors,
            recorders: Recorders::default(),
            average: None,
            log_variances: LogVariances::default(),
            initial: None,
            state: State::default(),
            ranks: Arc::new(Alone),
            exchanges: HashMap::new(),
            saved: (0, Instant::now()),
            sink,
        })
    }

    /// One of several ranks that train the same network together, each on its part of every batch. Rank 0 writes the
    /// checkpoints, which all must be able to read.
    #[must_use]
    pub fn with_ranks(mut self, ranks: Arc<dyn Collective>) -> Self {
        self.ranks = ranks;
        self
    }

    /// Runs the schedule from its start, or from the newest checkpoint, to its end, or until it is stopped.
    ///
    /// A run that is stopped at any moment and resumed ends with the same bytes as one that is not.
    ///
    /// # Errors
    /// If the schedule does not fit tasks and datasets, a loss becomes NaN or infinite, a trainable parameter of a phase
    /// gets no gradient, data or checkpoints cannot be read or written, or a checkpoint is of other settings or data;
    /// or if a rank has gone, or computes with other settings, data or parameters.
    pub fn run(&mut self, schedule: &Schedule) -> Result<Outcome> {
        let began = Instant::now();
        self.check(schedule)?;
        if schedule.phases().any(|(_, phase)| phase.restart) {
            self.initial = Some(self.problem.params.copy_frozen()?);
        }
        let Settings { ema, weighting, .. } = self.settings;
        if ema.evaluate || schedule.has_mean_teacher() {
            self.average = Some(Average::new(self.problem.net, self.problem.params, ema.decay)?);
        }
        if weighting == Weighting::Uncertainty {
            self.log_variances = LogVariances::of(schedule, &self.device)?;
        }
        self.state.identity = Identity::new(&self.problem, &self.settings, schedule)?;
        self.check_ranks()?;
        self.restore()?;
        let parameters = self.problem.params.vars().iter().map(|(_, var)| var.elem_count()).sum();
        let steps = schedule.phases().map(|(_, phase)| self.steps(phase)).sum();
        let (phases, done) = (schedule.phases().count(), self.state.steps);
        self.emit(Event::Started { phases, steps, done, parameters });
        let mut interrupted = false;
        if !self.state.finished {
            interrupted = self.phases(schedule)? == Ended::Stopped;
            self.state.finished = !interrupted;
            self.save()?;
        }
        if let (Some(average), true, false) = (&self.average, self.settings.ema.evaluate, interrupted) {
            self.problem.params.load(average.tensors())?;
        }
        self.emit(Event::Finished { interrupted, seconds: began.elapsed().as_secs_f64() });
        Ok(Outcome { scores: self.state.scores.clone(), interrupted })
    }

    /// All that is still to do.
    fn phases(&mut self, schedule: &Schedule) -> Result<Ended> {
        let last = schedule.phases().count();
        if self.state.position.phase == 0 {
            if self.settings.evaluate_throughout && self.evaluate(0, "before training")? == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
            self.state.position.phase = 1;
        }
        for (index, (round, phase)) in schedule.phases().enumerate() {
            // Phases that are done are only drawn, so that the datasets' orders are where they were.
            let plan = self.plan(phase);
            let number = index + 1;
            if number == self.state.position.phase
                && self.phase(number, round, phase, &plan)? == Ended::Stopped
            {
                return Ok(Ended::Stopped);
            }
        }
        if self.state.evaluated_at != self.state.samples || self.state.scores.is_empty() {
            return self.evaluate(last, "end");
        }
        Ok(Ended::Whole)
    }

    /// What is still to do of one phase.
    fn phase(&mut self, number: usize, round: usize, phase: &Phase, plan: &[plan::Draws]) -> Result<Ended> {
        let began = Instant::now();
        let from = self.state.position.step;
        let samples = plan.iter().map(plan::samples).sum();
        let name = phase.name.clone();
        let weights = self.weights(phase, &self.log_variances.values()?);
        self.emit(Event::PhaseStarted { phase: number, name, round, steps: plan.len(), samples, weights });
        self.optimizer.start_phase(phase, from > 0);
        let vars = self.problem.params.vars().into_iter().chain(self.log_variances.vars(phase));
        let vars: Vec<(String, Var)> = vars.filter(|(name, _)| !phase.freezes(name)).collect();
        let own = self.own(plan);
        let responders = match from < plan.len() {
            true => self.record(number, phase, &plan[from..], &own[from..], from > 0)?,
            false => Some(vec![]),
        };
        let Some(responders) = responders else { return Ok(Ended::Stopped) };
        self.profile.lap("recording")?;
        if let (true, 0, Some(initial)) = (phase.restart, from, &self.initial) {
            self.problem.params.load(initial.clone())?;
            if let Some(average) = &mut self.average {
                average.load(initial.clone(), 0)?;
            }
            self.log_variances.load(&BTreeMap::new())?;
        }
        let mut ahead = self.read_ahead(phase, &own[from..])?;
        let alike = format!("{phase:?}");
        let mut exchange = self.exchanges.remove(&alike).unwrap_or_default();
        let (mut stepping, mut stepped) = (Duration::ZERO, 0);
        for (step, draws) in plan.iter().enumerate().skip(from) {
            if self.stopped()? {
                return Ok(Ended::Stopped);
            }
            let step_began = Instant::now();
            let inputs = ahead.iter_mut().map(plan::next_inputs).collect::<Result<Vec<_>>>()?;
            self.profile.lap("waiting for inputs")?;
            let batch = Batch { whole: draws, own: &own[step], inputs: &inputs, responders: &responders };
            let gradients = self
                .step(number, step + 1, phase, batch, (&vars, &mut exchange))
                .map_err(|error| self.if_out_of_memory(error, step + 1, phase, &own[step]))?;
            if step == from {
                step::check_reached(phase, &vars, &gradients)?;
            }
            self.optimizer.step(&vars, &gradients)?;
            drop(gradients);
            if let Some(average) = &mut self.average {
                average.update(self.problem.params)?;
            }
            self.profile.lap("update")?;
            self.state.samples += plan::samples(draws);
            self.state.steps += 1;
            self.state.position.step += 1;
            stepping += step_began.elapsed();
            stepped += plan::samples(draws);
            self.save_when_due()?;
            self.profile.lap("checkpoints")?;
        }
        drop((responders, ahead));
        self.exchanges.insert(alike, exchange);
        let mut changes = Vec::new();
        let evaluated = self.settings.evaluate_throughout && self.epoch_has_passed(phase);
        if evaluated {
            let before = self.state.scores.clone();
            if self.evaluate(number, &phase.name)? == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
            changes = evaluation::differences(&before, &self.state.scores);
        }
        self.profile.lap("evaluation")?;
        self.recorders.current = None;
        self.state.probed.clear();
        self.state.position = Position { phase: number + 1, step: 0 };
        self.emit(Event::PhaseFinished {
            phase: number,
            name: phase.name.clone(),
            seconds: began.elapsed().as_secs_f64(),
            samples_per_second: stepped as f64 / stepping.as_secs_f64().max(1e-9),
            peak_memory: peak_memory(&self.device),
            changes,
        });
        let parts = self.profile.take();
        if !parts.is_empty() {
            self.emit(Event::Profile { phase: number, seconds: parts });
        }
        if evaluated {
            self.save()?;
        }
        Ok(Ended::Whole)
    }

    fn check(&self, schedule: &Schedule) -> Result<()> {
        let contrasts = |task: &Task| matches!(task.loss, Loss::InfoNce { .. });
        let cut = (1..self.settings.batch).contains(&self.settings.micro_batch);
        if let (true, Some((name, _))) = (cut, self.problem.tasks.iter().find(|(_, task)| contrasts(task))) {
            return Err(TrainError::invalid(format!(
                "a micro-batch of {} is not possible: the loss of task {name:?}, InfoNCE, contrasts all {} samples of a \
                 batch with each other; take the cosine loss, or a smaller batch",
                self.settings.micro_batch, self.settings.batch
            )));
        }
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
