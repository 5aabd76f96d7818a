use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use crate::image::ImageInput;
use crate::{DataError, Dataset, ImagePipeline, Labels, Result, View};

/// The middle frame of each clip of a dataset, as a single image: what can be told from appearance alone.
pub struct Frames {
    clips: Arc<dyn Dataset>,
    pipeline: ImageInput,
}

impl Frames {
    /// # Errors
    /// If the pipeline's parameters do not fit each other.
    pub fn new(clips: Arc<dyn Dataset>, pipeline: ImagePipeline) -> Result<Self> {
        Ok(Self { clips, pipeline: ImageInput::new(&pipeline.into())? })
    }

    fn middle(&self, mut pictures: Vec<RgbImage>, of: &str) -> Result<RgbImage> {
        if pictures.is_empty() {
            return Err(DataError::Invalid(format!("{of} of {} has no frames", self.name())));
        }
        Ok(pictures.swap_remove(pictures.len() / 2))
    }

    fn make(&self, frame: RgbImage, id: &str, view: View, index: usize, out: &mut [f32]) -> Result<()> {
        self.pipeline.read(frame, Path::new(id), view, index as u64, out)
    }
}

impl Dataset for Frames {
    fn name(&self) -> &str {
        self.clips.name()
    }

    fn len(&self) -> usize {
        self.clips.len()
    }

    fn input_shape(&self) -> &[usize] {
        &self.pipeline.shape
    }

    fn id(&self, index: usize) -> String {
        self.clips.id(index)
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        let id = self.id(index);
        let frame = self.middle(self.clips.pictures(index)?, &id)?;
        self.make(frame, &id, view, index, out)
    }

    fn pictures(&self, index: usize) -> Result<Vec<RgbImage>> {
        Ok(vec![self.middle(self.clips.pictures(index)?, &self.id(index))?])
    }

    fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
        let frame = self.middle(pictures.to_vec(), "what is asked about")?;
        let mut input = vec![0.0; self.pipeline.shape.iter().product()];
        self.make(frame, "the picture", View::evaluation(), 0, &mut input)?;
        Ok(input)
    }

    fn labels(&self) -> &Labels {
        self.clips.labels()
    }

    fn group(&self, index: usize) -> usize {
        self.clips.group(index)
    }

    fn missing(&self) -> &[String] {
        self.clips.missing()
    }

    fn fingerprint(&self) -> String {
        format!("{}; middle frame, {}", self.clips.fingerprint(), self.pipeline.fingerprint)
    }
}
