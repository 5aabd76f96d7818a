use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use dml_collective::{Alone, Collective};
use dml_data::{Dataset, Prefetch, View};
use dml_metrics::{Interpolation, Pools, Relevance, Retrieval};
use dml_model::{Mode, MultiTaskNet};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::targets::Targets;
use crate::trainer::ranks::{gather_rows, part};

/// A dataset to evaluate on, and the tasks judged on it. A set that carries the labels of several tasks, as only made
/// data can, is judged on each.
#[derive(Clone)]
pub struct EvalSet {
    /// The inputs.
    pub dataset: Arc<dyn Dataset>,
    /// Name of the evaluation, task whose head answers, and labels.
    pub judged: Vec<(String, String, Targets)>,
}

/// One measured number, with all that is needed to read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What was evaluated: the task, or the task on another task's data.
    pub eval: String,
    /// The task whose head answered.
    pub task: String,
    /// The measure, such as `hit@1` or `text→item R@1`.
    pub measure: String,
    /// How it was taken: pool, ties, difficult labels.
    pub protocol: String,
    /// The value: percent, or a rank from 1.
    pub value: f64,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Number of samples or queries.
    pub n: usize,
}

impl Score {
    /// Name of the score within a run.
    pub fn key(&self) -> String {
        format!("{} | {} | {}", self.eval, self.measure, self.protocol)
    }
}

/// Evaluates every set, in evaluation mode and with the evaluation view.
///
/// # Errors
/// If a sample cannot be read or a measure cannot be taken, such as on NaN.
pub fn evaluate(net: &MultiTaskNet, sets: &[EvalSet], batch: usize, device: &Device) -> Result<Vec<Score>> {
    Ok(evaluate_while(net, sets, batch, device, &Alone, &mut |_, _| true)?.unwrap_or_default())
}

/// The same by several ranks, each of which answers for a part of every set and measures the whole; telling after every batch
/// how many are done and of how many. None if any is told not to go on.
pub(crate) fn evaluate_while(
    net: &MultiTaskNet,
    sets: &[EvalSet],
    batch: usize,
    device: &Device,
    ranks: &dyn Collective,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Vec<Score>>> {
    let mut scores = Vec::new();
    let (mut done, of) =
        (0, sets.iter().map(|set| part(set.dataset.len(), ranks).len().div_ceil(batch.max(1))).sum());
    for set in sets {
        let tasks: BTreeSet<&str> = set.judged.iter().map(|(_, task, _)| task.as_str()).collect();
        let mut count = || {
            done += 1;
            go_on(done, of)
        };
        let Some(outputs) = outputs(net, &set.dataset, &tasks, batch, device, ranks, &mut count)? else {
            return Ok(None);
        };
        scores.extend(set.scores(&outputs)?);
    }
    Ok(Some(scores))
}

/// What the heads of these tasks answer for every sample, in evaluation mode and with the evaluation view: raw outputs. None
/// if `go_on`, which is asked after every batch, says no on any rank.
///
/// # Shapes
/// For each task (n, [`HeadConfig::outputs`](dml_model::HeadConfig::outputs)).
pub(crate) fn outputs(
    net: &MultiTaskNet,
    dataset: &Arc<dyn Dataset>,
    tasks: &BTreeSet<&str>,
    batch: usize,
    device: &Device,
    ranks: &dyn Collective,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<BTreeMap<String, Tensor>>> {
    let mut rows: BTreeMap<&str, Vec<Tensor>> = tasks.iter().map(|&task| (task, Vec::new())).collect();
    let order = part(dataset.len(), ranks).collect();
    let (ahead, mut stopped) = (Prefetch::default(), false);
    for loaded in ahead.batches(dataset.clone(), order, View::evaluation(), batch, device)? {
        let features = net.features(&loaded?.inputs, &Mode::Eval)?;
        for (task, rows) in &mut rows {
            rows.push(net.head(task, &features)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?);
        }
        stopped = !go_on();
        if stopped {
            break;
        }
    }
    if ranks.any(stopped)? {
        return Ok(None);
    }
    let all = |rows: Vec<Tensor>| -> Result<Tensor> {
        if ranks.size() == 1 {
            return Ok(Tensor::cat(&rows, 0)?);
        }
        let own = match rows.is_empty() {
            true => Tensor::zeros((0, 1), DType::F32, &Device::Cpu)?,
            false => Tensor::cat(&rows, 0)?,
        };
        let all = gather_rows(ranks, &own)?;
        let dim = all.len() / dataset.len().max(1);
        Ok(Tensor::from_vec(all, (dataset.len(), dim), &Device::Cpu)?)
    };
    rows.into_iter().map(|(task, rows)| Ok((task.to_string(), all(rows)?))).collect::<Result<_>>().map(Some)
}

impl EvalSet {
    /// The measures of raw outputs.
    pub(crate) fn scores(&self, outputs: &BTreeMap<String, Tensor>) -> Result<Vec<Score>> {
        let clips = self.dataset.input_shape().len() == 4;
        let pools = if clips { Pools::PAPER_VIDEOS } else { Pools::PAPER_IMAGES };
        let groups: Vec<usize> = (0..self.dataset.len()).map(|index| self.dataset.group(index)).collect();
        let mut scores = Vec::new();
        for (eval, task, targets) in &self.judged {
            let rows = answer(&outputs[task], targets)?.flatten_all()?.to_vec1::<f32>()?;
            for measured in measure(&rows, targets, &groups, pools)? {
                let Measured { measure, protocol, value, higher_is_better, n } = measured;
                let (eval, task) = (eval.clone(), task.clone());
                scores.push(Score { eval, task, measure, protocol, value, higher_is_better, n });
            }
        }
        Ok(scores)
    }
}

/// What measures look at: probabilities for one class a sample, logits for several, unit vectors for captions.
fn answer(output: &Tensor, targets: &Targets) -> Result<Tensor> {
    Ok(match targets {
        Targets::Classes { .. } => dml_losses::log_softmax(output)?.exp()?,
        Targets::MultiLabel { .. } => output.clone(),
        Targets::Captions { .. } => dml_losses::l2_normalize(output)?,
    })
}

struct Measured {
    measure: String,
    protocol: String,
    value: f64,
    higher_is_better: bool,
    n: usize,
}

impl Measured {
    fn percent(measure: &str, protocol: &str, value: f64, n: usize) -> Self {
        Self { measure: measure.into(), protocol: protocol.into(), value, higher_is_better: true, n }
    }
}

fn measure(rows: &[f32], targets: &Targets, groups: &[usize], pools: Pools) -> Result<Vec<Measured>> {
    let n = targets.len();
    Ok(match targets {
        Targets::Classes { names, of } => {
            let k = names.len();
            let mut all = vec![Measured::percent("hit@1", "clip", dml_metrics::hit_at_1(rows, k, of)?, n)];
            if groups.iter().enumerate().any(|(index, &group)| index != group) {
                let accuracy = dml_metrics::video_accuracy(rows, k, of, groups)?;
                all.push(Measured::percent("accuracy", "video, mean of the clips' softmax", accuracy, n));
            }
            all
        }
        Targets::MultiLabel { names, flags } => {
            let k = names.len();
            let map = |interpolation| dml_metrics::mean_average_precision(rows, k, flags, interpolation);
            vec![
                Measured::percent(
                    "mAP",
                    "all points, by logit, difficult ignored",
                    map(Interpolation::AllPoints)?.mean,
                    n,
                ),
                Measured::percent(
                    "mAP",
                    "11 points, by logit, difficult ignored",
                    map(Interpolation::ElevenPoint)?.mean,
                    n,
                ),
                Measured::percent(
                    "precision@1",
                    "top-1 class",
                    dml_metrics::top1_precision(rows, k, flags)?,
                    n,
                ),
            ]
        }
        Targets::Captions { vectors, dim, rows: of } => captions(rows, vectors, *dim, of, groups, pools)?,
    })
}

/// Retrieval by cosine: the standard protocol over the whole set, and the paper's inside pools where one is full. The
/// clips of a video are one item: the mean of their unit vectors.
fn captions(
    rows: &[f32],
    vectors: &[f32],
    dim: usize,
    of: &[Range<usize>],
    groups: &[usize],
    pools: Pools,
) -> Result<Vec<Measured>> {
    // In the order of the groups, which is that of the published list.
    let mut videos: BTreeMap<usize, (&Range<usize>, Vec<f32>)> = BTreeMap::new();
    for ((row, range), &group) in rows.chunks_exact(dim).zip(of).zip(groups) {
        let (_, sum) = videos.entry(group).or_insert_with(|| (range, vec![0.0; dim]));
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let items = videos.len();
    let averaged = if items < of.len() { ", clips averaged" } else { "" };
    let (mut predicted, mut sentences, mut owner) = (Vec::new(), Vec::new(), Vec::new());
    for (item, (range, sum)) in videos.into_values().enumerate() {
        predicted.extend(sum);
        sentences.extend_from_slice(&vectors[range.start * dim..range.end * dim]);
        owner.extend(range.clone().map(|_| item));
    }
    let texts = owner.len();
    let relevance = Relevance::new(items, &owner)?;
    let predicted = dml_losses::l2_normalize(&Tensor::from_vec(predicted, (items, dim), &Device::Cpu)?)?;
    let sentences = Tensor::from_vec(sentences, (texts, dim), &Device::Cpu)?;
    let similarity = predicted.matmul(&sentences.t()?)?.flatten_all()?.to_vec1::<f32>()?;
    let whole = format!("whole set ({items} items, {texts} texts){averaged}");
    let standard = dml_metrics::standard(&similarity, &relevance)?;
    let mut all = ranks("item→text", &whole, &standard.item_to_text);
    all.extend(ranks("text→item", &whole, &standard.text_to_item));
    if items >= pools.size {
        let paper = dml_metrics::pooled(&similarity, &relevance, pools)?;
        let protocol = format!("pools of {}, one caption{averaged}", pools.size);
        all.extend(ranks("item→text", &protocol, &paper.item_to_text));
    }
    Ok(all)
}

fn ranks(direction: &str, protocol: &str, retrieval: &Retrieval) -> Vec<Measured> {
    let row = |name: &str, value: f64, higher_is_better| Measured {
        measure: format!("{direction} {name}"),
        protocol: protocol.into(),
        value,
        higher_is_better,
        n: retrieval.queries,
    };
    vec![
        row("R@1", retrieval.r1, true),
        row("R@5", retrieval.r5, true),
        row("R@10", retrieval.r10, true),
        row("median rank", retrieval.median_rank, false),
        row("mean rank", retrieval.mean_rank, false),
    ]
}
