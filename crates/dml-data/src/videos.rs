use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::clip::ClipInput;
use crate::photographs::hex;
use crate::prepared::Prepared;
use crate::splits::{self, ClassLists};
use crate::text::wrong;
use crate::{ClipPipeline, DataError, Dataset, Labels, Result, View};

/// Clips of UCF101: one of 101 actions each.
///
/// Layout: the lists of [`splits::ucf101`] in `ucfTrainTestlist`, and a finished set of shards in `shards`, whose samples
/// name their video as `video`. The group of a clip is its video.
#[derive(Debug)]
pub struct Ucf101(Clips);

/// Clips of HMDB51: one of 51 actions each.
///
/// Layout: the lists of [`splits::hmdb51`] in `testTrainMulti_7030_splits`, and shards as for [`Ucf101`].
#[derive(Debug)]
pub struct Hmdb51(Clips);

/// Clips of YouTube2Text (MSVD): some forty sentences a video, which each of its clips has.
///
/// Layout: the lists of [`splits::msvd`], and shards as for [`Ucf101`].
#[derive(Debug)]
pub struct YouTube2Text(Clips);

/// Opens a part of UCF101 or HMDB51, whichever's lists the folder has.
///
/// # Errors
/// Those of [`Ucf101::open`], and if the folder has the lists of neither.
pub fn open_actions(
    dir: &Path,
    split: usize,
    part: &str,
    pipeline: &ClipPipeline,
) -> Result<Arc<dyn Dataset>> {
    Ok(match actions_in(dir)? {
        Actions::Ucf101 => Arc::new(Ucf101::open(dir, split, part, pipeline)?),
        Actions::Hmdb51 => Arc::new(Hmdb51::open(dir, split, part, pipeline)?),
    })
}

/// The datasets of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actions {
    /// UCF101.
    Ucf101,
    /// HMDB51.
    Hmdb51,
}

/// Which of them a prepared folder holds, as its lists tell.
///
/// # Errors
/// If it holds neither.
pub fn actions_in(dir: &Path) -> Result<Actions> {
    let (ucf101, hmdb51) = (splits::UCF101_LISTS, splits::HMDB51_LISTS);
    match (dir.join(ucf101).is_dir(), dir.join(hmdb51).is_dir()) {
        (true, _) => Ok(Actions::Ucf101),
        (_, true) => Ok(Actions::Hmdb51),
        _ => {
            let problem = format!(
                "has neither {ucf101} (UCF101) nor {hmdb51} (HMDB51); name the folder that prepare-data made of one of them"
            );
            Err(wrong(dir, None, problem))
        }
    }
}

impl Ucf101 {
    /// Opens the part `train` or `test` of split 1, 2 or 3.
    ///
    /// # Errors
    /// If there is no such split, if a list or a shard is damaged, if a clip was prepared with another class than the
    /// lists have, or if no clip of the part is there.
    pub fn open(dir: &Path, split: usize, part: &str, pipeline: &ClipPipeline) -> Result<Self> {
        Clips::of_classes("UCF101", dir, splits::ucf101(dir)?, split, part, pipeline).map(Self)
    }
}

impl Hmdb51 {
    /// Opens the part `train` or `test` of split 1, 2 or 3.
    ///
    /// # Errors
    /// Those of [`Ucf101::open`].
    pub fn open(dir: &Path, split: usize, part: &str, pipeline: &ClipPipeline) -> Result<Self> {
        Clips::of_classes("HMDB51", dir, splits::hmdb51(dir)?, split, part, pipeline).map(Self)
    }
}

impl YouTube2Text {
    /// Opens the part `train` (1200 videos), `val` (100), `test` (670) or `train+val`, as the paper has it.
    ///
    /// # Errors
    /// If there is no such part, if a list or a shard is damaged, or if no clip of the part is there.
    pub fn open(dir: &Path, part: &str, pipeline: &ClipPipeline) -> Result<Self> {
        let lists = splits::msvd(dir)?;
        let videos = match part {
            "train" => lists.train,
            "val" => lists.val,
            "test" => lists.test,
            "train+val" => [lists.train, lists.val].concat(),
            _ => {
                let problem =
                    format!("YouTube2Text has the parts train, val, test and train+val, not {part}");
                return Err(DataError::Invalid(problem));
            }
        };
        let (videos, sentences): (Vec<String>, Vec<Vec<String>>) = videos.into_iter().unzip();
        let labels = |places: &[(usize, usize)]| Labels::Captions {
            of: places.iter().map(|&(_, place)| sentences[place].clone()).collect(),
        };
        let prepared = Prepared::open(dir)?;
        Clips::new(format!("YouTube2Text {part}"), prepared, &videos, labels, pipeline).map(Self)
    }
}

/// What the three have in common.
#[derive(Debug)]
struct Clips {
    name: String,
    prepared: Prepared,
    /// For each clip its sample in the shards and its video's number.
    clips: Vec<(usize, usize)>,
    missing: Vec<String>,
    input: ClipInput,
    labels: Labels,
    fingerprint: String,
}

impl Clips {
    fn of_classes(
        name: &str,
        dir: &Path,
        lists: ClassLists,
        split: usize,
        part: &str,
        pipeline: &ClipPipeline,
    ) -> Result<Self> {
        let ClassLists { names, splits: [first, second, third] } = lists;
        let videos = match (split, part) {
            (1, "train") => first.train,
            (1, "test") => first.test,
            (2, "train") => second.train,
            (2, "test") => second.test,
            (3, "train") => third.train,
            (3, "test") => third.test,
            _ => {
                let problem = format!(
                    "{name} has the parts train and test of splits 1, 2 and 3, not {part} of {split}"
                );
                return Err(DataError::Invalid(problem));
            }
        };
        let (videos, classes): (Vec<String>, Vec<u32>) = videos.into_iter().unzip();
        let labels = |places: &[(usize, usize)]| Labels::Classes {
            names,
            of: places.iter().map(|&(_, place)| classes[place]).collect(),
        };
        let prepared = Prepared::open(dir)?;
        let set = Self::new(format!("{name} split {split} {part}"), prepared, &videos, labels, pipeline)?;
        if let Labels::Classes { of, .. } = &set.labels {
            for (&(sample, _), &class) in set.clips.iter().zip(of) {
                set.prepared.check_label(sample, class)?;
            }
        }
        Ok(set)
    }

    fn new(
        name: String,
        prepared: Prepared,
        videos: &[String],
        labels: impl FnOnce(&[(usize, usize)]) -> Labels,
        pipeline: &ClipPipeline,
    ) -> Result<Self> {
        let (clips, missing) = prepared.select(videos)?;
        let labels = labels(&clips);
        let input = ClipInput::new(pipeline, &prepared.reader, clips[0].0)?;
        let mut all = Sha256::new();
        all.update(prepared.reader.sha256());
        all.update(format!("{clips:?}\n{}\n{labels:?}", input.fingerprint));
        let fingerprint = format!("{name}, {} clips, sha256 {}", clips.len(), hex(&all.finalize()));
        Ok(Self { name, prepared, clips, missing, input, labels, fingerprint })
    }
}

macro_rules! clips {
    ($($set:ident),*) => {$(
        impl Dataset for $set {
            fn name(&self) -> &str {
                &self.0.name
            }

            fn len(&self) -> usize {
                self.0.clips.len()
            }

            fn input_shape(&self) -> &[usize] {
                &self.0.input.shape
            }

            fn id(&self, index: usize) -> String {
                self.0.prepared.reader.key(self.0.clips[index].0).into()
            }

            fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
                let Clips { input, prepared, clips, .. } = &self.0;
                input.read(&prepared.reader, clips[index].0, view, index, out)
            }

            fn pictures(&self, index: usize) -> Result<Vec<RgbImage>> {
                let Clips { prepared, clips, .. } = &self.0;
                let sample = clips[index].0;
                (0..prepared.reader.frames(sample)).map(|frame| prepared.picture(sample, frame)).collect()
            }

            fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
                self.0.input.of_frames(pictures)
            }

            fn labels(&self) -> &Labels {
                &self.0.labels
            }

            fn group(&self, index: usize) -> usize {
                self.0.clips[index].1
            }

            fn missing(&self) -> &[String] {
                &self.0.missing
            }

            fn fingerprint(&self) -> String {
                self.0.fingerprint.clone()
            }
        }
    )*};
}

clips!(Ucf101, Hmdb51, YouTube2Text);
