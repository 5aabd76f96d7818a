use candle_core::Tensor;
use dml_ops::channels_last::{self, depthwise_conv2d, mean_positions};
use dml_ops::{
    Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, RowKeys, conv2d, conv3d, dropout,
    gradient_errors, linear, linear_relu, lrn, max_pool2d, max_pool3d, relu, relu6,
};

use crate::{distinct, normal};

/// Holds the gradients against central differences, in f64.
fn check(name: &str, inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    for (k, error) in gradient_errors(inputs, function).unwrap().into_iter().enumerate() {
        assert!(error <= 1e-7, "{name}, input {k}: its gradient is off by {error}");
    }
}

#[test]
fn of_conv3d() {
    for (stride, padding) in [([1, 1, 1], [1, 1, 1]), ([2, 1, 3], [0, 2, 1]), ([1, 3, 2], [1, 0, 0])] {
        let options = Conv3d { stride, padding, ..Conv3d::default() };
        let inputs = [normal((2, 2, 3, 5, 7), 0), normal((3, 2, 3, 2, 3), 1), normal(3, 2)];
        check("conv3d", &inputs, |i| conv3d(&i[0], &i[1], Some(&i[2]), &options));
        check("conv3d without bias", &inputs[..2], |i| conv3d(&i[0], &i[1], None, &options));
    }
}

#[test]
fn of_conv2d() {
    let padding = Padding2d { top: 1, bottom: 2, left: 0, right: 1 };
    for (stride, padding) in [([1, 1], padding), ([2, 3], padding), ([2, 1], Padding2d::default())] {
        let options = Conv2d { stride, padding, ..Conv2d::default() };
        let inputs = [normal((2, 3, 5, 7), 0), normal((2, 3, 3, 2), 1), normal(2, 2)];
        check("conv2d", &inputs, |i| conv2d(&i[0], &i[1], Some(&i[2]), &options));
        let options = Conv2d { groups: 3, ..options };
        let inputs = [normal((2, 3, 5, 7), 0), normal((3, 1, 3, 2), 1), normal(3, 2)];
        check("depthwise", &inputs, |i| conv2d(&i[0], &i[1], Some(&i[2]), &options));
        check("depthwise without bias", &inputs[..2], |i| conv2d(&i[0], &i[1], None, &options));
    }
    let inputs = [normal((2, 3, 5, 7), 0), normal((4, 3, 1, 1), 1)];
    check("pointwise", &inputs, |i| conv2d(&i[0], &i[1], None, &Conv2d::default()));
}

#[test]
fn of_max_pool() {
    for ceil in [false, true] {
        let pool = Pool { kernel: [2, 3, 2], stride: [2, 2, 3], padding: [1, 1, 0], ceil };
        check("max_pool3d", &[distinct((2, 2, 5, 7, 7), 0)], |i| max_pool3d(&i[0], &pool));
        let pool = Pool { kernel: [3, 3], stride: [2, 1], padding: [0, 1], ceil };
        check("max_pool2d", &[distinct((2, 3, 6, 5), 0)], |i| max_pool2d(&i[0], &pool));
    }
}

#[test]
fn of_lrn() {
    for (size, beta, convention) in [
        (5, 0.75, LrnAlpha::DividedBySize),
        (3, 0.5, LrnAlpha::Plain),
        (4, 0.75, LrnAlpha::Plain),
        (1, 1.0, LrnAlpha::Plain),
    ] {
        let options = Lrn { size, alpha: 0.3, beta, k: 2.0, convention };
        check("lrn", &[normal((2, 6, 3, 5), 0)], |i| lrn(&i[0], &options));
    }
}

#[test]
fn of_operations_on_channels_last() {
    let padding = Padding2d { top: 1, bottom: 2, left: 0, right: 1 };
    for (stride, kernel) in [([1, 1], [3, 3]), ([2, 2], [5, 5]), ([2, 1], [3, 2])] {
        let inputs = [normal((2, 6, 7, 5), 0), normal((5, 1, kernel[0], kernel[1]), 1), normal(5, 2)];
        for activation in [Activation::None, Activation::Relu] {
            check("depthwise_conv2d", &inputs, |i| {
                depthwise_conv2d(&i[0], &i[1], Some(&i[2]), stride, padding, activation)
            });
        }
    }
    for (size, beta) in [(5, 0.75), (4, 0.75), (3, 0.5), (2, 0.6), (1, 1.0)] {
        let options = Lrn { size, alpha: 0.3, beta, k: 2.0, convention: LrnAlpha::Plain };
        check("lrn", &[normal((2, 2, 3, 7), 0)], |i| channels_last::lrn(&i[0], &options));
    }
    check("mean_positions", &[normal((2, 2, 3, 7), 0)], |i| mean_positions(&i[0]));
}

#[test]
fn of_linear() {
    let inputs = [normal((3, 7), 0), normal((5, 7), 1), normal(5, 2)];
    check("linear", &inputs, |i| linear(&i[0], &i[1], Some(&i[2])));
    check("linear without bias", &inputs[..2], |i| linear(&i[0], &i[1], None));
    check("linear_relu", &inputs, |i| linear_relu(&i[0], &i[1], Some(&i[2])));
}

#[test]
fn of_relu_and_dropout() {
    check("relu", &[distinct((3, 7), 0)], |i| relu(&i[0]));
    // On both sides of 0 and of 6.
    check("relu6", &[(distinct((3, 7), 0) * 9.0).unwrap()], |i| relu6(&i[0]));
    let keys = RowKeys { seed: 3, epoch: 1, samples: vec![5, 8, 2] };
    check("dropout", &[normal((3, 7), 0)], |i| dropout(&i[0], 0.4, 1, &keys));
}

#[test]
fn of_a_transposed_input() {
    let options = Conv2d::default();
    let inputs = [normal((4, 5, 3, 2), 0), normal((2, 3, 2, 2), 1)];
    check("conv2d of a transposed input", &inputs, |i| {
        conv2d(&i[0].permute((3, 2, 0, 1))?, &i[1], None, &options)
    });
}
