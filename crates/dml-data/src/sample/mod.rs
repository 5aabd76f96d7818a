//! A small made-up data set with the structure of the real problem: clips labelled with actions, other clips described
//! by sentences, and the labels that training never sees, to judge both tasks on both sets.
//!
//! The clips show an articulated figure, tall or short and in one of six colours, that does one of ten things with or
//! beside one of six objects, before a cluttered background. Everything follows from [`SampleConfig`].

mod figure;
mod grammar;
mod motion;
mod raster;
mod scene;

use std::sync::Arc;

use dml_rand::{Purpose, Stream};
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clip::{check_frames, resized};
use crate::photographs::hex;
use crate::{DataError, Dataset, Labels, Result, View};
use motion::{Action, Motion, Swing};
use scene::Content;

/// What the sample is made from. The sets' sizes are numbers of clips; each set is drawn by itself, so that enlarging
/// one leaves the others' clips as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// Frames of a clip, at least 2.
    pub frames: usize,
    /// Width and height of a frame in pixels, at least 12.
    pub size: usize,
    /// Clips labelled with actions, for training.
    pub train: usize,
    /// Clips with sentences, for training.
    pub caption_train: usize,
    /// Clips labelled with the limb that moves and its speed, for pretraining a root.
    pub pretrain: usize,
    /// Clips of each of the two test sets.
    pub test: usize,
    /// Standard deviation of the pixels' noise, in grey levels of 256.
    pub noise: f32,
    /// Most shapes in the background; the fewest are half of them.
    pub clutter: usize,
    /// Farthest movement of the camera from one frame to the next, in 1/32 of a frame's width, along each axis.
    pub shake: f32,
    /// How much performances of one action differ in extent and speed, and how much limbs that do not act stir; 0 to 2.
    pub jitter: f32,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            frames: 8,
            size: 32,
            train: 600,
            caption_train: 600,
            pretrain: 1000,
            test: 400,
            noise: 8.0,
            clutter: 4,
            shake: 0.5,
            jitter: 1.5,
        }
    }
}

impl SampleConfig {
    fn check(&self) -> Result<()> {
        let sets = [
            ("train", self.train),
            ("caption_train", self.caption_train),
            ("pretrain", self.pretrain),
            ("test", self.test),
        ];
        let least = [("frames", self.frames, 2), ("size", self.size, 12)];
        for (field, value, least) in least.into_iter().chain(sets.map(|(field, value)| (field, value, 1))) {
            if value < least {
                let problem = format!("sample: {field} is {value}; it must be at least {least}");
                return Err(DataError::Invalid(problem));
            }
        }
        for (field, value, most) in
            [("noise", self.noise, 128.0), ("shake", self.shake, 32.0), ("jitter", self.jitter, 2.0)]
        {
            if !(0.0..=most).contains(&value) {
                let problem = format!("sample: {field} is {value}; it must be between 0 and {most}");
                return Err(DataError::Invalid(problem));
            }
        }
        Ok(())
    }
}

/// One set of the sample.
///
/// # Shapes
/// An input is (3, frames, size, size): red, green and blue as (value − 66) / 20.
pub struct SampleSet {
    name: &'static str,
    clips: Clips,
    shape: [usize; 4],
    labels: Labels,
    fingerprint: String,
}

impl Dataset for SampleSet {
    fn name(&self) -> &str {
        self.name
    }

    fn len(&self) -> usize {
        self.clips.pixels.len() / self.shape.iter().product::<usize>()
    }

    fn input_shape(&self) -> &[usize] {
        &self.shape
    }

    /// The clip's id. Sets that share clips share their ids.
    fn id(&self, index: usize) -> String {
        format!("{}/{index}", self.clips.slug)
    }

    /// With an epoch in the view, the clip is shifted by up to 2 pixels along each axis (its edge is repeated) and
    /// brightened or darkened by up to 10 %.
    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        let [_, _, _, size] = self.shape;
        let length = self.shape.iter().product::<usize>();
        if index >= self.len() || out.len() != length {
            let problem =
                format!("{}: clip {index} of {} does not fit {} values", self.name, self.len(), out.len());
            return Err(DataError::Invalid(problem));
        }
        let clip = &self.clips.pixels[index * length..(index + 1) * length];
        let (mut rows, mut columns, mut gain) = (0, 0, 1.0);
        if let Some(epoch) = view.epoch {
            let mut stream = Stream::new(view.seed, Purpose::Augment, epoch, index as u64);
            rows = stream.below(5) as isize - 2;
            columns = stream.below(5) as isize - 2;
            gain = stream.range(0.9, 1.1) as f32;
        }
        let moved = |place: usize, by: isize| place.saturating_add_signed(by).min(size - 1);
        for (to, from) in out.chunks_exact_mut(size * size).zip(clip.chunks_exact(size * size)) {
            for (row, to) in to.chunks_exact_mut(size).enumerate() {
                let from = &from[moved(row, rows) * size..][..size];
                for (column, to) in to.iter_mut().enumerate() {
                    *to = normal(f32::from(from[moved(column, columns)]) * gain);
                }
            }
        }
        Ok(())
    }

    fn pictures(&self, index: usize) -> Result<Vec<RgbImage>> {
        let [_, frames, size, _] = self.shape;
        let plane = size * size;
        let clip = &self.clips.pixels[index * 3 * frames * plane..][..3 * frames * plane];
        let level =
            |channel: usize, frame: usize, place: usize| clip[(channel * frames + frame) * plane + place];
        let picture = |frame: usize| {
            RgbImage::from_fn(size as u32, size as u32, |x, y| {
                let place = y as usize * size + x as usize;
                Rgb([0, 1, 2].map(|channel| level(channel, frame, place)))
            })
        };
        Ok((0..frames).map(picture).collect())
    }

    fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
        let [_, frames, size, _] = self.shape;
        check_frames(pictures, frames)?;
        let frames: Vec<RgbImage> = pictures.iter().map(|picture| resized(picture, (size, size))).collect();
        let channel = |channel: usize| {
            let pixels = frames.iter().flat_map(|frame| frame.pixels());
            pixels.map(move |pixel| normal(f32::from(pixel[channel])))
        };
        Ok((0..3).flat_map(channel).collect())
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// The mean of the default clips' levels.
const MEAN: f32 = 66.0;
/// A little over half their standard deviation: from inputs of unit variance, small networks without normalisation
/// layers took several epochs longer to begin to learn.
const SCALE: f32 = 20.0;

fn normal(level: f32) -> f32 {
    (level - MEAN) / SCALE
}

/// All sets. No clip is in two of them, but for the pairs of test sets that show the same clips with other labels.
pub struct Sample {
    /// Motions of single limbs, for pretraining a root: the stand-in for a large labelled set.
    pub pretrain: Arc<SampleSet>,
    /// Clips labelled with actions.
    pub actions_train: Arc<SampleSet>,
    /// Other clips, with sentences.
    pub captions_train: Arc<SampleSet>,
    /// Test clips of the first kind, with actions.
    pub actions_test: Arc<SampleSet>,
    /// Test clips of the second kind, with sentences.
    pub captions_test: Arc<SampleSet>,
    /// The clips of `actions_test`, with the sentences that are hidden in training.
    pub actions_test_captions: Arc<SampleSet>,
    /// The clips of `captions_test`, with the actions that are hidden in training.
    pub captions_test_actions: Arc<SampleSet>,
}

impl Sample {
    /// Makes all clips; in parallel, with the same bytes for any number of threads.
    ///
    /// # Errors
    /// If a field of the configuration is out of its range; the error names it.
    pub fn generate(config: &SampleConfig) -> Result<Self> {
        config.check()?;
        let pretrain = motions(config);
        let drawn = |slug, number, count| actions(config, slug, number, count);
        let (train, train_actions, _) = drawn("actions-train", 1, config.train);
        let (caption_train, _, sentences) = drawn("captions-train", 2, config.caption_train);
        let (test, test_actions, test_hidden) = drawn("actions-test", 3, config.test);
        let (caption_test, caption_hidden, test_sentences) = drawn("captions-test", 4, config.test);
        let set = |name, clips: &Clips, labels| Arc::new(SampleSet::new(config, name, clips.clone(), labels));
        Ok(Self {
            pretrain: set("sample motions (pretrain)", &pretrain.0, pretrain.1),
            actions_train: set("sample actions (train)", &train, train_actions),
            captions_train: set("sample captions (train)", &caption_train, sentences),
            actions_test: set("sample actions (test)", &test, test_actions),
            captions_test: set("sample captions (test)", &caption_test, test_sentences),
            actions_test_captions: set("sample actions (test), hidden captions", &test, test_hidden),
            captions_test_actions: set(
                "sample captions (test), hidden actions",
                &caption_test,
                caption_hidden,
            ),
        })
    }
}

/// Clips one after the other.
#[derive(Clone)]
struct Clips {
    slug: &'static str,
    pixels: Arc<[u8]>,
}

impl SampleSet {
    fn new(config: &SampleConfig, name: &'static str, clips: Clips, labels: Labels) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{config:?}\n{name}\n{labels:?}\n"));
        hash.update(&clips.pixels);
        let fingerprint = hex(&hash.finalize());
        Self { name, clips, shape: [3, config.frames, config.size, config.size], labels, fingerprint }
    }
}

/// The key that a set's own draws have beside those of its clips (0).
const SENTENCES: u64 = 1;
const CLASSES: u64 = 2;

/// The class of each clip: as many of each as can be, in random order.
fn classes(config: &SampleConfig, set: u32, count: usize, classes: usize) -> Vec<usize> {
    let mut stream = Stream::new(config.seed, Purpose::Generate(set), CLASSES, 0);
    stream.permutation(count).into_iter().map(|place| place % classes).collect()
}

/// One clip for each class given.
fn clips(
    config: &SampleConfig,
    slug: &'static str,
    set: u32,
    classes: &[usize],
    motion: impl Fn(usize, &mut Stream) -> Motion + Sync,
) -> (Clips, Vec<Content>) {
    let made: Vec<(Vec<u8>, Content)> = classes
        .par_iter()
        .enumerate()
        .map(|(index, &class)| {
            let mut stream = Stream::new(config.seed, Purpose::Generate(set), 0, index as u64);
            let content = Content::random(&mut stream);
            let motion = motion(class, &mut stream);
            (scene::render(config, content, &motion, &mut stream), content)
        })
        .collect();
    let pixels = made.iter().flat_map(|(pixels, _)| pixels).copied().collect();
    (Clips { slug, pixels }, made.into_iter().map(|(_, content)| content).collect())
}

fn motions(config: &SampleConfig) -> (Clips, Labels) {
    let of = classes(config, 0, config.pretrain, Swing::COUNT);
    let motion = |class, stream: &mut Stream| Motion::of_swing(Swing::of_class(class), config.jitter, stream);
    let (clips, _) = clips(config, "pretrain", 0, &of, motion);
    (clips, class_labels((0..Swing::COUNT).map(Swing::name).collect(), &of))
}

/// Clips of actions with both kinds of labels: classes and sentences.
fn actions(config: &SampleConfig, slug: &'static str, set: u32, count: usize) -> (Clips, Labels, Labels) {
    let of = classes(config, set, count, Action::ALL.len());
    let motion =
        |class: usize, stream: &mut Stream| Motion::of_action(Action::ALL[class], config.jitter, stream);
    let (clips, contents) = clips(config, slug, set, &of, motion);
    let sentences = contents.into_iter().zip(&of).enumerate().map(|(index, (content, &class))| {
        let mut stream = Stream::new(config.seed, Purpose::Generate(set), SENTENCES, index as u64);
        grammar::sentences(content, Action::ALL[class], &mut stream)
    });
    let captions = Labels::Captions { of: sentences.collect() };
    (clips, class_labels(Action::ALL.map(|action| action.name().into()).to_vec(), &of), captions)
}

fn class_labels(names: Vec<String>, of: &[usize]) -> Labels {
    Labels::Classes { names, of: of.iter().map(|&class| class as u32).collect() }
}

#[cfg(test)]
mod tests;
