use candle_core::{DType, Device, Tensor, Var};
use dml_ops::channels_last::{self, depthwise_conv2d, mean_positions};
use dml_ops::{
    Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, RowKeys, conv2d, conv3d, dropout,
    gru, linear, linear_relu, lrn, max_pool2d, order_violation, portable, relu, relu6,
};

use crate::{normal, values};

fn refused(result: Result<Tensor>, message: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn that_do_not_fit_are_named() {
    let (x, w) = (normal((1, 2, 4, 5, 5), 0), normal((3, 2, 3, 3, 3), 1));
    let options = Conv3d::default();
    refused(
        conv3d(&x, &normal((3, 1, 3, 3, 3), 1), None, &options),
        "conv3d: w must have 2 input channels, has 1",
    );
    refused(conv3d(&x, &w, Some(&normal(2, 1)), &options), "conv3d: bias must have shape [3], has [2]");
    refused(conv3d(&x, &normal((3, 2, 5, 3, 3), 1), None, &options), "larger than the padded input");
    refused(conv3d(&x, &w, None, &Conv3d { stride: [1, 0, 1], ..options }), "stride must not be 0");
    let (x, w) = (normal((1, 4, 5, 5), 0), normal((4, 2, 3, 3), 1));
    refused(conv2d(&x, &w, None, &Conv2d { groups: 2, ..Conv2d::default() }), "groups must be 1, or 4");
    let pool = |kernel, padding| max_pool2d(&x, &Pool { kernel, stride: [1, 1], padding, ceil: false });
    refused(pool([2, 2], [0, 2]), "padding of 2 is not less");
    refused(pool([6, 2], [0, 0]), "does not fit into an input of 5");
    refused(linear(&normal((2, 3), 0), &normal((4, 5), 1), None), "w must have 3 inputs, has 5");
    refused(
        linear_relu(&normal((2, 3), 0), &normal((4, 3), 1), Some(&normal(3, 2))),
        "linear_relu: bias must have shape [4], has [3]",
    );
    let (last, filters, none) = (normal((1, 5, 5, 4), 0), normal((4, 1, 3, 3), 1), Padding2d::default());
    let depthwise = |w: &Tensor, bias: Option<&Tensor>, stride| {
        depthwise_conv2d(&last, w, bias, stride, none, Activation::Relu6)
    };
    refused(depthwise(&normal((3, 1, 3, 3), 1), None, [1, 1]), "w must be [4, 1, kh, kw], is [3, 1, 3, 3]");
    refused(depthwise(&normal((4, 1, 6, 3), 1), None, [1, 1]), "larger than the padded input");
    refused(depthwise(&filters, Some(&normal(3, 2)), [1, 1]), "bias must have shape [4], has [3]");
    refused(depthwise(&filters, None, [1, 0]), "stride must not be 0");
    let (steps, state) = (normal((5, 9), 0), normal((9, 3), 1));
    refused(gru(&steps, &state, &[3, 1]), "x must have shape [4, 9], has [5, 9]");
    refused(gru(&steps, &normal((9, 4), 1), &[3, 2]), "w must have shape [3 d, d], has [9, 4]");
    refused(gru(&steps, &state, &[2, 3]), "counts must fall");
    refused(
        order_violation(&normal((2, 3), 0), &normal((4, 5), 1)),
        "b must have rows of 3 values, has [4, 5]",
    );
    refused(mean_positions(&normal((2, 0, 3), 0)), "mean_positions: x must have positions");
    let options = Lrn { size: 0, alpha: 1.0, beta: 0.5, k: 1.0, convention: LrnAlpha::Plain };
    refused(lrn(&x, &options), "size must not be 0");
    refused(channels_last::lrn(&x, &options), "size must not be 0");
    refused(lrn(&x, &Lrn { size: 3, k: 0.0, ..options }), "k, alpha must be positive");
    let keys = RowKeys { seed: 0, epoch: 0, samples: vec![1, 2] };
    refused(dropout(&x, 0.5, 0, &keys), "keys has 2 samples for 1 rows");
    refused(dropout(&x, 1.0, 0, &keys), "p must be in [0, 1)");
    // The types of x and w differ: candle's own message.
    refused(
        conv2d(
            &x,
            &w.narrow(1, 0, 1).unwrap().to_dtype(DType::F32).unwrap(),
            None,
            &Conv2d { groups: 4, ..Conv2d::default() },
        ),
        "dtype",
    );
}

#[test]
fn same_padding_is_tensorflows() {
    // (input, kernel, stride) → zeros before and after, from TensorFlow's documentation of SAME.
    for (input, kernel, stride, before, after) in [
        (224, 3, 2, 0, 1),
        (112, 3, 1, 1, 1),
        (113, 3, 2, 1, 1),
        (56, 5, 2, 1, 2),
        (7, 1, 1, 0, 0),
        (5, 2, 3, 0, 0),
    ] {
        let padding = Padding2d::same([input, 9], [kernel, 1], [stride, 1]);
        assert_eq!(
            padding,
            Padding2d { top: before, bottom: after, left: 0, right: 0 },
            "{input} {kernel} {stride}"
        );
    }
}

#[test]
fn nan_passes_relu_and_max_pool() {
    let x = Tensor::new(&[[[[1f32, f32::NAN, 3.0, -2.0], [0.0, 5.0, -1.0, -4.0]]]], &Device::Cpu).unwrap();
    for y in [relu(&x), portable::relu(&x)] {
        let y = values(&y.unwrap());
        assert!(y[1].is_nan());
        assert_eq!([y[0], y[2], y[3], y[4]], [1.0, 3.0, 0.0, 0.0]);
    }
    // PyTorch's values, and its gradient of 0 at both ends.
    let x6 = Var::new(&[-1f64, 0.0, 2.0, 6.0, 7.0, f64::NAN], &Device::Cpu).unwrap();
    for y in [relu6(&x6), portable::relu6(&x6)] {
        let y = y.unwrap();
        assert_eq!(values(&y)[..5], [0.0, 0.0, 2.0, 6.0, 6.0]);
        assert!(values(&y)[5].is_nan());
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(values(gradients.get(&x6).unwrap())[..5], [0.0, 0.0, 1.0, 0.0, 0.0]);
    }
    let y = max_pool2d(&x, &Pool { kernel: [2, 2], stride: [2, 2], padding: [0, 0], ceil: false }).unwrap();
    assert!(values(&y)[0].is_nan());
    assert_eq!(values(&y)[1], 3.0);
}
