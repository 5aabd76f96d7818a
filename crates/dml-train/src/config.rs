use std::path::{Path, PathBuf};

use dml_data::sample::SampleConfig;
use dml_model::RootConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::checkpoint::CheckpointConfig;
use crate::method::Method;
use crate::monitor::MonitorConfig;
use crate::optimizer::AdamSharing;
use crate::responses::Recording;
use crate::schedule::Schedule;
use crate::task::{Loss, Preservation};
use crate::{Result, TrainError};

/// Everything a run depends on. A file gives the settings that differ from the defaults of its kind of data; unknown
/// keys are refused; the resolved whole is saved with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of every random draw.
    pub seed: u64,
    /// The named method.
    pub method: Method,
    /// Folder of what is computed once: features, caption embeddings, the pretrained root of the sample.
    pub cache: PathBuf,
    /// The data.
    pub data: DataConfig,
    /// The shared root.
    pub root: RootConfig,
    /// Pretraining of the root on the sample's third set.
    pub pretrain: PretrainConfig,
    /// Losses and schedule.
    pub training: TrainingConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// When checkpoints are written, and which stay.
    #[serde(default)]
    pub checkpoints: CheckpointConfig,
    /// What is watched while the run goes on.
    #[serde(default)]
    pub monitor: MonitorConfig,
    /// A schedule in place of the method's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// Where the two half-labelled datasets come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataConfig {
    /// The built-in sample.
    Sample(SampleConfig),
    /// PASCAL VOC and Flickr8k.
    Photographs(PhotographsConfig),
}

/// PASCAL VOC for classes and Flickr8k for captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotographsConfig {
    /// `VOCdevkit`, or a year's folder in it.
    pub images: PathBuf,
    /// The year, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
    /// VOC split for training.
    pub images_train: String,
    /// VOC split for evaluation.
    pub images_test: String,
    /// Flickr8k's folder.
    pub captions: PathBuf,
    /// Flickr8k split for training.
    pub captions_train: String,
    /// Flickr8k split for evaluation.
    pub captions_test: String,
    /// Checkpoint of EfficientNet-Lite0; looked for in the usual places where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_weights: Option<PathBuf>,
    /// Folder of a sentence-transformers model; looked for in the usual places where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
}

/// Pretraining of the root, as the paper's roots are pretrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Epochs; 0 starts from random parameters.
    pub epochs: usize,
    /// Learning rate of root and head.
    pub learning_rate: f64,
    /// Seed, so that all seeds of a comparison start from one root.
    pub seed: u64,
}

/// Losses and schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Epochs on each dataset.
    pub epochs: usize,
    /// Epochs of a phase where phases alternate.
    pub block: usize,
    /// Samples of a step, from each stream.
    pub batch: usize,
    /// λ of eq. 8: weight of the class loss on class data; 1 − λ is the weight of the preserved captions.
    pub lambda_class: f64,
    /// λ of eq. 9: weight of the preserved classes on caption data; 1 − λ is the weight of the caption loss.
    pub lambda_caption: f64,
    /// Scale of the class loss and of the preservation of classes.
    pub class_scale: f64,
    /// Scale of the caption loss and of the preservation of captions.
    pub caption_scale: f64,
    /// Loss of the class task.
    pub class_loss: Loss,
    /// Loss of the caption task.
    pub caption_loss: Loss,
    /// How classes are preserved, where the method does not say.
    pub preserve_class: Preservation,
    /// Whether the head of a preserved task is held still.
    pub freeze_preserved_head: bool,
    /// Epochs in which a new head is trained alone, in the second half of fine-tuning and LwF.
    pub warm_up: usize,
    /// How responses are kept.
    pub recording: Recording,
    /// Whether tasks are evaluated throughout, or only at the end.
    pub evaluate_throughout: bool,
    /// Whether convolutions on the CPU are sums over the kernel's taps, instead of what is fastest (see
    /// [`dml_ops::set_exact`]).
    pub exact: bool,
}

/// The optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate of the root.
    pub root_learning_rate: f64,
    /// Learning rate of the heads.
    pub head_learning_rate: f64,
    /// Which phases share Adam's moments.
    pub adam: AdamSharing,
}

impl Config {
    /// The built-in sample with the recipe that the project's measurements recommend for it.
    pub fn sample() -> Self {
        let sample = SampleConfig {
            size: 24,
            train: 400,
            caption_train: 400,
            pretrain: 600,
            test: 200,
            ..SampleConfig::default()
        };
        Self {
            seed: 0,
            method: Method::DmlLwf,
            cache: default_cache(),
            root: RootConfig::SmallClip {
                frames: sample.frames,
                size: sample.size,
                channels: [8, 16, 32],
                hidden: 128,
                dropout: 0.1,
            },
            data: DataConfig::Sample(sample),
            pretrain: PretrainConfig { epochs: 20, learning_rate: 2e-3, seed: 0 },
            training: TrainingConfig {
                epochs: 18,
                block: 6,
                batch: 16,
                lambda_class: 0.9,
                lambda_caption: 0.2,
                class_scale: 1.0,
                caption_scale: 1.0,
                class_loss: Loss::Softmax,
                caption_loss: Loss::Cosine,
                preserve_class: Preservation::Distill { temperature: 2.0 },
                freeze_preserved_head: false,
                exact: false,
                warm_up: 0,
                recording: Recording::FrozenCopy,
                evaluate_throughout: true,
            },
            optimizer: OptimizerConfig {
                root_learning_rate: 1e-3,
                head_learning_rate: 1e-3,
                adam: AdamSharing::PerTask,
            },
            checkpoints: CheckpointConfig::default(),
            monitor: MonitorConfig::default(),
            schedule: None,
        }
    }

    /// PASCAL VOC and Flickr8k on frozen EfficientNet-Lite0 features with a fresh fc6 and fc7, with the recipe that
    /// measured best on them: mixed batches, BCE for classes, InfoNCE for captions.
    pub fn photographs(images: &Path, captions: &Path) -> Self {
        let sample = Self::sample();
        Self {
            method: Method::Mixed,
            data: DataConfig::Photographs(PhotographsConfig {
                images: images.into(),
                year: None,
                images_train: "train".into(),
                images_test: "val".into(),
                captions: captions.into(),
                captions_train: "train".into(),
                captions_test: "dev".into(),
                root_weights: None,
                teacher: None,
            }),
            root: RootConfig::Features { input: 1280, hidden: 1024, dropout: 0.5 },
            pretrain: PretrainConfig { epochs: 0, ..sample.pretrain },
            training: TrainingConfig {
                epochs: 20,
                block: 1,
                batch: 64,
                lambda_class: 0.5,
                lambda_caption: 0.7,
                class_loss: Loss::Bce,
                preserve_class: Preservation::DistillMultiLabel { temperature: 2.0 },
                caption_loss: Loss::InfoNce { tau: 0.07 },
                ..sample.training
            },
            optimizer: OptimizerConfig {
                root_learning_rate: 5e-4,
                head_learning_rate: 5e-4,
                adam: AdamSharing::PerTask,
            },
            ..sample
        }
    }

    /// The defaults, overlaid by a file (if one is given) and then by `key.path=value` settings. A file that asks for
    /// photographs is laid over their defaults, whatever `defaults` are.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, or has an unknown key or a value of the wrong type or range.
    pub fn load(defaults: &Self, file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let mut table = to_table(defaults)?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| TrainError::Io { path: path.into(), source })?;
            let problem = |problem: String| TrainError::Config { path: path.into(), problem };
            let given: Table = toml::from_str(&text).map_err(|e| problem(e.to_string()))?;
            let kind = given.get("data").and_then(|data| data.get("kind")).and_then(Value::as_str);
            if kind == Some("photographs") && matches!(defaults.data, DataConfig::Sample(_)) {
                table = to_table(&Self::photographs(Path::new(""), Path::new("")))?;
            }
            overlay(&mut table, given);
            Value::Table(table.clone()).try_into::<Self>().map_err(|e| problem(e.to_string()))?;
        }
        for setting in settings {
            let problem = |problem: String| TrainError::invalid(format!("setting {setting:?}: {problem}"));
            let given = parse_setting(setting).map_err(problem)?;
            overlay(&mut table, given);
            Value::Table(table.clone()).try_into::<Self>().map_err(|e| problem(e.to_string()))?;
        }
        let config: Self = Value::Table(table.clone())
            .try_into()
            .map_err(|e: toml::de::Error| TrainError::invalid(e.to_string()))?;
        // Some keys, such as those beside a `kind` without settings, are refused by nothing before.
        if let Some(key) = unknown_key(&table, &to_table(&config)?) {
            return Err(TrainError::invalid(format!("unknown key {key:?} in the configuration")));
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses numbers that no run could use, before anything is computed.
    ///
    /// # Errors
    /// If a λ is outside [0, 1], the batch is empty, or the block does not divide the epochs.
    pub fn check(&self) -> Result<()> {
        let training = &self.training;
        for (name, lambda) in
            [("lambda_class", training.lambda_class), ("lambda_caption", training.lambda_caption)]
        {
            dml_losses::Lambda::new(lambda)
                .map_err(|_| TrainError::invalid(format!("training.{name} is {lambda}, not in [0, 1]")))?;
        }
        if training.batch == 0 {
            return Err(TrainError::invalid("training.batch must be at least 1"));
        }
        if training.epochs == 0 || training.block == 0 || !training.epochs.is_multiple_of(training.block) {
            let (epochs, block) = (training.epochs, training.block);
            return Err(TrainError::invalid(format!(
                "training.epochs ({epochs}) must be a positive multiple of training.block ({block}); set both"
            )));
        }
        Ok(())
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// If a number does not fit TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| TrainError::invalid(e.to_string()))
    }
}

fn to_table(config: &Config) -> Result<Table> {
    match Value::try_from(config) {
        Ok(Value::Table(table)) => Ok(table),
        Ok(_) => Err(TrainError::invalid("the configuration is not a table")),
        Err(e) => Err(TrainError::invalid(e.to_string())),
    }
}

/// `a.b=value`, where the value is TOML, or a bare word.
fn parse_setting(setting: &str) -> std::result::Result<Table, String> {
    let (key, value) = setting.split_once('=').ok_or("write it as key.path=value")?;
    let quoted = format!("{key} = {}", Value::String(value.trim().into()));
    toml::from_str(setting).or_else(|_| toml::from_str(&quoted)).map_err(|e| e.to_string())
}

/// Lays `given` over `base`. A table whose `kind` changes is replaced as a whole: its other keys belong to the old kind.
fn overlay(base: &mut Table, given: Table) {
    for (key, value) in given {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                overlay(old, new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The path of a key that is given but not known.
fn unknown_key(given: &Table, known: &Table) -> Option<String> {
    given.iter().find_map(|(key, value)| match (value, known.get(key)) {
        (_, None) => Some(key.clone()),
        (Value::Table(given), Some(Value::Table(known))) => {
            unknown_key(given, known).map(|inner| format!("{key}.{inner}"))
        }
        _ => None,
    })
}

/// `$XDG_CACHE_HOME/dml`, or `.cache/dml` in the home folder, or `runs/cache` where there is none.
fn default_cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| Some(from("HOME")?.join(".cache")))
        .map_or_else(|| PathBuf::from("runs/cache"), |base| base.join("dml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(settings: &[&str]) -> Result<Config> {
        Config::load(&Config::sample(), None, &settings.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn settings_overlay_the_defaults() {
        let config = load(&["training.caption_loss.kind=info-nce"]);
        assert!(config.unwrap_err().to_string().contains("tau"));
        let config =
            load(&["training.epochs=12", "method=mixed", "training.caption_loss={kind='info-nce',tau=0.07}"])
                .unwrap();
        assert_eq!((config.training.epochs, config.method), (12, Method::Mixed));
        assert_eq!(config.training.caption_loss, Loss::InfoNce { tau: 0.07 });
        assert_eq!(config.training.batch, Config::sample().training.batch);
    }

    #[test]
    fn a_file_that_asks_for_photographs_gets_their_defaults() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("run.toml");
        let text = "[data]\nkind = 'photographs'\nimages = 'a'\ncaptions = 'b'\n[training]\nepochs = 3\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&Config::sample(), Some(&file), &[]).unwrap();
        let mut expected = Config::photographs(Path::new("a"), Path::new("b"));
        expected.training.epochs = 3;
        assert_eq!(config, expected);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (setting, name) in [
            ("epochs=4", "epochs"),
            ("training.epoch=4", "epoch"),
            ("data.framez=4", "framez"),
            ("root.widht=4", "widht"),
            ("method=dmll", "dmll"),
            ("training.caption_loss.tau=0.1", "tau"),
            ("training.class_loss={kind='softmax',tau=3.0}", "tau"),
        ] {
            let error = load(&[setting]).unwrap_err().to_string();
            assert!(error.contains(name), "{setting}: {error}");
        }
    }

    #[test]
    fn the_resolved_configuration_reads_back() {
        for config in [Config::sample(), Config::photographs(Path::new("a"), Path::new("b"))] {
            let text = config.to_toml().unwrap();
            assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
        }
    }
}
