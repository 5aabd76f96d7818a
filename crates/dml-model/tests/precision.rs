//! A root in bf16: a process-wide setting, so these tests have a process of their own.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use dml_model::{HeadConfig, Mode, MultiTaskNet, NetConfig, Params, RootConfig};
use dml_ops::{Precision, RowKeys, init};
use dml_rand::{Purpose, Stream};

/// The features of a batch, and the gradient of every parameter.
fn run(root: &RootConfig, precision: Precision) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    dml_ops::set_precision(precision);
    let params = Params::new(1, &Device::Cpu);
    let heads = [("action".to_owned(), HeadConfig::Classes { classes: 3 })].into();
    let net = MultiTaskNet::new(&NetConfig { root: root.clone(), heads }, params.builder()).unwrap();
    let shape: Vec<usize> = [2].into_iter().chain(net.input_shape()).collect();
    let mut stream = Stream::new(0, Purpose::Test, 0, 0);
    let x = init::normal(shape, (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu).unwrap();
    let keys = RowKeys { seed: 0, epoch: 0, samples: vec![0, 1] };
    let features = net.features(&x, &Mode::Train(&keys)).unwrap();
    assert_eq!(features.dtype(), DType::F32);
    let loss = net.head("action", &features).unwrap().sqr().unwrap().sum_all().unwrap();
    let gradients = dml_ops::backward(&loss).unwrap();
    let all = params.vars().into_iter().map(|(name, var)| {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} got no gradient"));
        assert_eq!(gradient.dtype(), DType::F32, "{name}");
        (name, values(gradient))
    });
    let all = all.collect();
    dml_ops::set_precision(Precision::F32);
    (values(&features), all)
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The difference's norm relative to the second's.
fn error(a: &[f32], b: &[f32]) -> f32 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(1e-12)
}

#[test]
fn bf16_is_near_f32_and_its_gradients_reach_the_f32_parameters() {
    for root in [
        RootConfig::SmallClip { frames: 4, size: 8, channels: [4, 6, 8], hidden: 24, dropout: 0.5 },
        RootConfig::SmallImage { size: 16, channels: [4, 6, 8], hidden: 24, dropout: 0.5 },
    ] {
        let (half, half_gradients) = run(&root, Precision::Bf16);
        let (full, full_gradients) = run(&root, Precision::F32);
        let off = error(&half, &full);
        assert!(off > 1e-5 && off < 0.03, "{root:?}: features are {off} off");
        for ((name, half), (_, full)) in half_gradients.iter().zip(&full_gradients) {
            // Rounding moves maxima of pools and kinks of ReLUs, so single values differ: the direction counts.
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let cosine = dot(half, full) / (dot(half, half) * dot(full, full)).sqrt();
            assert!(cosine > 0.93, "{root:?}: the gradient of {name} points elsewhere: cosine {cosine}");
        }
    }
}
