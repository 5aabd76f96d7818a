use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use dml_collective::{Alone, Collective};
use dml_model::{MultiTaskNet, NetConfig, Params};
use dml_teacher::SentenceEncoder;
use sha2::{Digest, Sha256};

use crate::average::Ema;
use crate::checkpoint::{Checkpoint, Identity, Which};
use crate::config::{CaptionTarget, Config, DataConfig, First, Precision, TrainingConfig};
use crate::evaluate::{EvalSet, Score, evaluate};
use crate::event::Event;
use crate::method::{Method, Pair};
use crate::optimizer::LearningRates;
use crate::pretrain::pretrained_root;
use crate::responses::Responses;
use crate::schedule::Schedule;
use crate::task::{Preservation, Task};
use crate::trainer::{Outcome, Problem, Settings, TrainSet, Trainer};
use crate::weighting::Weighting;
use crate::{Result, TrainError, photographs, sample, validation, videos};

/// Name of the class task and of its dataset.
pub(crate) const CLASS: &str = "class";
/// Name of the caption task and of its dataset.
pub(crate) const CAPTION: &str = "caption";
/// Part of a run's hash: to be raised when training comes to other results from the same settings and data.
const RUN_REVISION: u32 = 1;

/// Data, network and initial root of a configuration: what the runs of a comparison share.
pub struct Experiment {
    pub(crate) config: Config,
    pub(crate) device: Device,
    pub(crate) source: Arc<Source>,
    net: NetConfig,
    root_digest: Arc<OnceLock<String>>,
}

/// What a kind of data provides.
pub(crate) struct Source {
    pub(crate) sets: BTreeMap<String, TrainSet>,
    pub(crate) evals: Vec<EvalSet>,
    /// Parameters to start from, below a prefix; the others are initialised from the seed.
    pub(crate) root: Option<(&'static str, BTreeMap<String, Tensor>)>,
    /// What has embedded the captions.
    pub(crate) teacher: Arc<dyn SentenceEncoder>,
}

/// What all preparation needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Config,
    pub(crate) device: &'a Device,
    pub(crate) stop: &'a Arc<AtomicBool>,
}

impl Place<'_> {
    /// An error if the preparation was stopped from outside.
    pub(crate) fn go_on(&self, what: &str) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(TrainError::Interrupted(what.into())),
            false => Ok(()),
        }
    }
}

/// One run of an experiment.
#[derive(Clone)]
pub struct Run {
    /// The method, unless the configuration has a schedule of its own.
    pub method: Method,
    /// Seed of every draw.
    pub seed: u64,
    /// Folder of the run, where its checkpoints go, if anywhere.
    pub folder: Option<PathBuf>,
    /// Whether to go on from the newest checkpoint there.
    pub resume: bool,
    /// Set from outside to end the run after the current step.
    pub stop: Arc<AtomicBool>,
}

impl Experiment {
    /// Loads or makes the data, the caption embeddings and the initial root.
    ///
    /// # Errors
    /// If data, weights or the cache cannot be read or written, settings do not fit each other, or `stop` was set from
    /// outside meanwhile.
    pub fn prepare(
        config: &Config,
        device: &Device,
        stop: &Arc<AtomicBool>,
        sink: &mut dyn FnMut(&Event),
    ) -> Result<Self> {
        let TrainingConfig { exact, precision, .. } = config.training;
        if precision != Precision::F32 && !device.is_cuda() {
            return Err(TrainError::invalid(
                "training.precision is for GPUs: on a processor it is f32, which its kernels are made for",
            ));
        }
        dml_ops::set_exact(exact);
        dml_ops::set_precision(precision.into());
        let place = Place { config, device, stop };
        let mut source = match &config.data {
            DataConfig::Sample(sample) => sample::source(place, sample, sink)?,
            DataConfig::Photographs(paths) => photographs::source(place, paths, sink)?,
            DataConfig::Videos(paths) => videos::source(place, paths, sink)?,
        };
        if config.validation > 0.0 {
            validation::hold_out(&mut source, config.validation)?;
        }
        match (&source.root, &config.data) {
            // The sample has a set for this.
            (_, DataConfig::Sample(_)) => {}
            (None, _) => source.root = pretrained_root(place, CLASS, &source.sets[CLASS], sink)?,
            (Some(_), _) if config.pretrain.epochs > 0 => {
                return Err(TrainError::invalid(
                    "pretrain.epochs is for a root that starts from random values, and this one starts from data.root_weights",
                ));
            }
            (Some(_), _) => {}
        }
        if config.training.caption_target == CaptionTarget::Mean
            && let Some(set) = source.sets.remove(CAPTION)
        {
            let set = TrainSet { targets: set.targets.with_mean_captions(), ..set };
            source.sets.insert(CAPTION.into(), set);
        }
        let head = |name: &str| source.sets[name].targets.head();
        let heads = [CLASS, CAPTION].map(|name| (name.to_string(), head(name)));
        let net = NetConfig { root: config.root.clone(), heads: heads.into() };
        let (config, device) = (config.clone(), device.clone());
        Ok(Self { config, device, source: Arc::new(source), net, root_digest: Arc::default() })
    }

    /// Whether two configurations ask for the same data and initial root.
    pub(crate) fn share(a: &Config, b: &Config) -> bool {
        let batch = |config: &Config| (config.pretrain.epochs > 0).then_some(config.training.batch);
        let training = |config: &Config| {
            let TrainingConfig { exact, precision, caption_target, .. } = config.training;
            (exact, precision, caption_target)
        };
        let of = |config: &Config| (config.cache.clone(), batch(config), training(config));
        a.data == b.data
            && a.validation == b.validation
            && a.root == b.root
            && a.pretrain == b.pretrain
            && of(a) == of(b)
    }

    /// The same data and initial root under other settings; none where these ask for other data or another root.
    pub fn with(&self, config: &Config) -> Option<Self> {
        let Self { device, source, net, root_digest, .. } = self;
        Self::share(&self.config, config).then(|| Self {
            config: config.clone(),
            device: device.clone(),
            source: source.clone(),
            net: net.clone(),
            root_digest: root_digest.clone(),
        })
    }

    /// The network that is trained.
    pub fn net(&self) -> &NetConfig {
        &self.net
    }

    /// Fresh parameters: the initial root where there is one, all else drawn from the seed.
    ///
    /// # Errors
    /// If the initial root does not fit the network.
    pub fn params(&self, seed: u64) -> Result<Params> {
        let params = Params::new(seed, &self.device);
        MultiTaskNet::new(&self.net, params.builder())?;
        if let Some((prefix, tensors)) = &self.source.root {
            params.load_under(prefix, tensors.clone())?;
        }
        Ok(params)
    }

    /// The schedule that a method, or the configuration itself, prescribes.
    ///
    /// # Errors
    /// If λ, scales, epochs or block are out of range, a loss does not fit its head, or a name is unknown.
    pub fn schedule(&self, method: Method) -> Result<Schedule> {
        let schedule = match &self.config.schedule {
            Some(schedule) => schedule.clone(),
            None => method.schedule(&self.pair())?,
        };
        let tasks = self.tasks(method);
        for (name, task) in &tasks {
            task.check(name)?;
        }
        schedule.check(self.source.sets.keys().map(String::as_str), tasks.keys().map(String::as_str))?;
        Ok(schedule)
    }

    /// Trains a network from its initial parameters.
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run(&self, run: &Run, sink: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        self.run_from(&self.params(run.seed)?, run, sink)
    }

    /// Trains the network of these parameters, such as those of [`params`](Self::params).
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run_from(&self, params: &Params, run: &Run, sink: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        self.run_on(Arc::new(Alone), params, run, sink)
    }

    /// Trains the network of these parameters as one of several ranks. The configuration's batch is that of all together.
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run_on(
        &self,
        ranks: Arc<dyn Collective>,
        params: &Params,
        run: &Run,
        sink: &mut dyn FnMut(&Event),
    ) -> Result<Outcome> {
        let tasks = self.tasks(run.method);
        let schedule = self.schedule(run.method)?;
        let (sets, evals) = (&self.source.sets, &self.source.evals);
        let problem = Problem { net: &self.net, params, tasks: &tasks, sets, evals };
        Trainer::new(problem, self.settings(run), sink)?.with_ranks(ranks).run(&schedule)
    }

    fn settings(&self, run: &Run) -> Settings {
        let Config { training, optimizer, monitor, checkpoints, .. } = &self.config;
        Settings {
            seed: run.seed,
            batch: training.batch,
            micro_batch: training.micro_batch,
            learning_rates: LearningRates {
                root: optimizer.root_learning_rate,
                heads: optimizer.head_learning_rate,
            },
            adam: optimizer.adam,
            wire: training.gradients.into(),
            recording: training.recording,
            ema: Ema { decay: training.ema_decay, evaluate: training.evaluate_ema },
            weighting: training.weighting,
            weighting_learning_rate: optimizer.weighting_learning_rate,
            evaluate_throughout: training.evaluate_throughout,
            monitor: monitor.clone(),
            folder: run.folder.clone(),
            checkpoints: checkpoints.clone(),
            resume: run.resume,
            stop: run.stop.clone(),
        }
    }

    /// Digest of everything that a run's results depend on: schedule, tasks, network, seed, optimiser, initial root, and
    /// the contents of data and targets, wherever they lie. Settings that do not reach the schedule of the method, such as
    /// λ where nothing is preserved, do not count.
    ///
    /// # Errors
    /// As [`Experiment::schedule`].
    pub fn hash(&self, run: &Run) -> Result<String> {
        let (tasks, params) = (self.tasks(run.method), Params::new(run.seed, &self.device));
        let (sets, evals) = (&self.source.sets, &self.source.evals);
        let problem = Problem { net: &self.net, params: &params, tasks: &tasks, sets, evals };
        let identity = Identity::new(&problem, &self.settings(run), &self.schedule(run.method)?)?;
        let device = match self.config.training.precision {
            Precision::F32 if self.device.is_cpu() => "cpu",
            Precision::F32 => "gpu",
            Precision::Tf32 => "gpu tf32",
            Precision::Bf16 => "gpu bf16",
        };
        let parts = (RUN_REVISION, device, self.config.training.exact, identity, self.root_digest()?);
        let text = serde_json::to_vec(&parts).map_err(|error| TrainError::invalid(error.to_string()))?;
        Ok(hex(&Sha256::digest(text)[..8]))
    }

    /// Digest of the initial root.
    fn root_digest(&self) -> Result<String> {
        if let Some(known) = self.root_digest.get() {
            return Ok(known.clone());
        }
        let mut all = Sha256::new();
        if let Some((prefix, tensors)) = &self.source.root {
            for (name, tensor) in tensors {
                all.update(format!("{prefix} {name} {:?}", tensor.dims()));
                let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                values.iter().for_each(|value| all.update(value.to_le_bytes()));
            }
        }
        Ok(self.root_digest.get_or_init(|| hex(&all.finalize())).clone())
    }

    /// Scores of the network of a run.
    ///
    /// # Errors
    /// If there is none, or it does not fit.
    pub fn evaluate(&self, folder: &Path) -> Result<Vec<Score>> {
        self.evaluate_file(&Checkpoint::find(folder, &Which::Newest)?)
    }

    /// Scores of a network of a run, from its file (see [`Checkpoint::find`]).
    ///
    /// # Errors
    /// If the parameters do not fit the network.
    pub fn evaluate_file(&self, file: &Path) -> Result<Vec<Score>> {
        let net = self.load(file)?;
        evaluate(&net, &self.source.evals, self.config.training.batch, &self.device)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn evals(&self) -> &[EvalSet] {
        &self.source.evals
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn teacher(&self) -> Arc<dyn SentenceEncoder> {
        self.source.teacher.clone()
    }

    /// The network of these parameters.
    pub(crate) fn load(&self, file: &Path) -> Result<MultiTaskNet> {
        let params = Params::new(0, &self.device);
        let net = MultiTaskNet::new(&self.net, params.builder())?;
        params.load(dml_model::load_safetensors(file, &self.device)?)?;
        Ok(net)
    }

    fn pair(&self) -> Pair {
        let training = &self.config.training;
        let steps = |set: &TrainSet| set.dataset.len().div_ceil(training.batch.max(1));
        Pair {
            class_dataset: CLASS.into(),
            class_task: CLASS.into(),
            caption_dataset: CAPTION.into(),
            caption_task: CAPTION.into(),
            epochs: training.epochs,
            block: training.block,
            steps_per_epoch: steps(&self.source.sets[CLASS]).max(steps(&self.source.sets[CAPTION])),
            lambda_class: training.lambda_class,
            lambda_caption: training.lambda_caption,
            class_scale: training.class_scale,
            caption_scale: training.caption_scale,
            freeze_preserved_head: training.freeze_preserved_head,
            class_first: training.first == First::Class,
            preserve_after: training.preserve_after,
            warm_up: training.warm_up,
            mean_teacher: training.responses == Responses::MeanTeacher,
            learnt_weights: training.weighting == Weighting::Uncertainty,
        }
    }

    fn tasks(&self, method: Method) -> BTreeMap<String, Task> {
        let training = &self.config.training;
        let preserve = method.preservation(training.preserve_class);
        let class = Task { head: self.net.heads[CLASS], loss: training.class_loss, preserve };
        let loss = training.caption_loss;
        let caption = Task { head: self.net.heads[CAPTION], loss, preserve: Preservation::Cosine };
        BTreeMap::from([(CLASS.to_string(), class), (CAPTION.to_string(), caption)])
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
