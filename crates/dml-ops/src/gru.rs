use candle_core::Tensor;

use crate::kernel::gru::GruCell;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{OpError, Result, portable};

/// The next state of a gated recurrent unit (Cho et al. 2014), from its products: r, u = σ(x + y) of the first two thirds,
/// c = tanh(x + r·y) of the last, h' = u·h + (1 − u)·c. The reset gate acts after the product, as in torch and cuDNN.
///
/// # Shapes
/// `x` (n, 3 d), the products of the input with their bias, r, u and c side by side; `y` (n, 3 d), those of the state; `h`
/// (n, d) → (n, d).
///
/// # Errors
/// If a shape does not fit.
pub fn gru_cell(x: &Tensor, y: &Tensor, h: &Tensor) -> Result<Tensor> {
    let (rows, dim) = h.dims2()?;
    for (name, products) in [("x", x), ("y", y)] {
        if products.dims() != [rows, 3 * dim] {
            let problem = format!("must have shape {:?}, has {:?}", [rows, 3 * dim], products.dims());
            return Err(OpError::argument("gru_cell", name, problem));
        }
    }
    if !on_cpu_kernel(h) || rows * dim == 0 {
        return portable::gru_cell(x, y, h);
    }
    Ok(Op(GruCell { rows, dim }).apply3([x, y, h])?)
}
