use std::sync::OnceLock;

use candle_core::Tensor;

use crate::kernel::gru::Gru;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{OpError, Result, portable};

/// The last states of sequences that a gated recurrent unit reads (Cho et al. 2014), each from a state of zeros:
/// r, u = σ(x + h·wᵀ) of the first two thirds, c = tanh(x + r·(h·wᵀ)) of the last, h' = u·h + (1 − u)·c. The reset gate acts
/// after the product, as in torch and cuDNN.
///
/// The sequences may have different lengths, and are not padded: they are sorted by length, the longest first, and `x` has
/// the first step of all of them, then the second of those that have one, …; `counts` says how many those are.
///
/// # Shapes
/// `x` (sum of counts, 3 d), the inputs' products with their bias, r, u and c side by side; `w` (3 d, d) → (counts\[0\], d).
///
/// # Errors
/// If a shape does not fit, or the counts grow or are zero.
pub fn gru(x: &Tensor, w: &Tensor, counts: &[usize]) -> Result<Tensor> {
    let (outputs, dim) = w.dims2()?;
    if outputs != 3 * dim || dim == 0 {
        return Err(OpError::argument("gru", "w", format!("must have shape [3 d, d], has {:?}", w.dims())));
    }
    let falling = counts.windows(2).all(|pair| pair[0] >= pair[1]);
    if !falling || counts.is_empty() || counts.contains(&0) {
        let problem = format!("must fall and not be zero, are {counts:?}");
        return Err(OpError::argument("gru", "counts", problem));
    }
    let rows: usize = counts.iter().sum();
    if x.dims() != [rows, outputs] {
        let problem = format!("must have shape {:?}, has {:?}", [rows, outputs], x.dims());
        return Err(OpError::argument("gru", "x", problem));
    }
    if !on_cpu_kernel(x) {
        return portable::gru(x, w, counts);
    }
    Ok(Op(Gru { counts: counts.to_vec(), dim, kept: OnceLock::new() }).apply2([x, w])?)
}
