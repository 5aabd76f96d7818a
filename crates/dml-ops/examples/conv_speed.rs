//! Times the convolutions of C3D on the CPU: `cargo run -p dml-ops --example conv_speed -- [batch] [algorithm …]`, where an
//! algorithm is auto, direct, or 1, 2 or 4: Winograd with tiles of so many outputs in time. Operations are those of a
//! direct convolution.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device, Var};
use dml_ops::channels_last::{Then, conv3d};
use dml_ops::{Algorithm, Conv3d, Result, init};
use dml_rand::{Purpose, Stream};

/// Inputs, outputs, and sizes over time, height and width.
const LAYERS: [(&str, usize, usize, [usize; 3]); 7] = [
    ("conv1a", 3, 64, [16, 112, 112]),
    ("conv2a", 64, 128, [16, 56, 56]),
    ("conv3a", 128, 256, [8, 28, 28]),
    ("conv3b", 256, 256, [8, 28, 28]),
    ("conv4a", 256, 512, [4, 14, 14]),
    ("conv4b", 512, 512, [4, 14, 14]),
    ("conv5a", 512, 512, [2, 7, 7]),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let batch: usize = arguments.next().and_then(|x| x.parse().ok()).unwrap_or(4);
    let mut algorithms: Vec<String> = arguments.collect();
    if algorithms.is_empty() {
        algorithms.push("auto".into());
    }
    println!("batch {batch}: milliseconds (GFLOP/s) forward, gradient of x, gradient of w");
    for (name, c, o, [t, h, w]) in LAYERS {
        let x = var((batch, t, h, w, c))?;
        let (filters, bias) = (var((o, c, 3, 3, 3))?, var(o)?);
        let gflop = 2e-9 * (batch * o * c * 27 * t * h * w) as f64;
        for algorithm in &algorithms {
            let options = Conv3d {
                padding: [1; 3],
                algorithm: match algorithm.as_str() {
                    "auto" => Algorithm::Auto,
                    "direct" => Algorithm::Direct,
                    tile => Algorithm::Winograd(tile.parse().unwrap_or(1)),
                },
                ..Conv3d::default()
            };
            let then = Then::default();
            let run = |x: &candle_core::Tensor, w: &candle_core::Tensor| {
                conv3d(x, w, Some(&bias.detach()), &options, &then)
            };
            let forward = time(|| run(&x.detach(), &filters.detach()))?;
            let data = time(|| Ok(run(&x, &filters.detach())?.backward()?))? - forward;
            let weights = time(|| Ok(run(&x.detach(), &filters)?.backward()?))? - forward;
            let show = |ms: f64| format!("{ms:8.1} ({:4.0})", gflop / ms * 1e3);
            println!("{name} {algorithm:6} {} {} {}", show(forward), show(data), show(weights));
        }
    }
    Ok(())
}

fn var(shape: impl Into<candle_core::Shape>) -> Result<Var> {
    let mut stream = Stream::new(0, Purpose::Test, 0, 0);
    Ok(Var::from_tensor(&init::uniform(shape, (-1.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?)?)
}

/// The fastest of several runs, in milliseconds.
fn time<R>(mut run: impl FnMut() -> Result<R>) -> Result<f64> {
    let mut best = f64::INFINITY;
    run()?;
    for _ in 0..3 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}
