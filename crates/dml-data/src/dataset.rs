use image::RgbImage;

use crate::{DataError, Result};

/// How a sample is looked at. The same view of the same sample gives the same numbers, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The run's seed.
    pub seed: u64,
    /// The epoch whose augmentation is drawn, or none for the evaluation view, which has no augmentation.
    pub epoch: Option<u64>,
}

impl View {
    /// The view for evaluation: no augmentation.
    pub fn evaluation() -> Self {
        Self { seed: 0, epoch: None }
    }
}

/// What a dataset is labelled with. A disjoint set is labelled for one task only.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// One class a sample.
    Classes {
        /// Class names, in the order of their numbers.
        names: Vec<String>,
        /// The class of each sample, from 0.
        of: Vec<u32>,
    },
    /// Several classes a sample.
    MultiLabel {
        /// Class names, in the order of the columns.
        names: Vec<String>,
        /// For each sample a flag per class: 1 present, -1 absent, 0 difficult.
        flags: Vec<Vec<i8>>,
    },
    /// Sentences: at least one a sample.
    Captions {
        /// The sentences of each sample.
        of: Vec<Vec<String>>,
    },
}

/// A set of samples that all have inputs of one shape and labels of one kind.
pub trait Dataset: Send + Sync {
    /// A short name, for tables and messages.
    fn name(&self) -> &str;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of one input, without the batch dimension.
    fn input_shape(&self) -> &[usize];

    /// The sample's file name or clip id, for messages.
    fn id(&self, index: usize) -> String;

    /// Writes one input, row-major, into `out`, whose length is the product of [`Self::input_shape`].
    ///
    /// # Errors
    /// If the sample cannot be read or decoded; the error names the file.
    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()>;

    /// The sample as a person would look at it, before resizing, cropping and normalising: a photograph as one picture, a
    /// clip as its frames. Nothing where the samples are no pictures.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn pictures(&self, _index: usize) -> Result<Vec<RgbImage>> {
        Ok(Vec::new())
    }

    /// One input made from pictures that need not be of the set, in the evaluation view: from a photograph, or from as many
    /// frames as a clip has, which are resized where they have another size than those of the set.
    ///
    /// # Shapes
    /// [`Self::input_shape`], row-major.
    ///
    /// # Errors
    /// If the set's inputs are not made from pictures, or not from so many.
    fn input(&self, _pictures: &[RgbImage]) -> Result<Vec<f32>> {
        Err(DataError::Invalid(format!("the inputs of {} are not made from pictures", self.name())))
    }

    /// The labels of all samples.
    fn labels(&self) -> &Labels;

    /// The video (or other group) the sample belongs to; a sample alone is a group of its own.
    fn group(&self, index: usize) -> usize {
        index
    }

    /// Listed videos or photographs that a prepared set has not. They are no samples.
    fn missing(&self) -> &[String] {
        &[]
    }

    /// A text that changes whenever inputs or labels change, for cache keys and for telling runs apart.
    fn fingerprint(&self) -> String;
}
