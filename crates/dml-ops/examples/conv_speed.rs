//! Times the operations at the sizes of a small network on clips (3×8×32×32), and of some larger layers.
//!
//! `cargo run -p dml-ops --example conv_speed [batch]`. Operations are those of a direct convolution.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device, Var};
use dml_ops::{Conv3d, Pool, Result, conv3d, init, linear, max_pool3d, relu};
use dml_rand::{Purpose, Stream};

fn main() -> Result<()> {
    let batch: usize = std::env::args().nth(1).and_then(|x| x.parse().ok()).unwrap_or(16);
    println!("batch {batch}: milliseconds (and GFLOP/s)");
    for (name, c, o, size) in [
        ("conv 3-16 of 8x32x32", 3, 16, [8, 32, 32]),
        ("conv 16-32 of 8x16x16", 16, 32, [8, 16, 16]),
        ("conv 32-64 of 4x8x8", 32, 64, [4, 8, 8]),
        ("conv 64-128 of 4x28x28", 64, 128, [4, 28, 28]),
    ] {
        let x = var((batch, c, size[0], size[1], size[2]))?;
        let (w, b) = (var((o, c, 3, 3, 3))?, var(o)?);
        let options = Conv3d { padding: [1; 3], ..Conv3d::default() };
        let gflop = 2e-9 * (batch * o * c * 27 * size.iter().product::<usize>()) as f64;
        let forward = time(|| conv3d(&x.detach(), &w, Some(&b), &options))?;
        let weights = time(|| Ok(conv3d(&x.detach(), &w, Some(&b), &options)?.backward()?))? - forward;
        let both = time(|| Ok(conv3d(&x, &w, Some(&b), &options)?.backward()?))? - forward;
        let show =
            |what, ms: f64, times: f64| println!("  {what:24} {ms:8.2} ({:.0})", times * gflop / ms * 1e3);
        println!("{name}");
        show("forward", forward, 1.0);
        show("gradient of w", weights, 1.0);
        show("gradients of x and w", both, 2.0);
    }
    let x = var((batch, 16, 8, 32, 32))?;
    let pool = Pool { kernel: [1, 2, 2], stride: [1, 2, 2], padding: [0; 3], ceil: false };
    println!("on 16x8x32x32, forward and backward");
    println!("  relu                     {:8.2}", time(|| Ok(relu(&x)?.backward()?))?);
    println!("  candle's relu            {:8.2}", time(|| Ok(x.relu()?.backward()?))?);
    println!("  max_pool3d               {:8.2}", time(|| Ok(max_pool3d(&x, &pool)?.backward()?))?);
    let (x, w, b) = (var((batch, 8192))?, var((4096, 8192))?, var(4096)?);
    println!("linear 8192-4096");
    println!("  forward                  {:8.2}", time(|| linear(&x, &w, Some(&b)))?);
    println!("  candle's forward         {:8.2}", time(|| Ok(x.matmul(&w.t()?)?))?);
    let x_only = time(|| Ok(linear(&x, &w.detach(), None)?.backward()?))?;
    let w_only = time(|| Ok(linear(&x.detach(), &w, None)?.backward()?))?;
    println!("  with gradient of x       {x_only:8.2}");
    println!("  with gradient of w       {w_only:8.2}");
    Ok(())
}

fn var(shape: impl Into<candle_core::Shape>) -> Result<Var> {
    let mut stream = Stream::new(0, Purpose::Test, 0, 0);
    Ok(Var::from_tensor(&init::uniform(shape, (-1.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?)?)
}

/// The fastest of several runs, in milliseconds.
fn time<R>(run: impl Fn() -> Result<R>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}
