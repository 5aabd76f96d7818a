//! From a video to its clips: which frames, how large, as which bytes.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::video::{Ffmpeg, Select, Unreadable};

/// How clips are cut from a video.
///
/// A clip starts at every `interval`-th frame and has `frames` frames, `stride` apart; it is kept if all of them exist. A
/// video that is too short for one gives one clip nevertheless, for which it is played again and again: of a video with n
/// frames, frame j of the clip is frame `(stride · j) mod n`.
///
/// Frames are resized to `width` × `height` whatever their aspect, bilinearly between the nearest pixels, as C3D's pipeline
/// does (OpenCV's default), and stored as JPEG.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Sampling {
    /// Frames in a clip.
    pub frames: u32,
    /// Frames of the video from one of the clip to the next.
    pub stride: u32,
    /// Frames of the video from the start of one clip to that of the next; clips overlap where it is shorter than one.
    pub interval: u32,
    /// Width of a stored frame.
    pub width: u32,
    /// Height of a stored frame.
    pub height: u32,
    /// Quality of JPEG, 1..=100.
    pub quality: u8,
}

impl Sampling {
    /// As C3D's users and the paper have it: 16 frames, 3 apart, of 171 × 128; quality 95.
    pub fn every(interval: u32) -> Self {
        Self { frames: 16, stride: 3, interval, width: 171, height: 128, quality: 95 }
    }

    /// Checks the numbers against each other; the error says what is wrong.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let Self { frames, stride, interval, width, height, quality } = *self;
        if !(1..=1000).contains(&frames) || !(1..=1000).contains(&stride) || interval == 0 {
            return Err(format!(
                "{frames} frames, {stride} apart, every {interval}; frames and stride are 1 to 1000, the interval at least 1"
            ));
        }
        if width == 0 || height == 0 || !(1..=100).contains(&quality) {
            return Err(format!("{width}x{height} at quality {quality}; the quality is 1 to 100"));
        }
        Ok(())
    }
}

/// A clip that is ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// The numbers of its frames in the video, from 0.
    pub numbers: Vec<u32>,
    /// Its frames as JPEG files.
    pub frames: Vec<Vec<u8>>,
}

/// Decodes a video into its clips.
///
/// # Errors
/// [`Unreadable`], also for a video of a single frame: nothing moves in it.
pub fn clips(
    ffmpeg: &Ffmpeg,
    video: &Path,
    sampling: &Sampling,
    stop: &AtomicBool,
) -> std::result::Result<Vec<Clip>, Unreadable> {
    let Sampling { frames, stride, interval, .. } = *sampling;
    let mut resizer = Resizer::new();
    let mut stored = Vec::new();
    let select = Select::Clips { interval, count: frames, stride };
    ffmpeg.frames(video, select, stop, |frame| {
        stored.push(store(&mut resizer, &frame, sampling)?);
        Ok(())
    })?;
    let numbers: Vec<u32> = (0..).filter(|&number| select.takes(number)).take(stored.len()).collect();
    let mut clips = Vec::new();
    for start in (0..).step_by(interval as usize) {
        let wanted: Vec<u32> = (0..frames).map(|j| start + j * stride).collect();
        let places: std::result::Result<Vec<usize>, usize> =
            wanted.iter().map(|n| numbers.binary_search(n)).collect();
        let Ok(places) = places else { break };
        clips.push(Clip {
            numbers: wanted,
            frames: places.into_iter().map(|at| stored[at].clone()).collect(),
        });
    }
    if clips.is_empty() { looped(ffmpeg, video, sampling, stop) } else { Ok(clips) }
}

/// The one clip of a video that is too short for one.
fn looped(
    ffmpeg: &Ffmpeg,
    video: &Path,
    sampling: &Sampling,
    stop: &AtomicBool,
) -> std::result::Result<Vec<Clip>, Unreadable> {
    let mut resizer = Resizer::new();
    let mut stored = Vec::new();
    let count = ffmpeg.frames(video, Select::All, stop, |frame| {
        stored.push(store(&mut resizer, &frame, sampling)?);
        Ok(())
    })?;
    if count < 2 {
        return Err(Unreadable::Video("it has one frame only; a clip needs at least two".into()));
    }
    let numbers: Vec<usize> = (0..sampling.frames).map(|j| (j * sampling.stride) as usize % count).collect();
    let frames = numbers.iter().map(|&number| stored[number].clone()).collect();
    Ok(vec![Clip { numbers: numbers.into_iter().map(|number| number as u32).collect(), frames }])
}

fn store(resizer: &mut Resizer, frame: &RgbImage, sampling: &Sampling) -> Result<Vec<u8>> {
    jpeg(&resize(resizer, frame, sampling.width, sampling.height)?, sampling.quality)
}

/// Bilinear between the nearest pixels, without smoothing first, whatever the aspect.
fn resize(resizer: &mut Resizer, frame: &RgbImage, width: u32, height: u32) -> Result<RgbImage> {
    let failed = |e: &dyn std::fmt::Display| {
        let (from, to) = (frame.width(), frame.height());
        dml_data::DataError::Invalid(format!("a frame of {from}x{to} cannot be resized: {e}"))
    };
    let from = ImageRef::new(frame.width(), frame.height(), frame.as_raw(), PixelType::U8x3);
    let from = from.map_err(|e| failed(&e))?;
    let mut to = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear));
    resizer.resize(&from, &mut to, &options).map_err(|e| failed(&e))?;
    Ok(RgbImage::from_raw(width, height, to.into_vec()).ok_or_else(|| failed(&"wrong size"))?)
}

/// A JPEG file of an image, with half the chroma resolution each way, as is usual.
pub(crate) fn jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| {
        let (width, height) = image.dimensions();
        dml_data::DataError::Invalid(format!("an image of {width}x{height} cannot be stored as JPEG: {e}"))
    };
    let side = |length: u32| u16::try_from(length).map_err(|e| failed(&e));
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut bytes = Vec::with_capacity(1 << 14);
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(image.as_raw(), width, height, ColorType::Rgb).map_err(|e| failed(&e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bilinear between the four nearest pixels, whose centres are at halves: `cv::resize` with `INTER_LINEAR`.
    fn reference(frame: &RgbImage, x: f64, y: f64, channel: usize) -> f64 {
        let axis = |place: f64, length: u32| {
            let place = place.clamp(0.0, f64::from(length - 1));
            let low = (place as u32).min(length - 1);
            (low, (low + 1).min(length - 1), place - f64::from(low))
        };
        let ((left, right, u), (top, bottom, v)) = (axis(x, frame.width()), axis(y, frame.height()));
        let value = |x, y| f64::from(frame.get_pixel(x, y)[channel]);
        let above = value(left, top) * (1.0 - u) + value(right, top) * u;
        let below = value(left, bottom) * (1.0 - u) + value(right, bottom) * u;
        above * (1.0 - v) + below * v
    }

    #[test]
    fn frames_are_resized_as_opencv_does() {
        for (from, to) in [((320, 240), (171, 128)), ((176, 132), (171, 128)), ((100, 60), (171, 128))] {
            let noise = |x: u32, y: u32, c: u32| (x * x * 7 + y * y * 13 + x * y * 3 + c * 91) as u8;
            let frame =
                RgbImage::from_fn(from.0, from.1, |x, y| image::Rgb([0, 1, 2].map(|c| noise(x, y, c))));
            let made = resize(&mut Resizer::new(), &frame, to.0, to.1).unwrap();
            for (x, y, pixel) in made.enumerate_pixels() {
                let place = |at: u32, from: u32, to: u32| {
                    (f64::from(at) + 0.5) * f64::from(from) / f64::from(to) - 0.5
                };
                let (u, v) = (place(x, from.0, to.0), place(y, from.1, to.1));
                for channel in 0..3 {
                    let expected = reference(&frame, u, v, channel);
                    // Two roundings to 8 bits, one an axis.
                    let off = (f64::from(pixel[channel]) - expected).abs();
                    assert!(
                        off <= 1.01,
                        "{from:?} at ({x}, {y}): {} where {expected:.2} is right",
                        pixel[channel]
                    );
                }
            }
        }
    }

    #[test]
    fn stored_images_look_alike() {
        let frame =
            RgbImage::from_fn(171, 128, |x, y| image::Rgb([x as u8, (y * 2) as u8, (x / 2 + y) as u8]));
        let stored = image::load_from_memory(&jpeg(&frame, 95).unwrap()).unwrap().into_rgb8();
        assert_eq!(stored.dimensions(), (171, 128));
        let off: u32 =
            frame.as_raw().iter().zip(stored.as_raw()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        assert!(f64::from(off) / f64::from(171 * 128 * 3) < 1.0, "{off}");
    }
}
