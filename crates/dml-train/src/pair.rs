//! What photographs and videos have in common: two sets, one labelled with classes and one with captions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_data::Dataset;
use dml_teacher::{EmbeddingCache, SentenceEncoder, load_encoder};

use crate::Result;
use crate::evaluate::EvalSet;
use crate::event::Event;
use crate::experiment::{CAPTION, CLASS, Place, Source};
use crate::targets::Targets;
use crate::trainer::TrainSet;

/// The parts of both sets.
pub(crate) struct Parts {
    pub(crate) class_train: Arc<dyn Dataset>,
    pub(crate) class_test: Arc<dyn Dataset>,
    pub(crate) caption_train: Arc<dyn Dataset>,
    pub(crate) caption_test: Arc<dyn Dataset>,
}

impl Parts {
    pub(crate) fn map(
        self,
        mut with: impl FnMut(Arc<dyn Dataset>) -> Result<Arc<dyn Dataset>>,
    ) -> Result<Self> {
        let Self { class_train, class_test, caption_train, caption_test } = self;
        Ok(Self {
            class_train: with(class_train)?,
            class_test: with(class_test)?,
            caption_train: with(caption_train)?,
            caption_test: with(caption_test)?,
        })
    }

    pub(crate) fn all(&self) -> [&Arc<dyn Dataset>; 4] {
        [&self.class_train, &self.class_test, &self.caption_train, &self.caption_test]
    }

    /// The sets with their targets, the captions embedded by the encoder that `teacher` names.
    pub(crate) fn source(
        self,
        place: Place,
        teacher: Option<&Path>,
        root: Option<(&'static str, BTreeMap<String, Tensor>)>,
        sink: &mut dyn FnMut(&Event),
    ) -> Result<Source> {
        let teacher: Arc<dyn SentenceEncoder> = load_encoder(teacher, place.device)?.into();
        let mut targets = |set: &Arc<dyn Dataset>| targets(place, &*teacher, set, sink);
        let mut train = |dataset: Arc<dyn Dataset>| -> Result<TrainSet> {
            let targets = targets(&dataset)?;
            Ok(TrainSet { dataset, targets })
        };
        let sets = BTreeMap::from([
            (CLASS.to_string(), train(self.class_train)?),
            (CAPTION.to_string(), train(self.caption_train)?),
        ]);
        let mut judge = |dataset: Arc<dyn Dataset>, task: &str| -> Result<EvalSet> {
            let judged = vec![(task.to_string(), task.to_string(), targets(&dataset)?)];
            Ok(EvalSet { dataset, judged })
        };
        let evals = vec![judge(self.class_test, CLASS)?, judge(self.caption_test, CAPTION)?];
        Ok(Source { sets, evals, root, teacher })
    }
}

/// Parameters that `dml import` wrote, without the classifier that a shared root has not.
pub(crate) fn imported(
    weights: Option<&Path>,
    device: &Device,
) -> Result<Option<(&'static str, BTreeMap<String, Tensor>)>> {
    let Some(path) = weights else { return Ok(None) };
    let mut tensors = dml_model::load_safetensors(path, device)?;
    tensors.retain(|name, _| !name.starts_with("fc8."));
    Ok(Some(("root", tensors)))
}

/// Targets of a dataset; captions that were embedded before come from the cache.
fn targets(
    place: Place,
    teacher: &dyn SentenceEncoder,
    dataset: &Arc<dyn Dataset>,
    sink: &mut dyn FnMut(&Event),
) -> Result<Targets> {
    Targets::new(dataset.labels(), teacher.dim(), &mut |sentences| {
        let what = format!("embeddings of {}", dataset.name());
        let mut cache = EmbeddingCache::open(&place.config.cache, teacher)?;
        let embedded = cache.embed(sentences, &mut |done, of| {
            place.go_on(&what)?;
            sink(&Event::Preparing { what: what.clone(), done, of });
            Ok::<_, crate::TrainError>(())
        })?;
        Ok((0..embedded.len()).flat_map(|index| embedded.row(index)).copied().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_root_comes_without_its_classifier() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("c3d.safetensors");
        let tensor = || Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap();
        let tensors = ["conv1.weight", "fc8.weight", "fc8.bias"].map(|name| (name.to_string(), tensor()));
        dml_model::save_safetensors(&path, &tensors.into(), &BTreeMap::new()).unwrap();
        let (prefix, tensors) = imported(Some(&path), &Device::Cpu).unwrap().unwrap();
        assert_eq!((prefix, tensors.into_keys().collect::<Vec<_>>()), ("root", vec!["conv1.weight".into()]));
        assert!(imported(None, &Device::Cpu).unwrap().is_none());
    }
}
