//! Extreme inputs, in f32 and f64.

use candle_core::{DType, Device, Tensor};
use dml_losses::*;

use crate::common::{ALL, apply, assert_close, irregular, matrix, numbers, second, value_and_gradient};

const DTYPES: [DType; 2] = [DType::F32, DType::F64];

#[test]
fn every_loss_is_finite_at_extreme_predictions() {
    let big = [
        vec![1e4, -1e4, 0.0],
        vec![-1e4; 3],
        vec![1e4; 3],
        vec![0.0; 3],
        vec![1e4, 1e4 - 1.0, -1e4],
        vec![1e-30; 3],
    ];
    let seconds = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    for dtype in DTYPES {
        for row in &big {
            for sure in seconds {
                for temperature in [0.01, 1.0, 2.0, 1e3] {
                    for loss in ALL {
                        let sure = matrix(&[sure.to_vec()], dtype, &Device::Cpu);
                        let sure = if loss == "cls" { second(loss, &sure) } else { sure };
                        let prediction = matrix(std::slice::from_ref(row), dtype, &Device::Cpu);
                        let (value, gradient) =
                            value_and_gradient(&prediction, |x| apply(loss, x, &sure, temperature));
                        let finite = value.is_finite() && gradient.iter().all(|g| g.is_finite());
                        assert!(finite, "{loss} of {row:?} and {sure}, {dtype:?}: {value}, {gradient:?}");
                    }
                }
            }
        }
    }
}

/// The exact value and gradient of a loss at an extreme prediction.
fn check(loss: &str, prediction: &[f64], second: &[f64], parameter: f64, value: f64, gradient: &[f64]) {
    for dtype in DTYPES {
        let tensor = |row: &[f64]| matrix(&[row.to_vec()], dtype, &Device::Cpu);
        let second = tensor(second);
        let got = value_and_gradient(&tensor(prediction), |x| apply(loss, x, &second, parameter));
        let name = format!("{loss} of {prediction:?} {dtype:?}");
        assert_close(&name, &[got.0], &[value], 1e-6);
        assert_close(&name, &got.1, gradient, 1e-6);
    }
}

#[test]
fn extreme_predictions_have_the_right_value() {
    // Completely wrong, and completely right.
    check("cls_soft", &[1e4, -1e4], &[0.0, 1.0], 0.0, 2e4, &[1.0, -1.0]);
    check("cls_soft", &[1e4, -1e4], &[1.0, 0.0], 0.0, 0.0, &[0.0, 0.0]);
    check("bce", &[1e4, -1e4], &[0.0, 1.0], 0.0, 2e4, &[1.0, -1.0]);
    check("bce", &[1e4, -1e4], &[1.0, 0.0], 0.0, 0.0, &[0.0, 0.0]);
    check("bce", &[0.0, 0.0], &[1.0, 0.0], 0.0, 2.0 * 2f64.ln(), &[-0.5, 0.5]);
    check("distill", &[1e4, -1e4], &[0.0, 1.0], 2.0, 1e4, &[0.5, -0.5]);
    check("distill_multi_label", &[1e4, -1e4], &[0.0, 1.0], 2.0, 1e4, &[0.5, -0.5]);
    check("l1", &[1e4, -1e4], &[0.0, 1.0], 0.0, 2.0, &[0.0, 0.0]);
    check("l2", &[1e4, -1e4], &[0.0, 1.0], 0.0, 1.0, &[0.0, 0.0]);
    // A low temperature sharpens a target of many small, unequal probabilities to its largest, without underflow.
    check("distill", &[0.0; 4], &[0.28, 0.24, 0.24, 0.24], 1e-3, 4f64.ln(), &[-750.0, 250.0, 250.0, 250.0]);
    check("distill_multi_label", &[0.0], &[0.5], 1e-3, 2f64.ln(), &[0.0]);
}

#[test]
fn zero_vectors_have_cosine_0_and_gradient_0() {
    check("emb", &[0.0, 0.0, 0.0], &[1.0, 0.0, 0.0], 0.0, 0.0, &[0.0; 3]);
    check("emb", &[1.0, 2.0, 2.0], &[0.0, 0.0, 0.0], 0.0, 0.0, &[0.0; 3]);
    check("emb", &[1e-13, 0.0, 0.0], &[1.0, 0.0, 0.0], 0.0, 0.0, &[0.0; 3]);
    for dtype in DTYPES {
        let x = matrix(&[vec![0.0, 0.0], vec![3.0, 4.0]], dtype, &Device::Cpu);
        assert_close("rows", &numbers(&l2_normalize(&x).unwrap()), &[0.0, 0.0, 0.6, 0.8], 1e-7);
        let target = matrix(&[vec![1.0, 0.0], vec![0.0, 1.0]], dtype, &Device::Cpu);
        let (value, gradient) = value_and_gradient(&x, |x| info_nce(x, &target, 0.5));
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
        assert_eq!(gradient[..2], [0.0, 0.0]);
        assert!(gradient[2..].iter().any(|g| g.abs() > 1e-3));
    }
}

#[test]
fn a_vector_of_any_size_has_its_direction() {
    for size in [1e-11, 1e-8, 1.0, 1e8, 1e25] {
        let x = matrix(&[vec![3.0 * size, -4.0 * size]], DType::F32, &Device::Cpu);
        assert_close(&format!("{size:e}"), &numbers(&l2_normalize(&x).unwrap()), &[0.6, -0.8], 1e-6);
    }
}

#[test]
fn contrast_needs_another_row() {
    check("info_nce", &[1.0, 2.0], &[-2.0, 0.5], 0.07, 0.0, &[0.0, 0.0]);
}

#[test]
fn a_diverged_prediction_shows_as_nan() {
    for loss in ALL {
        for bad in [f64::NAN, f64::INFINITY] {
            let second = second(loss, &irregular(2, 3, 1.0, 0.5));
            let rows = [vec![0.1, 0.2, 0.3], vec![bad, 0.5, -0.5]];
            let prediction = matrix(&rows, DType::F64, &Device::Cpu);
            let value = apply(loss, &prediction, &second, 2.0).unwrap().to_scalar::<f64>().unwrap();
            assert!(!value.is_finite(), "{loss} of {bad}: {value}");
        }
    }
}

#[test]
fn strided_arguments_are_read_in_order() {
    for loss in ALL {
        let (x, y) = (irregular(4, 3, 1.0, 0.2), second(loss, &irregular(4, 3, 1.0, 0.7)));
        // The same values, laid out column by column, or every second of a longer tensor.
        let strided = |x: &Tensor| match x.rank() {
            1 => Tensor::stack(&[x, x], 1).unwrap().narrow(1, 1, 1).unwrap().squeeze(1).unwrap(),
            _ => x.t().unwrap().contiguous().unwrap().t().unwrap(),
        };
        let (sx, sy) = (strided(&x), strided(&y));
        assert!(!sx.is_contiguous() && !sy.is_contiguous());
        let expected = value_and_gradient(&x, |x| apply(loss, x, &y, 2.0));
        let got = value_and_gradient(&x, |x| apply(loss, &strided(x), &sy, 2.0));
        assert_close(loss, &[got.0], &[expected.0], 1e-15);
        assert_close(loss, &got.1, &expected.1, 1e-15);
    }
}
