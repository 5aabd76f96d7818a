use candle_core::Tensor;

use crate::kernel::violation::Violation;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{OpError, Result, portable};

/// How much each row of `a` violates the order a ≤ b with each row of `b`: Σ max(0, a − b)² over the columns, which is 0
/// where no value of the one exceeds that of the other (Vendrov et al., ICLR 2016, eq. 2).
///
/// # Shapes
/// `a` (n, d), `b` (m, d) → (n, m).
///
/// # Errors
/// If a shape does not fit.
pub fn order_violation(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((rows, dim), (others, dim_b)) = (a.dims2()?, b.dims2()?);
    if dim != dim_b {
        let problem = format!("must have rows of {dim} values, has {:?}", b.dims());
        return Err(OpError::argument("order_violation", "b", problem));
    }
    if !on_cpu_kernel(a) || [rows, others, dim].contains(&0) {
        return portable::order_violation(a, b);
    }
    Ok(Op(Violation { rows, others, dim }).apply2([a, b])?)
}
