use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::mpsc::Sender;

use candle_core::backprop::GradStore;
use candle_core::{Result as CandleResult, Tensor, TensorId};

use crate::{OpError, Result};

thread_local! {
    /// The backward pass that this thread is in.
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

/// What is known of a backward pass under way.
#[derive(Default)]
struct Pass {
    /// The variables' gradients.
    kept: Vec<(Tensor, Tensor)>,
    /// How often each was handed over so far.
    uses: HashMap<TensorId, usize>,
    /// How often each will have been handed over in the end, and who is told then.
    told: Told,
}

/// What a backward pass looks like: how often each variable's gradient is handed over in it. The first pass of
/// [`backward_telling`] finds it out for those after it.
#[derive(Clone, Debug, Default)]
pub struct PassForm {
    uses: Option<HashMap<TensorId, usize>>,
}

/// All gradients of `loss`, as candle's own `Tensor::backward` gives them, and faster: candle adds every gradient to a
/// tensor of zeros, which for a network's weights takes as long as the optimiser. Here this crate's operations hand
/// the gradients of variables over as they are.
///
/// # Errors
/// If an operation on the way has no gradient.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    Ok(pass(loss, None)?.0)
}

/// As [`backward`], and sends the gradient of each variable, with the variable's id, as soon as it is whole, while the pass
/// goes on to the layers below.
///
/// The losses of one form must be computed alike, by the same operations on the same variables. The first pass of a form sends
/// nothing, and later ones nothing of a variable that an operation of candle's own takes.
///
/// # Errors
/// If an operation on the way has no gradient, or the pass has another form.
pub fn backward_telling(
    loss: &Tensor,
    form: &mut PassForm,
    whole: Sender<(TensorId, Tensor)>,
) -> Result<GradStore> {
    let (store, uses) = pass(loss, Some((form.uses.clone().unwrap_or_default(), whole)))?;
    match &form.uses {
        None => form.uses = Some(uses),
        Some(known) if *known == uses => {}
        Some(_) => {
            return Err(OpError::Tensor(candle_core::Error::Msg(
                "a backward pass used the variables otherwise than the first of its form".into(),
            )));
        }
    }
    Ok(store)
}

type Told = Option<(HashMap<TensorId, usize>, Sender<(TensorId, Tensor)>)>;

/// A backward pass: the gradients, and how often those were handed over that nothing else has added to.
fn pass(loss: &Tensor, told: Told) -> Result<(GradStore, HashMap<TensorId, usize>)> {
    let outer = PASS.replace(Some(Pass { told, ..Pass::default() }));
    let store = loss.backward();
    let Pass { kept, mut uses, .. } = PASS.replace(outer).unwrap_or_default();
    let mut store = store?;
    for (variable, gradient) in kept {
        let gradient = match store.remove(&variable) {
            Some(other) => {
                uses.remove(&variable.id());
                (other + gradient)?
            }
            None => gradient,
        };
        store.insert(&variable, gradient);
    }
    Ok((store, uses))
}

/// Keeps a variable's gradient in a pass of [`backward`]; any other is what candle gets.
pub(crate) fn keep(to: &Tensor, gradient: Option<Tensor>) -> CandleResult<Option<Tensor>> {
    let Some(gradient) = gradient else { return Ok(None) };
    if !to.is_variable() {
        return Ok(Some(gradient));
    }
    PASS.with_borrow_mut(|pass| {
        let Some(Pass { kept, uses, told }) = pass else { return Ok(Some(gradient)) };
        let sum = match kept.iter().position(|(variable, _)| variable.id() == to.id()) {
            Some(place) => {
                kept[place].1 = (&kept[place].1 + gradient)?;
                &kept[place].1
            }
            None => {
                kept.push((to.clone(), gradient));
                &kept[kept.len() - 1].1
            }
        };
        let so_far = uses.entry(to.id()).or_default();
        *so_far += 1;
        if let Some((all, whole)) = told
            && all.get(&to.id()) == Some(so_far)
        {
            // Who no longer listens has an error of its own to tell.
            let _ = whole.send((to.id(), sum.clone()));
        }
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use candle_core::{Device, Var};

    use super::*;
    use crate::linear;

    #[test]
    fn gradients_are_told_once_and_whole() {
        let device = Device::Cpu;
        let matrix = |from: f32| {
            let values: Vec<f32> = (0..9).map(|i| from + i as f32 / 7.0).collect();
            Var::from_vec(values, (3, 3), &device).unwrap()
        };
        let (first, shared, both, bias) = (
            matrix(0.1),
            matrix(-0.4),
            matrix(0.3),
            Var::zeros(3, candle_core::DType::F32, &device).unwrap(),
        );
        let input = Tensor::new(&[[1f32, -2.0, 0.5], [0.2, 0.9, -1.0]], &device).unwrap();
        let loss = |twice: bool| {
            let mut x = linear(&input, &first, Some(&bias)).unwrap();
            for _ in 0..(if twice { 2 } else { 1 }) {
                x = linear(&x, &shared, None).unwrap();
            }
            let x = linear(&x, &both, None).unwrap();
            // candle's own product takes this one too, whose gradient is therefore whole only in the end.
            (x.sqr().unwrap().sum_all().unwrap() + both.sqr().unwrap().sum_all().unwrap()).unwrap()
        };
        let expected = loss(true).backward().unwrap();
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut form = PassForm::default();
        for number in 0..3 {
            let (send, receive) = channel();
            let store = backward_telling(&loss(true), &mut form, send).unwrap();
            for var in [&first, &shared, &both, &bias] {
                let pairs =
                    numbers(store.get(var).unwrap()).into_iter().zip(numbers(expected.get(var).unwrap()));
                pairs.for_each(|(a, b)| assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}"));
            }
            let told: Vec<(TensorId, Tensor)> = receive.iter().collect();
            let ids: Vec<TensorId> = told.iter().map(|(id, _)| *id).collect();
            if number == 0 {
                assert!(ids.is_empty());
                continue;
            }
            assert_eq!(ids.len(), 3, "{ids:?}");
            // The last layer's comes first.
            assert_eq!(ids[0], shared.id());
            assert!(ids.contains(&first.id()) && ids.contains(&bias.id()));
            for (var, (_, gradient)) in [&shared].into_iter().zip(&told) {
                assert_eq!(numbers(gradient), numbers(store.get(var).unwrap()));
            }
        }
        let (send, _receive) = channel();
        let error = backward_telling(&loss(false), &mut form, send).unwrap_err().to_string();
        assert!(error.contains("the first of its form"), "{error}");
    }
}
