use std::path::{Path, PathBuf};

use dml_data::ClipPipeline;
use dml_data::sample::SampleConfig;
use dml_model::RootConfig;

use super::{
    CaptionTarget, Config, DataConfig, First, Gradients, OptimizerConfig, PhotographsConfig, Precision,
    PretrainConfig, TrainingConfig, VideosConfig,
};
use crate::average::Ema;
use crate::checkpoint::CheckpointConfig;
use crate::method::Method;
use crate::monitor::MonitorConfig;
use crate::optimizer::AdamSharing;
use crate::responses::{Recording, Responses};
use crate::task::{Loss, Preservation};
use crate::weighting::Weighting;

/// Epochs on frames and photographs where none were searched.
const EPOCHS: usize = 20;

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
            validation: 0.0,
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
                micro_batch: 0,
                lambda_class: 0.9,
                lambda_caption: 0.2,
                class_scale: 1.0,
                caption_scale: 1.0,
                class_loss: Loss::Softmax,
                caption_loss: Loss::Cosine,
                preserve_class: Preservation::Distill { temperature: 2.0 },
                responses: Responses::Recorded,
                ema_decay: Ema::default().decay,
                evaluate_ema: false,
                weighting: Weighting::Fixed,
                gradients: Gradients::F32,
                freeze_preserved_head: false,
                precision: Precision::F32,
                exact: false,
                first: First::Caption,
                preserve_after: 0,
                caption_target: CaptionTarget::One,
                warm_up: 0,
                recording: Recording::FrozenCopy,
                evaluate_throughout: true,
            },
            optimizer: OptimizerConfig {
                root_learning_rate: 1e-3,
                head_learning_rate: 1e-3,
                weighting_learning_rate: 1e-2,
                adam: AdamSharing::PerTask,
            },
            checkpoints: CheckpointConfig::default(),
            monitor: MonitorConfig::default(),
            schedule: None,
        }
    }

    /// PASCAL VOC and Flickr8k on frozen EfficientNet-Lite0 features with a fresh fc6 and fc7, with the recipe that
    /// measured best on them: mixed batches, BCE for classes, InfoNCE for captions. The root's rate and the epochs were
    /// chosen on held-out training samples.
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
                mean_file: None,
                teacher: None,
            }),
            root: RootConfig::Features { input: 1280, hidden: 1024, dropout: 0.5 },
            pretrain: PretrainConfig { epochs: 0, ..sample.pretrain },
            training: TrainingConfig {
                epochs: 40,
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
                root_learning_rate: 2e-4,
                head_learning_rate: 5e-4,
                ..sample.optimizer
            },
            ..sample
        }
    }

    /// UCF101 or HMDB51 and YouTube2Text on a small 3D network that a processor trains in minutes: frames are halved to
    /// 56×56, and all parameters start from the seed, or with `pretrain.epochs` the root from training on the actions.
    pub fn videos(videos: &Path, captions: &Path) -> Self {
        let sample = Self::sample();
        let input = ClipPipeline { shrink: 2, scale: 64.0, ..ClipPipeline::default() };
        Self {
            method: Method::DmlLwf,
            root: RootConfig::SmallClip {
                frames: 16,
                size: (input.crop / input.shrink) as usize,
                channels: [16, 32, 64],
                hidden: 256,
                dropout: 0.2,
            },
            data: DataConfig::Videos(VideosConfig {
                videos: videos.into(),
                split: 1,
                captions: captions.into(),
                captions_train: "train+val".into(),
                captions_test: "test".into(),
                root_weights: None,
                teacher: None,
                input,
            }),
            pretrain: PretrainConfig { epochs: 0, learning_rate: 1e-3, ..sample.pretrain },
            training: TrainingConfig { epochs: 10, block: 1, batch: 16, ..sample.training },
            optimizer: OptimizerConfig {
                root_learning_rate: 5e-4,
                head_learning_rate: 5e-4,
                ..sample.optimizer
            },
            ..sample
        }
    }

    /// The same data with another root. The paper's roots, C3D and VGG-S, bring the paper's settings: its method, Adam at
    /// 1e-5 for video and 5e-5 for images, batches of 16 and 64, λ 0.5 and 0.7, softmax, cosine, T = 2, phases of an
    /// epoch, and the input they were made for.
    ///
    /// Frozen features of the middle frames of videos bring the losses of photographs', with a softmax.
    pub fn with_root(mut self, root: RootConfig) -> Self {
        if let (RootConfig::Features { .. }, DataConfig::Videos(_)) = (&root, &self.data) {
            let Self { method, training, optimizer, .. } = Self::photographs(Path::new(""), Path::new(""));
            let preserve_class = Preservation::Distill { temperature: 2.0 };
            let training =
                TrainingConfig { epochs: EPOCHS, class_loss: Loss::Softmax, preserve_class, ..training };
            let optimizer = OptimizerConfig { root_learning_rate: optimizer.head_learning_rate, ..optimizer };
            return Self { root, method, training, optimizer, ..self };
        }
        if let (DataConfig::Photographs(_), false) = (&self.data, matches!(root, RootConfig::Features { .. }))
        {
            self.training.epochs = EPOCHS;
        }
        let (batch, learning_rate) = match root {
            RootConfig::C3d { .. } => (16, 1e-5),
            RootConfig::VggS { .. } => (64, 5e-5),
            _ => return Self { root, ..self },
        };
        if let DataConfig::Videos(videos) = &mut self.data {
            videos.input = ClipPipeline::default();
        }
        Self {
            root,
            method: Method::DmlLwf,
            training: TrainingConfig {
                block: 1,
                batch,
                lambda_class: 0.5,
                lambda_caption: 0.7,
                class_scale: 1.0,
                caption_scale: 1.0,
                class_loss: Loss::Softmax,
                caption_loss: Loss::Cosine,
                preserve_class: Preservation::Distill { temperature: 2.0 },
                ..self.training
            },
            optimizer: OptimizerConfig {
                root_learning_rate: learning_rate,
                head_learning_rate: learning_rate,
                ..self.optimizer
            },
            ..self
        }
    }
}

/// The root of this kind, for the kinds that no kind of data has as its own.
pub(super) fn root(kind: &str) -> Option<RootConfig> {
    Some(match kind {
        "features" => RootConfig::Features { input: 1280, hidden: 1024, dropout: 0.5 },
        "c3d" => RootConfig::C3d { dropout: 0.5 },
        "vgg-s" => RootConfig::VggS { dropout: 0.5 },
        "efficientnet-lite0" => RootConfig::EfficientNetLite0 { size: 224, hidden: 1024, dropout: 0.5 },
        _ => return None,
    })
}

/// `$XDG_CACHE_HOME/dml`, or `.cache/dml` in the home folder, or `runs/cache` where there is none.
fn default_cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| Some(from("HOME")?.join(".cache")))
        .map_or_else(|| PathBuf::from("runs/cache"), |base| base.join("dml"))
}
