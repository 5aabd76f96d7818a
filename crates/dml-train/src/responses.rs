use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_model::{Mode, MultiTaskNet, NetConfig};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::sampler::Draw;
use crate::task::Task;

/// How responses are kept while a phase runs. Both give the same numbers, because a sample's view is the same whenever
/// its (seed, epoch, sample) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recording {
    /// The network is copied, and the copy answers each batch when it comes: the data are read once.
    #[default]
    FrozenCopy,
    /// All batches of the phase are answered before its first step, and the answers are kept in memory.
    Table,
}

/// Who answers for a task that a phase preserves, where the method leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Responses {
    /// The network as it was at the switch, whose responses are recorded.
    #[default]
    Recorded,
    /// The moving average of the network's parameters, at each step (mean teacher).
    MeanTeacher,
}

/// A network as it was when responses were recorded.
pub(crate) struct Recorder {
    /// Its parameters, which the network shares.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) net: MultiTaskNet,
}

impl Recorder {
    /// A network of these parameters; nobody may change them from here on.
    pub(crate) fn new(net: &NetConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        Ok(Self { net: MultiTaskNet::frozen(net, tensors.clone(), device)?, tensors })
    }
}

/// Where the responses of one stream come from.
pub(crate) enum Responder {
    Frozen(Arc<Recorder>),
    /// The moving average, as it is when it is asked.
    Average(Arc<MultiTaskNet>),
    Table(Table),
}

/// Responses by task, and within a task by (epoch, sample).
#[derive(Default)]
pub(crate) struct Table {
    rows: HashMap<(String, u64, usize), Vec<f32>>,
}

impl Responder {
    /// The responses of the tasks to a batch.
    pub(crate) fn respond(
        &self,
        tasks: &BTreeMap<String, Task>,
        names: &[&str],
        draw: &Draw,
        inputs: &Tensor,
    ) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Frozen(recorder) => answer(&recorder.net, tasks, names, inputs),
            Self::Average(net) => answer(net, tasks, names, inputs),
            Self::Table(table) => names
                .iter()
                .map(|&name| Ok((name.to_string(), table.lookup(name, draw, inputs.device())?)))
                .collect(),
        }
    }
}

impl Table {
    /// Adds the answers to one batch.
    pub(crate) fn record(&mut self, responses: &BTreeMap<String, Tensor>, draw: &Draw) -> Result<()> {
        for (name, tensor) in responses {
            for (&index, row) in draw.indices.iter().zip(tensor.to_vec2::<f32>()?) {
                self.rows.insert((name.clone(), draw.epoch, index), row);
            }
        }
        Ok(())
    }

    fn lookup(&self, name: &str, draw: &Draw, device: &Device) -> Result<Tensor> {
        let mut values = Vec::new();
        for &index in &draw.indices {
            let row = self.rows.get(&(name.to_string(), draw.epoch, index)).ok_or_else(|| {
                crate::TrainError::invalid(format!(
                    "no response of task {name:?} is recorded for sample {index} in epoch {}",
                    draw.epoch
                ))
            })?;
            values.extend_from_slice(row);
        }
        let dim = values.len() / draw.indices.len().max(1);
        Ok(Tensor::from_vec(values, (draw.indices.len(), dim), device)?)
    }
}

/// What a network answers for the tasks, in evaluation mode and without a gradient.
pub(crate) fn answer(
    net: &MultiTaskNet,
    tasks: &BTreeMap<String, Task>,
    names: &[&str],
    inputs: &Tensor,
) -> Result<BTreeMap<String, Tensor>> {
    let features = net.features(inputs, &Mode::Eval)?;
    names
        .iter()
        .map(|&name| Ok((name.to_string(), tasks[name].response(&net.head(name, &features)?)?.detach())))
        .collect()
}
