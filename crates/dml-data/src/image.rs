use std::path::{Path, PathBuf};

use dml_rand::{Purpose, Stream};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageError, RgbImage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crop::{Crop, Mean, check_length, spare};
use crate::jpeg::truncated;
use crate::photographs::hex;
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
        check_crop(crop, short_side)?;
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
        let input = ImageInput::new(&PhotoPipeline::Rgb(*self))?;
        check_length(&input.shape, out)?;
        input.read(decode_image(path)?, path, view, sample, out)
    }
}

/// The original input of VGG-S (Chatfield et al., BMVC 2014): short side 256, crop 224, blue, green and red in 0..=255 minus
/// the mean. Resizing, crops and mirroring are those of [`ImagePipeline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BgrPipeline {
    /// Length of the short side after resizing, in pixels.
    pub short_side: u32,
    /// Height and width of the crop, in pixels; at most the short side.
    pub crop: u32,
    /// Mean of blue, green and red, where no file is given.
    pub mean: [f32; 3],
    /// A file with the mean image (3, crop, crop), blue first, in a format of [`ClipPipeline`](crate::ClipPipeline)'s. It
    /// belongs to places of the crop.
    pub mean_file: Option<PathBuf>,
}

impl Default for BgrPipeline {
    /// Short side 256, crop 224 and the mean colour of ImageNet.
    fn default() -> Self {
        Self { short_side: 256, crop: 224, mean: [103.939, 116.779, 123.68], mean_file: None }
    }
}

/// The pipeline of a set of photographs.
#[derive(Clone, Debug, PartialEq)]
pub enum PhotoPipeline {
    /// Red first, one mean and scale.
    Rgb(ImagePipeline),
    /// Blue first, minus a mean colour or image.
    Bgr(BgrPipeline),
}

impl From<ImagePipeline> for PhotoPipeline {
    fn from(pipeline: ImagePipeline) -> Self {
        Self::Rgb(pipeline)
    }
}

impl From<BgrPipeline> for PhotoPipeline {
    fn from(pipeline: BgrPipeline) -> Self {
        Self::Bgr(pipeline)
    }
}

/// Decodes a JPEG or PNG file; grey and transparent ones become RGB.
///
/// # Errors
/// If the file cannot be read or decoded, or is cut short; the error names it.
pub fn decode_image(path: &Path) -> Result<RgbImage> {
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

/// Resizes a photograph so that its short side has this length, as [`ImagePipeline`] does. `path` is for messages.
///
/// # Errors
/// If the photograph is too long for its width.
pub fn shrink_image(path: &Path, photo: RgbImage, short_side: u32) -> Result<RgbImage> {
    let (width, height) = photo.dimensions();
    let (short, long) = (width.min(height), width.max(height));
    if short == short_side {
        return Ok(photo);
    }
    let failed = |e: &dyn std::fmt::Display| wrong(path, None, format!("cannot be resized: {e}"));
    let scaled = u64::from(short_side) * u64::from(long) / u64::from(short.max(1));
    let long = u32::try_from(scaled).map_err(|e| failed(&e))?;
    let size = if width <= height { (short_side, long) } else { (long, short_side) };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let mut resizer = Resizer::new();
    let mut pass = |photo: RgbImage, (to_width, to_height)| {
        let (width, height) = photo.dimensions();
        let from = ImageRef::new(width, height, photo.as_raw(), PixelType::U8x3).map_err(|e| failed(&e))?;
        let mut to = Image::new(to_width, to_height, PixelType::U8x3);
        resizer.resize(&from, &mut to, &options).map_err(|e| failed(&e))?;
        RgbImage::from_raw(to_width, to_height, to.into_vec()).ok_or_else(|| failed(&"wrong size"))
    };
    // Rows before columns, as PIL: each pass rounds and clips to 8 bits, so the order shows. The resizer alone would
    // begin with the columns.
    let narrow = pass(photo, (size.0, height))?;
    pass(narrow, size)
}

/// A checked pipeline.
#[derive(Debug)]
pub(crate) struct ImageInput {
    /// (3, crop, crop)
    pub(crate) shape: [usize; 3],
    short_side: u32,
    mean: Mean,
    scale: f32,
    bgr: bool,
    /// Names every parameter.
    pub(crate) fingerprint: String,
}

impl ImageInput {
    /// # Errors
    /// If the parameters do not fit each other, or if the mean's file is wrong.
    pub(crate) fn new(pipeline: &PhotoPipeline) -> Result<Self> {
        match pipeline {
            PhotoPipeline::Rgb(rgb) => {
                rgb.check()?;
                let mean = Mean::colour([rgb.mean; 3], rgb.crop as usize);
                let ImagePipeline { short_side, scale, .. } = *rgb;
                Ok(Self {
                    shape: rgb.shape(),
                    short_side,
                    mean,
                    scale,
                    bgr: false,
                    fingerprint: rgb.fingerprint(),
                })
            }
            PhotoPipeline::Bgr(BgrPipeline { short_side, crop, mean, mean_file }) => {
                check_crop(*crop, *short_side)?;
                if !mean.iter().all(|value| value.is_finite()) {
                    return Err(DataError::Invalid(format!("the mean {mean:?} has no number")));
                }
                let side = *crop as usize;
                let mean = match mean_file {
                    Some(path) => Mean::read(path, [1, side, side], false)?,
                    None => Mean::colour(*mean, side),
                };
                let digest = hex(&Sha256::digest(mean.bytes()));
                let fingerprint = format!("bgr catmull-rom {short_side} crop {crop} mean {digest}");
                let shape = [3, side, side];
                Ok(Self { shape, short_side: *short_side, mean, scale: 1.0, bgr: true, fingerprint })
            }
        }
    }

    /// Resizes where that is needed, crops and normalises. `path` is for messages.
    pub(crate) fn read(
        &self,
        photo: RgbImage,
        path: &Path,
        view: View,
        sample: u64,
        out: &mut [f32],
    ) -> Result<()> {
        let photo = shrink_image(path, photo, self.short_side)?;
        let size = (photo.width() as usize, photo.height() as usize);
        self.crop(photo.as_raw(), size, view, sample, out)
    }

    /// Crops and normalises a picture whose short side has the right length: (height, width, 3), red first.
    pub(crate) fn crop(
        &self,
        pixels: &[u8],
        (width, height): (usize, usize),
        view: View,
        sample: u64,
        out: &mut [f32],
    ) -> Result<()> {
        let [_, size, _] = self.shape;
        let (rows, columns) = spare((width, height), size).map_err(DataError::Invalid)?;
        let (top, left, mirror) = match view.epoch {
            None => (half(rows), half(columns), false),
            Some(epoch) => {
                let mut stream = Stream::new(view.seed, Purpose::Augment, epoch, sample);
                (stream.below(rows + 1), stream.below(columns + 1), stream.chance(0.5))
            }
        };
        let (first, rest) = out.split_at_mut(size * size);
        let (second, third) = rest.split_at_mut(size * size);
        let crop = Crop { pixels, width, top, left, size, mirror };
        crop.write(&self.mean, 0, self.scale, self.bgr, [first, second, third]);
        Ok(())
    }

    pub(crate) fn fits(&self, (width, height): (usize, usize)) -> bool {
        width.min(height) == self.short_side as usize
    }
}

fn check_crop(crop: u32, short_side: u32) -> Result<()> {
    if crop == 0 || crop > short_side {
        return Err(DataError::Invalid(format!("crop {crop} is not in 1..={short_side}, the short side")));
    }
    Ok(())
}

/// Where a centre crop begins when this many pixels are left over: half of them, ties to even as in torchvision.
fn half(spare: usize) -> usize {
    (spare as f64 / 2.0).round_ties_even() as usize
}
