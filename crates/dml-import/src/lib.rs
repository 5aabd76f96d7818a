#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

pub use caffe::{parse_binaryproto, parse_caffemodel, read_binaryproto, read_caffemodel};
pub use error::{ImportError, Result};
pub use numpy::{parse_npy, parse_npz, read_npy, read_npz};
pub use torch::{parse_torch, read_torch};
pub use vocabulary::{parse_object, read_object};

mod archive;
mod caffe;
mod cursor;
mod error;
mod gather;
mod lasagne;
mod mean;
mod network;
mod numpy;
mod pickle;
mod sources;
mod torch;
mod vocabulary;

/// What was read from a published file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The tensors by the names that dml-model's networks give them: f32, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where they come from and what the network takes as its input, in words.
    pub metadata: BTreeMap<String, String>,
    /// Names in the file that the network has no use for.
    pub left_out: Vec<String>,
}

/// Reads C3D's weights from any of its publications; which one, the file's content tells.
///
/// # Shapes
/// `conv1.weight` (64, 3, 3, 3, 3) … `fc6.weight` (4096, 8192), `fc7.weight` (4096, 4096), `fc8.weight` (487, 4096);
/// narrower networks of the same form are read as well.
///
/// # Errors
/// If the file cannot be read or is damaged, has the names of no known source, or lacks a tensor, or if a shape does not
/// follow from the layer before.
pub fn read_c3d(path: &Path) -> Result<Imported> {
    error::read(path, |file| network::import(&sources::C3D, file))
}

/// Reads VGG-S's weights from any of its publications; which one, the file's content tells.
///
/// # Shapes
/// `conv1.weight` (96, 3, 7, 7) … `fc6.weight` (4096, 18432), `fc7.weight` (4096, 4096), `fc8.weight` (1000, 4096);
/// narrower networks of the same form are read as well.
///
/// # Errors
/// As [`read_c3d`].
pub fn read_vgg_s(path: &Path) -> Result<Imported> {
    error::read(path, |file| network::import(&sources::VGG_S, file))
}

/// Reads a mean image or a mean clip: a `.npy`, a `.binaryproto`, or the mean image in VGG-S's Lasagne pickle.
///
/// # Shapes
/// `mean`: (3, h, w) or (3, frames, h, w), channels BGR from 0 to 255
///
/// # Errors
/// If the file cannot be read or is damaged, or has another shape.
pub fn read_mean(path: &Path) -> Result<Imported> {
    error::read(path, mean::import)
}
