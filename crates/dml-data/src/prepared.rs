use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::shards::Reader;
use crate::text::wrong;
use crate::{DataError, Result, jpeg};

/// A prepared set: shards, and which samples each video or image has.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) reader: Reader,
    of: HashMap<String, Vec<usize>>,
    labels: Vec<Option<u64>>,
    path: PathBuf,
}

/// Samples, each with the place of its video in a list; and the listed videos that have none.
pub(crate) type Selected = (Vec<(usize, usize)>, Vec<String>);

impl Prepared {
    /// Opens `shards` in a dataset's folder.
    ///
    /// # Errors
    /// If there is no finished set, if it is damaged, or if a sample does not say which video it is of.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(SHARDS);
        let reader = Reader::open(&path)?;
        let mut of: HashMap<String, Vec<usize>> = HashMap::new();
        let mut labels = Vec::with_capacity(reader.len());
        for sample in 0..reader.len() {
            let meta = reader.meta(sample)?;
            let Some(video) = meta["video"].as_str() else {
                let problem = format!("{} does not say of which video it is", reader.key(sample));
                return Err(wrong(&path, None, problem));
            };
            of.entry(video.into()).or_default().push(sample);
            labels.push(meta["label"].as_u64());
        }
        Ok(Self { reader, of, labels, path })
    }

    /// Whether a dataset's folder has a finished set.
    pub(crate) fn is_in(dir: &Path) -> bool {
        Reader::is_finished(&dir.join(SHARDS))
    }

    /// The samples of the listed videos.
    ///
    /// # Errors
    /// If the set has none of all these videos.
    pub(crate) fn select(&self, videos: &[String]) -> Result<Selected> {
        let (mut samples, mut missing) = (Vec::new(), Vec::new());
        for (place, video) in videos.iter().enumerate() {
            match self.of.get(video) {
                Some(found) => samples.extend(found.iter().map(|&sample| (sample, place))),
                None => missing.push(video.clone()),
            }
        }
        if samples.is_empty() {
            let problem = format!(
                "has nothing of the {} listed, such as {}",
                videos.len(),
                videos.first().map_or("", |v| v)
            );
            return Err(wrong(&self.path, None, problem));
        }
        // In the order of the shards, so that reading all of them walks through the files.
        samples.sort_unstable();
        Ok((samples, missing))
    }

    /// A frame as it is stored.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub(crate) fn picture(&self, sample: usize, frame: usize) -> Result<RgbImage> {
        jpeg::picture(self.reader.frame(sample, frame)?)
            .map_err(|problem| self.reader.bad_frame(sample, frame, &problem))
    }

    /// # Errors
    /// If the sample was prepared with another class than the lists have.
    pub(crate) fn check_label(&self, sample: usize, class: u32) -> Result<()> {
        match self.labels[sample] {
            Some(label) if label != u64::from(class) => Err(DataError::Invalid(format!(
                "{}: {} was prepared as class {label}, but the lists say {class}; prepare the data anew",
                self.path.display(),
                self.reader.key(sample)
            ))),
            _ => Ok(()),
        }
    }
}

const SHARDS: &str = "shards";
