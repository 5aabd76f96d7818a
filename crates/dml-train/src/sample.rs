use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use dml_data::Dataset;
use dml_data::sample::{Sample, SampleConfig, SampleSet};
use dml_model::{MultiTaskNet, NetConfig, Params};
use dml_teacher::{Lexical, SentenceEncoder};
use sha2::{Digest, Sha256};

use crate::average::Ema;
use crate::checkpoint::CheckpointConfig;
use crate::config::PretrainConfig;
use crate::evaluate::EvalSet;
use crate::event::Event;
use crate::experiment::{CAPTION, CLASS, Place, Source, hex};
use crate::monitor::MonitorConfig;
use crate::optimizer::{AdamSharing, LearningRates};
use crate::schedule::{Length, Phase, Schedule, Stream, Supervise};
use crate::targets::Targets;
use crate::task::{Loss, Preservation, Task};
use crate::trainer::{Problem, Settings, TrainSet, Trainer};
use crate::weighting::Weighting;
use crate::{Result, TrainError};

const MOTION: &str = "motion";
/// Part of the cache key of a pretrained root: to be raised when initialisation or training change what comes out.
const PRETRAIN_REVISION: u32 = 1;

/// The built-in sample, with the root pretrained on its third set.
pub(crate) fn source(place: Place, sample: &SampleConfig, sink: &mut dyn FnMut(&Event)) -> Result<Source> {
    sink(&Event::Preparing { what: "sample clips".into(), done: 0, of: 1 });
    let clips = Sample::generate(sample)?;
    let teacher = Arc::new(Lexical::new(128)?);
    let targets = |set: &Arc<SampleSet>| {
        Targets::new(set.labels(), teacher.dim(), &mut |sentences| {
            Ok(teacher.encode(sentences)?.flatten_all()?.to_vec1::<f32>()?)
        })
    };
    let train = |set: &Arc<SampleSet>| -> Result<TrainSet> {
        Ok(TrainSet { dataset: set.clone(), targets: targets(set)? })
    };
    let judged = |set: &Arc<SampleSet>, own: &str, other: &Arc<SampleSet>, hidden: &str| -> Result<EvalSet> {
        let judged = vec![
            (own.to_string(), own.to_string(), targets(set)?),
            (format!("{hidden} of {own} data"), hidden.to_string(), targets(other)?),
        ];
        Ok(EvalSet { dataset: set.clone(), judged })
    };
    let root = pretrained_root(place, &clips.pretrain, &train(&clips.pretrain)?.targets, sink)?;
    Ok(Source {
        sets: BTreeMap::from([
            (CLASS.to_string(), train(&clips.actions_train)?),
            (CAPTION.to_string(), train(&clips.captions_train)?),
        ]),
        evals: vec![
            judged(&clips.actions_test, CLASS, &clips.actions_test_captions, CAPTION)?,
            judged(&clips.captions_test, CAPTION, &clips.captions_test_actions, CLASS)?,
        ],
        root,
        teacher,
    })
}

/// The root after training on the motion labels, from the cache where it has been computed before.
fn pretrained_root(
    place: Place,
    clips: &Arc<SampleSet>,
    targets: &Targets,
    sink: &mut dyn FnMut(&Event),
) -> Result<Option<(&'static str, BTreeMap<String, Tensor>)>> {
    let Place { config, device, stop } = place;
    let PretrainConfig { epochs, learning_rate, seed } = config.pretrain;
    if epochs == 0 {
        return Ok(None);
    }
    let net = NetConfig {
        root: config.root.clone(),
        heads: BTreeMap::from([(MOTION.to_string(), targets.head())]),
    };
    let key = format!("{PRETRAIN_REVISION}|{:?}|{:?}|{}", net, config.pretrain, clips.fingerprint());
    // Exact convolutions come to another root in the last bits, from which training goes other ways.
    let exact = if config.training.exact { "|exact" } else { "" };
    let key = format!("{key}|{}{exact}", config.training.batch);
    let name = hex(&Sha256::digest(key.as_bytes())[..12]);
    let path = config.cache.join(format!("pretrained-{name}.safetensors"));
    if path.exists() {
        return Ok(Some(("root", dml_model::load_safetensors(&path, device)?)));
    }
    let params = Params::new(seed, device);
    MultiTaskNet::new(&net, params.builder())?;
    let task = Task {
        head: targets.head(),
        loss: Loss::Softmax,
        preserve: Preservation::Distill { temperature: 1.0 },
    };
    let tasks = BTreeMap::from([(MOTION.to_string(), task)]);
    let set = TrainSet { dataset: clips.clone(), targets: targets.clone() };
    let sets = BTreeMap::from([(MOTION.to_string(), set)]);
    let supervise = Supervise { task: MOTION.into(), weight: 1.0 };
    let stream = Stream { dataset: MOTION.into(), supervise, preserve: vec![] };
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
        adam: AdamSharing::Shared,
        wire: dml_collective::Wire::F32,
        recording: config.training.recording,
        ema: Ema::default(),
        weighting: Weighting::Fixed,
        weighting_learning_rate: 0.0,
        evaluate_throughout: false,
        monitor: MonitorConfig::default(),
        folder: None,
        checkpoints: CheckpointConfig::default(),
        resume: false,
        stop: stop.clone(),
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
