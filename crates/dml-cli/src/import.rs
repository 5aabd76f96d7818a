use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::{Args, ValueEnum};
use dml_import::Imported;
use dml_teacher::{OrderEmbedding, SentenceEncoder};

use crate::progress::say;
use crate::{Done, runs};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What the file holds.
    #[arg(value_enum)]
    what: What,
    /// The published file.
    file: PathBuf,
    /// Where the tensors go, as safetensors; the vocabulary of an order-embedding goes beside it, as JSON.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Leave out the classifier fc8, which a shared root does not have.
    #[arg(long)]
    without_classifier: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum What {
    /// C3D's weights: c3d.pickle, c3d-pretrained.pth, c3d_model.pkl, or C3D's Caffe model.
    C3d,
    /// VGG-S's weights: VGG_CNN_S.caffemodel or vgg_cnn_s.pkl.
    VggS,
    /// EfficientNet-Lite0's trunk: a .pth with lukemelas's names, or a .safetensors with timm's.
    #[value(name = "efficientnet-lite0")]
    EfficientNetLite0,
    /// A mean image or mean clip: .npy, .binaryproto, or the one in vgg_cnn_s.pkl.
    Mean,
    /// An order-embedding: <name>.npz, with <name>.pkl beside it.
    OrderEmbedding,
    /// Any torch checkpoint of tensors, of before or after PyTorch 1.6; the names stay.
    Torch,
}

pub(crate) fn run(args: &ImportArgs) -> Result<Done> {
    if args.out.extension().is_none_or(|extension| extension != "safetensors") {
        bail!("{}: the tensors are written as safetensors; name the file so", args.out.display());
    }
    let imported = read(args)?;
    let Imported { mut tensors, mut metadata, left_out } = imported;
    if args.without_classifier {
        tensors.retain(|name, _| !name.starts_with("fc8."));
    }
    let file = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    metadata.insert("file".into(), file);
    dml_model::save_safetensors(&args.out, &tensors, &metadata)?;
    let values: usize = tensors.values().map(Tensor::elem_count).sum();
    for (key, value) in &metadata {
        say(&format!("{key}: {value}"));
    }
    if !left_out.is_empty() {
        say(&format!("left out, as nothing needs them: {}", left_out.join(", ")));
    }
    say(&format!("{} tensors, {values} values: {}", tensors.len(), args.out.display()));
    Ok(Done::Whole)
}

fn read(args: &ImportArgs) -> Result<Imported> {
    let plain = |source: &str, tensors: BTreeMap<String, Tensor>| Imported {
        tensors,
        metadata: BTreeMap::from([("source".into(), source.into())]),
        left_out: Vec::new(),
    };
    Ok(match args.what {
        What::C3d => dml_import::read_c3d(&args.file)?,
        What::VggS => dml_import::read_vgg_s(&args.file)?,
        What::Mean => dml_import::read_mean(&args.file)?,
        What::Torch => plain("a torch checkpoint", dml_import::read_torch(&args.file)?),
        What::EfficientNetLite0 => {
            let tensors = dml_model::efficientnet::read_weights(&args.file, &Device::Cpu)?;
            plain("EfficientNet-Lite0's trunk, in lukemelas's names", tensors)
        }
        What::OrderEmbedding => {
            let tensors = order_embedding(&args.file, &args.out)?;
            plain("an order-embedding (ivendrov/order-embedding)", tensors)
        }
    })
}

/// Checks that the model works, and writes its vocabulary.
fn order_embedding(file: &Path, out: &Path) -> Result<BTreeMap<String, Tensor>> {
    let encoder = OrderEmbedding::from_file(file, &Device::Cpu)?;
    encoder.encode(&["a dog runs"]).with_context(|| format!("trying {}", file.display()))?;
    let object = dml_import::read_object(&file.with_extension("pkl"))?;
    runs::write(&out.with_extension("json"), &serde_json::to_vec(&object)?)?;
    Ok(dml_import::read_npz(file)?)
}
