use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{Device, Tensor};
use dml_collective::Alone;
use dml_data::Labels;
use dml_metrics::Interpolation;

use crate::checkpoint::{Checkpoint, Which};
use crate::evaluate::{EvalSet, Score, outputs};
use crate::experiment::Experiment;
use crate::targets::Targets;
use crate::{Result, TrainError};

/// What a network answers for every sample of the evaluation sets, from all of its heads: those that the set is labelled
/// for, and those of the other tasks.
pub struct Answers {
    pub(crate) sets: Vec<Answered>,
    /// The class names of each task that has classes.
    pub(crate) classes: BTreeMap<String, Classes>,
    /// Where captions are looked for, for each task that embeds.
    pub(crate) candidates: BTreeMap<String, Candidates>,
    /// Tasks that the run has supervised.
    pub(crate) trained: BTreeSet<String>,
}

/// An evaluation set and the raw outputs on it, by task.
pub(crate) struct Answered {
    pub(crate) set: EvalSet,
    pub(crate) outputs: BTreeMap<String, Tensor>,
}

type Tasks = (BTreeMap<String, Classes>, BTreeMap<String, Candidates>);

/// The classes of a task.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    pub(crate) names: Vec<String>,
    /// Whether a sample may have several of them.
    pub(crate) several: bool,
}

/// Sentences with their embeddings.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    pub(crate) texts: Vec<String>,
    /// (texts, dim), unit rows.
    pub(crate) vectors: Tensor,
    /// The sample that each sentence describes, and the evaluation set it is in; none where they are only sentences.
    pub(crate) owner: Option<(usize, Vec<usize>)>,
}

/// How a class task did on one evaluation, class by class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassTable {
    /// The evaluation, as in [`Score`].
    pub eval: String,
    /// Whether a sample may have several classes.
    pub several: bool,
    /// A row for each class.
    pub rows: Vec<ClassRow>,
    /// Samples with the class of the row whose most probable class is that of the column. A sample with several classes
    /// is counted for each of them; a difficult class is none.
    pub confusion: Vec<Vec<usize>>,
}

/// How a class task did on one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRow {
    /// The class.
    pub name: String,
    /// Samples that have it.
    pub positives: usize,
    /// Average precision over all points, in percent; none without a positive. Where a sample has one class, by its
    /// probability against all others; otherwise by its logit, difficult samples ignored.
    pub average_precision: Option<f64>,
    /// The same with eleven points.
    pub eleven_points: Option<f64>,
    /// Percent of the class's samples whose most probable class it is.
    pub recall: Option<f64>,
    /// Percent of the samples with this most probable class that have it.
    pub precision: Option<f64>,
}

impl Experiment {
    /// What the newest network of a run answers for every sample of the evaluation sets.
    ///
    /// # Errors
    /// If there is none, or it does not fit; if a sample cannot be read.
    pub fn answers(&self, folder: &Path) -> Result<Answers> {
        let net = self.load(&Checkpoint::find(folder, &Which::Newest)?)?;
        let tasks = self.net().heads.keys().map(String::as_str).collect();
        let batch = self.config().training.batch;
        let mut sets = Vec::new();
        for set in self.evals() {
            let outputs = outputs(&net, &set.dataset, &tasks, batch, self.device(), &Alone, &mut || true)?;
            sets.push(Answered { set: set.clone(), outputs: outputs.unwrap_or_default() });
        }
        let schedule = self.schedule(self.config().method)?;
        let supervised = schedule.phases().flat_map(|(_, phase)| phase.supervised());
        Answers::new(sets, supervised.map(String::from).collect())
    }
}

impl Answers {
    fn new(sets: Vec<Answered>, trained: BTreeSet<String>) -> Result<Self> {
        let evals: Vec<EvalSet> = sets.iter().map(|answered| answered.set.clone()).collect();
        let (classes, candidates) = Self::tasks(&evals)?;
        Ok(Self { sets, classes, candidates, trained })
    }

    /// The classes and the candidate captions of the tasks that are judged on these sets.
    pub(crate) fn tasks(sets: &[EvalSet]) -> Result<Tasks> {
        let (mut classes, mut candidates) = (BTreeMap::new(), BTreeMap::new());
        for (place, set) in sets.iter().enumerate() {
            for (number, (_, task, targets)) in set.judged.iter().enumerate() {
                match targets {
                    Targets::Classes { names, .. } | Targets::MultiLabel { names, .. } => {
                        let several = matches!(targets, Targets::MultiLabel { .. });
                        classes
                            .entry(task.clone())
                            .or_insert_with(|| Classes { names: names.clone(), several });
                    }
                    // Sentences that training never sees are no candidates: the set's own labels are.
                    Targets::Captions { .. } if number == 0 && !candidates.contains_key(task) => {
                        candidates.insert(task.clone(), Candidates::of(place, set, targets)?);
                    }
                    Targets::Captions { .. } => {}
                }
            }
        }
        Ok((classes, candidates))
    }

    /// The measures of these answers: what [`evaluate`](crate::evaluate()) says of the same network.
    ///
    /// # Errors
    /// If a measure cannot be taken, such as on NaN.
    pub fn scores(&self) -> Result<Vec<Score>> {
        let scores: Vec<Vec<Score>> =
            self.sets.iter().map(|answered| answered.set.scores(&answered.outputs)).collect::<Result<_>>()?;
        Ok(scores.concat())
    }

    /// Tasks that the run has not supervised: their heads are as they were drawn.
    pub fn untrained(&self) -> Vec<String> {
        let tasks: BTreeSet<&String> =
            self.sets.iter().flat_map(|answered| answered.outputs.keys()).collect();
        tasks.into_iter().filter(|task| !self.trained.contains(*task)).cloned().collect()
    }

    /// Every evaluation of a class task, class by class.
    ///
    /// # Errors
    /// If a measure cannot be taken, such as on NaN.
    pub fn class_tables(&self) -> Result<Vec<ClassTable>> {
        let mut tables = Vec::new();
        for Answered { set, outputs } in &self.sets {
            for (eval, task, targets) in &set.judged {
                tables.extend(class_table(eval, &outputs[task], targets)?);
            }
        }
        Ok(tables)
    }
}

impl Candidates {
    /// The captions of an evaluation set.
    fn of(place: usize, set: &EvalSet, targets: &Targets) -> Result<Self> {
        let (Labels::Captions { of }, Targets::Captions { vectors, dim, .. }) =
            (set.dataset.labels(), targets)
        else {
            return Err(TrainError::invalid(format!("{} is not labelled with captions", set.dataset.name())));
        };
        let owner = of.iter().enumerate().flat_map(|(item, texts)| vec![item; texts.len()]).collect();
        let texts: Vec<String> = of.concat();
        let vectors = Tensor::from_slice(vectors, (texts.len(), *dim), &Device::Cpu)?;
        Ok(Self { texts, vectors, owner: Some((place, owner)) })
    }

    /// For each row the nearest sentences by cosine, the nearest first: the sentence's place and the cosine. Equal
    /// sentences are named once. `skip` leaves a sentence out for a row.
    ///
    /// # Shapes
    /// `rows` (n, dim), unit rows.
    pub(crate) fn nearest(
        &self,
        rows: &Tensor,
        count: usize,
        skip: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<Vec<(usize, f64)>>> {
        const ROWS: usize = 64;
        let texts = self.vectors.t()?;
        let n = rows.dim(0)?;
        let mut all = Vec::with_capacity(n);
        for start in (0..n).step_by(ROWS) {
            let cosines = rows.narrow(0, start, ROWS.min(n - start))?.matmul(&texts)?.to_vec2::<f32>()?;
            for (offset, cosines) in cosines.into_iter().enumerate() {
                let left = (0..cosines.len()).filter(|&text| !skip(start + offset, text));
                all.push(self.highest(&cosines, left, count));
            }
        }
        Ok(all)
    }

    fn highest(
        &self,
        cosines: &[f32],
        texts: impl Iterator<Item = usize>,
        count: usize,
    ) -> Vec<(usize, f64)> {
        let mut order: Vec<usize> = texts.collect();
        order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b)));
        let mut seen = BTreeSet::new();
        let distinct = order.into_iter().filter(|&text| seen.insert(self.texts[text].as_str()));
        distinct.take(count).map(|text| (text, f64::from(cosines[text]))).collect()
    }
}

impl Classes {
    /// The probability of each class: softmax, or a sigmoid each where there may be several.
    ///
    /// # Shapes
    /// (n, k) raw outputs → n rows of k.
    pub(crate) fn probabilities(&self, outputs: &Tensor) -> Result<Vec<Vec<f32>>> {
        let probabilities = match self.several {
            true => candle_nn::ops::sigmoid(outputs)?,
            false => dml_losses::log_softmax(outputs)?.exp()?,
        };
        Ok(probabilities.to_vec2()?)
    }

    /// The most probable classes with their probabilities.
    pub(crate) fn top(&self, probabilities: &[f32], count: usize) -> Vec<(String, f64)> {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
        let named = |class: usize| (self.names[class].clone(), f64::from(probabilities[class]));
        order.into_iter().take(count).map(named).collect()
    }
}

fn class_table(eval: &str, outputs: &Tensor, targets: &Targets) -> Result<Option<ClassTable>> {
    let (names, flags, several) = match targets {
        Targets::Classes { names, of } => {
            let flag = |class: usize, of: u32| if class == of as usize { 1 } else { -1 };
            let flags =
                of.iter().flat_map(|&of| (0..names.len()).map(move |class| flag(class, of))).collect();
            (names, flags, false)
        }
        Targets::MultiLabel { names, flags } => (names, flags.clone(), true),
        Targets::Captions { .. } => return Ok(None),
    };
    let k = names.len();
    let values = if several { outputs.clone() } else { dml_losses::log_softmax(outputs)?.exp()? };
    let values = values.flatten_all()?.to_vec1::<f32>()?;
    let per_class = |interpolation| -> Result<Vec<Option<f64>>> {
        Ok(dml_metrics::mean_average_precision(&values, k, &flags, interpolation)?.per_class)
    };
    let (all, eleven) = (per_class(Interpolation::AllPoints)?, per_class(Interpolation::ElevenPoint)?);
    let mut confusion = vec![vec![0; k]; k];
    let (mut positives, mut hits, mut answered) = (vec![0; k], vec![0; k], vec![0; k]);
    for (row, flags) in values.chunks_exact(k).zip(flags.chunks_exact(k)) {
        let Some(top) = highest(row, flags) else { continue };
        for class in (0..k).filter(|&class| flags[class] == 1) {
            confusion[class][top] += 1;
            positives[class] += 1;
        }
        hits[top] += usize::from(flags[top] == 1);
        answered[top] += usize::from(flags[top] != 0);
    }
    let percent = |part: usize, of: usize| (of > 0).then(|| 100.0 * part as f64 / of as f64);
    let row = |class: usize| ClassRow {
        name: names[class].clone(),
        positives: positives[class],
        average_precision: all[class],
        eleven_points: eleven[class],
        recall: percent(hits[class], positives[class]),
        precision: percent(hits[class], answered[class]),
    };
    Ok(Some(ClassTable { eval: eval.into(), several, rows: (0..k).map(row).collect(), confusion }))
}

/// The most probable class. Ties are pessimistic, as in the measures: a class that the sample has not comes first.
fn highest(row: &[f32], flags: &[i8]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(flags[b].cmp(&flags[a])).then(b.cmp(&a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(outputs: &[[f32; 3]], targets: &Targets) -> ClassTable {
        let outputs = Tensor::from_slice(outputs.as_flattened(), (outputs.len(), 3), &Device::Cpu).unwrap();
        class_table("e", &outputs, targets).unwrap().unwrap()
    }

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn one_class_a_sample() {
        let targets = Targets::Classes { names: names(), of: vec![0, 0, 1, 2] };
        let outputs = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 1.0]];
        let table = table(&outputs, &targets);
        // The last sample's tie counts against it.
        assert_eq!(table.confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
        let recalls: Vec<_> = table.rows.iter().map(|row| row.recall).collect();
        assert_eq!(recalls, [Some(50.0), Some(100.0), Some(0.0)]);
        assert_eq!(table.rows[1].precision, Some(50.0));
        assert_eq!(table.rows[2].precision, None);
        assert_eq!(table.rows[1].average_precision, Some(100.0));
    }

    #[test]
    fn several_classes_a_sample() {
        let targets = Targets::MultiLabel { names: names(), flags: vec![1, 1, -1, -1, 0, 1, -1, 1, -1] };
        let outputs = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 2.0]];
        let table = table(&outputs, &targets);
        // A difficult class is neither right nor wrong, but what the network answered all the same.
        assert_eq!(table.confusion, [[1, 0, 0], [1, 0, 1], [0, 1, 0]]);
        assert_eq!(table.rows[1].precision, None);
        assert_eq!(table.rows[0].average_precision, Some(100.0));
        let positives: Vec<usize> = table.rows.iter().map(|row| row.positives).collect();
        assert_eq!(positives, [1, 2, 1]);
    }

    #[test]
    fn equal_sentences_are_named_once() {
        let vectors = Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &Device::Cpu).unwrap();
        let texts = ["a", "a", "b", "c"].map(String::from).to_vec();
        let candidates = Candidates { texts, vectors, owner: None };
        let rows = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        let nearest = candidates.nearest(&rows, 2, |row, text| row == 1 && text == 2).unwrap();
        let places: Vec<Vec<usize>> =
            nearest.iter().map(|row| row.iter().map(|(text, _)| *text).collect()).collect();
        assert_eq!(places, [[0, 3], [3, 0]]);
    }
}
