//! A root that has learnt to tell classes apart before the tasks begin.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dml_model::{MultiTaskNet, NetConfig, Params};
use sha2::{Digest, Sha256};

use crate::config::{Precision, PretrainConfig};
use crate::event::Event;
use crate::experiment::{Place, hex};
use crate::optimizer::LearningRates;
use crate::schedule::{Length, Phase, Schedule, Stream, Supervise};
use crate::task::{Loss, Preservation, Task};
use crate::trainer::{Problem, Settings, TrainSet, Trainer};
use crate::{Result, TrainError};

/// Part of the cache key of a pretrained root: to be raised when initialisation or training change what comes out.
const REVISION: u32 = 1;

/// The root after `pretrain.epochs` on a set's classes, which the task `name` tells apart by softmax; from the cache where
/// it has been computed before, none where no epochs are asked for.
pub(crate) fn pretrained_root(
    place: Place,
    name: &str,
    set: &TrainSet,
    sink: &mut dyn FnMut(&Event),
) -> Result<Option<(&'static str, BTreeMap<String, Tensor>)>> {
    let Place { config, device, stop } = place;
    let PretrainConfig { epochs, learning_rate, seed } = config.pretrain;
    if epochs == 0 {
        return Ok(None);
    }
    let net = NetConfig {
        root: config.root.clone(),
        heads: BTreeMap::from([(name.to_string(), set.targets.head())]),
    };
    let key = format!("{REVISION}|{:?}|{:?}|{}", net, config.pretrain, set.dataset.fingerprint());
    // Exact convolutions come to another root in the last bits, from which training goes other ways.
    let exact = if config.training.exact { "|exact" } else { "" };
    // So do roots that compute in fewer bits.
    let precision = match config.training.precision {
        Precision::F32 => String::new(),
        fewer => format!("|{fewer:?}"),
    };
    let key = format!("{key}|{}{exact}{precision}", config.training.batch);
    let digest = hex(&Sha256::digest(key.as_bytes())[..12]);
    let path = config.cache.join(format!("pretrained-{digest}.safetensors"));
    if path.exists() {
        return Ok(Some(("root", dml_model::load_safetensors(&path, device)?)));
    }
    let params = Params::new(seed, device);
    MultiTaskNet::new(&net, params.builder())?;
    let task = Task {
        head: set.targets.head(),
        loss: Loss::Softmax,
        preserve: Preservation::Distill { temperature: 1.0 },
    };
    let tasks = BTreeMap::from([(name.to_string(), task)]);
    let set = TrainSet { dataset: set.dataset.clone(), targets: set.targets.clone() };
    let sets = BTreeMap::from([(name.to_string(), set)]);
    let supervise = Supervise { task: name.into(), weight: 1.0 };
    let stream = Stream { dataset: name.into(), supervise, preserve: vec![] };
    let phase = Phase {
        name: "pretraining".into(),
        streams: vec![stream],
        length: Length::Epochs(epochs),
        freeze: vec![],
        restart: false,
    };
    let settings = Settings {
        seed,
        batch: config.training.batch,
        micro_batch: config.training.micro_batch,
        learning_rates: LearningRates { root: learning_rate, heads: learning_rate },
        recording: config.training.recording,
        stop: stop.clone(),
        ..Settings::default()
    };
    let schedule = Schedule { prologue: vec![phase], repeat: vec![], rounds: 0 };
    let problem = Problem { net: &net, params: &params, tasks: &tasks, sets: &sets, evals: &[] };
    Trainer::new(problem, settings, sink)?.run(&schedule)?;
    place.go_on("the pretrained root")?;
    let below_root =
        |(name, tensor): (String, Tensor)| Some((name.strip_prefix("root.")?.to_string(), tensor));
    let root: BTreeMap<String, Tensor> = params.tensors().into_iter().filter_map(below_root).collect();
    std::fs::create_dir_all(&config.cache)
        .map_err(|source| TrainError::Io { path: config.cache.clone(), source })?;
    dml_model::save_safetensors(&path, &root, &BTreeMap::new())?;
    Ok(Some(("root", root)))
}
