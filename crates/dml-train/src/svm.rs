use std::path::Path;

use candle_core::DType;
use dml_data::{Dataset, View};
use dml_metrics::{LinearSvm, SvmConfig, group_descriptors, hit_at_1};
use dml_model::MultiTaskNet;

use crate::checkpoint::{Checkpoint, Which};
use crate::evaluate::Score;
use crate::experiment::{CLASS, Experiment};
use crate::targets::Targets;
use crate::{Result, TrainError};

impl Experiment {
    /// Accuracy by the protocol of the paper's Table 3, from a saved checkpoint: fc6 averaged over a video's clips and
    /// divided by its length, and a linear SVM trained on the class data.
    ///
    /// # Errors
    /// If the class data have several classes a sample, the checkpoint does not fit the network, or data cannot be read.
    pub fn svm_accuracy(&self, folder: &Path, config: &SvmConfig) -> Result<Score> {
        let net = self.load(&Checkpoint::find(folder, &Which::Newest)?)?;
        let train = &self.source.sets[CLASS];
        let judged =
            |judged: &[(String, String, Targets)]| judged.iter().position(|(name, ..)| name == CLASS);
        let test = self.source.evals.iter().find_map(|set| Some((set, judged(&set.judged)?)));
        let (test, at) = test.ok_or_else(|| TrainError::invalid("nothing judges the class task"))?;
        let (Targets::Classes { names, of }, Targets::Classes { of: expected, .. }) =
            (&train.targets, &test.judged[at].2)
        else {
            return Err(TrainError::invalid(
                "fc6 with a linear SVM is for data with one class a sample, not for several labels",
            ));
        };
        let (features, labels) = self.descriptors(&net, &*train.dataset, of)?;
        let svm = LinearSvm::train(&features, net.feature_dim(), &labels, names.len(), config)?;
        if !svm.converged() {
            return Err(TrainError::invalid(format!(
                "the linear SVM has not come within {} after {} passes; allow more",
                config.tolerance, config.passes
            )));
        }
        let (features, labels) = self.descriptors(&net, &*test.dataset, expected)?;
        let value = hit_at_1(&svm.decide(&features)?, names.len(), &labels)?;
        let protocol = format!("video, fc6 averaged over clips, L2, linear SVM with C = {}", config.c);
        let (eval, task, measure) = (CLASS.into(), CLASS.into(), "accuracy".into());
        Ok(Score { eval, task, measure, protocol, value, higher_is_better: true, n: labels.len() })
    }

    /// A descriptor and the class of each video.
    fn descriptors(
        &self,
        net: &MultiTaskNet,
        dataset: &dyn Dataset,
        classes: &[u32],
    ) -> Result<(Vec<f32>, Vec<u32>)> {
        let mut rows = Vec::with_capacity(dataset.len() * net.feature_dim());
        let (order, batch) = ((0..dataset.len()).collect(), self.config.training.batch);
        for loaded in dml_data::batches(dataset, order, View::evaluation(), batch, &self.device) {
            let fc6 = net.fc6(&loaded?.inputs)?.to_dtype(DType::F32)?;
            rows.extend(fc6.flatten_all()?.to_vec1::<f32>()?);
        }
        let groups: Vec<usize> = (0..dataset.len()).map(|index| dataset.group(index)).collect();
        let (descriptors, firsts) = group_descriptors(&rows, net.feature_dim(), &groups)?;
        Ok((descriptors, firsts.into_iter().map(|row| classes[row]).collect()))
    }
}
