use std::cell::RefCell;
use std::path::PathBuf;

use dml_rand::{Purpose, Stream};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crop::{Crop, Mean, check_length};
use crate::photographs::hex;
use crate::shards::Reader;
use crate::{DataError, Result, View, jpeg};

/// How a clip becomes C3D's input: blue, green and red in 0..=255 minus a mean, a crop that is the same for all frames.
///
/// The evaluation view takes the centre crop (rows 8 to 119 and columns 29 to 140 of 128×171). The view of an epoch takes
/// a crop at a random place and mirrors it with probability one half, drawn from
/// `Stream::new(seed, Purpose::Augment, epoch, sample)`. As in the original, the last possible place is never drawn, and
/// the mean cube belongs to places of the whole frame. A network smaller than C3D takes the crop shrunk and scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipPipeline {
    /// Height and width of the crop, in pixels.
    pub crop: u32,
    /// Mean of blue, green and red, where no file is given.
    pub mean: [f32; 3],
    /// A file with the mean cube (3, frames, height, width) of whole frames, blue first: `.npy`, `.binaryproto`, or the
    /// `.safetensors` that `dml import mean` writes.
    pub mean_file: Option<PathBuf>,
    /// Squares of this many pixels on a side become one, their mean; it divides the crop.
    pub shrink: u32,
    /// What the difference to the mean is divided by.
    pub scale: f32,
}

impl Default for ClipPipeline {
    /// Crop 112 and the channel means of Sports-1M's mean cube.
    fn default() -> Self {
        Self { crop: 112, mean: [90.25, 97.66, 101.41], mean_file: None, shrink: 1, scale: 1.0 }
    }
}

/// A pipeline that was checked against the clips that it is for.
#[derive(Debug)]
pub(crate) struct ClipInput {
    /// (3, frames, crop / shrink, crop / shrink)
    pub(crate) shape: [usize; 4],
    picture: (usize, usize),
    crop: usize,
    shrink: usize,
    mean: Mean,
    scale: f32,
    /// Names every parameter.
    pub(crate) fingerprint: String,
}

impl ClipInput {
    /// For a set whose clips are all like this one.
    ///
    /// # Errors
    /// If the crop is empty or larger than the frames, if a mean is no number, or if the mean's file is wrong.
    pub(crate) fn new(pipeline: &ClipPipeline, reader: &Reader, sample: usize) -> Result<Self> {
        let mut pixels = Vec::new();
        let picture = jpeg::decode(reader.frame(sample, 0)?, &mut pixels)
            .map_err(|problem| reader.bad_frame(sample, 0, &problem))?;
        let (crop, frames, (width, height)) = (pipeline.crop as usize, reader.frames(sample), picture);
        if crop == 0 || crop > width.min(height) {
            let problem =
                format!("crop {crop} is not in 1..={}, as frames are {width}x{height}", width.min(height));
            return Err(DataError::Invalid(problem));
        }
        if !pipeline.mean.iter().all(|value| value.is_finite()) {
            return Err(DataError::Invalid(format!("the mean {:?} has no number", pipeline.mean)));
        }
        let (shrink, scale) = (pipeline.shrink as usize, pipeline.scale);
        if shrink == 0 || !crop.is_multiple_of(shrink) {
            return Err(DataError::Invalid(format!("shrink {shrink} does not divide the crop, {crop}")));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(DataError::Invalid(format!("scale {scale} is not a positive number")));
        }
        let mean = match &pipeline.mean_file {
            Some(path) => Mean::read(path, [frames, height, width], true)?,
            None => Mean::colour(pipeline.mean, crop),
        };
        let digest = hex(&Sha256::digest(mean.bytes()));
        let fingerprint = format!(
            "bgr {frames} frames {width}x{height} crop {crop} / {shrink} mean {digest} scale {scale}"
        );
        let side = crop / shrink;
        Ok(Self { shape: [3, frames, side, side], picture, crop, shrink, mean, scale, fingerprint })
    }

    /// Reads the clip `sample` of the shards as the dataset's sample `index` is seen in this view.
    pub(crate) fn read(
        &self,
        reader: &Reader,
        sample: usize,
        view: View,
        index: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let [_, frames, _, _] = self.shape;
        if reader.frames(sample) != frames {
            let problem = format!("{} frames where others have {frames}", reader.frames(sample));
            return Err(reader.bad_frame(sample, 0, &problem));
        }
        self.fill(view, index, out, |frame, pixels| {
            let fail = |problem: &str| Err(reader.bad_frame(sample, frame, problem));
            match jpeg::decode(reader.frame(sample, frame)?, pixels) {
                Ok(picture) if picture == self.picture => Ok(()),
                Ok((width, height)) => fail(&format!("{width}x{height} where others differ")),
                Err(problem) => fail(&problem),
            }
        })
    }

    /// The evaluation view of frames from outside.
    ///
    /// # Errors
    /// If there are not as many as a clip has.
    pub(crate) fn of_frames(&self, frames: &[RgbImage]) -> Result<Vec<f32>> {
        let [_, wanted, _, _] = self.shape;
        check_frames(frames, wanted)?;
        let mut out = vec![0.0; self.shape.iter().product()];
        self.fill(View::evaluation(), 0, &mut out, |frame, pixels| {
            *pixels = resized(&frames[frame], self.picture).into_raw();
            Ok(())
        })?;
        Ok(out)
    }

    /// Writes a clip, whose frames `load` puts into the buffer that it is given: (height, width, 3), red first.
    fn fill(
        &self,
        view: View,
        index: usize,
        out: &mut [f32],
        mut load: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        check_length(&self.shape, out)?;
        let ([_, frames, side, _], size) = (self.shape, self.crop);
        let (rows, columns) = (self.picture.1 - size, self.picture.0 - size);
        let (top, left, mirror) = match view.epoch {
            None => (rows / 2, columns / 2, false),
            Some(epoch) => {
                let mut stream = Stream::new(view.seed, Purpose::Augment, epoch, index as u64);
                (stream.below(rows.max(1)), stream.below(columns.max(1)), stream.chance(0.5))
            }
        };
        let (blue, rest) = out.split_at_mut(frames * side * side);
        let (green, red) = rest.split_at_mut(frames * side * side);
        let planes = [blue, green, red].map(|channel| channel.chunks_exact_mut(side * side));
        let [blue, green, red] = planes;
        let mut whole = if self.shrink == 1 { Vec::new() } else { vec![0.0; 3 * size * size] };
        with_scratch(|pixels| {
            for (frame, ((blue, green), red)) in blue.zip(green).zip(red).enumerate() {
                load(frame, pixels)?;
                let crop = Crop { pixels, width: self.picture.0, top, left, size, mirror };
                let write = |planes| crop.write(&self.mean, frame, self.scale, true, planes);
                if self.shrink == 1 {
                    write([blue, green, red]);
                    continue;
                }
                let (first, rest) = whole.split_at_mut(size * size);
                let (second, third) = rest.split_at_mut(size * size);
                write([&mut *first, &mut *second, &mut *third]);
                for (from, to) in [(first, blue), (second, green), (third, red)] {
                    shrink(from, size, self.shrink, to);
                }
            }
            Ok(())
        })
    }
}

/// # Errors
/// If there are not as many frames as wanted.
pub(crate) fn check_frames(frames: &[RgbImage], wanted: usize) -> Result<()> {
    if frames.len() == wanted {
        return Ok(());
    }
    Err(DataError::Invalid(format!("a clip has {wanted} frames, not {}", frames.len())))
}

/// The frame at this width and height, whatever its aspect.
pub(crate) fn resized(frame: &RgbImage, (width, height): (usize, usize)) -> RgbImage {
    let (width, height) = (width as u32, height as u32);
    if frame.dimensions() == (width, height) {
        return frame.clone();
    }
    imageops::resize(frame, width, height, imageops::FilterType::Triangle)
}

/// The means of squares of `by` pixels: (size, size) to (size / by, size / by).
fn shrink(from: &[f32], size: usize, by: usize, to: &mut [f32]) {
    for (rows, to) in from.chunks_exact(by * size).zip(to.chunks_exact_mut(size / by)) {
        to.fill(0.0);
        for row in rows.chunks_exact(size) {
            for (sum, values) in to.iter_mut().zip(row.chunks_exact(by)) {
                *sum += values.iter().sum::<f32>();
            }
        }
        to.iter_mut().for_each(|sum| *sum /= (by * by) as f32);
    }
}

/// Lends this thread's buffer for decoded pixels.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static PIXELS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    PIXELS.with_borrow_mut(work)
}
