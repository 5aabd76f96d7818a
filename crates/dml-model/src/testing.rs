//! What the tests of several modules share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::Init;
use candle_nn::var_builder::SimpleBackend;
use dml_ops::RowKeys;

use crate::weights::{Published, local};
use crate::{Mode, Params, Result, Root};

/// Answers of the PyTorch scripts in `tests/golden`, and the parameters and inputs they had: made by a
/// formula from the name, the same there and here.
pub(crate) struct Golden(serde_json::Value);

impl Golden {
    pub(crate) fn read(json: &str, case: &str) -> Self {
        let mut all: serde_json::Value = serde_json::from_str(json).unwrap();
        Self(all[case].take())
    }

    pub(crate) fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(Formula), DType::F64, Device::Cpu)
    }

    pub(crate) fn input(&self, shape: &[usize]) -> Tensor {
        let values: Vec<f64> = formula("input").take(shape.iter().product()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn input_f32(&self, shape: &[usize]) -> Tensor {
        self.input(shape).to_dtype(DType::F32).unwrap()
    }

    /// Compares with the golden values of this name, relative to the largest of them.
    pub(crate) fn check(&self, name: &str, got: &Tensor) {
        let want: Vec<f64> = serde_json::from_value(self.0[name].clone()).unwrap();
        let tolerance = if got.dtype() == DType::F64 { 1e-10 } else { 1e-4 };
        let got = got.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(got.len(), want.len(), "{name}");
        let scale = want.iter().fold(0f64, |scale, value| scale.max(value.abs()));
        assert!(scale > 0.0, "{name}: a golden answer of zeros proves nothing");
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= tolerance * scale, "{name}[{i}]: {got}, PyTorch {want}");
        }
    }
}

/// Values in [-1, 1) that look random: a 32-bit hash of the name's hash and the index.
fn formula(name: &str) -> impl Iterator<Item = f64> {
    let start = dml_rand::hash(name) as u32;
    (0u32..).map(move |i| {
        let mut x = start.wrapping_add(i.wrapping_mul(0x9e37_79b1));
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        f64::from(x ^ (x >> 16)) / 2f64.powi(31) - 1.0
    })
}

struct Formula;

impl SimpleBackend for Formula {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        _: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let (offset, scale) = match (name.rsplit('.').next(), shape.dims()) {
            (Some("running_var"), _) => (1.0, 0.5),
            (Some("running_mean" | "bias"), _) => (0.0, 0.1),
            (_, [_]) => (1.0, 0.2),
            (_, dims) => (0.0, (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt()),
        };
        let values: Vec<f64> =
            formula(name).take(shape.elem_count()).map(|value| offset + scale * value).collect();
        Tensor::from_vec(values, shape, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Counts parameters without allocating them.
#[derive(Clone, Default)]
pub(crate) struct Counting(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl Counting {
    pub(crate) fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, Device::Cpu)
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().unwrap().values().map(|shape| shape.iter().product::<usize>()).sum()
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.0.lock().unwrap()[name].clone()
    }
}

impl SimpleBackend for Counting {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        _: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.0.lock().unwrap().insert(name.into(), shape.dims().to_vec());
        Tensor::zeros(1, DType::F32, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Checks that in training every variable of a root gets a gradient that is not zero.
pub(crate) fn every_variable_learns(
    shape: &[usize],
    build: impl FnOnce(VarBuilder) -> Result<Box<dyn Root>>,
) {
    let params = Params::new(3, &Device::Cpu);
    let root = build(params.builder()).unwrap();
    assert_eq!(root.input_shape(), shape);
    let batch: Vec<usize> = [2].into_iter().chain(shape.iter().copied()).collect();
    let values: Vec<f32> = formula("input").take(batch.iter().product()).map(|value| value as f32).collect();
    let x = Tensor::from_vec(values, batch, &Device::Cpu).unwrap();
    let keys = RowKeys { seed: 1, epoch: 0, samples: vec![0, 1] };
    let features = root.forward(&x, &Mode::Train(&keys)).unwrap();
    assert_eq!(features.dims(), [2, root.feature_dim()]);
    let gradients = features.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let vars = params.vars();
    assert!(!vars.is_empty());
    for (name, var) in vars {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} got no gradient"));
        let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0 && size.is_finite(), "{name}: the gradient sums to {size}");
    }
}

/// Published weights on this machine, or a line that says why their test is left out.
pub(crate) fn weights_or_say_why(published: &Published) -> Option<PathBuf> {
    let found = local(published);
    if found.is_none() {
        eprintln!("left out: {} are neither in $DML_WEIGHTS nor in the user's cache", published.what);
    }
    found
}
