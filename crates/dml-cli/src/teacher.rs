use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::{Args, Subcommand, ValueEnum};
use dml_data::{Dataset, Flickr8k, ImagePipeline, Labels, Rows, View, cached_rows};
use dml_model::{EfficientNetLite0, Params, efficientnet, weights};
use dml_teacher::{OrderTrainer, OrderTraining, Pairs, SentenceEncoder, Similarity, TeacherError};

use crate::progress::{complain, say};
use crate::{Done, args, runs};

/// The encoder that training leaves; its vocabulary is beside it, as JSON.
const ENCODER: &str = "order.safetensors";
/// What training goes on from.
const STATE: &str = "state.safetensors";
/// One in so many groups of captions is held out.
const HELD_OUT: u64 = 10;

#[derive(Debug, Args)]
pub(crate) struct TeacherArgs {
    #[command(subcommand)]
    command: TeacherCommand,
}

#[derive(Debug, Subcommand)]
enum TeacherCommand {
    /// Train an order-embedding from captions: against images, against other captions of the same video, or both.
    Train(TrainArgs),
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// Captions, a line each: an id, a blank or tabulator, the caption. Captions of one id belong together; a `#` and what
    /// follows it in an id counts for nothing. One id in ten is held out to measure with.
    #[arg(long, value_name = "FILE", required_unless_present = "flickr8k")]
    captions: Option<PathBuf>,
    /// Flickr8k, whose training images are the image side, by EfficientNet-Lite0's features.
    #[arg(long, value_name = "DIR")]
    flickr8k: Option<PathBuf>,
    /// EfficientNet-Lite0 checkpoint; without it, $DML_WEIGHTS, the cache and the hub.
    #[arg(long, value_name = "FILE", requires = "flickr8k")]
    root_weights: Option<PathBuf>,
    /// Folder of the encoder. Where it has a training of the same settings, that goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the captions.
    #[arg(long, default_value_t = 15)]
    epochs: u64,
    /// Length of a word's vector.
    #[arg(long, default_value_t = 300)]
    word_dim: usize,
    /// Length of a sentence's vector.
    #[arg(long, default_value_t = 1024)]
    dim: usize,
    /// What makes a sentence and its image near.
    #[arg(long, value_enum, default_value_t = Near::Order)]
    similarity: Near,
    /// By how much a pair is to be nearer than any other: 0.05 for order and 0.2 for cosine unless given.
    #[arg(long)]
    margin: Option<f64>,
    /// Pairs in a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Adam's.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Count only the worst of the others, not their sum.
    #[arg(long)]
    hard_negatives: bool,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where features are kept that need not be computed again.
    #[arg(long, value_name = "DIR", default_value = "runs/cache")]
    cache: PathBuf,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Near {
    /// The sentence's vector lies below the image's, component by component; none is negative.
    Order,
    /// The cosine is large.
    Cosine,
}

/// Captions that belong together, in the order of their ids.
type Groups = Vec<Vec<String>>;

pub(crate) fn run(args: &TeacherArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let TeacherCommand::Train(args) = &args.command;
    let device = args::device(&args.device)?;
    let (train, held_out) = match &args.captions {
        Some(path) => read_captions(path)?,
        None => Default::default(),
    };
    let images = args.flickr8k.as_ref().map(|dir| read_images(args, dir, &device, stop)).transpose()?;
    let mut all = train.clone();
    all.extend(images.iter().flat_map(|(captions, _)| captions.iter().cloned()));
    let features = images.as_ref().map(|(_, features)| features.dim(1)).transpose()?;
    let mut trainer = OrderTrainer::new(args.training(), &all, features, &device)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let done = resume(&args.out, &mut trainer)?;
    let go_on = &mut |_: usize, _: usize| match stop.load(Ordering::Relaxed) {
        true => Err(TeacherError::Invalid("interrupted".into())),
        false => Ok(()),
    };
    for epoch in done..args.epochs {
        let mut losses = Vec::new();
        let mut pass = |groups: &Groups, pairs| trainer.epoch(epoch, groups, pairs, go_on);
        let outcome = (|| {
            if !train.is_empty() {
                losses.push(format!("captions {:.4}", pass(&train, Pairs::Captions)?));
            }
            if let Some((captions, features)) = &images {
                losses.push(format!("images {:.4}", pass(captions, Pairs::Images(features))?));
            }
            Ok::<_, TeacherError>(())
        })();
        if stop.load(Ordering::Relaxed) {
            complain(&format!("interrupted; the {epoch} whole epochs are in {}", args.out.display()));
            return Ok(Done::Interrupted);
        }
        outcome?;
        save(&args.out, &trainer, epoch + 1)?;
        let measured = measure(&trainer, &held_out)?;
        say(&format!("epoch {}: loss of a pair: {}{measured}", epoch + 1, losses.join(", ")));
    }
    say(&format!("encoder: {}", args.out.join(ENCODER).display()));
    Ok(Done::Whole)
}

impl TrainArgs {
    fn training(&self) -> OrderTraining {
        let (similarity, margin) = match self.similarity {
            Near::Order => (Similarity::Order, 0.05),
            Near::Cosine => (Similarity::Cosine, 0.2),
        };
        OrderTraining {
            word_dim: self.word_dim,
            dim: self.dim,
            similarity,
            margin: self.margin.unwrap_or(margin),
            batch: self.batch,
            learning_rate: self.learning_rate,
            hard_negatives: self.hard_negatives,
            seed: self.seed,
            ..OrderTraining::default()
        }
    }
}

/// The groups to train on and those held out, each of two captions at least. Which are held out depends on their ids alone.
fn read_captions(path: &Path) -> Result<(Groups, Groups)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((id, caption)) = line.split_once([' ', '\t']) else {
            bail!("{}, line {}: an id and a caption were expected, found {line:?}", path.display(), i + 1);
        };
        let id = id.rsplit_once('#').map_or(id, |(id, _)| id);
        if caption.contains(char::is_alphanumeric) {
            groups.entry(id).or_default().push(caption.trim().to_string());
        }
    }
    groups.retain(|_, captions| captions.len() > 1);
    let (held_out, train): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(id, _)| dml_rand::hash(id).is_multiple_of(HELD_OUT));
    let captions =
        |groups: Vec<(&str, Vec<String>)>| groups.into_iter().map(|(_, captions)| captions).collect();
    Ok((captions(train), captions(held_out)))
}

/// Captions and features of Flickr8k's training images.
fn read_images(
    args: &TrainArgs,
    dir: &Path,
    device: &Device,
    stop: &Arc<AtomicBool>,
) -> Result<(Groups, Tensor)> {
    let set = Flickr8k::open(dir, "train", ImagePipeline::default())?;
    let Labels::Captions { of } = set.labels() else { bail!("Flickr8k without captions") };
    let path = weights::find(&weights::EFFICIENTNET_LITE0, args.root_weights.as_deref())?;
    let params = Params::new(0, device);
    let trunk = EfficientNetLite0::new(params.builder_frozen(&[""]))?;
    params.load(efficientnet::read_weights(&path, device)?)?;
    let size = std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
    let key = format!("teacher images|{}|{size}|{}", path.display(), set.fingerprint());
    let rows = cached_rows(&args.cache, &key, set.len(), efficientnet::POOLED, || {
        let mut values = Vec::new();
        for batch in dml_data::batches(&set, (0..set.len()).collect(), View::evaluation(), 16, device) {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            values.extend(trunk.pooled(&batch?.inputs)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Rows { dim: efficientnet::POOLED, values })
    })?;
    let features = Tensor::from_vec(rows.values, (set.len(), rows.dim), device)?;
    // Of length one, as the published model has its features.
    let norm = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    Ok((of.clone(), features.broadcast_div(&norm)?))
}

/// Goes on from what the folder has; answers the epochs done.
fn resume(out: &Path, trainer: &mut OrderTrainer) -> Result<u64> {
    let path = out.join(STATE);
    if !path.exists() {
        return Ok(0);
    }
    let metadata = dml_model::load_metadata(&path)?;
    if metadata.get("object") != Some(&trainer.object().to_string()) {
        bail!("{} has a training of other settings or captions; choose another --out", out.display());
    }
    trainer.restore(&dml_model::load_safetensors(&path, &Device::Cpu)?)?;
    let epochs = metadata.get("epochs").and_then(|epochs| epochs.parse().ok());
    epochs.with_context(|| format!("{} does not say how many epochs it has", path.display()))
}

fn save(out: &Path, trainer: &OrderTrainer, epochs: u64) -> Result<()> {
    let object = trainer.object();
    let metadata =
        BTreeMap::from([("epochs".into(), epochs.to_string()), ("object".into(), object.to_string())]);
    dml_model::save_safetensors(&out.join(STATE), &trainer.state()?, &metadata)?;
    dml_model::save_safetensors(&out.join(ENCODER), &trainer.tensors()?, &BTreeMap::new())?;
    runs::write(&out.join(ENCODER).with_extension("json"), &serde_json::to_vec(&object)?)
}

/// Among the first captions of all groups held out, where is the one of a second caption's own group?
fn measure(trainer: &OrderTrainer, held_out: &Groups) -> Result<String> {
    if held_out.is_empty() {
        return Ok(String::new());
    }
    let encoder = trainer.encoder("order")?;
    let encode = |k: usize| {
        let captions: Vec<&str> = held_out.iter().map(|captions| captions[k].as_str()).collect();
        encoder.encode(&captions)
    };
    let similarity = encode(1)?.matmul(&encode(0)?.t()?)?.to_vec2::<f32>()?;
    let n = held_out.len();
    // Ties count against the encoder.
    let rank = |(i, row): (usize, &Vec<f32>)| row.iter().filter(|&&value| value >= row[i]).count();
    let mut ranks: Vec<usize> = similarity.iter().enumerate().map(rank).collect();
    ranks.sort_unstable();
    let recall = |k: usize| 100.0 * ranks.iter().filter(|&&rank| rank <= k).count() as f64 / n as f64;
    let chance = |k: usize| 100.0 * k.min(n) as f64 / n as f64;
    Ok(format!(
        "; paraphrases of {n} held out: R@1 {:.1} (chance {:.1}), R@10 {:.1} (chance {:.1}), median rank {}",
        recall(1),
        chance(1),
        recall(10),
        chance(10),
        ranks[n / 2]
    ))
}
