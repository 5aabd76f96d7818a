use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor};
use dml_data::Labels;
use dml_model::HeadConfig;
use dml_rand::{Purpose, Stream};

use crate::{Result, TrainError};

/// A dataset's labels as numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class a sample.
    Classes {
        /// Class names.
        names: Vec<String>,
        /// Class of each sample.
        of: Vec<u32>,
    },
    /// Several classes a sample.
    MultiLabel {
        /// Class names.
        names: Vec<String>,
        /// Row-major flags: 1 present, -1 absent, 0 difficult.
        flags: Vec<i8>,
    },
    /// Caption embeddings.
    Captions {
        /// Row-major unit vectors of all captions.
        vectors: Vec<f32>,
        /// Length of a vector.
        dim: usize,
        /// The rows of each sample's captions. Samples with the same captions, such as the clips of a video, share them.
        rows: Vec<Range<usize>>,
    },
}

impl Targets {
    /// Turns labels into targets; `encode` makes one row of `dim` numbers for each sentence.
    ///
    /// # Errors
    /// If a sample has no label, or the encoder fails.
    pub fn new(
        labels: &Labels,
        dim: usize,
        encode: &mut dyn FnMut(&[&str]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        Ok(match labels {
            Labels::Classes { names, of } => Self::Classes { names: names.clone(), of: of.clone() },
            Labels::MultiLabel { names, flags } => {
                Self::MultiLabel { names: names.clone(), flags: flags.concat() }
            }
            Labels::Captions { of } => {
                let mut sentences: Vec<&str> = Vec::new();
                let mut known: HashMap<&[String], Range<usize>> = HashMap::new();
                let mut rows = Vec::with_capacity(of.len());
                for (index, captions) in of.iter().enumerate() {
                    if captions.is_empty() {
                        return Err(TrainError::invalid(format!("sample {index} has no caption")));
                    }
                    let range = known.entry(captions).or_insert_with(|| {
                        let start = sentences.len();
                        sentences.extend(captions.iter().map(String::as_str));
                        start..sentences.len()
                    });
                    rows.push(range.clone());
                }
                let vectors = encode(&sentences)?;
                if vectors.len() != sentences.len() * dim {
                    return Err(TrainError::invalid(format!(
                        "the sentence encoder made {} numbers for {} captions of {dim}",
                        vectors.len(),
                        sentences.len()
                    )));
                }
                Self::Captions { vectors, dim, rows }
            }
        })
    }

    /// Several captions of a sample in one: the mean of their vectors, scaled to length one.
    #[must_use]
    pub fn with_mean_captions(self) -> Self {
        let Self::Captions { vectors, dim, rows } = self else { return self };
        let mut means = Vec::with_capacity(rows.len() * dim);
        for range in &rows {
            let mut mean = vec![0f32; dim];
            for row in vectors[range.start * dim..range.end * dim].chunks_exact(dim) {
                mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            means.extend(mean.into_iter().map(|x| x / norm));
        }
        Self::Captions { vectors: means, dim, rows: (0..rows.len()).map(|i| i..i + 1).collect() }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { of, .. } => of.len(),
            Self::MultiLabel { names, flags } => flags.len() / names.len().max(1),
            Self::Captions { rows, .. } => rows.len(),
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The head that these targets ask for.
    pub fn head(&self) -> HeadConfig {
        match self {
            Self::Classes { names, .. } => HeadConfig::Classes { classes: names.len() },
            Self::MultiLabel { names, .. } => HeadConfig::MultiLabel { classes: names.len() },
            Self::Captions { dim, .. } => HeadConfig::Embedding { dim: *dim },
        }
    }

    /// Checks that a head answers what these targets ask.
    ///
    /// # Errors
    /// If the kind or the size disagrees, or a class number is out of range.
    pub fn check(&self, dataset: &str, task: &str, head: &HeadConfig) -> Result<()> {
        if self.head() != *head {
            return Err(TrainError::invalid(format!(
                "dataset {dataset:?} is labelled for {:?}, but task {task:?} has the head {head:?}",
                self.head()
            )));
        }
        if let Self::Classes { names, of } = self
            && let Some(index) = of.iter().position(|&class| class as usize >= names.len())
        {
            return Err(TrainError::invalid(format!(
                "dataset {dataset:?}: sample {index} has class {} of {}",
                of[index],
                names.len()
            )));
        }
        Ok(())
    }

    /// The targets of a batch. Of several captions one is drawn, keyed by (seed, epoch, sample).
    ///
    /// # Shapes
    /// (n) u32 classes, (n, k) f32 flags 0 or 1, or (n, d) f32 unit vectors.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn batch(&self, indices: &[usize], seed: u64, epoch: u64, device: &Device) -> Result<Tensor> {
        Ok(match self {
            Self::Classes { of, .. } => {
                let classes: Vec<u32> = indices.iter().map(|&index| of[index]).collect();
                Tensor::from_vec(classes, indices.len(), device)?
            }
            Self::MultiLabel { names, flags } => {
                let k = names.len();
                let rows = indices.iter().flat_map(|&index| present(&flags[index * k..(index + 1) * k]));
                Tensor::from_vec(rows.collect::<Vec<f32>>(), (indices.len(), k), device)?
            }
            Self::Captions { vectors, dim, rows } => {
                let mut drawn = Vec::with_capacity(indices.len() * dim);
                for &index in indices {
                    let Range { start, end } = rows[index];
                    let mut stream = Stream::new(seed, Purpose::Caption, epoch, index as u64);
                    let row = start + stream.below(end - start);
                    drawn.extend_from_slice(&vectors[row * dim..(row + 1) * dim]);
                }
                Tensor::from_vec(drawn, (indices.len(), *dim), device)?
            }
        })
    }
}

/// 1 for the classes that are present. Where every object of an image is difficult, the difficult ones count, so that no
/// training image is without a class.
fn present(flags: &[i8]) -> impl Iterator<Item = f32> + '_ {
    let wanted = if flags.contains(&1) { 1 } else { 0 };
    flags.iter().map(move |&flag| if flag == wanted { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficult_classes_count_only_where_there_is_no_other() {
        let check = |flags: &[i8], expected: &[f32]| {
            assert_eq!(present(flags).collect::<Vec<_>>(), expected, "{flags:?}");
        };
        check(&[1, 0, -1], &[1.0, 0.0, 0.0]);
        check(&[-1, 0, -1], &[0.0, 1.0, 0.0]);
        check(&[1, 1, -1], &[1.0, 1.0, 0.0]);
    }

    #[test]
    fn each_epoch_draws_its_own_caption_and_always_the_same() {
        let labels = Labels::Captions { of: vec![(0..8).map(|i| i.to_string()).collect()] };
        let mut encode = |sentences: &[&str]| Ok((0..sentences.len()).map(|i| i as f32).collect());
        let targets = Targets::new(&labels, 1, &mut encode).unwrap();
        let draw =
            |epoch| targets.batch(&[0], 5, epoch, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap()[0][0];
        let first: Vec<f32> = (0..20).map(draw).collect();
        assert_eq!(first, (0..20).map(draw).collect::<Vec<_>>());
        assert!(first.iter().any(|&caption| caption != first[0]));
    }

    #[test]
    fn clips_of_a_video_share_its_captions() {
        let captions = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let of = vec![captions(&["a", "b"]), captions(&["c"]), captions(&["a", "b"])];
        let mut encoded = 0;
        let mut encode = |sentences: &[&str]| {
            encoded += sentences.len();
            Ok(vec![1.0; sentences.len()])
        };
        let targets = Targets::new(&Labels::Captions { of }, 1, &mut encode).unwrap();
        let Targets::Captions { rows, .. } = &targets else { panic!("{targets:?}") };
        assert_eq!((encoded, rows.as_slice()), (3, &[0..2, 2..3, 0..2][..]));
    }

    #[test]
    fn the_mean_of_captions_has_length_one() {
        let targets = Targets::Captions {
            vectors: vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
            dim: 2,
            rows: vec![0..2, 2..3, 0..2],
        };
        let half = 0.5f32.sqrt();
        let expected = vec![half, half, 0.6, 0.8, half, half];
        let Targets::Captions { vectors, rows, .. } = targets.with_mean_captions() else {
            panic!("no captions")
        };
        assert!(vectors.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-6), "{vectors:?}");
        assert_eq!(rows, [0..1, 1..2, 2..3]);
    }

    #[test]
    fn heads_that_do_not_fit_are_named() {
        let targets = Targets::Classes { names: vec!["a".into(), "b".into()], of: vec![0, 1] };
        let error =
            targets.check("clips", "class", &HeadConfig::Classes { classes: 3 }).unwrap_err().to_string();
        assert!(error.contains("clips") && error.contains('3') && error.contains('2'), "{error}");
    }
}
