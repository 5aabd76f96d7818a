//! Sentence encoders: train one of one's own, and measure any.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::{Args, Subcommand, ValueEnum};
use dml_data::{Dataset, Flickr8k, ImagePipeline, Labels, splits};
use dml_losses::{Hinges, Similarity};
use dml_teacher::{
    CaptionScore, CaptionSet, OrderSettings, OrderTrainer, load_encoder, paraphrase_retrieval,
};

use crate::Done;
use crate::args::device;
use crate::progress::{Progress, TeacherProgress, complain, say};

#[derive(Debug, Args)]
pub(crate) struct TeacherArgs {
    #[command(subcommand)]
    command: TeacherCommand,
}

#[derive(Debug, Subcommand)]
enum TeacherCommand {
    /// Train a sentence encoder on captions: an order-embedding, the teacher of the paper.
    ///
    /// It learns that a caption belongs to its photograph, or to another caption of its video, and to no other. After every
    /// epoch captions that were held out are ranked; the best epoch is what you get. `dml train --teacher` takes the
    /// folder.
    Train(Box<TrainTeacherArgs>),
    /// Measure a sentence encoder: do two captions of one item find each other among those of all others?
    Score(ScoreArgs),
}

#[derive(Debug, Args)]
#[group(id = "sets", required = true, multiple = true, args = ["flickr8k", "youtube2text"])]
struct Sets {
    /// Flickr8k: the folder of `Flickr8k.token.txt`, as published or prepared.
    #[arg(long, value_name = "DIR")]
    flickr8k: Option<PathBuf>,
    /// YouTube2Text: the folder of `AllVideoDescriptions.txt` and `youtube_mapping.txt`. Only its sentences are read, so no
    /// video need be there.
    #[arg(long, value_name = "DIR")]
    youtube2text: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TrainTeacherArgs {
    #[command(flatten)]
    sets: Sets,
    /// Folder for the model; must not hold one yet.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Train on Flickr8k's captions alone, caption against caption, without its photographs.
    #[arg(long, requires = "flickr8k")]
    without_images: bool,
    /// What draws captions to what they belong to: `order` is the paper's (vectors without negative values); `cosine` suits
    /// captions against captions. By default `order` where all captions have photographs.
    #[arg(long, value_enum)]
    similarity: Option<SimilarityArg>,
    /// By how much the right one must be nearer than a wrong one; by default 0.05 for `order` and 0.2 for `cosine`.
    #[arg(long)]
    margin: Option<f64>,
    /// Learn from the hardest wrong one of each batch only, not from all.
    #[arg(long)]
    hardest: bool,
    /// Length of a sentence's vector.
    #[arg(long, default_value_t = 1024)]
    dim: usize,
    /// Length of a word's vector.
    #[arg(long, default_value_t = 300)]
    word_dim: usize,
    /// Captions of a step.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// How often every caption is seen.
    #[arg(long, default_value_t = 15)]
    epochs: usize,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Words that come less often are taken for unknown ones.
    #[arg(long, default_value_t = 2, value_name = "TIMES")]
    least: usize,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// EfficientNet-Lite0 checkpoint that sees the photographs; without it, $DML_WEIGHTS, the cache and the hub.
    #[arg(long, value_name = "FILE", requires = "flickr8k")]
    root_weights: Option<PathBuf>,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Debug, Args)]
struct ScoreArgs {
    /// Folder or file of an order-embedding, folder of a sentence-transformers model, or `lexical` for the built-in encoder;
    /// without it, all-MiniLM-L6-v2 from $DML_WEIGHTS, the cache or the hub.
    teacher: Option<PathBuf>,
    #[command(flatten)]
    sets: Sets,
    /// Which part of the sets: train, val (dev) or test.
    #[arg(long, default_value = "test")]
    part: Part,
    /// How often two captions of each item are drawn.
    #[arg(long, default_value_t = 5)]
    draws: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SimilarityArg {
    Order,
    Cosine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Train,
    #[value(alias = "dev")]
    Val,
    Test,
}

pub(crate) fn run(args: &TeacherArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    match &args.command {
        TeacherCommand::Train(args) => train(args, stop),
        TeacherCommand::Score(args) => score(args),
    }
}

fn train(args: &TrainTeacherArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    if load_encoder(Some(&args.out), &Device::Cpu).is_ok() {
        bail!("{} holds a model already; choose another --out", args.out.display());
    }
    let device = device(&args.device)?;
    let images = args.sets.flickr8k.is_some() && !args.without_images;
    let similarity = match args.similarity {
        Some(SimilarityArg::Order) => Similarity::Order,
        None if images && args.sets.youtube2text.is_none() => Similarity::Order,
        _ => Similarity::Cosine,
    };
    let defaults = OrderSettings::new(similarity);
    let settings = OrderSettings {
        word_dim: args.word_dim,
        dim: args.dim,
        margin: args.margin.unwrap_or(defaults.margin),
        hinges: if args.hardest { Hinges::Hardest } else { Hinges::Sum },
        batch: args.batch,
        epochs: args.epochs,
        learning_rate: args.learning_rate,
        least: args.least,
        seed: args.seed,
        ..defaults
    };
    let (mut seen, mut held_out) = (Vec::new(), Vec::new());
    for (part, sets) in [(Part::Train, &mut seen), (Part::Val, &mut held_out)] {
        match (&args.sets.flickr8k, images) {
            (Some(dir), true) => sets.push(photographs(dir, part, args, &device, stop)?),
            _ => sets.extend(args.sets.flickr8k(part)?),
        }
        sets.extend(args.sets.youtube2text(part)?);
    }
    let mut progress = TeacherProgress::default();
    let outcome =
        OrderTrainer::new(&seen, settings, &device)?
            .train(&held_out, &args.out, stop, &mut |event| progress.show(event))?;
    progress.finish();
    let place = args.out.display();
    if outcome.interrupted {
        complain(&format!("interrupted; {place} has epoch {}", outcome.saved));
        return Ok(Done::Interrupted);
    }
    say(&format!(
        "teacher: {place}, of epoch {}; use it with `dml train … --teacher {place}`",
        outcome.saved
    ));
    Ok(Done::Whole)
}

fn score(args: &ScoreArgs) -> Result<Done> {
    let encoder = load_encoder(args.teacher.as_deref(), &device(&args.device)?)?;
    let sets = args.sets.flickr8k(args.part)?.into_iter().chain(args.sets.youtube2text(args.part)?);
    for set in sets {
        let score = paraphrase_retrieval(&*encoder, &set.captions, args.draws, args.seed)?;
        say(&describe(encoder.name(), &set.name, &score));
    }
    Ok(Done::Whole)
}

/// A score with what a guess would reach, on one line.
pub(crate) fn describe(encoder: &str, set: &str, score: &CaptionScore) -> String {
    let CaptionScore { retrieval, pool } = score;
    let recall = |k: usize, value: f64| format!("R@{k} {value:.1} (chance {:.2})", score.chance(k));
    format!(
        "{encoder} on {set}: {}, {}, {}; median rank {:.0} of {pool}",
        recall(1, retrieval.r1),
        recall(5, retrieval.r5),
        recall(10, retrieval.r10),
        retrieval.median_rank
    )
}

impl Sets {
    /// The captions of Flickr8k, alone.
    fn flickr8k(&self, part: Part) -> Result<Option<CaptionSet>> {
        let Some(dir) = &self.flickr8k else { return Ok(None) };
        let split = part.of_flickr8k();
        let captions = splits::flickr8k(dir, split)?.into_iter().map(|(_, captions)| captions).collect();
        Ok(Some(CaptionSet { name: format!("Flickr8k {split}"), captions, features: None }))
    }

    /// The captions of YouTube2Text.
    fn youtube2text(&self, part: Part) -> Result<Option<CaptionSet>> {
        let Some(dir) = &self.youtube2text else { return Ok(None) };
        let lists = splits::msvd(dir)?;
        let (name, clips) = match part {
            Part::Train => ("train", lists.train),
            Part::Val => ("val", lists.val),
            Part::Test => ("test", lists.test),
        };
        let captions = clips.into_iter().map(|(_, captions)| captions).collect();
        Ok(Some(CaptionSet { name: format!("YouTube2Text {name}"), captions, features: None }))
    }
}

impl Part {
    fn of_flickr8k(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "dev",
            Self::Test => "test",
        }
    }
}

/// Flickr8k with its photographs' features.
fn photographs(
    dir: &Path,
    part: Part,
    args: &TrainTeacherArgs,
    device: &Device,
    stop: &Arc<AtomicBool>,
) -> Result<CaptionSet> {
    let set: Arc<dyn Dataset> = Arc::new(Flickr8k::open(dir, part.of_flickr8k(), ImagePipeline::default())?);
    let mut progress = Progress::new("");
    let rows =
        dml_train::photograph_features(&set, args.root_weights.as_deref(), device, stop, &mut |event| {
            progress.show(event);
        })?;
    let Labels::Captions { of } = set.labels() else {
        bail!("{} has no captions", set.name());
    };
    let features =
        Tensor::from_vec(rows.values, (set.len(), rows.dim), device).context("keeping features")?;
    Ok(CaptionSet { name: set.name().into(), captions: of.clone(), features: Some(features) })
}
