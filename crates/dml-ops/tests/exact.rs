//! The process's choice of exact convolutions: a process of its own, because all convolutions obey it.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use dml_ops::channels_last::{Then, conv3d};
use dml_ops::{Algorithm, Conv3d, init, set_exact};
use dml_rand::{Purpose, Stream};

fn normal(shape: &[usize], sample: u64) -> Tensor {
    let mut stream = Stream::new(1, Purpose::Test, 0, sample);
    init::normal(shape, (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn exact_means_direct() {
    let (x, w) = (normal(&[1, 4, 28, 28, 64], 0), normal(&[64, 64, 3, 3, 3], 1));
    let run = |algorithm| {
        let options = Conv3d { padding: [1; 3], algorithm, ..Conv3d::default() };
        let y = conv3d(&x, &w, None, &options, &Then::default()).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let direct = run(Algorithm::Direct);
    assert!(run(Algorithm::Auto) != direct, "the fastest algorithm is the direct one");
    set_exact(true);
    assert!(run(Algorithm::Auto) == direct, "exact is not direct");
    assert!(run(Algorithm::Winograd(1)) != direct, "a named algorithm is not taken");
    set_exact(false);
}
