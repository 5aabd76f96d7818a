//! Single operations: `cargo bench -p dml-ops --bench ops [FILTER]`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use candle_core::{DType, Device, Tensor, Var};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use dml_ops::channels_last::{self, depthwise_conv2d, mean_positions};
use dml_ops::{
    Activation, Adam, AdamConfig, Lrn, LrnAlpha, Padding2d, Result, RowKeys, dropout, linear_relu, relu,
};
use dml_rand::{Purpose, Stream};

/// Uniform values in [−1, 1), f32.
fn values(shape: &[usize]) -> Tensor {
    let mut stream = Stream::new(1, Purpose::Test, 0, 0);
    dml_ops::init::uniform(shape, (-1.0, 1.0), &mut stream, DType::F32, &Device::Cpu).unwrap()
}

/// Times a function of tensors, and then its gradients: of the inputs in turn.
fn time(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    inputs: &[Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    group.bench_function(format!("{name}/forward"), |b| b.iter(|| black_box(function(inputs).unwrap())));
    for (i, input) in inputs.iter().enumerate() {
        let var = Var::from_tensor(input).unwrap();
        let mut inputs = inputs.to_vec();
        inputs[i] = var.as_tensor().clone();
        let result = function(&inputs).unwrap();
        let gradient = result.ones_like().unwrap().detach();
        // The store's own zeros and sums are measured with the gradient, as in training.
        let loss = (&result * &gradient).unwrap().sum_all().unwrap();
        group.bench_function(format!("{name}/gradient{i}"), |b| {
            b.iter(|| black_box(loss.backward().unwrap()))
        });
    }
}

fn linears(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for (inputs, outputs) in
        [(8192, 4096), (4096, 4096), (18432, 4096), (1280, 1024), (4096, 487), (4096, 20)]
    {
        let (w, bias) = (values(&[outputs, inputs]), values(&[outputs]));
        for rows in [1, 4, 16, 64] {
            let x = values(&[rows, inputs]);
            group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64));
            let all = [x, w.clone(), bias.clone()];
            time(&mut group, &format!("{rows}x{inputs}x{outputs}"), &all, |i| {
                linear_relu(&i[0], &i[1], Some(&i[2]))
            });
        }
    }
    group.finish();
}

fn adam(c: &mut Criterion) {
    let mut group = c.benchmark_group("adam");
    for count in [78_000_000, 103_000_000] {
        let var = Var::from_tensor(&values(&[count])).unwrap();
        let gradient = values(&[count]);
        let mut adam = Adam::new(AdamConfig::default());
        // A parameter, its gradient and two moments are read, three of them written.
        group.throughput(Throughput::Bytes(28 * count as u64));
        group.bench_function(format!("{count}"), |b| {
            b.iter(|| adam.update("p", &var, &gradient, 1e-3).unwrap());
        });
    }
    group.finish();
}

fn elementwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("elementwise");
    let x = values(&[16, 800_000]);
    group.throughput(Throughput::Elements(x.elem_count() as u64));
    time(&mut group, "relu", &[x], |i| relu(&i[0]));
    let x = values(&[64, 4096]);
    let keys = RowKeys { seed: 1, epoch: 0, samples: (0..64).collect() };
    group.throughput(Throughput::Elements(x.elem_count() as u64));
    time(&mut group, "dropout", &[x], |i| dropout(&i[0], 0.5, 0, &keys));
    group.finish();
}

/// Layers of EfficientNet-Lite0 and of VGG-S.
fn channels_last(c: &mut Criterion) {
    let mut group = c.benchmark_group("channels_last");
    for (side, channels, kernel, stride) in
        [(112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 5, 2), (28, 240, 3, 2), (14, 672, 5, 1), (7, 1152, 5, 1)]
    {
        let x = values(&[16, side, side, channels]);
        let all = [x.clone(), values(&[channels, 1, kernel, kernel]), values(&[channels])];
        let padding = Padding2d::same([side; 2], [kernel; 2], [stride; 2]);
        group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
        time(&mut group, &format!("depthwise/{side}x{channels}x{kernel}/{stride}"), &all, |i| {
            depthwise_conv2d(&i[0], &i[1], Some(&i[2]), [stride; 2], padding, Activation::Relu6)
        });
    }
    let options = Lrn { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0, convention: LrnAlpha::Plain };
    let x = values(&[16, 109, 109, 96]);
    group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
    time(&mut group, "lrn", &[x], |i| channels_last::lrn(&i[0], &options));
    let x = values(&[64, 7, 7, 1280]);
    group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
    time(&mut group, "mean_positions", &[x], |i| mean_positions(&i[0]));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000));
    targets = linears, adam, elementwise, channels_last
}
criterion_main!(benches);
