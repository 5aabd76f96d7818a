//! Each loss by its name, so that every test can be a table.

use candle_core::{DType, Device, Tensor, Var};
use dml_losses::*;

/// Losses of (prediction, second argument); those with a parameter get 2.
pub(crate) const ALL: [&str; 14] = [
    "cls",
    "cls_soft",
    "cls_multi_hot",
    "bce",
    "emb",
    "info_nce",
    "distill",
    "distill_multi_label",
    "l1",
    "l2",
    "ranking_order_sum",
    "ranking_order_hardest",
    "ranking_cosine_sum",
    "ranking_cosine_hardest",
];

pub(crate) fn apply(loss: &str, prediction: &Tensor, second: &Tensor, parameter: f64) -> Result<Tensor> {
    match loss {
        "cls" => cls(prediction, second),
        "cls_soft" => cls_soft(prediction, second),
        "cls_multi_hot" => cls_soft(prediction, &multi_hot_to_distribution(second)?),
        "bce" => bce(prediction, second),
        "emb" => emb(prediction, second),
        "info_nce" => info_nce(prediction, second, parameter),
        "distill" => distill(prediction, second, parameter),
        "distill_multi_label" => distill_multi_label(prediction, second, parameter),
        "l1" => l1(prediction, second),
        "l2" => l2(prediction, second),
        "ranking_order_sum" => ranking(prediction, second, Similarity::Order, parameter, Hinges::Sum),
        "ranking_order_hardest" => ranking(prediction, second, Similarity::Order, parameter, Hinges::Hardest),
        "ranking_cosine_sum" => ranking(prediction, second, Similarity::Cosine, parameter, Hinges::Sum),
        "ranking_cosine_hardest" => {
            ranking(prediction, second, Similarity::Cosine, parameter, Hinges::Hardest)
        }
        _ => unreachable!("{loss}"),
    }
}

/// A valid second argument for the loss, made of any numbers: labels, a distribution, flags, probabilities, or vectors.
pub(crate) fn second(loss: &str, raw: &Tensor) -> Tensor {
    let (n, k) = raw.dims2().unwrap();
    match loss {
        "cls" => raw.argmax(1).unwrap(),
        "cls_soft" | "distill" | "l1" | "l2" => log_softmax(raw).unwrap().exp().unwrap(),
        "cls_multi_hot" => {
            let column = Tensor::arange(0u32, k as u32, raw.device()).unwrap().broadcast_as((n, k)).unwrap();
            let largest = column.broadcast_eq(&raw.argmax_keepdim(1).unwrap()).unwrap();
            let flags = (raw.ge(0.0).unwrap() + largest).unwrap().ge(1u8).unwrap();
            flags.to_dtype(raw.dtype()).unwrap()
        }
        "bce" | "distill_multi_label" => (raw.neg().unwrap().exp().unwrap() + 1.0).unwrap().recip().unwrap(),
        _ => raw.clone(),
    }
}

/// Value and gradient with respect to the prediction, in f64 on the host.
pub(crate) fn value_and_gradient(
    prediction: &Tensor,
    function: impl Fn(&Tensor) -> Result<Tensor>,
) -> (f64, Vec<f64>) {
    let prediction = Var::from_tensor(prediction).unwrap();
    let value = function(&prediction).unwrap();
    assert_eq!((value.rank(), value.dtype()), (0, prediction.dtype()));
    let gradients = value.backward().unwrap();
    (numbers(&value)[0], numbers(gradients.get(&prediction).unwrap()))
}

pub(crate) fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn matrix(values: &[Vec<f64>], dtype: DType, device: &Device) -> Tensor {
    let shape = (values.len(), values[0].len());
    Tensor::from_vec(values.concat(), shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
        .to_device(device)
        .unwrap()
}

/// A fixed (n, k) matrix of irregular numbers in [−size, size].
pub(crate) fn irregular(n: usize, k: usize, size: f64, seed: f64) -> Tensor {
    let values: Vec<f64> = (0..n * k).map(|i| size * (1.7 * i as f64 * i as f64 + seed).sin()).collect();
    Tensor::from_vec(values, (n, k), &Device::Cpu).unwrap()
}

/// Fails unless the values agree within `tolerance`, relative to the larger of 1 and the expected value's size.
pub(crate) fn assert_close(name: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(close, "{name}, element {i}: {got} instead of {expected}");
    }
}
