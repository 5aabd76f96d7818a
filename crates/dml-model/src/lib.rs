#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stderr))]

pub use c3d::C3d;
pub use checkpoint::{load_metadata, load_safetensors, save_safetensors};
pub use efficientnet::{EfficientNetLite0, EfficientNetRoot};
pub use error::{ModelError, NameMismatch, Result};
pub use net::{HeadConfig, MultiTaskNet, NetConfig};
pub use params::Params;
pub use root::{Mode, Root, RootConfig, Tap};
pub use small::{Features, SmallClip, SmallImage};
pub use vgg_s::VggS;

mod c3d;
mod checkpoint;
pub mod efficientnet;
mod error;
mod layers;
mod net;
mod params;
/// Torch checkpoints, for the networks that read one.
mod pth {
    pub(crate) use dml_import::read_torch as read_legacy;
}
mod root;
mod small;
#[cfg(test)]
mod testing;
mod vgg_s;
pub mod weights;
