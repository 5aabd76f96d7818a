//! The operations on a GPU against the CPU's in f64: results and gradients, f32 and bf16. Left out where there is none.

use candle_core::{DType, Device, Tensor, Var};
use dml_ops::channels_last::{self, Then, depthwise_conv2d};
use dml_ops::{
    Activation, Adam, AdamConfig, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, Result, RowKeys, conv2d,
    conv3d, dropout, gru, l2_normalize, linear_relu, log_softmax, lrn, max_pool3d, order_violation,
};

use crate::{assert_close, distinct, gradients, normal, values};

fn gpu() -> Option<Device> {
    let device = Device::new_cuda(0).ok();
    if device.is_none() {
        eprintln!("left out, as there is no GPU");
    }
    device
}

/// Results and gradients of f32 values are those of f64 values on the CPU; where they are wanted, those of bf16 values, too.
fn check(
    name: &str,
    inputs: &[Tensor],
    types: &[(DType, f64)],
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let Some(device) = gpu() else { return };
    for &(dtype, tolerance) in types {
        // What the type cannot hold is not the operation's error.
        let rounded: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let exact: Vec<Tensor> = rounded.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
        let (want, want_gradients) = gradients(&exact, &function, |shape| normal(shape, 77));
        let there: Vec<Tensor> = rounded.iter().map(|x| x.to_device(&device).unwrap()).collect();
        let (found, found_gradients) =
            gradients(&there, &function, |shape| normal(shape, 77).to_device(&device).unwrap());
        assert!(found.device().is_cuda() && found.dtype() == dtype, "{name}");
        assert_close(&format!("{name}, {dtype:?}"), &values(&found), &values(&want), tolerance);
        for (k, (found, want)) in found_gradients.iter().zip(&want_gradients).enumerate() {
            assert_close(
                &format!("{name}, {dtype:?}, gradient {k}"),
                &values(found),
                &values(want),
                tolerance,
            );
        }
    }
}

const BOTH: [(DType, f64); 2] = [(DType::F32, 2e-4), (DType::BF16, 4e-2)];
const F32: [(DType, f64); 1] = [(DType::F32, 2e-4)];

#[test]
fn convolutions() {
    let pool = Pool { kernel: [2; 3], stride: [2; 3], padding: [0; 3], ceil: true };
    let same = Conv3d { padding: [1; 3], ..Conv3d::default() };
    let inputs =
        [normal((2, 4, 9, 10, 16), 0), (normal((24, 16, 3, 3, 3), 1) * 0.05).unwrap(), normal(24, 2)];
    check("conv3d, relu and pool", &inputs, &BOTH, |i| {
        channels_last::conv3d(&i[0], &i[1], Some(&i[2]), &same, &Then::relu(Some(pool)))
    });
    check("conv3d of three channels", &[normal((1, 3, 4, 6, 7), 0), normal((5, 3, 3, 3, 3), 1)], &F32, |i| {
        conv3d(&i[0], &i[1], None, &same)
    });
    for (kernel, stride, padding) in
        [(5, 1, Padding2d::default()), (7, 2, Padding2d { top: 1, bottom: 2, left: 0, right: 1 })]
    {
        let options = Conv2d { stride: [stride; 2], padding, ..Conv2d::default() };
        let w = (normal((16, 8, kernel, kernel), 1) * 0.1).unwrap();
        let inputs = [normal((2, 8, 19, 23), 0), w, normal(16, 2)];
        check("conv2d", &inputs, &F32, |i| conv2d(&i[0], &i[1], Some(&i[2]), &options));
    }
    let padding = Padding2d { top: 0, bottom: 1, left: 0, right: 1 };
    let inputs = [normal((2, 14, 15, 32), 0), normal((32, 1, 3, 3), 1), normal(32, 2)];
    check("depthwise", &inputs, &F32, |i| {
        depthwise_conv2d(&i[0], &i[1], Some(&i[2]), [2, 2], padding, Activation::Relu6)
    });
}

#[test]
fn the_rest() {
    let pool = Pool { kernel: [2, 3, 3], stride: [2, 2, 2], padding: [0, 1, 1], ceil: true };
    check("max_pool3d", &[distinct((2, 5, 4, 9, 8), 0)], &F32, |i| max_pool3d(&i[0], &pool));
    let options = Lrn { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0, convention: LrnAlpha::DividedBySize };
    check("lrn", &[normal((2, 16, 5, 6), 0)], &BOTH, |i| lrn(&i[0], &options));
    let inputs = [normal((17, 300), 0), (normal((120, 300), 1) * 0.1).unwrap(), normal(120, 2)];
    check("linear_relu", &inputs, &BOTH, |i| linear_relu(&i[0], &i[1], Some(&i[2])));
    check("log_softmax", &[(normal((64, 101), 0) * 20.0).unwrap()], &F32, |i| log_softmax(&i[0]));
    check("l2_normalize", &[normal((64, 384), 0)], &F32, |i| l2_normalize(&i[0]));
    let keys = RowKeys { seed: 3, epoch: 1, samples: vec![4, 5, 6] };
    check("dropout", &[normal((3, 1001), 0)], &BOTH, |i| dropout(&i[0], 0.5, 6, &keys));
    check("gru", &[normal((10, 24), 0), normal((24, 8), 1)], &F32, |i| gru(&i[0], &i[1], &[5, 3, 2]));
    let inputs = [normal((6, 40), 0), normal((9, 40), 1)];
    check("order_violation", &inputs, &F32, |i| order_violation(&i[0], &i[1]));
}

#[test]
fn adam_takes_the_steps_of_the_cpu() {
    let Some(device) = gpu() else { return };
    let run = |device: &Device| {
        let tensor = |shape: &[usize], sample| {
            normal(shape, sample).to_dtype(DType::F32).unwrap().to_device(device).unwrap()
        };
        // More than one launch's, of several blocks and of one value.
        let shapes: Vec<Vec<usize>> =
            (0..60).map(|i| if i % 7 == 0 { vec![70, 90] } else { vec![1 + i] }).collect();
        let vars: Vec<Var> =
            shapes.iter().map(|shape| Var::from_tensor(&tensor(shape, 1)).unwrap()).collect();
        let names: Vec<String> = (0..60).map(|i| format!("p{i}")).collect();
        let mut adam = Adam::new(AdamConfig::default());
        for step in 0..3 {
            let gradients: Vec<Tensor> = shapes.iter().map(|shape| tensor(shape, 2 + step)).collect();
            let all: Vec<_> = (0..60).map(|i| (names[i].as_str(), &vars[i], &gradients[i], 1e-3)).collect();
            adam.update_all(&all).unwrap();
        }
        let moments = adam.state().unwrap();
        let moments = moments.values().flat_map(values);
        vars.iter().flat_map(|var| values(var.as_tensor())).chain(moments).collect::<Vec<f64>>()
    };
    assert_close("adam", &run(&device), &run(&Device::Cpu), 1e-6);
}

#[test]
fn the_same_bits_at_every_run() {
    let Some(device) = gpu() else { return };
    let same = Conv3d { padding: [1; 3], ..Conv3d::default() };
    let inputs = [normal((2, 4, 9, 10, 16), 0), normal((24, 16, 3, 3, 3), 1), normal(24, 2)];
    let inputs: Vec<Tensor> =
        inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap().to_device(&device).unwrap()).collect();
    let bits = || {
        let (result, gradients) = gradients(
            &inputs,
            |i| channels_last::conv3d(&i[0], &i[1], Some(&i[2]), &same, &Then::relu(None)),
            |shape| normal(shape, 77).to_device(&device).unwrap(),
        );
        gradients.iter().chain([&result]).map(values).collect::<Vec<_>>()
    };
    assert_eq!(bits(), bits());
}
