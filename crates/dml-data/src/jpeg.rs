//! Decoding the JPEG files of shards, without an allocation for the pixels.

use image::RgbImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::{DataError, Result};

/// Decodes a JPEG file into the front of `pixels`, which grows as needed: (height, width, 3), red first. Gives width
/// and height.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn decode(jpeg: &[u8], pixels: &mut Vec<u8>) -> std::result::Result<(usize, usize), String> {
    let options = DecoderOptions::new_fast().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (Some(info), Some(size)) = (decoder.info(), decoder.output_buffer_size()) else {
        return Err("it has no header".into());
    };
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if size != width * height * 3 {
        return Err("it has neither one nor three colours".into());
    }
    if pixels.len() < size {
        pixels.resize(size, 0);
    }
    decoder.decode_into(&mut pixels[..size]).map_err(|e| e.to_string())?;
    Ok((width, height))
}

/// Decodes a JPEG file as the frames of shards are decoded.
///
/// # Errors
/// If it cannot be decoded.
pub fn decode_frame(jpeg: &[u8]) -> Result<RgbImage> {
    picture(jpeg).map_err(|problem| DataError::Invalid(format!("a frame cannot be decoded: {problem}")))
}

/// Decodes a JPEG file into a picture of its own.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn picture(jpeg: &[u8]) -> std::result::Result<RgbImage, String> {
    let mut pixels = Vec::new();
    let (width, height) = decode(jpeg, &mut pixels)?;
    RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| "it is too large".into())
}

/// Whether no end-of-image marker follows the last scan. Neither marker can occur inside a scan's data.
pub(crate) fn truncated(jpeg: &[u8]) -> bool {
    let last = |marker| jpeg.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xd9) < last(0xda)
}
