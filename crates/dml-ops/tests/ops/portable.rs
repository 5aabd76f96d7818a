use candle_core::{DType, Tensor};
use dml_ops::channels_last::{self, depthwise_conv2d, mean_positions};
use dml_ops::{
    Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, conv2d, conv3d, gru, linear,
    linear_relu, lrn, max_pool2d, max_pool3d, order_violation, portable, relu, relu6,
};
use proptest::prelude::*;

use crate::{assert_close, distinct, gradients, normal, values};

/// Results and gradients of the kernels are those of the compositions, in f64 and in f32.
fn check(
    inputs: &[Tensor],
    kernel: impl Fn(&[Tensor]) -> Result<Tensor>,
    composition: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-4)] {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let direction = |shape: &[usize]| normal(shape, 77);
        let (found, found_gradients) = gradients(&inputs, &kernel, direction);
        let (expected, expected_gradients) = gradients(&inputs, &composition, direction);
        assert_eq!((found.dims(), found.dtype()), (expected.dims(), dtype));
        assert_close("result", &values(&found), &values(&expected), tolerance);
        for (k, (found, expected)) in found_gradients.iter().zip(&expected_gradients).enumerate() {
            assert_close(&format!("gradient {k}"), &values(found), &values(expected), tolerance);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn conv3d_is_the_kernel(
        (n, c, o) in (1usize..3, 1usize..5, 1usize..5),
        kernel in prop::array::uniform3(1usize..4),
        extra in prop::array::uniform3(0usize..6),
        stride in prop::array::uniform3(1usize..4),
        padding in prop::array::uniform3(0usize..3),
        bias: bool,
    ) {
        let [t, h, w] = [0, 1, 2].map(|i| (kernel[i] + extra[i]).max(1));
        let options = Conv3d { stride, padding, ..Conv3d::default() };
        let all = [normal((n, c, t, h, w), 0), normal((o, c, kernel[0], kernel[1], kernel[2]), 1), normal(o, 2)];
        let inputs = if bias { &all[..] } else { &all[..2] };
        check(
            inputs,
            |i| conv3d(&i[0], &i[1], i.get(2), &options),
            |i| portable::conv3d(&i[0], &i[1], i.get(2), &options),
        );
    }

    #[test]
    fn conv2d_is_the_kernel(
        (n, c, o) in (1usize..3, 1usize..5, 1usize..5),
        kernel in prop::array::uniform2(1usize..5),
        extra in prop::array::uniform2(0usize..9),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform4(0usize..3),
        depthwise: bool,
    ) {
        let [top, bottom, left, right] = padding;
        let (groups, c_w, o) = if depthwise { (c, 1, c) } else { (1, c, o) };
        let options = Conv2d { stride, padding: Padding2d { top, bottom, left, right }, groups, ..Conv2d::default() };
        let x = normal((n, c, kernel[0] + extra[0], kernel[1] + extra[1]), 0);
        check(
            &[x, normal((o, c_w, kernel[0], kernel[1]), 1), normal(o, 2)],
            |i| conv2d(&i[0], &i[1], Some(&i[2]), &options),
            |i| portable::conv2d(&i[0], &i[1], Some(&i[2]), &options),
        );
    }

    #[test]
    fn max_pool_is_the_kernel(
        (n, c) in (1usize..3, 1usize..4),
        kernel in prop::array::uniform3(1usize..4),
        extra in prop::array::uniform3(0usize..7),
        stride in prop::array::uniform3(1usize..4),
        padding in prop::array::uniform3(0usize..3),
        ceil: bool,
    ) {
        let padding = [0, 1, 2].map(|i| padding[i].min(kernel[i] - 1));
        let [t, h, w] = [0, 1, 2].map(|i| kernel[i] + extra[i]);
        let pool = Pool { kernel, stride, padding, ceil };
        let x = distinct((n, c, t, h, w), 0);
        check(&[x], |i| max_pool3d(&i[0], &pool), |i| portable::max_pool3d(&i[0], &pool));
        let pool = Pool { kernel: [kernel[1], kernel[2]], stride: [stride[1], stride[2]], padding: [padding[1], padding[2]], ceil };
        let x = distinct((n, c, h, w), 0);
        check(&[x], |i| max_pool2d(&i[0], &pool), |i| portable::max_pool2d(&i[0], &pool));
    }

    #[test]
    fn lrn_is_the_kernel(
        (n, c, h, w) in (1usize..3, 1usize..9, 1usize..6, 1usize..30),
        size in 1usize..7,
        beta in prop::sample::select(vec![0.5, 0.75, 1.0]),
        plain: bool,
    ) {
        let convention = if plain { LrnAlpha::Plain } else { LrnAlpha::DividedBySize };
        let options = Lrn { size, alpha: 0.4, beta, k: 1.5, convention };
        check(&[normal((n, c, h, w), 0)], |i| lrn(&i[0], &options), |i| portable::lrn(&i[0], &options));
    }

    #[test]
    fn depthwise_on_channels_last_is_the_kernel(
        (n, c) in (1usize..3, 1usize..70),
        kernel in prop::array::uniform2(1usize..6),
        extra in prop::array::uniform2(0usize..9),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform4(0usize..3),
        activation in prop::sample::select(vec![Activation::None, Activation::Relu, Activation::Relu6]),
        bias: bool,
    ) {
        let [top, bottom, left, right] = padding;
        let padding = Padding2d { top, bottom, left, right };
        let x = normal((n, kernel[0] + extra[0], kernel[1] + extra[1], c), 0);
        let all = [x, normal((c, 1, kernel[0], kernel[1]), 1), normal(c, 2)];
        let inputs = if bias { &all[..] } else { &all[..2] };
        check(
            inputs,
            |i| depthwise_conv2d(&i[0], &i[1], i.get(2), stride, padding, activation),
            |i| {
                let options = Conv2d { stride, padding, groups: c, ..Conv2d::default() };
                let y = portable::conv2d(&i[0].permute((0, 3, 1, 2))?, &i[1], i.get(2), &options)?;
                let y = match activation {
                    Activation::None => y,
                    Activation::Relu => portable::relu(&y)?,
                    Activation::Relu6 => portable::relu6(&y)?,
                };
                Ok(y.permute((0, 2, 3, 1))?.contiguous()?)
            },
        );
    }

    #[test]
    fn lrn_and_mean_on_channels_last_are_the_kernels(
        (n, h, w, c) in (1usize..3, 1usize..6, 1usize..30, 1usize..70),
        size in 1usize..8,
        beta in prop::sample::select(vec![0.5, 0.6, 0.75, 1.0]),
    ) {
        let options = Lrn { size, alpha: 0.4, beta, k: 1.5, convention: LrnAlpha::Plain };
        let x = [normal((n, h, w, c), 0)];
        check(
            &x,
            |i| channels_last::lrn(&i[0], &options),
            |i| {
                let y = portable::lrn(&i[0].permute((0, 3, 1, 2))?, &options)?;
                Ok(y.permute((0, 2, 3, 1))?.contiguous()?)
            },
        );
        check(&x, |i| mean_positions(&i[0]), |i| Ok(i[0].flatten(1, 2)?.mean(1)?));
    }

    #[test]
    fn order_violation_is_the_kernel((n, m, d) in (1usize..9, 1usize..9, 1usize..90)) {
        let inputs = [normal((n, d), 0), normal((m, d), 1)];
        check(&inputs, |i| order_violation(&i[0], &i[1]), |i| portable::order_violation(&i[0], &i[1]));
    }

    #[test]
    fn gru_is_the_kernel(lengths in prop::collection::vec(1usize..7, 1..30), d in 1usize..40) {
        let counts: Vec<usize> =
            (0..7).map(|step| lengths.iter().filter(|&&length| length > step).count()).filter(|&n| n > 0).collect();
        let inputs = [normal((counts.iter().sum::<usize>(), 3 * d), 0), normal((3 * d, d), 1)];
        check(&inputs, |i| gru(&i[0], &i[1], &counts), |i| portable::gru(&i[0], &i[1], &counts));
    }

    #[test]
    fn linear_is_the_kernel((n, i, o) in (1usize..70, 1usize..300, 1usize..300), bias: bool, activated: bool) {
        let all = [normal((n, i), 0), normal((o, i), 1), normal(o, 2)];
        let inputs = if bias { &all[..] } else { &all[..2] };
        check(
            inputs,
            |i| if activated { linear_relu(&i[0], &i[1], i.get(2)) } else { linear(&i[0], &i[1], i.get(2)) },
            |i| {
                let y = portable::linear(&i[0], &i[1], i.get(2))?;
                if activated { portable::relu(&y) } else { Ok(y) }
            },
        );
    }
}

#[test]
fn conv_of_several_tiles_is_the_kernel() {
    // More channels and positions than a tile takes.
    let options = Conv3d { padding: [1; 3], ..Conv3d::default() };
    let x = normal((9, 20, 3, 20, 17), 0);
    check(
        &[x, normal((5, 20, 3, 3, 3), 1), normal(5, 2)],
        |i| conv3d(&i[0], &i[1], Some(&i[2]), &options),
        |i| portable::conv3d(&i[0], &i[1], Some(&i[2]), &options),
    );
}

#[test]
fn linear_of_several_blocks_is_the_kernel() {
    // More terms, inputs and outputs than a task takes at a time.
    let inputs = [normal((35, 4133), 0), normal((103, 4133), 1), normal(103, 2)];
    check(&inputs, |i| linear(&i[0], &i[1], i.get(2)), |i| portable::linear(&i[0], &i[1], i.get(2)));
}

#[test]
fn activations_are_the_kernels() {
    for shape in [(3, 50), (7, 5001)] {
        check(&[distinct(shape, 0)], |i| relu(&i[0]), |i| portable::relu(&i[0]));
        let x = (distinct(shape, 0) * 9.0).unwrap();
        check(&[x], |i| relu6(&i[0]), |i| portable::relu6(&i[0]));
    }
}

#[test]
fn what_has_no_kernel_goes_to_the_compositions() {
    let (x, w) = (normal((1, 2, 4, 4), 0), normal((3, 2, 3, 3), 1));
    let half = |x: &Tensor| x.to_dtype(DType::BF16).unwrap();
    let y = conv2d(&half(&x), &half(&w), None, &Conv2d::default()).unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    assert_close("bf16", &values(&y), &values(&conv2d(&x, &w, None, &Conv2d::default()).unwrap()), 0.05);
}

#[test]
fn only_what_needs_a_gradient_gets_one() {
    let w = candle_core::Var::from_tensor(&normal((3, 2, 3, 3), 1)).unwrap();
    let x = normal((1, 2, 4, 4), 0);
    let y = conv2d(&x, &w, None, &Conv2d::default()).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&w).is_some() && gradients.get(&x).is_none());
}

#[test]
fn a_tie_goes_to_the_first_maximum() {
    let x = candle_core::Var::ones((1, 1, 2, 2, 3), DType::F32, &candle_core::Device::Cpu).unwrap();
    let y =
        max_pool3d(&x, &Pool { kernel: [2, 2, 2], stride: [1, 1, 1], padding: [0; 3], ceil: false }).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let mut expected = vec![0.0; 12];
    (expected[0], expected[1]) = (1.0, 1.0);
    assert_eq!(values(gradients.get(&x).unwrap()), expected);
}
