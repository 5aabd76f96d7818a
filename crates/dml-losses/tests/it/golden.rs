//! Values and gradients of PyTorch, made by `tests/golden/losses.py`; on the GPU too where candle has one.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::common::{ALL, apply, assert_close, matrix, value_and_gradient};

fn check(case: &Value, dtype: DType, device: &Device, tolerance: f64) {
    let rows = |key: &str| -> Vec<Vec<f64>> { serde_json::from_value(case[key].clone()).unwrap() };
    let loss = case["loss"].as_str().unwrap();
    let name = format!("{} {dtype:?}", case["name"]);
    let second = if loss == "cls" {
        let labels: Vec<u32> = serde_json::from_value(case["second"].clone()).unwrap();
        Tensor::new(labels, device).unwrap()
    } else {
        matrix(&rows("second"), dtype, device)
    };
    let parameter = case["parameter"].as_f64().unwrap_or(f64::NAN);

    let (value, gradient) = value_and_gradient(&matrix(&rows("prediction"), dtype, device), |prediction| {
        apply(loss, prediction, &second, parameter)
    });
    assert_close(&name, &[value], &[case["value"].as_f64().unwrap()], tolerance);
    assert_close(&name, &gradient, &rows("gradient").concat(), tolerance);
    if case.get("second_gradient").is_some() {
        let prediction = matrix(&rows("prediction"), dtype, device);
        let (_, gradient) = value_and_gradient(&second, |second| apply(loss, &prediction, second, parameter));
        assert_close(&name, &gradient, &rows("second_gradient").concat(), tolerance);
    }
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/losses.json")).unwrap();
    for loss in ALL {
        assert!(cases.iter().any(|case| case["loss"] == loss), "no golden value of {loss}");
    }
    let mut devices = vec![Device::Cpu];
    if candle_core::utils::cuda_is_available() {
        devices.push(Device::new_cuda(0).unwrap());
    }
    for device in &devices {
        for case in &cases {
            check(case, DType::F64, device, 1e-12);
            check(case, DType::F32, device, 1e-5);
        }
    }
}
