use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result as CandleResult, Tensor};

use crate::Result;

thread_local! {
    /// The variables' gradients of the backward pass that this thread is in.
    static KEPT: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// All gradients of `loss`, as candle's own `Tensor::backward` gives them, and faster: candle adds every gradient to a
/// tensor of zeros, which for a network's weights takes as long as the optimiser. Here this crate's operations hand
/// the gradients of variables over as they are.
///
/// # Errors
/// If an operation on the way has no gradient.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let outer = KEPT.replace(Some(Vec::new()));
    let store = loss.backward();
    let kept = KEPT.replace(outer).unwrap_or_default();
    let mut store = store?;
    for (variable, gradient) in kept {
        let gradient = match store.remove(&variable) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        store.insert(&variable, gradient);
    }
    Ok(store)
}

/// Keeps a variable's gradient in a pass of [`backward`]; any other is what candle gets.
pub(crate) fn keep(to: &Tensor, gradient: Option<Tensor>) -> CandleResult<Option<Tensor>> {
    let Some(gradient) = gradient else { return Ok(None) };
    if !to.is_variable() {
        return Ok(Some(gradient));
    }
    KEPT.with_borrow_mut(|kept| {
        let Some(kept) = kept else { return Ok(Some(gradient)) };
        match kept.iter_mut().find(|(variable, _)| variable.id() == to.id()) {
            Some((_, sum)) => *sum = (&*sum + gradient)?,
            None => kept.push((to.clone(), gradient)),
        }
        Ok(None)
    })
}
