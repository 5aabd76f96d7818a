use candle_core::Tensor;

use crate::channels_last::{self, from_channels_first, to_channels_first};
use crate::kernel::on_cpu_kernel;
use crate::{OpError, Result, cuda, portable};

/// What a library means by the alpha of [`Lrn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrnAlpha {
    /// Divided by the size of the window: Caffe and torch.
    DividedBySize,
    /// As it is: Lasagne and MatConvNet.
    Plain,
}

/// Parameters of the local response normalisation across channels (Krizhevsky et al., NIPS 2012, section 3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels of a window. It reaches from `size / 2` channels before to `(size − 1) / 2` after.
    pub size: usize,
    /// Weight of the squares.
    pub alpha: f64,
    /// Exponent of the denominator.
    pub beta: f64,
    /// Constant of the denominator.
    pub k: f64,
    /// What is meant by alpha.
    pub convention: LrnAlpha,
}

impl Lrn {
    /// The factor of the sum of squares.
    pub(crate) fn factor(&self) -> f64 {
        match self.convention {
            LrnAlpha::DividedBySize => self.alpha / self.size as f64,
            LrnAlpha::Plain => self.alpha,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.size == 0 {
            return Err(OpError::argument("lrn", "size", "must not be 0"));
        }
        if !(self.k > 0.0 && self.alpha >= 0.0) {
            let problem = format!("must be positive and not negative, are {} and {}", self.k, self.alpha);
            return Err(OpError::argument("lrn", "k, alpha", problem));
        }
        Ok(())
    }
}

/// Local response normalisation: each element over `(k + alpha·sum of squares)^beta`, the sum over a window of channels
/// at the same position; windows are clipped to the channels there are.
///
/// # Shapes
/// `x` (n, c, h, w) → the same.
///
/// # Errors
/// If `x` has another rank, the size is 0, alpha is negative, or k is not positive.
pub fn lrn(x: &Tensor, options: &Lrn) -> Result<Tensor> {
    x.dims4()?;
    options.check()?;
    if !on_cpu_kernel(x) && !cuda::serves(x) {
        return portable::lrn(x, options);
    }
    to_channels_first(&channels_last::lrn(&from_channels_first(x)?, options)?)
}
