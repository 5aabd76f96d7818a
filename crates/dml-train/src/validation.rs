//! A part of the training samples that is not trained on, to choose settings by.

use std::collections::BTreeMap;
use std::sync::Arc;

use dml_data::{Dataset, Labels, View};
use dml_rand::{Purpose, Stream, hash};
use image::RgbImage;

use crate::evaluate::EvalSet;
use crate::experiment::Source;
use crate::targets::Targets;
use crate::trainer::TrainSet;
use crate::{Result, TrainError};

/// Takes a fraction out of each dataset that is trained on, and puts it in the place of the sets that are evaluated on.
///
/// Which samples these are follows from their names alone: they are the same for every seed and every other setting. The clips of
/// a video stay together, and the videos that UCF101 has cut from one recording (`_g08_`).
pub(crate) fn hold_out(source: &mut Source, fraction: f64) -> Result<()> {
    source.evals.clear();
    for (name, TrainSet { dataset, targets }) in &mut source.sets {
        let (rest, held) = divide(&**dataset, fraction);
        if rest.is_empty() || held.is_empty() {
            let (samples, part) = (dataset.len(), if held.is_empty() { "nothing" } else { "all" });
            return Err(TrainError::invalid(format!(
                "validation = {fraction} holds out {part} of the {samples} samples of {name:?}, which cannot be divided finer; \
                 choose another fraction"
            )));
        }
        let part = |indices: Vec<usize>, what: &str| {
            let targets = targets.part(&indices);
            let dataset: Arc<dyn Dataset> = Arc::new(Part::new(dataset.clone(), indices, what));
            (dataset, targets)
        };
        let (held, judged) = part(held, "held out");
        source.evals.push(EvalSet { dataset: held, judged: vec![(name.clone(), name.clone(), judged)] });
        let (rest, left) = part(rest, "without those held out");
        (*dataset, *targets) = (rest, left);
    }
    // Classes first, as where the sets to evaluate on are the published ones.
    source.evals.reverse();
    Ok(())
}

/// The samples to train on and those held out, both in their order.
fn divide(set: &dyn Dataset, fraction: f64) -> (Vec<usize>, Vec<usize>) {
    let ids: Vec<String> = (0..set.len()).map(|index| set.id(index)).collect();
    // A group is named by its first sample, so that clips are not torn apart whatever their own names are.
    let (mut firsts, mut groups) = (BTreeMap::new(), BTreeMap::<&str, Vec<usize>>::new());
    for index in 0..set.len() {
        let first = *firsts.entry(set.group(index)).or_insert(index);
        groups.entry(recording(&ids[first])).or_default().push(index);
    }
    let draw = |name: &str| Stream::new(hash("validation"), Purpose::Shuffle, 0, hash(name)).next_u64();
    let mut order: Vec<(u64, Vec<usize>)> =
        groups.into_iter().map(|(name, samples)| (draw(name), samples)).collect();
    order.sort();
    let count = (fraction * order.len() as f64).round() as usize;
    let sorted = |groups: &[(u64, Vec<usize>)]| {
        let mut all: Vec<usize> = groups.iter().flat_map(|(_, samples)| samples.clone()).collect();
        all.sort_unstable();
        all
    };
    (sorted(&order[count..]), sorted(&order[..count]))
}

/// What UCF101's videos of one recording have in common: all before `_c01` in `v_ApplyEyeMakeup_g08_c01`. Other names are whole.
fn recording(id: &str) -> &str {
    match id.split_once("_g") {
        Some((_, rest)) if rest.get(..2).is_some_and(|g| g.bytes().all(|b| b.is_ascii_digit())) => {
            rest.find("_c").map_or(id, |at| &id[..id.len() - rest.len() + at])
        }
        _ => id,
    }
}

/// Some samples of a dataset.
struct Part {
    whole: Arc<dyn Dataset>,
    indices: Vec<usize>,
    groups: Vec<usize>,
    labels: Labels,
    name: String,
    fingerprint: String,
}

impl Part {
    fn new(whole: Arc<dyn Dataset>, indices: Vec<usize>, what: &str) -> Self {
        // A group is known by its first sample here.
        let mut firsts = BTreeMap::new();
        let group = |(number, &index): (usize, &usize)| *firsts.entry(whole.group(index)).or_insert(number);
        let groups = indices.iter().enumerate().map(group).collect();
        let labels = match whole.labels() {
            Labels::Classes { names, of } => {
                Labels::Classes { names: names.clone(), of: indices.iter().map(|&i| of[i]).collect() }
            }
            Labels::MultiLabel { names, flags } => {
                let flags = indices.iter().map(|&i| flags[i].clone()).collect();
                Labels::MultiLabel { names: names.clone(), flags }
            }
            Labels::Captions { of } => {
                Labels::Captions { of: indices.iter().map(|&i| of[i].clone()).collect() }
            }
        };
        let name = format!("{} ({what})", whole.name());
        let fingerprint = format!("{}; samples {indices:?}", whole.fingerprint());
        Self { whole, indices, groups, labels, name, fingerprint }
    }
}

impl Dataset for Part {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn input_shape(&self) -> &[usize] {
        self.whole.input_shape()
    }

    fn id(&self, index: usize) -> String {
        self.whole.id(self.indices[index])
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> dml_data::Result<()> {
        self.whole.read(self.indices[index], view, out)
    }

    fn pictures(&self, index: usize) -> dml_data::Result<Vec<RgbImage>> {
        self.whole.pictures(self.indices[index])
    }

    fn input(&self, pictures: &[RgbImage]) -> dml_data::Result<Vec<f32>> {
        self.whole.input(pictures)
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn group(&self, index: usize) -> usize {
        self.groups[index]
    }

    fn missing(&self) -> &[String] {
        self.whole.missing()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

impl Targets {
    /// The targets of some samples. Samples that share captions share them on.
    fn part(&self, indices: &[usize]) -> Self {
        match self {
            Self::Classes { names, of } => {
                Self::Classes { names: names.clone(), of: indices.iter().map(|&i| of[i]).collect() }
            }
            Self::MultiLabel { names, flags } => {
                let rows = indices.iter().map(|&i| &flags[i * names.len()..(i + 1) * names.len()]);
                Self::MultiLabel { names: names.clone(), flags: rows.collect::<Vec<_>>().concat() }
            }
            Self::Captions { vectors, dim, rows } => {
                let (mut kept, mut known) = (Vec::new(), BTreeMap::new());
                let mut row = |&index: &usize| {
                    let old = rows[index].clone();
                    let start = *known.entry(old.start).or_insert_with(|| {
                        kept.extend_from_slice(&vectors[old.start * dim..old.end * dim]);
                        kept.len() / dim - old.len()
                    });
                    start..start + old.len()
                };
                let rows = indices.iter().map(&mut row).collect();
                Self::Captions { vectors: kept, dim: *dim, rows }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dml_teacher::Lexical;

    use super::*;

    /// Clips whose input is their number.
    struct Clips(Vec<(&'static str, usize)>, Labels);

    impl Dataset for Clips {
        fn name(&self) -> &str {
            "clips"
        }

        fn len(&self) -> usize {
            self.0.len()
        }

        fn input_shape(&self) -> &[usize] {
            &[1]
        }

        fn id(&self, index: usize) -> String {
            format!("{}{index}", self.0[index].0)
        }

        fn read(&self, index: usize, _: View, out: &mut [f32]) -> dml_data::Result<()> {
            out[0] = index as f32;
            Ok(())
        }

        fn labels(&self) -> &Labels {
            &self.1
        }

        fn group(&self, index: usize) -> usize {
            self.0[index].1
        }

        fn fingerprint(&self) -> String {
            format!("{:?}", self.0)
        }
    }

    fn source(clips: Vec<(&'static str, usize)>) -> Source {
        let n = clips.len();
        let of = (0..n).map(|index| vec![format!("caption {}", clips[index].1)]).collect();
        let labels = Labels::Captions { of };
        let mut vectors =
            |all: &[&str]| Ok(all.iter().map(|text| text[8..].parse::<f32>().unwrap()).collect());
        let targets = Targets::new(&labels, 1, &mut vectors).unwrap();
        let dataset: Arc<dyn Dataset> = Arc::new(Clips(clips, labels));
        let sets = [("caption".to_string(), TrainSet { dataset, targets })].into();
        Source { sets, evals: vec![], root: None, teacher: Arc::new(Lexical::new(16).unwrap()) }
    }

    /// Samples of the set to train on and of the one held out, by what is read of them.
    fn held(clips: Vec<(&'static str, usize)>, fraction: f64) -> Result<[Vec<usize>; 2]> {
        let mut all = source(clips.clone());
        hold_out(&mut all, fraction)?;
        let parts = [(&all.sets["caption"].dataset, &all.sets["caption"].targets), {
            let EvalSet { dataset, judged } = &all.evals[0];
            (dataset, &judged[0].2)
        }];
        Ok(parts.map(|(dataset, targets)| {
            let Targets::Captions { vectors, rows, .. } = targets else { panic!("{targets:?}") };
            let read = |index: usize| {
                let mut value = [0.0];
                dataset.read(index, View::evaluation(), &mut value).unwrap();
                let original = value[0] as usize;
                // Labels, ids and groups are those of the sample that is read.
                assert_eq!(vectors[rows[index].start], clips[original].1 as f32);
                assert!(dataset.id(index).ends_with(&original.to_string()));
                let first = (0..index).find(|&other| rows[other] == rows[index]).unwrap_or(index);
                assert_eq!(dataset.group(index), first);
                original
            };
            (0..dataset.len()).map(read).collect()
        }))
    }

    #[test]
    fn what_is_held_out_is_no_part_of_the_rest_and_always_the_same() {
        let alone: Vec<_> = (0..50).map(|index| ("photo", index)).collect();
        for (fraction, expected) in [(0.2, 10), (0.5, 25), (0.03, 2)] {
            let [rest, held_out] = held(alone.clone(), fraction).unwrap();
            assert_eq!((rest.len(), held_out.len()), (50 - expected, expected));
            let all: BTreeSet<usize> = rest.iter().chain(&held_out).copied().collect();
            assert_eq!(all.len(), 50);
            assert_eq!([rest, held_out], held(alone.clone(), fraction).unwrap());
        }
        // A larger part has the smaller one in it: who is held out does not depend on how many are.
        let [.., few] = held(alone.clone(), 0.1).unwrap();
        let [.., many] = held(alone, 0.4).unwrap();
        assert!(few.iter().all(|index| many.contains(index)));
    }

    #[test]
    fn clips_of_a_video_stay_together() {
        let clips: Vec<_> = (0..60).map(|index| ("clip", index / 3 * 3)).collect();
        let [rest, held_out] = held(clips, 0.3).unwrap();
        assert_eq!(held_out.len(), 18);
        assert!(rest.iter().all(|index| !held_out.iter().any(|other| other / 3 == index / 3)));
    }

    #[test]
    fn recordings_of_ucf101_are_told_from_other_names() {
        let check = |id, expected| assert_eq!(recording(id), expected);
        check("v_ApplyEyeMakeup_g08_c01", "v_ApplyEyeMakeup_g08");
        check("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01#2", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08");
        check("2007_000032", "2007_000032");
        check("April_09_brush_hair_u_nm_np1_ba_goo_0", "April_09_brush_hair_u_nm_np1_ba_goo_0");
    }

    #[test]
    fn a_part_that_would_be_empty_is_refused() {
        let alone: Vec<_> = (0..4).map(|index| ("photo", index)).collect();
        for (fraction, part) in [(0.1, "nothing of the 4"), (0.95, "all of the 4")] {
            let error = held(alone.clone(), fraction).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("caption"), "{error}");
        }
    }
}
