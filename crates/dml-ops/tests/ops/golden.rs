use candle_core::{DType, Device, Tensor};
use dml_ops::channels_last::{self, depthwise_conv2d};
use dml_ops::{
    Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, conv2d, conv3d, linear_relu, lrn,
    max_pool3d,
};
use serde_json::Value;

use crate::{assert_close, gradients, values};

/// What golden/ops.py wrote.
pub(crate) fn golden(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../golden/ops.json")).unwrap();
    all[part].as_array().unwrap().clone()
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn sizes<const N: usize>(value: &Value) -> [usize; N] {
    let sizes: Vec<usize> = numbers(value).into_iter().map(|x| x as usize).collect();
    sizes.try_into().unwrap()
}

/// `wave` of golden/ops.py.
pub(crate) fn wave(shape: &[usize], speed: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| (i as f64 * speed + 1.0).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Checks the result and the gradients in f64, and the result in f32.
fn check(case: &Value, inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (result, gradients) = gradients(inputs, &function, |shape| wave(shape, 0.3));
    let shape: Vec<f64> = result.dims().iter().map(|&size| size as f64).collect();
    assert_eq!(shape, numbers(&case["shape"]));
    assert_close("result", &values(&result), &numbers(&case["result"]), 1e-10);
    for (k, gradient) in gradients.iter().enumerate() {
        assert_close(&format!("gradient {k}"), &values(gradient), &numbers(&case["gradients"][k]), 1e-10);
    }
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    assert_close("f32", &values(&function(&inputs).unwrap()), &numbers(&case["result"]), 1e-5);
}

#[test]
fn conv3d_is_torchs() {
    for case in golden("conv3d") {
        let (x, w) = (sizes::<5>(&case["x"]), sizes::<5>(&case["w"]));
        let options =
            Conv3d { stride: sizes(&case["stride"]), padding: sizes(&case["padding"]), ..Conv3d::default() };
        let inputs = [wave(&x, 0.7), wave(&w, 1.1), wave(&w[..1], 2.0)];
        check(&case, &inputs, |i| conv3d(&i[0], &i[1], Some(&i[2]), &options));
    }
}

#[test]
fn conv2d_is_torchs() {
    for case in golden("conv2d") {
        let (x, w) = (sizes::<4>(&case["x"]), sizes::<4>(&case["w"]));
        let [top, bottom, left, right] = sizes(&case["padding"]);
        let padding = Padding2d { top, bottom, left, right };
        let groups = case["groups"].as_u64().unwrap() as usize;
        let options = Conv2d { stride: sizes(&case["stride"]), padding, groups, ..Conv2d::default() };
        let inputs = [wave(&x, 0.7), wave(&w, 1.1), wave(&w[..1], 2.0)];
        check(&case, &inputs, |i| conv2d(&i[0], &i[1], Some(&i[2]), &options));
    }
}

#[test]
fn depthwise_conv2d_is_torchs() {
    for case in golden("depthwise") {
        let (x, w) = (sizes::<4>(&case["x"]), sizes::<4>(&case["w"]));
        let [top, bottom, left, right] = sizes(&case["padding"]);
        let padding = Padding2d { top, bottom, left, right };
        let inputs = [(wave(&x, 0.7) * 6.0).unwrap(), wave(&w, 1.1), wave(&w[..1], 2.0)];
        check(&case, &inputs, |i| {
            let stride = sizes(&case["stride"]);
            depthwise_conv2d(&i[0], &i[1], Some(&i[2]), stride, padding, Activation::Relu6)
        });
    }
}

#[test]
fn linear_is_torchs() {
    for case in golden("linear") {
        let x = sizes::<2>(&case["x"]);
        let outputs = case["outputs"].as_u64().unwrap() as usize;
        let inputs = [wave(&x, 0.7), wave(&[outputs, x[1]], 1.1), wave(&[outputs], 2.0)];
        check(&case, &inputs, |i| linear_relu(&i[0], &i[1], Some(&i[2])));
    }
}

#[test]
fn max_pool_is_torchs() {
    for case in golden("pool") {
        let pool = Pool {
            kernel: sizes(&case["kernel"]),
            stride: sizes(&case["stride"]),
            padding: sizes(&case["padding"]),
            ceil: case["ceil"].as_bool().unwrap(),
        };
        check(&case, &[wave(&sizes::<5>(&case["x"]), 0.7)], |i| max_pool3d(&i[0], &pool));
    }
}

#[test]
fn lrn_is_torchs() {
    for case in golden("lrn") {
        let alpha = case["alpha"].as_f64().unwrap();
        let size = case["size"].as_u64().unwrap() as usize;
        let options = Lrn { size, alpha, beta: 0.75, k: 2.0, convention: LrnAlpha::DividedBySize };
        let scale = if alpha < 0.1 { 30.0 } else { 1.0 };
        let x = (wave(&sizes::<4>(&case["x"]), 0.7) * scale).unwrap();
        check(&case, std::slice::from_ref(&x), |i| lrn(&i[0], &options));
        check(&case, &[x], |i| {
            Ok(channels_last::lrn(&i[0].permute((0, 2, 3, 1))?, &options)?.permute((0, 3, 1, 2))?)
        });
        // The other convention is the same function of another number.
        let x = wave(&sizes::<4>(&case["x"]), 0.7);
        let plain = Lrn { alpha: alpha / size as f64, convention: LrnAlpha::Plain, ..options };
        let (divided, plain) = (lrn(&x, &options).unwrap(), lrn(&x, &plain).unwrap());
        assert_close("alpha", &values(&plain), &values(&divided), 1e-14);
    }
}
