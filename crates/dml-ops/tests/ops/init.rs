use candle_core::{DType, Device};
use dml_ops::init::{constant, normal, orthogonal, torch_linear_bound, uniform};
use dml_rand::{Purpose, Stream};

use crate::values;

#[test]
fn draws_from_the_stream_alone() {
    let stream = || Stream::new(1, Purpose::Init, 0, dml_rand::hash("conv.weight"));
    let draw = |dtype| uniform((40, 50), (-0.5, 0.25), &mut stream(), dtype, &Device::Cpu).unwrap();
    let x = draw(DType::F32);
    assert_eq!((x.dims(), x.dtype()), (&[40, 50][..], DType::F32));
    assert!(values(&x).iter().all(|x| (-0.5..=0.25).contains(x)));
    // Row-major, in the stream's order; and the type changes the rounding only.
    let mut expected = stream();
    let expected: Vec<f64> = (0..2000).map(|_| expected.range(-0.5, 0.25)).collect();
    assert_eq!(values(&draw(DType::F64)), expected);
    assert_eq!(values(&x), expected.iter().map(|&x| f64::from(x as f32)).collect::<Vec<_>>());
}

#[test]
fn normal_has_its_mean_and_deviation() {
    let mut stream = Stream::new(2, Purpose::Test, 0, 0);
    let x = values(&normal(20_000, (3.0, 0.5), &mut stream, DType::F64, &Device::Cpu).unwrap());
    let mean = x.iter().sum::<f64>() / 2e4;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
    // Four standard deviations of the estimates.
    assert!((mean - 3.0).abs() < 0.015 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
}

#[test]
fn constants_and_torchs_bound() {
    let x = constant((2, 3), 0.75, DType::BF16, &Device::Cpu).unwrap();
    assert_eq!((values(&x), x.dtype()), (vec![0.75; 6], DType::BF16));
    assert_eq!([torch_linear_bound(16), torch_linear_bound(0)], [0.25, 0.0]);
}

#[test]
fn orthogonal_keeps_lengths() {
    let stream = |seed| Stream::new(seed, Purpose::Test, 0, 0);
    let draw = |seed| orthogonal(65, &mut stream(seed), DType::F64, &Device::Cpu).unwrap();
    let x = draw(3);
    let products = values(&x.matmul(&x.t().unwrap()).unwrap());
    for (i, product) in products.iter().enumerate() {
        let expected = if i / 65 == i % 65 { 1.0 } else { 0.0 };
        assert!((product - expected).abs() < 1e-12, "row {} by row {}: {product}", i / 65, i % 65);
    }
    assert_eq!(values(&x), values(&draw(3)));
    assert_ne!(values(&x), values(&draw(4)));
}
