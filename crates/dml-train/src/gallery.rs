use std::collections::BTreeSet;

use candle_core::Tensor;
use dml_data::Labels;
use image::RgbImage;

use crate::Result;
use crate::answers::{Answered, Answers, Candidates, Classes};

/// How many captions or classes are shown of each sample.
const SHOWN: usize = 5;

/// Samples of one task's data with what the network answers for another task: the cross-task predictions of Figures 6
/// and 7.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// The dataset.
    pub set: String,
    /// The task that the dataset is labelled for.
    pub own: String,
    /// The task that is answered here without labels.
    pub task: String,
    /// Whether the answers are captions; otherwise classes.
    pub captions: bool,
    /// Samples of the dataset.
    pub samples: usize,
    /// The chosen samples, in the dataset's order.
    pub items: Vec<Item>,
}

/// One sample of a gallery.
#[derive(Clone, Debug)]
pub struct Item {
    /// The sample's place in its dataset.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// Its picture, or the frames of its clip; nothing where it has none or they cannot be read.
    pub pictures: Vec<RgbImage>,
    /// Its labels: classes, or sentences.
    pub labels: Vec<String>,
    /// What the head of its own task answers: classes with probabilities, or captions with cosines.
    pub own: Vec<(String, f64)>,
    /// What the head of the other task answers, likewise.
    pub answers: Vec<(String, f64)>,
    /// The probability of the most probable class, or the cosine of the nearest caption.
    pub confidence: f64,
    /// How little the two heads agree, from 0 to 1: 1 − Σ min(p, q) / Σ max(p, q) over the classes, where p is what the
    /// class head says of the sample, and q the mean of what it says of the samples whose captions the caption head puts
    /// nearest, the sample itself excepted.
    pub disagreement: f64,
}

impl Answers {
    /// A gallery for each evaluation set and each task of the other kind. Of a set with more than `limit` samples a third
    /// are those of most confidence, a third those of most disagreement, and the others come at equal distances.
    ///
    /// # Errors
    /// If tensors do not fit each other. A picture that cannot be read is left out of its item.
    pub fn galleries(&self, limit: usize) -> Result<Vec<Gallery>> {
        let mut galleries = Vec::new();
        for (place, answered) in self.sets.iter().enumerate() {
            let Some((_, own, _)) = answered.set.judged.first() else { continue };
            let others = match self.classes.contains_key(own) {
                true => self.candidates.keys().map(|task| (own, task, true)).collect::<Vec<_>>(),
                false => self.classes.keys().map(|task| (task, own, false)).collect(),
            };
            for (class, caption, captions) in others {
                let (Some(classes), Some(candidates)) =
                    (self.classes.get(class), self.candidates.get(caption))
                else {
                    continue;
                };
                let (own, task) = if captions { (class, caption) } else { (caption, class) };
                let pair = Pair { answers: self, place, class, caption, classes, candidates };
                let (own, task) = (own.clone(), task.clone());
                galleries.push(Gallery {
                    set: answered.set.dataset.name().into(),
                    own,
                    task,
                    captions,
                    samples: answered.set.dataset.len(),
                    items: pair.items(captions, limit)?,
                });
            }
        }
        Ok(galleries)
    }
}

/// A class task and a caption task on one evaluation set.
struct Pair<'a> {
    answers: &'a Answers,
    place: usize,
    class: &'a str,
    caption: &'a str,
    classes: &'a Classes,
    candidates: &'a Candidates,
}

impl Pair<'_> {
    fn items(&self, captions: bool, limit: usize) -> Result<Vec<Item>> {
        let Answered { set, outputs } = &self.answers.sets[self.place];
        let dataset = &*set.dataset;
        let probabilities = self.classes.probabilities(&outputs[self.class])?;
        let embedded = dml_losses::l2_normalize(&outputs[self.caption])?;
        let nearest = self.candidates.nearest(&embedded, SHOWN, |_, _| false)?;
        let implied = self.implied(&embedded)?;
        let confidences: Vec<f64> = (0..dataset.len())
            .map(|sample| match captions {
                true => nearest[sample].first().map_or(0.0, |(_, cosine)| *cosine),
                false => f64::from(probabilities[sample].iter().copied().fold(0.0, f32::max)),
            })
            .collect();
        let disagreements: Vec<f64> =
            probabilities.iter().zip(&implied).map(|(p, q)| distance(p, q)).collect();
        let item = |index: usize| {
            let sentences = nearest[index]
                .iter()
                .map(|(text, cosine)| (self.candidates.texts[*text].clone(), *cosine))
                .collect();
            let top = self.classes.top(&probabilities[index], SHOWN);
            let (own, answers) = if captions { (top, sentences) } else { (sentences, top) };
            Item {
                index,
                id: dataset.id(index),
                pictures: dataset.pictures(index).unwrap_or_default(),
                labels: labels(dataset.labels(), index),
                own,
                answers,
                confidence: confidences[index],
                disagreement: disagreements[index],
            }
        };
        Ok(chosen(&confidences, &disagreements, limit).into_iter().map(item).collect())
    }

    /// For each sample the mean of the class probabilities of the samples whose captions are nearest to it.
    fn implied(&self, embedded: &Tensor) -> Result<Vec<Vec<f32>>> {
        let Some((home, owner)) = &self.candidates.owner else { return Ok(vec![vec![]; embedded.dim(0)?]) };
        let described = self.classes.probabilities(&self.answers.sets[*home].outputs[self.class])?;
        let own = |sample: usize, text: usize| *home == self.place && owner[text] == sample;
        let nearest = self.candidates.nearest(embedded, SHOWN, own)?;
        let mean = |texts: &Vec<(usize, f64)>| {
            let rows: Vec<&Vec<f32>> = texts.iter().map(|(text, _)| &described[owner[*text]]).collect();
            let sum = |class: usize| rows.iter().map(|row| row[class]).sum::<f32>();
            (0..self.classes.names.len()).map(|class| sum(class) / rows.len().max(1) as f32).collect()
        };
        Ok(nearest.iter().map(mean).collect())
    }
}

fn labels(labels: &Labels, index: usize) -> Vec<String> {
    match labels {
        Labels::Classes { names, of } => vec![names[of[index] as usize].clone()],
        Labels::MultiLabel { names, flags } => {
            let flagged = |wanted| names.iter().zip(&flags[index]).filter(move |(_, flag)| **flag == wanted);
            let difficult = flagged(0).map(|(name, _)| format!("{name} (difficult)"));
            flagged(1).map(|(name, _)| name.clone()).chain(difficult).collect()
        }
        Labels::Captions { of } => of[index].clone(),
    }
}

/// 1 − Σ min / Σ max.
fn distance(p: &[f32], q: &[f32]) -> f64 {
    let sum = |of: fn(f32, f32) -> f32| p.iter().zip(q).map(|(&p, &q)| f64::from(of(p, q))).sum::<f64>();
    let most = sum(f32::max);
    if most > 0.0 { 1.0 - sum(f32::min) / most } else { 0.0 }
}

/// The samples to show, in ascending order.
fn chosen(confidences: &[f64], disagreements: &[f64], limit: usize) -> Vec<usize> {
    let n = confidences.len();
    if n <= limit {
        return (0..n).collect();
    }
    let highest = |values: &[f64]| {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        order.into_iter().take(limit / 3)
    };
    let mut picked: BTreeSet<usize> = highest(confidences).chain(highest(disagreements)).collect();
    let left: Vec<usize> = (0..n).filter(|sample| !picked.contains(sample)).collect();
    let wanted = limit - picked.len();
    picked.extend((0..wanted).map(|k| left[k * left.len() / wanted]));
    picked.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_of_0_is_agreement_and_1_is_none() {
        let check = |p: &[f32], q: &[f32], expected: f64| {
            assert!((distance(p, q) - expected).abs() < 1e-6, "{p:?} {q:?}: {}", distance(p, q));
        };
        check(&[0.2, 0.8], &[0.2, 0.8], 0.0);
        check(&[1.0, 0.0], &[0.0, 1.0], 1.0);
        check(&[0.5, 0.5], &[0.0, 1.0], 1.0 - 0.5 / 1.5);
        check(&[0.0, 0.0], &[0.0, 0.0], 0.0);
    }

    #[test]
    fn the_extremes_are_among_the_chosen() {
        let confidences: Vec<f64> = (0..100).map(f64::from).collect();
        let disagreements: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
        let picked = chosen(&confidences, &disagreements, 12);
        assert_eq!(picked.len(), 12);
        assert!(picked.is_sorted());
        for wanted in [96, 97, 98, 99] {
            assert!(picked.contains(&wanted), "{picked:?}");
            assert!(picked.iter().any(|&i| disagreements[i] == wanted as f64), "{picked:?}");
        }
        assert_eq!(chosen(&confidences, &disagreements, 100), (0..100).collect::<Vec<_>>());
        assert!(chosen(&confidences, &disagreements, 0).is_empty());
    }
}
