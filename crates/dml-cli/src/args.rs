use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Args, Parser, Subcommand};
use dml_train::{Config, Method};

use crate::import::ImportArgs;
use crate::report::ReportArgs;
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
    /// Train a network: on the built-in sample, or on photographs with --images and --captions.
    Train(TrainArgs),
    /// Score the checkpoint of a run.
    Eval(EvalArgs),
    /// Train with several methods and seeds and put their scores in one table.
    Compare(CompareArgs),
    /// Make an HTML page on a run, or on several side by side.
    Report(ReportArgs),
    /// Show the network, its parameters and the schedule as it will run.
    Info(InfoArgs),
    /// Turn published weights, in the format they were published in, into safetensors.
    Import(ImportArgs),
    /// List or download published weights.
    Weights(WeightsArgs),
}

/// What every command that trains, or describes a training, understands.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file with any of the settings; see the `config.toml` that a run leaves for all of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// PASCAL VOC, labelled with classes: `VOCdevkit`, or a year's folder in it.
    #[arg(long, value_name = "DIR", requires = "captions")]
    images: Option<PathBuf>,
    /// Flickr8k, labelled with captions: the folder of `Flickr8k.token.txt`.
    #[arg(long, value_name = "DIR", requires = "images")]
    captions: Option<PathBuf>,
    /// Year of PASCAL VOC, where there are several.
    #[arg(long, requires = "images")]
    year: Option<u16>,
    /// EfficientNet-Lite0 checkpoint (.pth or .safetensors); without it, $DML_WEIGHTS, the cache and the hub.
    #[arg(long, value_name = "FILE", requires = "images")]
    root_weights: Option<PathBuf>,
    /// Folder of a sentence-transformers model; without it, $DML_WEIGHTS, the cache and the hub.
    #[arg(long, value_name = "DIR", requires = "images")]
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
    /// Where to compute: `cpu`, `cuda` or `cuda:N` (in a build with the feature `cuda`).
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
    /// Print events as JSON lines instead of bars and tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folder of the run.
    pub(crate) run: PathBuf,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Print the scores as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Methods, separated by commas; `dml info` lists them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "class-only,caption-only,dml,dml-matched,dml-lwf,mixed"
    )]
    pub(crate) methods: Vec<Method>,
    /// Number of seeds: 0, 1, … for each method.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Show every measure, not only the main ones.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print the comparison as JSON.
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
        let defaults = match (&self.images, &self.captions) {
            (Some(images), Some(captions)) => Config::photographs(images, captions),
            _ => Config::sample(),
        };
        let mut settings = Vec::new();
        let text = |path: &PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let mut set =
            |key: &str, value: Option<String>| settings.extend(value.map(|value| format!("{key}={value}")));
        set("data.year", self.year.map(|year| year.to_string()));
        set("data.root_weights", self.root_weights.as_ref().map(text));
        set("data.teacher", self.teacher.as_ref().map(text));
        set("training.epochs", self.epochs.map(|epochs| epochs.to_string()));
        set("training.lambda_class", self.lambda_class.map(float));
        set("training.lambda_caption", self.lambda_caption.map(float));
        set("method", method.map(|method| format!("{:?}", method.name())));
        set("seed", seed.map(|seed| seed.to_string()));
        settings.extend(self.settings.iter().cloned());
        Ok(Config::load(&defaults, self.config.as_deref(), &settings)?)
    }

    pub(crate) fn device(&self) -> Result<Device> {
        device(&self.device)
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
            Device::new_cuda(number).with_context(|| format!("opening device {name:?}"))
        }
        _ => bail!("unknown device {name:?}: there are cpu, cuda and cuda:N"),
    }
}
