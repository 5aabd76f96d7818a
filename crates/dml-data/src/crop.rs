//! The last step from pixels to a network's input: crop, mirror and normalise in one pass.

use std::path::Path;

use candle_core::{DType, Device};

use crate::text::wrong;
use crate::{DataError, Result};

/// What is subtracted from each value: one number a channel, or one for each place.
#[derive(Clone, Debug)]
pub(crate) struct Mean {
    /// (3, frames, height, width) with 1 for a dimension along which it is the same; the width is never 1.
    values: Vec<f32>,
    shape: [usize; 3],
    /// Whether places count from the frame's corner, not from the crop's.
    of_frame: bool,
}

impl Mean {
    /// The same for every place of rows up to this width.
    pub(crate) fn colour(colour: [f32; 3], width: usize) -> Self {
        let values = colour.iter().flat_map(|&value| std::iter::repeat_n(value, width)).collect();
        Self { values, shape: [1, 1, width], of_frame: false }
    }

    /// Reads the tensor `mean` of a `.safetensors` file, or what [`dml_import::read_mean`] reads. Its shape is (3, frames,
    /// height, width); for one frame, the frame's dimension may be missing.
    ///
    /// # Errors
    /// If the file cannot be read or has another shape; the error names both.
    pub(crate) fn read(path: &Path, shape: [usize; 3], of_frame: bool) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| wrong(path, None, format!("is no array of a mean: {e}"));
        let array = if path.extension().is_some_and(|extension| extension == "safetensors") {
            candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| failed(&e))?.remove("mean")
        } else {
            dml_import::read_mean(path)?.tensors.remove("mean")
        };
        let array = array.ok_or_else(|| wrong(path, None, "has no tensor named mean"))?;
        let [frames, height, width] = shape;
        let expected = [3, frames, height, width];
        if array.dims() != expected && !(frames == 1 && array.dims() == [3, height, width]) {
            return Err(wrong(
                path,
                None,
                format!("has shape {:?}; the mean here is {expected:?}", array.dims()),
            ));
        }
        let flat = array.to_dtype(DType::F32).and_then(|a| a.flatten_all()).and_then(|a| a.to_vec1());
        let values: Vec<f32> = flat.map_err(|e| failed(&e))?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong(path, None, "has values that are no numbers"));
        }
        Ok(Self { values, shape, of_frame })
    }

    /// The values, for fingerprints.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn row(&self, channel: usize, frame: usize, place: (usize, usize), size: usize) -> &[f32] {
        let [frames, height, width] = self.shape;
        let frame = if frames == 1 { 0 } else { frame };
        let y = if height == 1 { 0 } else { place.0 };
        &self.values[((channel * frames + frame) * height + y) * width + place.1..][..size]
    }
}

/// A square part of a decoded picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crop<'a> {
    /// (height, width, 3), red first.
    pub(crate) pixels: &'a [u8],
    pub(crate) width: usize,
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) size: usize,
    pub(crate) mirror: bool,
}

impl Crop<'_> {
    /// Writes (value − mean) / scale. The mean belongs to the place before mirroring.
    ///
    /// # Shapes
    /// `planes`: three of (size, size), for the channels in this order: red, green, blue; with `bgr` blue, green, red.
    pub(crate) fn write(&self, mean: &Mean, frame: usize, scale: f32, bgr: bool, planes: [&mut [f32]; 3]) {
        let Self { pixels, width, top, left, size, mirror } = *self;
        let corner = if mean.of_frame { (top, left) } else { (0, 0) };
        let order = if bgr { [2, 1, 0] } else { [0, 1, 2] };
        for (channel, plane) in planes.into_iter().enumerate() {
            for (y, to) in plane.chunks_exact_mut(size).enumerate() {
                let from = &pixels[((top + y) * width + left) * 3..][..size * 3];
                let mean = mean.row(channel, frame, (corner.0 + y, corner.1), size);
                row(from, order[channel], mean, scale, to);
                if mirror {
                    to.reverse();
                }
            }
        }
    }
}

/// The values of one channel of a row of pixels.
fn row(pixels: &[u8], channel: usize, mean: &[f32], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide(pixels: &[u8], channel: usize, mean: &[f32], scale: f32, out: &mut [f32]) {
            plain_row(pixels, channel, mean, scale, out);
        }
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { wide(pixels, channel, mean, scale, out) };
        }
    }
    plain_row(pixels, channel, mean, scale, out);
}

#[inline(always)]
fn plain_row(pixels: &[u8], channel: usize, mean: &[f32], scale: f32, out: &mut [f32]) {
    let (pixels, _) = pixels.as_chunks::<3>();
    for ((to, pixel), mean) in out.iter_mut().zip(pixels).zip(mean) {
        *to = (f32::from(pixel[channel]) - mean) / scale;
    }
}

/// Where a crop of this size begins in a picture of this size.
///
/// # Errors
/// If the picture is smaller.
pub(crate) fn spare(picture: (usize, usize), size: usize) -> std::result::Result<(usize, usize), String> {
    let (width, height) = picture;
    match (height.checked_sub(size), width.checked_sub(size)) {
        (Some(rows), Some(columns)) => Ok((rows, columns)),
        _ => Err(format!("{width}x{height} pixels are fewer than the crop's {size}x{size}")),
    }
}

/// # Errors
/// If there are not as many values as an input of this shape has.
pub(crate) fn check_length(shape: &[usize], out: &[f32]) -> Result<()> {
    if out.len() == shape.iter().product::<usize>() {
        return Ok(());
    }
    let given = out.len();
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    Err(DataError::Invalid(format!("an image of ({shape}) does not fit {given} values")))
}
