//! Gradients of what training is made of, on this processor and on a device.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use dml_losses::l2_normalize;
use dml_ops::channels_last::{self, Then};
use dml_ops::{Activation, Conv2d, Conv3d, Lrn, LrnAlpha, Padding2d, Pool, RowKeys, init};
use dml_rand::{Purpose, Stream};

use super::{Finding, State};

/// Largest error in f64 against central differences, as the tests have it.
const EXACT: f64 = 1e-7;
/// Largest error of f32 on the device against f64 on the processor, relative to the gradient's root mean square or 1.
const SINGLE: f64 = 1e-3;

type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor, candle_core::Error>>;

struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    function: Function,
}

/// Checks every operation: in f64 against central differences, and in f32 on the device against f64.
pub(super) fn check(device: &Device) -> Finding {
    let (mut exact, mut single, mut wrong) = (0.0f64, 0.0f64, Vec::new());
    let cases = cases();
    for case in &cases {
        match errors(case, device) {
            Ok((e, s)) => {
                (exact, single) = (exact.max(e), single.max(s));
                if e > EXACT || s > SINGLE {
                    wrong.push(format!("{} (f64 {e:.0e}, f32 {s:.0e})", case.name));
                }
            }
            Err(error) => wrong.push(format!("{} ({error:#})", case.name)),
        }
    }
    let count = cases.len();
    match wrong.is_empty() {
        true => Finding::good(
            "gradients",
            format!("{count} operations: at most {exact:.0e} off in f64, {single:.0e} in f32"),
        ),
        false => Finding::other(
            "gradients",
            State::Bad,
            format!("wrong for {} of {count} operations: {}", wrong.len(), wrong.join(", ")),
            "do not train with this build on this device",
        ),
    }
}

fn errors(case: &Case, device: &Device) -> Result<(f64, f64)> {
    let draw = |(number, shape): (usize, &Vec<usize>)| {
        let mut stream = Stream::new(1, Purpose::Test, 0, number as u64);
        init::normal(shape.as_slice(), (0.0, 1.0), &mut stream, DType::F64, &Device::Cpu)
    };
    let inputs: Vec<Tensor> = case.shapes.iter().enumerate().map(draw).collect::<Result<_, _>>()?;
    let exact = dml_ops::gradient_errors(&inputs, &case.function)?.into_iter().fold(0.0, f64::max);
    let moved = inputs.iter().map(|x| x.to_dtype(DType::F32)?.to_device(device));
    let there = dml_ops::gradients(&moved.collect::<Result<Vec<_>, _>>()?, &case.function)?;
    let mut single = 0.0f64;
    for (there, here) in there.iter().zip(dml_ops::gradients(&inputs, &case.function)?) {
        let values =
            |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (there, here) = (values(there)?, values(&here)?);
        let scale = (here.iter().map(|x| x * x).sum::<f64>() / here.len().max(1) as f64).sqrt().max(1.0);
        let off = there.iter().zip(&here).map(|(a, b)| (a - b).abs() / scale);
        single = off.map(|off| if off.is_finite() { off } else { f64::INFINITY }).fold(single, f64::max);
    }
    Ok((exact, single))
}

fn cases() -> Vec<Case> {
    fn case(
        name: &'static str,
        shapes: &[&[usize]],
        function: impl Fn(&[Tensor]) -> Result<Tensor, candle_core::Error> + 'static,
    ) -> Case {
        Case {
            name,
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
            function: Box::new(function),
        }
    }
    let same = Padding2d { top: 1, bottom: 1, left: 1, right: 1 };
    let lrn = Lrn { size: 5, alpha: 0.3, beta: 0.75, k: 2.0, convention: LrnAlpha::DividedBySize };
    let pool = Pool { kernel: [2; 3], stride: [2; 3], padding: [0; 3], ceil: true };
    let wrap = |error: dml_losses::LossError| candle_core::Error::Msg(error.to_string());
    // What a loss is held to: drawn once, of the prediction's type and place.
    let target = |x: &Tensor| -> Result<Tensor, candle_core::Error> {
        let mut stream = Stream::new(1, Purpose::Test, 1, 0);
        let drawn = init::normal(x.shape(), (0.0, 1.0), &mut stream, DType::F64, &Device::Cpu)?;
        drawn.to_dtype(x.dtype())?.to_device(x.device())
    };
    vec![
        case("conv3d with pooling", &[&[2, 4, 5, 6, 3], &[4, 3, 3, 3, 3], &[4]], move |i| {
            let options = Conv3d { padding: [1; 3], ..Conv3d::default() };
            Ok(channels_last::conv3d(&i[0], &i[1], Some(&i[2]), &options, &Then::relu(Some(pool)))?)
        }),
        case("conv2d", &[&[2, 5, 6, 3], &[4, 3, 3, 3], &[4]], move |i| {
            let options = Conv2d { padding: same, ..Conv2d::default() };
            Ok(channels_last::conv2d(&i[0], &i[1], Some(&i[2]), &options, &Then::relu(None))?)
        }),
        case("depthwise conv2d", &[&[2, 5, 6, 3], &[3, 1, 3, 3], &[3]], move |i| {
            let activation = Activation::Relu6;
            Ok(channels_last::depthwise_conv2d(&i[0], &i[1], Some(&i[2]), [2, 1], same, activation)?)
        }),
        case("max_pool3d", &[&[2, 3, 4, 5, 5]], move |i| Ok(dml_ops::max_pool3d(&i[0], &pool)?)),
        case("lrn", &[&[2, 3, 4, 7]], move |i| Ok(channels_last::lrn(&i[0], &lrn)?)),
        case("linear with relu", &[&[3, 7], &[5, 7], &[5]], |i| {
            Ok(dml_ops::linear_relu(&i[0], &i[1], Some(&i[2]))?)
        }),
        case("dropout", &[&[3, 7]], |i| {
            let keys = RowKeys { seed: 3, epoch: 1, samples: vec![5, 8, 2] };
            Ok(dml_ops::dropout(&i[0], 0.4, 1, &keys)?)
        }),
        case("class loss", &[&[4, 5]], move |i| {
            let labels = Tensor::new(&[0u32, 3, 4, 3], i[0].device())?;
            dml_losses::cls(&i[0], &labels).map_err(wrap)
        }),
        case("distillation", &[&[4, 5]], move |i| {
            let recorded = dml_losses::log_softmax(&target(&i[0])?).map_err(wrap)?.exp()?;
            dml_losses::distill(&i[0], &recorded, 2.0).map_err(wrap)
        }),
        case("caption loss", &[&[4, 5]], move |i| {
            let sentences = l2_normalize(&target(&i[0])?).map_err(wrap)?;
            dml_losses::emb(&i[0], &sentences).map_err(wrap)
        }),
        case("contrastive loss", &[&[4, 5]], move |i| {
            let sentences = l2_normalize(&target(&i[0])?).map_err(wrap)?;
            dml_losses::info_nce(&i[0], &sentences, 0.2).map_err(wrap)
        }),
    ]
}
