use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use dml_data::{
    BgrPipeline, Compute, Dataset, Features, Flickr8k, ImagePipeline, PhotoPipeline, Prefetch, Rows, View,
    Voc, cached_rows,
};
use dml_model::{EfficientNetLite0, RootConfig, efficientnet, weights};
use sha2::{Digest, Sha256};

use crate::config::{Config, PhotographsConfig};
use crate::event::Event;
use crate::experiment::{Place, Source};
use crate::pair::{Parts, imported};
use crate::{Result, TrainError};

/// Images read at once while features are computed.
const BATCH: usize = 16;

/// VOC and Flickr8k, as frozen features or as images, whatever the root takes.
pub(crate) fn source(
    place: Place,
    paths: &PhotographsConfig,
    sink: &mut dyn FnMut(&Event),
) -> Result<Source> {
    let Place { config, device, .. } = place;
    let mean_file = paths.mean_file.clone();
    let pipeline: PhotoPipeline = match config.root {
        RootConfig::VggS { .. } => BgrPipeline { mean_file, ..BgrPipeline::default() }.into(),
        RootConfig::EfficientNetLite0 { size, .. } | RootConfig::SmallImage { size, .. } => {
            // The margin that is cut off is as large a share of the picture as at the published size.
            let ImagePipeline { short_side, crop, .. } = ImagePipeline::default();
            let size = u32::try_from(size)
                .map_err(|_| TrainError::invalid(format!("root.size is {size}, which no image has")))?;
            let short_side = (size * short_side).div_ceil(crop);
            ImagePipeline { short_side, crop: size, ..ImagePipeline::default() }.into()
        }
        _ => ImagePipeline::default().into(),
    };
    let voc = |split: &str| Voc::open(&paths.images, paths.year, split, pipeline.clone());
    let flickr = |split: &str| Flickr8k::open(&paths.captions, split, pipeline.clone());
    let parts = Parts {
        class_train: Arc::new(voc(&paths.images_train)?),
        class_test: Arc::new(voc(&paths.images_test)?),
        caption_train: Arc::new(flickr(&paths.captions_train)?),
        caption_test: Arc::new(flickr(&paths.captions_test)?),
    };
    let trunk = || weights::find(&weights::EFFICIENTNET_LITE0, paths.root_weights.as_deref());
    let (root, parts) = match &config.root {
        RootConfig::Features { .. } => (None, features(place, &trunk()?, parts, sink)?),
        RootConfig::EfficientNetLite0 { .. } => {
            (Some(("root.trunk", efficientnet::read_weights(&trunk()?, device)?)), parts)
        }
        RootConfig::VggS { .. } => (imported(paths.root_weights.as_deref(), device)?, parts),
        RootConfig::SmallImage { .. } => (None, parts),
        other => {
            return Err(TrainError::invalid(format!(
                "photographs need the root \"features\", \"efficientnet-lite0\", \"vgg-s\" or \"small-image\", not \
                 {other:?}"
            )));
        }
    };
    parts.source(place, paths.teacher.as_deref(), root, sink)
}

/// The pooled features of EfficientNet-Lite0 for each photograph of a set, computed once and kept in the cache of
/// [`Config::sample`]; the checkpoint is looked for in the usual places where none is given.
///
/// # Errors
/// If a photograph or the checkpoint cannot be read, or `stop` was set from outside meanwhile.
pub fn photograph_features(
    set: &Arc<dyn Dataset>,
    checkpoint: Option<&Path>,
    device: &Device,
    stop: &Arc<AtomicBool>,
    sink: &mut dyn FnMut(&Event),
) -> Result<Rows> {
    let config = Config::sample();
    let weights = weights::find(&weights::EFFICIENTNET_LITE0, checkpoint)?;
    Ok(Pooled::new(&weights, device)?.of(Place { config: &config, device, stop }, set, sink)?.1)
}

/// Each dataset as the pooled features of its images.
pub(crate) fn features(
    place: Place,
    weights: &Path,
    parts: Parts,
    sink: &mut dyn FnMut(&Event),
) -> Result<Parts> {
    let trunk = Pooled::new(weights, place.device)?;
    let compute = trunk.compute(place.device);
    parts.map(|set| {
        let (key, rows) = trunk.of(place, &set, sink)?;
        Ok(Arc::new(Features::new(set, rows, &key)?.with_compute(compute.clone())))
    })
}

/// A frozen EfficientNet-Lite0.
struct Pooled {
    trunk: Arc<EfficientNetLite0>,
    fingerprint: String,
}

impl Pooled {
    fn new(weights: &Path, device: &Device) -> Result<Self> {
        let bytes =
            std::fs::read(weights).map_err(|source| TrainError::Io { path: weights.into(), source })?;
        let fingerprint = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let tensors = efficientnet::read_weights(weights, device)?.into_iter().collect();
        let trunk = Arc::new(EfficientNetLite0::new(VarBuilder::from_tensors(tensors, DType::F32, device))?);
        Ok(Self { trunk, fingerprint })
    }

    /// The pooled features of a dataset, from the cache where they have been computed before, with their key there.
    fn of(
        &self,
        place: Place,
        set: &Arc<dyn Dataset>,
        sink: &mut dyn FnMut(&Event),
    ) -> Result<(String, Rows)> {
        let key = format!("EfficientNet-Lite0 pooled|{}|{}", self.fingerprint, set.fingerprint());
        let rows = cached_rows(&place.config.cache, &key, set.len(), efficientnet::POOLED, || {
            let mut values = Vec::with_capacity(set.len() * efficientnet::POOLED);
            let what = format!("features of {}", set.name());
            let (ahead, order) = (Prefetch::default(), (0..set.len()).collect());
            for batch in ahead.batches(set.clone(), order, View::evaluation(), BATCH, place.device)? {
                let done = values.len() / efficientnet::POOLED;
                place.go_on(&what)?;
                sink(&Event::Preparing { what: what.clone(), done, of: set.len() });
                values.extend(self.trunk.pooled(&batch?.inputs)?.flatten_all()?.to_vec1::<f32>()?);
            }
            Ok::<_, TrainError>(Rows { dim: efficientnet::POOLED, values })
        })?;
        Ok((key, rows))
    }

    /// The features of one photograph, for those that are asked about later.
    fn compute(&self, device: &Device) -> Compute {
        let (trunk, device) = (self.trunk.clone(), device.clone());
        Arc::new(move |input| {
            let [_, height, width] = ImagePipeline::default().shape();
            let pooled = Tensor::from_slice(input, (1, 3, height, width), &device)
                .map_err(|e| e.to_string())
                .and_then(|input| trunk.pooled(&input).map_err(|e| e.to_string()))
                .and_then(|row| {
                    row.flatten_all().and_then(|row| row.to_vec1::<f32>()).map_err(|e| e.to_string())
                });
            pooled.map_err(|e| format!("EfficientNet-Lite0: {e}"))
        })
    }
}
