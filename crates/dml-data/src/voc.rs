use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::photographs::Photographs;
use crate::splits::{VOC_CLASSES, voc};
use crate::{DataError, Dataset, Labels, PhotoPipeline, Result, View};

/// Image classification on PASCAL VOC: photographs that carry several of twenty classes.
///
/// Layout (devkit documentation, "Image sets"): the lists of [`voc`] and `JPEGImages/<id>.jpg` in the folder of a year,
/// `VOC<year>`. Where that folder has a finished set of shards in `shards` (whose samples name their id as `video`), the
/// photographs come from there.
#[derive(Debug)]
pub struct Voc {
    name: String,
    photographs: Photographs,
    labels: Labels,
}

impl Voc {
    /// Opens one split of one year. `dir` is the year's folder, `VOCdevkit`, or the folder that holds `VOCdevkit`;
    /// the year may be left out where only one is there. Every label is read and checked, and every image file must
    /// exist.
    ///
    /// # Errors
    /// If the year's folder cannot be told, if a file is missing, or if one is not as the layout says; the error
    /// names the file and, where there is one, the line.
    pub fn open(
        dir: &Path,
        year: Option<u16>,
        split: &str,
        pipeline: impl Into<PhotoPipeline>,
    ) -> Result<Self> {
        let root = year_folder(dir, year)?;
        let list = root.join("ImageSets").join("Main").join(format!("{split}.txt"));
        let folder = root.join("JPEGImages");
        let (photographs, flags) =
            Photographs::open(&root, &list, voc(&root, split)?, &pipeline.into(), || {
                Ok(Box::new(move |id: &str| folder.join(format!("{id}.jpg"))))
            })?;
        Ok(Self {
            name: format!("{} {split}", root.file_name().unwrap_or(root.as_os_str()).to_string_lossy()),
            photographs,
            labels: Labels::MultiLabel { names: VOC_CLASSES.map(String::from).to_vec(), flags },
        })
    }
}

impl Dataset for Voc {
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

fn year_folder(dir: &Path, year: Option<u16>) -> Result<PathBuf> {
    let is_year = |path: &Path| path.join("ImageSets").join("Main").is_dir();
    let mut found = Vec::new();
    if is_year(dir) {
        found.push(dir.to_owned());
    }
    for parent in [dir.to_owned(), dir.join("VOCdevkit")] {
        let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut years: Vec<_> = entries.filter(|path| year_of(path).is_some() && is_year(path)).collect();
        years.sort();
        found.append(&mut years);
    }
    if let Some(year) = year {
        // A year's own folder may have been renamed; then the caller knows what it is.
        found.retain(|path| year_of(path).is_none_or(|y| y == year));
    }
    let wanted = year.map_or("VOC<year>".into(), |year| format!("VOC{year}"));
    match found.as_slice() {
        [root] => Ok(root.clone()),
        [] => Err(DataError::Invalid(format!(
            "{}: no {wanted}/ImageSets/Main here or in VOCdevkit; give the folder of PASCAL VOC",
            dir.display()
        ))),
        several => {
            let list: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(DataError::Invalid(format!("several years of PASCAL VOC, say which: {}", list.join(", "))))
        }
    }
}

/// The year in a folder's name `VOC<year>`.
fn year_of(path: &Path) -> Option<u16> {
    path.file_name()?.to_str()?.strip_prefix("VOC")?.parse().ok()
}
