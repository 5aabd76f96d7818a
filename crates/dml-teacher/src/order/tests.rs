//! The gradients of the whole model, in f64, against central differences.

use candle_core::{DType, Device, Tensor};
use dml_losses::{Hinges, Similarity, ranking};

use super::parameters::{Parameters, Sizes};

fn parameters() -> Parameters {
    let sizes = Sizes { words: 7, word_dim: 3, dim: 4, features: 5 };
    let parameters = Parameters::new(sizes, 5, DType::F64, &Device::Cpu).unwrap();
    // Biases begin at zero, where their part in the gates could not be seen.
    for (name, var) in parameters.vars() {
        if name.ends_with("bias") {
            let values = Tensor::arange(0f64, var.elem_count() as f64, &Device::Cpu).unwrap();
            var.set(&(values.sin().unwrap() * 0.3).unwrap()).unwrap();
        }
    }
    parameters
}

#[test]
fn gradients_are_central_differences() {
    const STEP: f64 = 1e-6;
    let features: Vec<f64> = (0..20).map(|i| (1.7 * f64::from(i * i)).sin()).collect();
    let features = Tensor::from_vec(features, (4, 5), &Device::Cpu).unwrap();
    // Of unequal lengths, in no order of them; two with a repeated word.
    let captions: [&[u32]; 4] = [&[2, 3, 0], &[4, 2, 2, 5, 0], &[6, 0], &[3, 1, 5, 3, 0]];
    let others: [&[u32]; 4] = [&[5, 0], &[4, 5, 0], &[6, 6, 2, 0], &[1, 3, 0]];
    for (similarity, absolute) in [(Similarity::Order, true), (Similarity::Cosine, false)] {
        for hinges in [Hinges::Sum, Hinges::Hardest] {
            for images in [true, false] {
                let parameters = parameters();
                let loss = || {
                    let a = parameters.sentences(&captions, absolute).unwrap();
                    let b = match images {
                        true => parameters.images(&features, absolute).unwrap(),
                        false => parameters.sentences(&others, absolute).unwrap(),
                    };
                    ranking(&a, &b, similarity, 0.3, hinges).unwrap()
                };
                let value = || loss().to_scalar::<f64>().unwrap();
                let gradients = dml_ops::backward(&loss()).unwrap();
                for (name, var) in parameters.vars() {
                    if !images && name.starts_with("image") {
                        assert!(gradients.get(var).is_none());
                        continue;
                    }
                    let found = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                    let at = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                    assert!(found.iter().any(|x| x.abs() > 1e-3), "{name}");
                    for (i, found) in found.iter().enumerate() {
                        let moved = |by: f64| {
                            let mut values = at.clone();
                            values[i] += by;
                            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
                            value()
                        };
                        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                        assert!((found - difference).abs() < 1e-7, "{name} {i}: {found}, not {difference}");
                    }
                    var.set(&Tensor::from_vec(at, var.shape(), &Device::Cpu).unwrap()).unwrap();
                }
            }
        }
    }
}

#[test]
fn gradients_are_cut_by_published_tensor() {
    let parameters = parameters();
    let before: Vec<Vec<f64>> = values(&parameters);
    // Gradients of ones: of the 24 gates of `state` longer than 2, of its 16 candidates not shorter, those of `bias` 8 and 4.
    let sum = parameters.vars().values().map(|var| var.as_tensor().sum_all().unwrap());
    let loss = sum.reduce(|a, b| (a + b).unwrap()).unwrap();
    let gradients = loss.backward().unwrap();
    let mut adam = dml_ops::Adam::new(dml_ops::AdamConfig { beta1: 0.0, beta2: 0.0, eps: 1.0 });
    parameters.step(&mut adam, &gradients, 1.0, 2.0).unwrap();
    let after = values(&parameters);
    for (((name, var), before), after) in parameters.vars().iter().zip(before).zip(after) {
        let (rows, each) = (var.dim(0).unwrap(), var.elem_count() / var.dim(0).unwrap());
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            let rows = match *name {
                "words" | "image.weight" | "image.bias" => rows,
                _ if i / each < rows / 3 * 2 => rows / 3 * 2,
                _ => rows / 3,
            };
            // Adam without memory moves by g / (|g| + 1).
            let gradient = (2.0 / ((rows * each) as f64).sqrt()).min(1.0);
            let expected = gradient / (gradient + 1.0);
            assert!((before - after - expected).abs() < 1e-9, "{name} {i}: {}", before - after);
        }
    }
}

fn values(parameters: &Parameters) -> Vec<Vec<f64>> {
    parameters.vars().values().map(|var| var.flatten_all().unwrap().to_vec1().unwrap()).collect()
}
