//! Small pictures that travel inside the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ImageFormat, RgbImage};

/// A picture of one photograph or of a few frames side by side.
pub(crate) struct Thumbnail {
    /// A data URI.
    pub(crate) source: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// How many frames stand side by side.
    pub(crate) frames: usize,
    /// Whether it is smaller than it is shown, so that its pixels should stay squares.
    pub(crate) coarse: bool,
}

/// Longest width of a photograph, and of each frame of a clip, in pixels.
const PHOTOGRAPH: u32 = 320;
const FRAME: u32 = 120;
/// Frames of a clip that are shown.
const FRAMES: usize = 4;
const QUALITY: u8 = 78;

/// A photograph, or frames of a clip at equal distances; nothing where there is no picture, or it cannot be encoded.
pub(crate) fn thumbnail(pictures: &[RgbImage]) -> Option<Thumbnail> {
    let shown = pictures.len().min(FRAMES);
    let wide = if shown > 1 { FRAME } else { PHOTOGRAPH };
    let frames: Vec<RgbImage> =
        (0..shown).map(|i| shrunk(&pictures[place(i, shown, pictures.len())], wide)).collect();
    let (width, height) = frames.first()?.dimensions();
    let coarse = width < 64;
    // A line between frames, in the page's own colour where it shows through is more than a picture can do.
    let gap = if shown > 1 { (width / 24).max(1) } else { 0 };
    let mut strip =
        RgbImage::from_pixel(width * shown as u32 + gap * (shown as u32 - 1), height, image::Rgb([128; 3]));
    for (number, frame) in frames.iter().enumerate() {
        imageops::replace(&mut strip, frame, i64::from(number as u32 * (width + gap)), 0);
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    let kind = if coarse {
        strip.write_to(&mut bytes, ImageFormat::Png).ok()?;
        "png"
    } else {
        JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&strip).ok()?;
        "jpeg"
    };
    let source = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes.into_inner()));
    Some(Thumbnail { source, width: strip.width(), height: strip.height(), frames: shown, coarse })
}

/// Which of `of` frames is number `i` of those shown: the first and the last are, and others at equal distances.
fn place(i: usize, shown: usize, of: usize) -> usize {
    if shown > 1 { i * (of - 1) / (shown - 1) } else { of / 2 }
}

fn shrunk(picture: &RgbImage, wide: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    if width <= wide {
        return picture.clone();
    }
    let high = (u64::from(height) * u64::from(wide) / u64::from(width)).max(1) as u32;
    imageops::resize(picture, wide, high, FilterType::Triangle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_and_clips() {
        let photo = thumbnail(&[RgbImage::new(500, 375)]).unwrap();
        assert_eq!((photo.width, photo.height, photo.frames, photo.coarse), (320, 240, 1, false));
        assert!(photo.source.starts_with("data:image/jpeg;base64,"));
        let clip = thumbnail(&vec![RgbImage::new(24, 24); 8]).unwrap();
        assert_eq!((clip.width, clip.height, clip.frames, clip.coarse), (99, 24, 4, true));
        assert!(clip.source.starts_with("data:image/png;base64,"));
        assert!(thumbnail(&[]).is_none());
        let places: Vec<usize> = (0..4).map(|i| place(i, 4, 16)).collect();
        assert_eq!(places, [0, 5, 10, 15]);
    }
}
