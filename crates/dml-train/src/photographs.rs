use std::collections::BTreeMap;
use std::sync::Arc;

use std::path::Path;

use candle_core::DType;
use candle_nn::VarBuilder;
use dml_data::{Dataset, Features, Flickr8k, ImagePipeline, Rows, View, Voc, cached_rows};
use dml_model::{EfficientNetLite0, RootConfig, efficientnet, weights};
use dml_teacher::{EmbeddingCache, SentenceEncoder, SentenceTransformer};
use sha2::{Digest, Sha256};

use crate::config::PhotographsConfig;
use crate::evaluate::EvalSet;
use crate::event::Event;
use crate::experiment::{CAPTION, CLASS, Place, Source};
use crate::targets::Targets;
use crate::trainer::TrainSet;
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
    let pipeline = ImagePipeline::default();
    let voc = |split: &str| Voc::open(&paths.images, paths.year, split, pipeline);
    let flickr = |split: &str| Flickr8k::open(&paths.captions, split, pipeline);
    let sets: [Arc<dyn Dataset>; 4] = [
        Arc::new(voc(&paths.images_train)?),
        Arc::new(voc(&paths.images_test)?),
        Arc::new(flickr(&paths.captions_train)?),
        Arc::new(flickr(&paths.captions_test)?),
    ];
    let weights = weights::find(&weights::EFFICIENTNET_LITE0, paths.root_weights.as_deref())?;
    let (root, sets) = match &config.root {
        RootConfig::Features { .. } => (None, features(place, &weights, sets, sink)?),
        RootConfig::EfficientNetLite0 { .. } => {
            (Some(("root.trunk", efficientnet::read_weights(&weights, device)?)), sets)
        }
        other => {
            return Err(TrainError::invalid(format!(
                "photographs need the root \"features\" or \"efficient-net-lite0\", not {other:?}"
            )));
        }
    };
    let teacher = dml_teacher::find_sentence_transformer(paths.teacher.as_deref())?;
    let teacher = SentenceTransformer::from_dir(&teacher, device)?;
    let [images_train, images_test, captions_train, captions_test] = sets;
    let mut targets = |set: &Arc<dyn Dataset>| caption_targets(place, &teacher, set, sink);
    let train = |dataset: Arc<dyn Dataset>, targets| TrainSet { dataset, targets };
    let judge = |dataset: Arc<dyn Dataset>, task: &str, targets| EvalSet {
        dataset,
        judged: vec![(task.to_string(), task.to_string(), targets)],
    };
    let (class_train, class_test) = (targets(&images_train)?, targets(&images_test)?);
    let (caption_train, caption_test) = (targets(&captions_train)?, targets(&captions_test)?);
    Ok(Source {
        sets: BTreeMap::from([
            (CLASS.to_string(), train(images_train, class_train)),
            (CAPTION.to_string(), train(captions_train, caption_train)),
        ]),
        evals: vec![judge(images_test, CLASS, class_test), judge(captions_test, CAPTION, caption_test)],
        root,
    })
}

/// Targets of a dataset; captions that were embedded before come from the cache.
fn caption_targets(
    place: Place,
    teacher: &SentenceTransformer,
    dataset: &Arc<dyn Dataset>,
    sink: &mut dyn FnMut(&Event),
) -> Result<Targets> {
    Targets::new(dataset.labels(), teacher.dim(), &mut |sentences| {
        let what = format!("embeddings of {}", dataset.name());
        let mut cache = EmbeddingCache::open(&place.config.cache, teacher)?;
        let embedded = cache.embed(sentences, &mut |done, of| {
            place.go_on(&what)?;
            sink(&Event::Preparing { what: what.clone(), done, of });
            Ok::<_, TrainError>(())
        })?;
        Ok((0..embedded.len()).flat_map(|index| embedded.row(index)).copied().collect())
    })
}

/// The pooled features of each dataset, from the cache where they have been computed before.
fn features(
    place: Place,
    weights: &Path,
    sets: [Arc<dyn Dataset>; 4],
    sink: &mut dyn FnMut(&Event),
) -> Result<[Arc<dyn Dataset>; 4]> {
    let device = place.device;
    let bytes = std::fs::read(weights).map_err(|source| TrainError::Io { path: weights.into(), source })?;
    let fingerprint = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tensors = efficientnet::read_weights(weights, device)?.into_iter().collect();
    let trunk = EfficientNetLite0::new(VarBuilder::from_tensors(tensors, DType::F32, device))?;
    let mut wrapped = Vec::new();
    for set in sets {
        let key = format!("EfficientNet-Lite0 pooled|{fingerprint}|{}", set.fingerprint());
        let rows = cached_rows(&place.config.cache, &key, set.len(), efficientnet::POOLED, || {
            let mut values = Vec::with_capacity(set.len() * efficientnet::POOLED);
            let what = format!("features of {}", set.name());
            for batch in dml_data::batches(&*set, (0..set.len()).collect(), View::evaluation(), BATCH, device)
            {
                let done = values.len() / efficientnet::POOLED;
                place.go_on(&what)?;
                sink(&Event::Preparing { what: what.clone(), done, of: set.len() });
                values.extend(trunk.pooled(&batch?.inputs)?.flatten_all()?.to_vec1::<f32>()?);
            }
            Ok::<_, TrainError>(Rows { dim: efficientnet::POOLED, values })
        })?;
        wrapped.push(Arc::new(Features::new(set, rows, &key)?) as Arc<dyn Dataset>);
    }
    wrapped.try_into().map_err(|_| TrainError::invalid("features were made for another number of datasets"))
}
