use std::path::PathBuf;

use dml_data::ClipPipeline;
use dml_data::sample::SampleConfig;
use serde::{Deserialize, Serialize};

/// Where the two half-labelled datasets come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataConfig {
    /// The built-in sample.
    Sample(SampleConfig),
    /// PASCAL VOC and Flickr8k.
    Photographs(PhotographsConfig),
    /// UCF101 or HMDB51, and YouTube2Text.
    Videos(VideosConfig),
}

/// PASCAL VOC for classes and Flickr8k for captions. Where a folder has a finished set of shards, the photographs come
/// from there, else from the published layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotographsConfig {
    /// `VOCdevkit`, a year's folder in it, or the folder that prepare-data made.
    pub images: PathBuf,
    /// The year, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
    /// VOC split for training.
    pub images_train: String,
    /// VOC split for evaluation.
    pub images_test: String,
    /// Flickr8k's folder, as published or as prepare-data made it.
    pub captions: PathBuf,
    /// Flickr8k split for training.
    pub captions_train: String,
    /// Flickr8k split for evaluation.
    pub captions_test: String,
    /// Parameters of the root. For features and EfficientNet-Lite0 its checkpoint, which is looked for in the usual places
    /// where it is not given; for VGG-S the safetensors of `dml import vgg-s`, without which it starts from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_weights: Option<PathBuf>,
    /// Mean image of VGG-S (3, 224, 224), blue first, in place of ImageNet's mean colour: `.npy`, `.binaryproto`, or the
    /// safetensors of `dml import mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_file: Option<PathBuf>,
    /// The sentence encoder: folder of a sentence-transformers model, file of an order-embedding, or `lexical`; a
    /// sentence-transformers model is looked for in the usual places where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
}

/// UCF101 or HMDB51 for classes and YouTube2Text for captions, as prepare-data leaves them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideosConfig {
    /// Folder of the prepared UCF101 or HMDB51; which it is, its lists tell.
    pub videos: PathBuf,
    /// The official split of the actions: 1, 2 or 3.
    pub split: usize,
    /// Folder of the prepared YouTube2Text.
    pub captions: PathBuf,
    /// Part of YouTube2Text for training; the paper takes `train+val`.
    pub captions_train: String,
    /// Part of YouTube2Text for evaluation.
    pub captions_test: String,
    /// Parameters of C3D: the safetensors of `dml import c3d`; without them the root starts from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_weights: Option<PathBuf>,
    /// The sentence encoder, as for photographs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// How a clip becomes the root's input.
    pub input: ClipPipeline,
}
