//! What the end-to-end tests share: made-up datasets of feature vectors, on which a network trains in milliseconds.

pub mod trees;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_data::{Dataset, Labels, View};
use dml_model::{HeadConfig, MultiTaskNet, NetConfig, Params, RootConfig};
use dml_rand::{Purpose, Stream};
use dml_train::{
    AdamSharing, EvalSet, Event, LearningRates, Length, Loss, Outcome, Pair, Phase, Preservation, Preserve,
    Problem, Recorded, Result, Schedule, Settings, Supervise, Targets, Task, TrainSet, Trainer,
};

/// Length of a feature vector.
pub const DIM: usize = 12;
/// Samples of a dataset.
pub const LEN: usize = 50;

/// Vectors around one centre per class, jittered anew in each epoch as augmentation would.
pub struct Toy {
    name: String,
    labels: Labels,
    classes: Vec<u32>,
    broken: Option<usize>,
}

impl Toy {
    /// A set of `k` classes.
    pub fn new(name: &str, k: usize) -> Self {
        let classes: Vec<u32> = (0..LEN).map(|index| (index % k) as u32).collect();
        let labels =
            Labels::Classes { names: (0..k).map(|class| format!("c{class}")).collect(), of: classes.clone() };
        Self { name: name.into(), labels, classes, broken: None }
    }

    /// A set whose sample of this index reads as infinite.
    pub fn broken(name: &str, k: usize, index: usize) -> Self {
        Self { broken: Some(index), ..Self::new(name, k) }
    }
}

impl Dataset for Toy {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        LEN
    }

    fn input_shape(&self) -> &[usize] {
        &[DIM]
    }

    fn id(&self, index: usize) -> String {
        format!("{}-{index}", self.name)
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> dml_data::Result<()> {
        let mut centre =
            Stream::new(dml_rand::hash(&self.name), Purpose::Test, 0, self.classes[index].into());
        let mut own = Stream::new(dml_rand::hash(&self.name), Purpose::Test, 1, index as u64);
        let mut jitter =
            view.epoch.map(|epoch| Stream::new(view.seed, Purpose::Augment, epoch, index as u64));
        for value in out.iter_mut() {
            let noise = jitter.as_mut().map_or(0.0, |jitter| 0.3 * jitter.normal());
            *value = (centre.normal() + 0.5 * own.normal() + noise) as f32;
        }
        if self.broken == Some(index) {
            out.fill(f32::INFINITY);
        }
        Ok(())
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn fingerprint(&self) -> String {
        format!("toy {} {:?}", self.name, self.labels)
    }
}

/// A network, its tasks and its datasets: one dataset per task, of the same name.
pub struct Bench {
    /// The network.
    pub net: NetConfig,
    /// The tasks.
    pub tasks: BTreeMap<String, Task>,
    /// The datasets.
    pub sets: BTreeMap<String, TrainSet>,
    /// Evaluation on the training samples.
    pub evals: Vec<EvalSet>,
}

impl Bench {
    /// A bench over these datasets.
    ///
    /// # Errors
    /// If a dataset's labels cannot be used.
    pub fn new(toys: Vec<Toy>) -> Result<Self> {
        let mut bench = Self {
            net: NetConfig {
                root: RootConfig::Features { input: DIM, hidden: 16, dropout: 0.5 },
                heads: BTreeMap::new(),
            },
            tasks: BTreeMap::new(),
            sets: BTreeMap::new(),
            evals: vec![],
        };
        for toy in toys {
            let name = toy.name.clone();
            let targets = Targets::new(toy.labels(), 0, &mut |_| Ok(vec![]))?;
            let preserve = Preservation::Distill { temperature: 2.0 };
            let head: HeadConfig = targets.head();
            bench.net.heads.insert(name.clone(), head);
            bench.tasks.insert(name.clone(), Task { head, loss: Loss::Softmax, preserve });
            let dataset: Arc<dyn Dataset> = Arc::new(toy);
            let judged = vec![(name.clone(), name.clone(), targets.clone())];
            bench.evals.push(EvalSet { dataset: dataset.clone(), judged });
            bench.sets.insert(name, TrainSet { dataset, targets });
        }
        Ok(bench)
    }

    /// Trains from parameters drawn from seed 3; returns the outcome, the parameters and the events.
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run(&self, schedule: &Schedule, settings: Settings) -> Result<(Outcome, Params, Vec<Event>)> {
        let params = Params::new(3, &Device::Cpu);
        MultiTaskNet::new(&self.net, params.builder())?;
        let (outcome, events) = self.run_from(&params, schedule, settings)?;
        Ok((outcome, params, events))
    }

    /// Trains from these parameters.
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run_from(
        &self,
        params: &Params,
        schedule: &Schedule,
        settings: Settings,
    ) -> Result<(Outcome, Vec<Event>)> {
        let mut events = Vec::new();
        let outcome =
            self.run_to(params, schedule, settings, &mut |event: &Event| events.push(event.clone()))?;
        Ok((outcome, events))
    }

    /// Trains from these parameters; events go to `sink`.
    ///
    /// # Errors
    /// See [`Trainer::run`].
    pub fn run_to(
        &self,
        params: &Params,
        schedule: &Schedule,
        settings: Settings,
        sink: &mut dyn FnMut(&Event),
    ) -> Result<Outcome> {
        let problem =
            Problem { net: &self.net, params, tasks: &self.tasks, sets: &self.sets, evals: &self.evals };
        Trainer::new(problem, settings, sink)?.run(schedule)
    }
}

/// What the named methods need to know of the datasets "a", with classes, and "b".
pub fn pair() -> Pair {
    Pair {
        class_dataset: "a".into(),
        class_task: "a".into(),
        caption_dataset: "b".into(),
        caption_task: "b".into(),
        epochs: 4,
        block: 2,
        steps_per_epoch: 4,
        lambda_class: 0.5,
        lambda_caption: 0.7,
        class_scale: 1.0,
        caption_scale: 1.0,
        freeze_preserved_head: false,
        class_first: false,
        preserve_after: 0,
        warm_up: 0,
        mean_teacher: false,
        learnt_weights: false,
    }
}

/// A dataset's own task, and others that are preserved on it, each with half of the weight.
pub fn stream(dataset: &str, preserve: &[&str], recorded: Recorded) -> dml_train::Stream {
    let preserve = preserve.iter().map(|&task| Preserve { task: task.into(), weight: 0.5, recorded });
    dml_train::Stream {
        dataset: dataset.into(),
        supervise: Supervise { task: dataset.into(), weight: 0.5 },
        preserve: preserve.collect(),
    }
}

/// An epoch of these streams.
pub fn phase(name: &str, streams: Vec<dml_train::Stream>) -> Phase {
    Phase { name: name.into(), streams, length: Length::Epochs(1), freeze: vec![], restart: false }
}

/// Settings for a quick run.
pub fn settings() -> Settings {
    Settings {
        seed: 5,
        batch: 16,
        learning_rates: LearningRates { root: 3e-3, heads: 3e-3 },
        adam: AdamSharing::Shared,
        ..Settings::default()
    }
}

/// All parameters as bytes, for comparing runs to the last bit.
///
/// # Errors
/// If a parameter cannot be read.
pub fn bits(params: &Params) -> Result<Vec<(String, Vec<u32>)>> {
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    params.tensors().iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
}

/// Folder of small real data, if the environment names one; says so on one line if it does not.
pub fn real_data(what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DML_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        left_out(what, "DML_REAL_DATA names no folder of real data");
    }
    folder
}

/// Says that a test was left out, and why.
#[allow(clippy::print_stderr)]
pub fn left_out(what: &str, why: &str) {
    eprintln!("left out: {what}, because {why}");
}
