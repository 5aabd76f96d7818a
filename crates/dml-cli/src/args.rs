use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Args, Parser, Subcommand};
use dml_collective::Launch;
use dml_train::{Config, Method};

use crate::compare::CompareArgs;
use crate::doctor::DoctorArgs;
use crate::import::ImportArgs;
use crate::predict::PredictArgs;
use crate::report::ReportArgs;
use crate::reproduce::ReproduceArgs;
use crate::sweep::SweepArgs;
use crate::teacher::TeacherArgs;
use crate::verify::VerifyArgs;
use crate::weights::WeightsArgs;

/// Train one network on several tasks from datasets that are each labelled for one task only.
#[derive(Debug, Parser)]
#[command(name = "dml", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Number of threads; all cores by default. Results are the same bits for any number.
    #[arg(long, global = true)]
    pub(crate) threads: Option<NonZeroUsize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a network: on the built-in sample, or on photographs (--images) or videos (--videos) with --captions.
    Train(TrainArgs),
    /// Score the network of a run.
    Eval(EvalArgs),
    /// Prove on this machine that a run which is stopped and resumed ends with the same bytes.
    VerifyResume(VerifyArgs),
    /// Train with several methods and seeds and put their scores in one table.
    Compare(CompareArgs),
    /// Train with every combination of some settings and mark the best. What is finished is never trained again.
    Sweep(SweepArgs),
    /// Train the rows of one of the paper's tables or figures and set them beside its numbers.
    Reproduce(ReproduceArgs),
    /// Say the classes of photographs or videos, and the captions that fit them.
    Predict(PredictArgs),
    /// Make an HTML page on a run, or on several side by side.
    Report(ReportArgs),
    /// Show the network, its parameters and the schedule as it will run.
    Info(InfoArgs),
    /// Turn published weights, in the format they were published in, into safetensors.
    Import(ImportArgs),
    /// List or download published weights.
    Weights(WeightsArgs),
    /// Check that this machine can train: device, gradients, memory, disk, weights, ffmpeg.
    Doctor(DoctorArgs),
    /// Train a sentence encoder of your own on captions, or measure one.
    Teacher(TeacherArgs),
}

/// What every command that trains, or describes a training, understands.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file with any of the settings; see the `config.toml` that a run leaves for all of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// PASCAL VOC, labelled with classes: `VOCdevkit`, a year's folder in it, or what prepare-data made of it.
    #[arg(long, value_name = "DIR", requires = "captions", group = "labelled")]
    images: Option<PathBuf>,
    /// UCF101 or HMDB51, labelled with actions: the folder that prepare-data made.
    #[arg(long, value_name = "DIR", requires = "captions", group = "labelled")]
    videos: Option<PathBuf>,
    /// The set with captions: beside --images Flickr8k, as published or prepared; beside --videos the prepared YouTube2Text.
    #[arg(long, value_name = "DIR", requires = "labelled")]
    captions: Option<PathBuf>,
    /// Year of PASCAL VOC, where there are several.
    #[arg(long, requires = "images")]
    year: Option<u16>,
    /// Official split of the actions: 1, 2 or 3.
    #[arg(long, value_name = "N", requires = "videos", value_parser = clap::value_parser!(u8).range(1..=3))]
    split: Option<u8>,
    /// The root, with settings that suit it. Photographs: features (of EfficientNet-Lite0, the default), efficientnet-lite0,
    /// or vgg-s with the paper's settings. Videos: small-clip (the default), features (of their middle frames), or c3d with
    /// the paper's settings.
    #[arg(long, value_name = "KIND", requires = "labelled")]
    root: Option<String>,
    /// Pretrained root: an EfficientNet-Lite0 checkpoint (.pth or .safetensors; without it, $DML_WEIGHTS, the cache and the
    /// hub), or the safetensors of `dml import c3d` or `vgg-s`.
    #[arg(long, value_name = "FILE", requires = "labelled")]
    root_weights: Option<PathBuf>,
    /// Sentence encoder: folder of a sentence-transformers model (without it, $DML_WEIGHTS, the cache and the hub), file or
    /// folder of an order-embedding (imported, or of `dml teacher train`), or `lexical`.
    #[arg(long, value_name = "PATH", requires = "labelled")]
    teacher: Option<PathBuf>,
    /// Epochs on each dataset.
    #[arg(long)]
    epochs: Option<usize>,
    /// λ of eq. 8, on class data: weight of the class loss; the preserved captions have 1 − λ.
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    lambda_class: Option<f64>,
    /// λ of eq. 9, on caption data: weight of the preserved classes; the caption loss has 1 − λ.
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    lambda_caption: Option<f64>,
    /// Any setting of the configuration, such as `training.block=1` or `optimizer.adam=shared`; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Where to compute: `cpu`, `cuda` or `cuda:N` (in a build with the feature `cuda`). Of several processes each takes with
    /// `cuda` the GPU of its number on its machine.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How to train; `dml info` lists the methods.
    #[arg(long)]
    pub(crate) method: Option<Method>,
    /// Seed of every random draw.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Folder of the run; must not hold a run yet. By default a new one in `runs`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run of this folder, or with the `latest` in `runs`, from its newest whole checkpoint. Options that
    /// would change what it computes are refused.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "config"])]
    pub(crate) resume: Option<PathBuf>,
    /// Show curves of every task while training; `q` stops the run as Ctrl-C does.
    #[arg(long, conflicts_with = "json")]
    pub(crate) tui: bool,
    /// Seconds that the processes of a run wait for one that does not answer, before all end and name it; the last
    /// checkpoint stays.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) rank_timeout: u64,
    /// Show at the end where the time went. The device is waited for after each part of a step, so that steps take longer.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Print events as JSON lines instead of bars and tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folder of the run.
    pub(crate) run: PathBuf,
    /// Which network: `newest`, `best` (of the score that the setting `checkpoints.best` names), or the name of a
    /// checkpoint.
    #[arg(long, default_value = "newest", value_name = "CHECKPOINT")]
    pub(crate) checkpoint: String,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Print the scores as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The method whose schedule is shown.
    #[arg(long)]
    pub(crate) method: Option<Method>,
    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl ConfigArgs {
    /// The resolved configuration: defaults of the kind of data, then the file, then the options.
    pub(crate) fn resolve(&self, method: Option<Method>, seed: Option<u64>) -> Result<Config> {
        self.over(&self.defaults(), method, seed)
    }

    /// The defaults of the kind of data that the options name.
    pub(crate) fn defaults(&self) -> Config {
        match (&self.images, &self.videos, &self.captions) {
            (Some(images), _, Some(captions)) => Config::photographs(images, captions),
            (_, Some(videos), Some(captions)) => Config::videos(videos, captions),
            _ => Config::sample(),
        }
    }

    /// A configuration, overlaid by the file and the options.
    pub(crate) fn over(&self, config: &Config, method: Option<Method>, seed: Option<u64>) -> Result<Config> {
        let mut settings = Vec::new();
        let text = |path: &PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let mut set =
            |key: &str, value: Option<String>| settings.extend(value.map(|value| format!("{key}={value}")));
        set("data.year", self.year.map(|year| year.to_string()));
        set("data.split", self.split.map(|split| split.to_string()));
        set("root.kind", self.root.as_ref().map(|kind| toml::Value::String(kind.clone()).to_string()));
        set("data.root_weights", self.root_weights.as_ref().map(text));
        set("data.teacher", self.teacher.as_ref().map(text));
        set("training.epochs", self.epochs.map(|epochs| epochs.to_string()));
        set("training.lambda_class", self.lambda_class.map(float));
        set("training.lambda_caption", self.lambda_caption.map(float));
        set("method", method.map(|method| format!("{:?}", method.name())));
        set("seed", seed.map(|seed| seed.to_string()));
        settings.extend(self.settings.iter().cloned());
        Ok(Config::load(config, self.config.as_deref(), &settings)?)
    }

    /// Whether nothing says what to train on or how.
    pub(crate) fn is_plain(&self) -> bool {
        self.config.is_none() && self.captions.is_none() && self.settings.is_empty()
    }

    pub(crate) fn device(&self) -> Result<Device> {
        device(&self.device)
    }

    /// The device of one of several processes: `cuda` is the GPU of its number on its machine.
    pub(crate) fn device_of(&self, launch: &Launch) -> Result<Device> {
        match self.device.as_str() {
            "cuda" if launch.size > 1 => device(&format!("cuda:{}", launch.local_rank)),
            name => device(name),
        }
    }
}

/// A float as TOML: with a point, so that it is not read as an integer.
fn float(value: f64) -> String {
    toml::Value::Float(value).to_string()
}

/// `cpu`, `cuda` or `cuda:N`.
pub(crate) fn device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", _) => Ok(Device::Cpu),
        ("cuda", number) => {
            if !cfg!(feature = "cuda") {
                bail!(
                    "this build has no CUDA: build with `--features cuda` (and `cudnn`) for --device {name}"
                );
            }
            let number =
                number.parse().with_context(|| format!("device {name:?}: {number:?} is not a number"))?;
            let device = Device::new_cuda(number).with_context(|| format!("opening device {name:?}"))?;
            #[cfg(feature = "cuda")]
            dml_ops::keep_memory(&device)?;
            Ok(device)
        }
        _ => bail!("unknown device {name:?}: there are cpu, cuda and cuda:N"),
    }
}
