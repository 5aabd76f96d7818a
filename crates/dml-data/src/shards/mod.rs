//! Prepared data on disk: clips and images as JPEG files in tar archives (shards), with an index for random access.
//!
//! # Format
//! A folder holds one set: the shards `<prefix>-000000.tar`, `<prefix>-000001.tar` … and `index.json`. In a shard, a
//! sample is `<key>.000.jpg`, `<key>.001.jpg` … (its frames) and `<key>.json` (what is known of it), one after the other;
//! that is the layout of WebDataset, whose Python package reads the shards as they are. A key has no dot and is in one
//! sample only; [`escape`] makes one of any name. `index.json` holds, for each shard, its length, its SHA-256 and its
//! samples with the offset, length and CRC-32 of each file, and the set's metadata. It is written last: where it is,
//! the set is complete.
//!
//! ```
//! use dml_data::shards::{Reader, Sample, ShardOptions, Writer, escape};
//! use serde_json::json;
//!
//! let dir = tempfile::tempdir()?;
//! let mut writer = Writer::create(dir.path(), "photos", ShardOptions::default())?;
//! let mut jpeg = Vec::new();
//! image::RgbImage::new(8, 8).write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg)?;
//! writer.append(&Sample { key: escape("a dog.jpg"), frames: vec![jpeg], meta: json!({"video": "a dog.jpg"}) })?;
//! writer.finish(json!({"made": "for this example"}))?;
//!
//! let reader = Reader::open(dir.path())?;
//! assert_eq!((reader.len(), reader.key(0), reader.frames(0)), (1, "a%20dog%2Ejpg", 1));
//! assert!(reader.frame(0, 0)?.starts_with(&[0xff, 0xd8]));
//! assert_eq!(reader.meta(0)?["video"], "a dog.jpg");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod index;
mod parts;
mod reader;
mod writer;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

pub use parts::{merge, part};
pub use reader::{Reader, verify};
pub use writer::{ShardOptions, Writer};

/// A clip or an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name in the shard: letters, digits, `_`, `-` and `%`.
    pub key: String,
    /// JPEG files: the frames of a clip in their order, or one image.
    pub frames: Vec<Vec<u8>>,
    /// What is known of it.
    pub meta: serde_json::Value,
}

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// A key for any name: every byte but letters, digits, `_` and `-` becomes `%` and two hexadecimal digits.
pub fn escape(name: &str) -> String {
    utf8_percent_encode(name, KEPT).to_string()
}

/// The name that [`escape`] made this key of; none if it made none such.
pub fn unescape(key: &str) -> Option<String> {
    let name = percent_decode_str(key).decode_utf8().ok()?.into_owned();
    (escape(&name) == key).then_some(name)
}
