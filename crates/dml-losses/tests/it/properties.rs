//! Identities that hold for any input.

use candle_core::{DType, Device, Tensor};
use dml_losses::*;
use proptest::prelude::*;

use crate::common::{ALL, apply, assert_close, numbers, second, value_and_gradient};

/// Two matrices of the same random shape, with values up to 10 in size.
fn two_matrices() -> impl Strategy<Value = (Tensor, Tensor)> {
    (1usize..6, 1usize..7).prop_flat_map(|(n, k)| {
        let matrix = || {
            prop::collection::vec(-10.0..10.0f64, n * k)
                .prop_map(move |values| Tensor::from_vec(values, (n, k), &Device::Cpu).unwrap())
        };
        (matrix(), matrix())
    })
}

fn value(loss: Result<Tensor>) -> f64 {
    loss.unwrap().to_scalar().unwrap()
}

fn softmax(x: &Tensor) -> Tensor {
    second("distill", x)
}

fn sigmoid(x: &Tensor) -> Tensor {
    second("bce", x)
}

fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    x.to_vec2().unwrap()
}

fn dots(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let dot = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(a, b)| a * b).sum();
    a.chunks(d).zip(b.chunks(d)).map(dot).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn temperature_1_is_cross_entropy((x, y) in two_matrices()) {
        let (p, c) = (softmax(&y), sigmoid(&y));
        assert_close("distill", &[value(distill(&x, &p, 1.0))], &[value(cls_soft(&x, &p))], 1e-12);
        assert_close("multi-label", &[value(distill_multi_label(&x, &c, 1.0))], &[value(bce(&x, &c))], 1e-12);

        let labels = second("cls", &y);
        let column = Tensor::arange(0u32, x.dim(1).unwrap() as u32, &Device::Cpu).unwrap();
        let one_hot = labels.unsqueeze(1).unwrap().broadcast_eq(&column.unsqueeze(0).unwrap()).unwrap();
        let one_hot = one_hot.to_dtype(DType::F64).unwrap();
        let hard = value(cls(&x, &labels));
        assert_close("one-hot", &[value(cls_soft(&x, &one_hot)), value(distill(&x, &one_hot, 1.0))], &[hard; 2], 1e-12);
    }

    #[test]
    fn softmax_of_z_over_t_is_p_to_the_1_over_t((z, _) in two_matrices(), t in 0.3..5.0f64) {
        let warm = softmax(&(&z / t).unwrap());
        for (p, warm) in rows(&softmax(&z)).iter().zip(rows(&warm)) {
            let power: Vec<f64> = p.iter().map(|p| p.powf(1.0 / t)).collect();
            let sum: f64 = power.iter().sum();
            assert_close("softmax", &warm, &power.iter().map(|p| p / sum).collect::<Vec<_>>(), 1e-12);
        }
        // So the network that recorded its own responses is at the minimum of the distillation: the entropy.
        let (least, gradient) = value_and_gradient(&z, |z| distill(z, &softmax(z), t));
        let entropy: f64 = rows(&warm).concat().iter().map(|p| -p * p.ln()).sum::<f64>() / z.dim(0).unwrap() as f64;
        assert_close("entropy", &[least], &[entropy], 1e-10);
        assert_close("gradient", &gradient, &vec![0.0; gradient.len()], 1e-10);

        let (_, gradient) = value_and_gradient(&z, |z| distill_multi_label(z, &sigmoid(z), t));
        assert_close("multi-label", &gradient, &vec![0.0; gradient.len()], 1e-9);
    }

    #[test]
    fn only_the_direction_of_an_embedding_matters((x, y) in two_matrices(), size in 0.01..100.0f64) {
        let d = x.dim(1).unwrap();
        for loss in ["emb", "info_nce"] {
            let (expected, gradient) = value_and_gradient(&x, |x| apply(loss, x, &y, 0.3));
            let longer = value(apply(loss, &(&x * size).unwrap(), &y, 0.3));
            let longer_target = value(apply(loss, &x, &(&y * size).unwrap(), 0.3));
            assert_close(loss, &[longer, longer_target], &[expected; 2], 1e-10);
            // Tangent, relative to the sizes of both factors.
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let x = numbers(&x);
            let tangent = dots(&x, &gradient, d);
            let scale = 1.0 + norm(&x) * norm(&gradient);
            for dot in tangent {
                prop_assert!(dot.abs() < 1e-12 * scale, "{loss}: {dot}");
            }
        }
    }

    #[test]
    fn the_order_of_the_batch_does_not_matter((x, y) in two_matrices(), shift in 0usize..6) {
        let n = x.dim(0).unwrap();
        let mut order: Vec<u32> = (0..n as u32).rev().collect();
        order.rotate_left(shift % n);
        let order = Tensor::new(order, &Device::Cpu).unwrap();
        for loss in ALL {
            let y = second(loss, &y);
            let (expected, gradient) = value_and_gradient(&x, |x| apply(loss, x, &y, 2.0));
            let moved = y.index_select(&order, 0).unwrap();
            let (got, moved) = value_and_gradient(&x.index_select(&order, 0).unwrap(), |x| apply(loss, x, &moved, 2.0));
            assert_close(loss, &[got], &[expected], 1e-12);
            let gradient = Tensor::from_vec(gradient, x.dims(), &Device::Cpu).unwrap();
            assert_close(loss, &moved, &numbers(&gradient.index_select(&order, 0).unwrap()), 1e-12);
        }
    }

    #[test]
    fn losses_keep_their_bounds((x, y) in two_matrices()) {
        for (loss, low, high) in [
            ("cls", 0.0, f64::INFINITY),
            ("cls_soft", 0.0, f64::INFINITY),
            ("bce", 0.0, f64::INFINITY),
            ("info_nce", 0.0, f64::INFINITY),
            ("emb", -1.0, 1.0),
            ("l1", 0.0, 2.0),
            ("l2", 0.0, 1.0),
        ] {
            let got = value(apply(loss, &x, &second(loss, &y), 0.1));
            prop_assert!((low - 1e-12..=high + 1e-12).contains(&got), "{loss}: {got}");
        }
    }

    #[test]
    fn f32_follows_f64((x, y) in two_matrices()) {
        let single = |x: &Tensor| if x.dtype() == DType::F64 { x.to_dtype(DType::F32).unwrap() } else { x.clone() };
        for loss in ALL {
            let y = second(loss, &y);
            let expected = value(apply(loss, &x, &y, 0.5));
            let got = apply(loss, &single(&x), &single(&y), 0.5).unwrap();
            assert_close(loss, &[got.to_scalar::<f32>().unwrap().into()], &[expected], 1e-4);
        }
    }

    #[test]
    fn objectives_interpolate(lambda in 0.0..=1.0f64, a in -5.0..5.0f64, b in -5.0..5.0f64) {
        let (first, second) = (Tensor::new(a, &Device::Cpu).unwrap(), Tensor::new(b, &Device::Cpu).unwrap());
        let weight = Lambda::new(lambda).unwrap();
        let expected = lambda * a + (1.0 - lambda) * b;
        prop_assert_eq!(weight.get(), lambda);
        prop_assert_eq!(value(classification_objective(weight, &first, &second)), expected);
        prop_assert_eq!(value(caption_objective(weight, &first, &second)), expected);
    }
}
