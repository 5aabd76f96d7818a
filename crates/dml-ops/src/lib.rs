#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activation;
mod adam;
mod algorithm;
mod backward;
pub mod channels_last;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
mod dropout;
mod encoder;
mod error;
mod gradients;
mod gru;
pub mod init;
mod kernel;
mod linear;
mod lrn;
mod pool;
pub mod portable;
mod rows;
mod violation;

pub use activation::{Activation, relu, relu6};
pub use adam::{Adam, AdamConfig};
pub use algorithm::{Algorithm, Precision, precision, set_benchmark, set_exact, set_precision};
pub use backward::{PassForm, backward, backward_telling};
pub use conv::{Conv2d, Conv3d, Padding2d, conv2d, conv3d};
#[cfg(feature = "cuda")]
pub use cuda::{DeviceMemory, device_memory, keep_memory};
pub use dropout::{RowKeys, dropout};
pub use encoder::{
    Affine, EncoderActivation, EncoderLayer, EncoderWeights, RelativePositions, padded_places,
};
pub use error::{OpError, Result};
pub use gradients::{gradient_errors, gradients};
pub use gru::gru;
pub use linear::{linear, linear_relu};
pub use lrn::{Lrn, LrnAlpha, lrn};
pub use pool::{Pool, max_pool2d, max_pool3d};
pub use rows::{l2_normalize, log_softmax};
pub use violation::order_violation;

/// The vector instructions that the kernels take on this processor.
pub fn instruction_set() -> &'static str {
    kernel::simd::instruction_set()
}
