use std::path::Path;

use image::RgbImage;

use crate::photographs::Photographs;
use crate::splits::flickr8k;
use crate::text::wrong;
use crate::{Dataset, Labels, PhotoPipeline, Result, View};

/// Photographs with several captions each, from Flickr8k.
///
/// Layout: the lists of [`flickr8k`] and the images in `Flicker8k_Dataset` (spelt so in the archive; `Flickr8k_Dataset` and
/// `Images` will do). Where the folder has a finished set of shards in `shards` (whose samples name their file as
/// `video`), the photographs come from there.
#[derive(Debug)]
pub struct Flickr8k {
    name: String,
    photographs: Photographs,
    labels: Labels,
}

impl Flickr8k {
    /// Opens the split `train`, `dev` or `test`. Every image file of the split must exist and have a caption.
    ///
    /// # Errors
    /// If the split has another name, if a file is missing, or if one is not as the layout says; the error names the
    /// file and, where there is one, the line.
    pub fn open(dir: &Path, split: &str, pipeline: impl Into<PhotoPipeline>) -> Result<Self> {
        let listed = flickr8k(dir, split)?;
        let list = dir.join(format!("Flickr_8k.{split}Images.txt"));
        let (photographs, of) = Photographs::open(dir, &list, listed, &pipeline.into(), || {
            let folder = ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images"]
                .map(|name| dir.join(name))
                .into_iter()
                .find(|path| path.is_dir())
                .ok_or_else(|| {
                    let problem =
                        "no folder Flicker8k_Dataset (or Flickr8k_Dataset, or Images) with the photographs";
                    wrong(dir, None, problem)
                })?;
            Ok(Box::new(move |id: &str| folder.join(id)))
        })?;
        Ok(Self { name: format!("Flickr8k {split}"), photographs, labels: Labels::Captions { of } })
    }
}

impl Dataset for Flickr8k {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.photographs.ids.len()
    }

    fn input_shape(&self) -> &[usize] {
        &self.photographs.shape
    }

    fn id(&self, index: usize) -> String {
        self.photographs.ids[index].clone()
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        self.photographs.read(index, view, out)
    }

    fn pictures(&self, index: usize) -> Result<Vec<RgbImage>> {
        Ok(vec![self.photographs.picture(index)?])
    }

    fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
        self.photographs.input(pictures)
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn missing(&self) -> &[String] {
        &self.photographs.missing
    }

    fn fingerprint(&self) -> String {
        self.photographs.fingerprint(&self.name, || format!("{:?}", self.labels))
    }
}
