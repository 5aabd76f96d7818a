use std::path::Path;

use dml_rand::{Purpose, Stream};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageError, RgbImage};
use serde::{Deserialize, Serialize};

use crate::text::wrong;
use crate::{DataError, Result, View};

/// How a photograph becomes a network's input: decode, resize the short side, crop, normalise.
///
/// The evaluation view takes the centre crop. The view of an epoch takes a crop at a random place and mirrors it with
/// probability one half, drawn from `Stream::new(seed, Purpose::Augment, epoch, sample)`.
///
/// Resizing is bicubic with a = −0.5 (Catmull–Rom), with a support that grows with the reduction, in 8 bits, and the
/// long side is rounded down: as PIL's `BICUBIC` under torchvision's `Resize` and `CenterCrop`. From the same pixels it
/// differs from them in fewer than one value in a hundred, by one level of 256 (PIL 13 takes photographs more than twice
/// as tall as wide in another order of passes, and there differs more). JPEG decoders differ too: from the file, views
/// differ from PIL's by 0.2 levels on average. The orientation tag of EXIF is not applied, as there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagePipeline {
    /// Length of the short side after resizing, in pixels.
    pub short_side: u32,
    /// Height and width of the crop, in pixels; at most the short side.
    pub crop: u32,
    /// Subtracted from each value of 0..=255.
    pub mean: f32,
    /// What the difference is divided by.
    pub scale: f32,
}

impl Default for ImagePipeline {
    /// The input of EfficientNet-Lite: short side 256, crop 224, (x − 127) / 128.
    fn default() -> Self {
        Self { short_side: 256, crop: 224, mean: 127.0, scale: 128.0 }
    }
}

impl ImagePipeline {
    /// Shape of one input: (3, crop, crop), red first.
    pub fn shape(&self) -> [usize; 3] {
        [3, self.crop as usize, self.crop as usize]
    }

    /// A text that names every parameter, for fingerprints.
    pub fn fingerprint(&self) -> String {
        let Self { short_side, crop, mean, scale } = self;
        format!("rgb catmull-rom {short_side} crop {crop} ({mean}, {scale})")
    }

    /// Checks the parameters against each other.
    ///
    /// # Errors
    /// If the crop is empty or larger than the short side, or if the scale is not a positive number.
    pub fn check(&self) -> Result<()> {
        let Self { short_side, crop, mean, scale } = *self;
        if crop == 0 || crop > short_side {
            return Err(DataError::Invalid(format!(
                "crop {crop} is not in 1..={short_side}, the short side"
            )));
        }
        if !(mean.is_finite() && scale.is_finite() && scale > 0.0) {
            return Err(DataError::Invalid(format!("mean {mean} and scale {scale}: scale must be positive")));
        }
        Ok(())
    }

    /// Reads a JPEG or PNG file as `sample` is seen in this view.
    ///
    /// # Shapes
    /// `out`: (3, crop, crop), row-major.
    ///
    /// # Errors
    /// If the parameters are wrong ([`Self::check`]), if `out` has another length, or if the file cannot be read or
    /// decoded; the error names the file.
    pub fn read(&self, path: &Path, view: View, sample: u64, out: &mut [f32]) -> Result<()> {
        self.check()?;
        let crop = self.crop as usize;
        if out.len() != 3 * crop * crop {
            let given = out.len();
            return Err(DataError::Invalid(format!(
                "an image of (3, {crop}, {crop}) does not fit {given} values"
            )));
        }
        let photo = self.resize(path, decode(path)?)?;
        let (rows, columns) = (photo.height() as usize - crop, photo.width() as usize - crop);
        let (top, left, mirror) = match view.epoch {
            None => (half(rows), half(columns), false),
            Some(epoch) => {
                let mut stream = Stream::new(view.seed, Purpose::Augment, epoch, sample);
                (stream.below(rows + 1), stream.below(columns + 1), stream.chance(0.5))
            }
        };
        let (pixels, stride) = (photo.as_raw(), photo.width() as usize);
        for (i, value) in out.iter_mut().enumerate() {
            let (channel, y, x) = (i / (crop * crop), i / crop % crop, i % crop);
            let x = if mirror { crop - 1 - x } else { x };
            let pixel = pixels[((top + y) * stride + left + x) * 3 + channel];
            *value = (f32::from(pixel) - self.mean) / self.scale;
        }
        Ok(())
    }

    fn resize(&self, path: &Path, photo: RgbImage) -> Result<RgbImage> {
        let (width, height) = photo.dimensions();
        let (short, long) = (width.min(height), width.max(height));
        if short == self.short_side {
            return Ok(photo);
        }
        let failed = |e: &dyn std::fmt::Display| wrong(path, None, format!("cannot be resized: {e}"));
        let scaled = u64::from(self.short_side) * u64::from(long) / u64::from(short.max(1));
        let long = u32::try_from(scaled).map_err(|e| failed(&e))?;
        let size = if width <= height { (self.short_side, long) } else { (long, self.short_side) };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        let mut resizer = Resizer::new();
        let mut pass = |photo: RgbImage, (to_width, to_height)| {
            let (width, height) = photo.dimensions();
            let from =
                ImageRef::new(width, height, photo.as_raw(), PixelType::U8x3).map_err(|e| failed(&e))?;
            let mut to = Image::new(to_width, to_height, PixelType::U8x3);
            resizer.resize(&from, &mut to, &options).map_err(|e| failed(&e))?;
            RgbImage::from_raw(to_width, to_height, to.into_vec()).ok_or_else(|| failed(&"wrong size"))
        };
        // Rows before columns, as PIL: each pass rounds and clips to 8 bits, so the order shows. The resizer alone
        // would begin with the columns.
        let narrow = pass(photo, (size.0, height))?;
        pass(narrow, size)
    }
}

/// Where a centre crop begins when this many pixels are left over: half of them, ties to even as in torchvision.
fn half(spare: usize) -> usize {
    (spare as f64 / 2.0).round_ties_even() as usize
}

fn decode(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let failed = |e: ImageError| wrong(path, None, format!("cannot be decoded as an image: {e}"));
    let format = image::guess_format(&bytes).map_err(failed)?;
    let photo = image::load_from_memory_with_format(&bytes, format).map_err(failed)?;
    // The JPEG decoder fills what is missing with grey and says nothing.
    if format == image::ImageFormat::Jpeg && truncated(&bytes) {
        return Err(wrong(path, None, "the JPEG file is cut short: it has no end-of-image marker"));
    }
    Ok(photo.into_rgb8())
}

/// Whether no end-of-image marker follows the last scan. Neither marker can occur inside a scan's data.
fn truncated(jpeg: &[u8]) -> bool {
    let last = |marker| jpeg.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xd9) < last(0xda)
}
