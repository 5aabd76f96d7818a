use std::sync::Arc;

use dml_data::{Dataset, Frames, ImagePipeline, YouTube2Text, open_actions};
use dml_model::{RootConfig, weights};

use crate::config::VideosConfig;
use crate::event::Event;
use crate::experiment::{Place, Source};
use crate::pair::{Parts, imported};
use crate::photographs::features;
use crate::{Result, TrainError};

/// UCF101 or HMDB51, and YouTube2Text: clips, decoded when a batch needs them, or frozen features of their middle frames.
pub(crate) fn source(place: Place, paths: &VideosConfig, sink: &mut dyn FnMut(&Event)) -> Result<Source> {
    let Place { config, device, .. } = place;
    let VideosConfig { videos, split, captions, captions_train, captions_test, input, .. } = paths;
    let parts = Parts {
        class_train: open_actions(videos, *split, "train", input)?,
        class_test: open_actions(videos, *split, "test", input)?,
        caption_train: Arc::new(YouTube2Text::open(captions, captions_train, input)?),
        caption_test: Arc::new(YouTube2Text::open(captions, captions_test, input)?),
    };
    for set in parts.all() {
        announce(&**set, sink);
    }
    if let RootConfig::Features { .. } = config.root {
        let parts = parts.map(|clips| Ok(Arc::new(Frames::new(clips, ImagePipeline::default())?)))?;
        let weights = weights::find(&weights::EFFICIENTNET_LITE0, paths.root_weights.as_deref())?;
        let parts = features(place, &weights, parts, sink)?;
        return parts.source(place, paths.teacher.as_deref(), None, sink);
    }
    let root = match &config.root {
        RootConfig::C3d { .. } => imported(paths.root_weights.as_deref(), device)?,
        RootConfig::SmallClip { .. } if paths.root_weights.is_none() => None,
        RootConfig::SmallClip { .. } => {
            return Err(TrainError::invalid(
                "data.root_weights are those of the root \"c3d\"; set root.kind",
            ));
        }
        other => {
            return Err(TrainError::invalid(format!(
                "videos need the root \"small-clip\" or \"c3d\", or \"features\" of their middle frames, not {other:?}"
            )));
        }
    };
    let expected = match config.root {
        RootConfig::SmallClip { frames, size, .. } => [3, frames, size, size],
        _ => [3, 16, 112, 112],
    };
    if let Some(set) = parts.all().into_iter().find(|set| set.input_shape() != expected) {
        return Err(TrainError::invalid(format!(
            "clips of {} are {:?}, but the root takes {expected:?}: set root.size to data.input.crop / \
             data.input.shrink, and root.frames to the number of frames that were prepared",
            set.name(),
            set.input_shape()
        )));
    }
    parts.source(place, paths.teacher.as_deref(), root, sink)
}

fn announce(set: &dyn Dataset, sink: &mut dyn FnMut(&Event)) {
    let what = match set.missing().len() {
        0 => set.name().to_string(),
        missing => format!("{}, of which {missing} listed videos are not prepared", set.name()),
    };
    sink(&Event::Preparing { what, done: 0, of: set.len() });
}
