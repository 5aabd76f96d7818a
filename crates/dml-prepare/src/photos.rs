//! Images for storage: the short side as training wants it.

use std::path::Path;

use crate::clips::jpeg;
use crate::video::Unreadable;

/// An image as a JPEG file with this short side. A JPEG file that has it already is kept byte for byte.
///
/// # Errors
/// [`Unreadable::Video`] for a file that is missing, damaged, cut short or no image.
pub fn photo(path: &Path, short_side: u32, quality: u8) -> Result<Vec<u8>, Unreadable> {
    let unreadable = |e: dml_data::DataError| Unreadable::Video(e.to_string());
    let photo = dml_data::decode_image(path).map_err(unreadable)?;
    if photo.width().min(photo.height()) == short_side {
        let bytes = std::fs::read(path).map_err(|e| Unreadable::Video(e.to_string()))?;
        if bytes.starts_with(&[0xff, 0xd8]) {
            return Ok(bytes);
        }
    }
    let photo = dml_data::shrink_image(path, photo, short_side).map_err(unreadable)?;
    Ok(jpeg(&photo, quality)?)
}
