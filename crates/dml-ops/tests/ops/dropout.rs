use candle_core::{DType, Device, Tensor};
use dml_ops::{RowKeys, dropout};

use crate::values;

fn keys(samples: &[u64]) -> RowKeys {
    RowKeys { seed: 7, epoch: 2, samples: samples.to_vec() }
}

fn ones(rows: usize, row: usize) -> Tensor {
    Tensor::ones((rows, row), DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_row_depends_on_its_sample_alone() {
    let both = dropout(&ones(2, 101), 0.5, 0, &keys(&[4, 9])).unwrap();
    let swapped = dropout(&ones(2, 101), 0.5, 0, &keys(&[9, 4])).unwrap();
    let row = |x: &Tensor, i| values(&x.get(i).unwrap());
    assert_eq!(row(&both, 0), row(&swapped, 1));
    assert_eq!(row(&both, 1), row(&swapped, 0));
    assert_ne!(row(&both, 0), row(&both, 1));
    let other_layer = dropout(&ones(2, 101), 0.5, 1, &keys(&[4, 9])).unwrap();
    let other_epoch = dropout(&ones(2, 101), 0.5, 0, &RowKeys { epoch: 3, ..keys(&[4, 9]) }).unwrap();
    assert_ne!(values(&both), values(&other_layer));
    assert_ne!(values(&both), values(&other_epoch));
}

#[test]
fn drops_with_its_probability_and_keeps_the_mean() {
    for p in [0.1, 0.5, 0.9] {
        let n = 200_000;
        let y = values(&dropout(&ones(1, n), p, 0, &keys(&[1])).unwrap());
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / n as f64;
        // Four standard deviations.
        assert!((dropped - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt(), "{dropped} for {p}");
        assert!(y.iter().all(|&y| y == 0.0 || (y * (1.0 - p) - 1.0).abs() < 2e-4));
    }
    let x = ones(3, 4);
    assert_eq!(values(&dropout(&x, 0.0, 0, &keys(&[1, 2, 3])).unwrap()), values(&x));
}

#[test]
fn is_the_same_without_a_kernel() {
    let x = ones(2, 103);
    let kernel = dropout(&x, 0.5, 3, &keys(&[1, 2])).unwrap();
    let composition = dropout(&x.to_dtype(DType::BF16).unwrap(), 0.5, 3, &keys(&[1, 2])).unwrap();
    assert_eq!(values(&kernel), values(&composition));
}
