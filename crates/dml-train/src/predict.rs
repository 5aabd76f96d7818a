use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_data::Dataset;
use dml_model::{Mode, MultiTaskNet};
use dml_teacher::SentenceEncoder;
use image::RgbImage;
use serde::Serialize;

use crate::answers::{Answers, Candidates, Classes};
use crate::checkpoint::{Checkpoint, Which};
use crate::experiment::Experiment;
use crate::{Result, TrainError};

/// A trained network that is asked about pictures from outside.
pub struct Predictor {
    net: MultiTaskNet,
    device: Device,
    /// Knows how inputs are made.
    dataset: Arc<dyn Dataset>,
    teacher: Arc<dyn SentenceEncoder>,
    classes: BTreeMap<String, Classes>,
    candidates: BTreeMap<String, Candidates>,
    takes: Takes,
}

/// What one input is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A photograph.
    Photograph,
    /// A clip.
    Clip {
        /// Its number of frames.
        frames: usize,
        /// Their width in pixels, as they are prepared for training.
        width: u32,
        /// Their height.
        height: u32,
    },
}

/// What a network says of a photograph or a video.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// For each task with classes the most probable ones with their probabilities.
    pub classes: BTreeMap<String, Vec<(String, f64)>>,
    /// For each task with captions the nearest ones with their cosines.
    pub captions: BTreeMap<String, Vec<(String, f64)>>,
}

impl Experiment {
    /// The network of a run, to be asked about pictures. Captions are looked for among those of the evaluation sets.
    ///
    /// # Errors
    /// If the checkpoint does not fit the network, or the first evaluation sample cannot be read.
    pub fn predictor(&self, folder: &Path) -> Result<Predictor> {
        let evals = self.evals();
        let Some(first) = evals.first() else {
            return Err(TrainError::invalid("a run without evaluation sets has no classes to name"));
        };
        let dataset = first.dataset.clone();
        let takes = match dataset.input_shape() {
            &[_, frames, _, _] => {
                let (width, height) = dataset.pictures(0)?.first().map_or((0, 0), |frame| frame.dimensions());
                Takes::Clip { frames, width, height }
            }
            _ => Takes::Photograph,
        };
        let (classes, candidates) = Answers::tasks(evals)?;
        let net = self.load(&Checkpoint::find(folder, &Which::Newest)?)?;
        let teacher = self.teacher();
        Ok(Predictor { net, device: self.device().clone(), dataset, teacher, classes, candidates, takes })
    }
}

impl Predictor {
    /// What one input is made from.
    pub fn takes(&self) -> Takes {
        self.takes
    }

    /// Looks for captions among these instead.
    ///
    /// # Errors
    /// If there is none, or one has no word in it.
    pub fn with_captions(mut self, texts: Vec<String>) -> Result<Self> {
        if texts.is_empty() {
            return Err(TrainError::invalid("there is no caption to choose from"));
        }
        let sentences: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = self.teacher.encode(&sentences)?.to_device(&Device::Cpu)?;
        for candidates in self.candidates.values_mut() {
            *candidates = Candidates { texts: texts.clone(), vectors: vectors.clone(), owner: None };
        }
        Ok(self)
    }

    /// Classes and captions of a photograph (one picture) or of a video (its clips, each of as many frames as
    /// [`Self::takes`] says). Of a video's clips the probabilities are averaged, and so are the embeddings.
    ///
    /// # Errors
    /// If there is no clip, or the pictures are not what the network takes.
    pub fn predict(&self, clips: &[Vec<RgbImage>], top: usize) -> Result<Prediction> {
        let inputs =
            clips.iter().map(|clip| self.dataset.input(clip)).collect::<dml_data::Result<Vec<_>>>()?;
        if inputs.is_empty() {
            return Err(TrainError::invalid("there is no picture to look at"));
        }
        let shape = [&[inputs.len()][..], self.dataset.input_shape()].concat();
        let inputs = Tensor::from_vec(inputs.concat(), shape, &self.device)?;
        let features = self.net.features(&inputs, &Mode::Eval)?;
        let output = |task: &str| -> Result<Tensor> {
            Ok(self.net.head(task, &features)?.to_dtype(candle_core::DType::F32)?.to_device(&Device::Cpu)?)
        };
        let mut prediction = Prediction { classes: BTreeMap::new(), captions: BTreeMap::new() };
        for (task, classes) in &self.classes {
            let rows = classes.probabilities(&output(task)?)?;
            let mean = |class: usize| rows.iter().map(|row| row[class]).sum::<f32>() / rows.len() as f32;
            let means: Vec<f32> = (0..classes.names.len()).map(mean).collect();
            prediction.classes.insert(task.clone(), classes.top(&means, top));
        }
        for (task, candidates) in &self.candidates {
            let mean = dml_losses::l2_normalize(&output(task)?)?.mean_keepdim(0)?;
            let nearest = candidates.nearest(&dml_losses::l2_normalize(&mean)?, top, |_, _| false)?;
            let named = |(text, cosine): (usize, f64)| (candidates.texts[text].clone(), cosine);
            let nearest = nearest.into_iter().flatten().map(named).collect();
            prediction.captions.insert(task.clone(), nearest);
        }
        Ok(prediction)
    }
}
