//! Times the convolutions of C3D and VGG-S, layer by layer; `cargo xtask bench kernels` runs it, beside PyTorch
//! where asked.
//!
//! `yes | cargo run -p dml-ops --example kernels -- c3d 4`; a third argument names the algorithm: `auto`, `direct`, or
//! 1, 2 or 4, Winograd with tiles of so many outputs in time. RAYON_NUM_THREADS says how many threads. It first prints a
//! line, then for every line on its standard input one JSON line about the next layer: its geometry, and the
//! seconds of the forward pass, the data gradient (none for a first layer) and the weight and bias gradient.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, stdin};
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use dml_ops::channels_last::{Then, conv2d, conv3d};
use dml_ops::{Algorithm, Conv2d, Conv3d, Padding2d, Result, backward, init};
use dml_rand::{Purpose, Stream};
use serde_json::{Value, json};

/// A convolution; two sizes mean height and width, three time, height and width.
struct Layer {
    name: &'static str,
    channels: [usize; 2],
    input: &'static [usize],
    kernel: usize,
    stride: usize,
    padding: usize,
}

const fn c3d(name: &'static str, channels: [usize; 2], input: &'static [usize]) -> Layer {
    Layer { name, channels, input, kernel: 3, stride: 1, padding: 1 }
}

const C3D: [Layer; 8] = [
    c3d("conv1", [3, 64], &[16, 112, 112]),
    c3d("conv2", [64, 128], &[16, 56, 56]),
    c3d("conv3a", [128, 256], &[8, 28, 28]),
    c3d("conv3b", [256, 256], &[8, 28, 28]),
    c3d("conv4a", [256, 512], &[4, 14, 14]),
    c3d("conv4b", [512, 512], &[4, 14, 14]),
    c3d("conv5a", [512, 512], &[2, 7, 7]),
    c3d("conv5b", [512, 512], &[2, 7, 7]),
];

const VGG_S: [Layer; 5] = [
    Layer { name: "conv1", channels: [3, 96], input: &[224, 224], kernel: 7, stride: 2, padding: 0 },
    Layer { name: "conv2", channels: [96, 256], input: &[37, 37], kernel: 5, stride: 1, padding: 0 },
    Layer { name: "conv3", channels: [256, 512], input: &[17, 17], kernel: 3, stride: 1, padding: 1 },
    Layer { name: "conv4", channels: [512, 512], input: &[17, 17], kernel: 3, stride: 1, padding: 1 },
    Layer { name: "conv5", channels: [512, 512], input: &[17, 17], kernel: 3, stride: 1, padding: 1 },
];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Freed memory stays with the process, as in the `dml` command: fresh memory costs a page fault every 4 KiB.
fn keep_memory() {
    // SAFETY: sets an option of the allocator.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

type Failure = Box<dyn std::error::Error>;

fn main() -> std::result::Result<(), Failure> {
    keep_memory();
    let usage = "usage: kernels c3d|vgg-s BATCH [auto|direct|1|2|4]";
    let mut args = std::env::args().skip(1);
    let layers: &[Layer] = match args.next().as_deref() {
        Some("c3d") => &C3D,
        Some("vgg-s") => &VGG_S,
        _ => return Err(usage.into()),
    };
    let batch = args.next().ok_or(usage)?.parse()?;
    let algorithm = match args.next().as_deref() {
        None | Some("auto") => Algorithm::Auto,
        Some("direct") => Algorithm::Direct,
        Some(tile) => Algorithm::Winograd(tile.parse()?),
    };
    println!("{}", json!({ "ready": true, "layers": layers.len() }));
    for (layer, line) in layers.iter().zip(stdin().lock().lines()) {
        line?;
        println!("{}", layer.measure(batch, algorithm)?);
    }
    Ok(())
}

impl Layer {
    fn measure(&self, batch: usize, algorithm: Algorithm) -> Result<Value> {
        let [c_in, c_out] = self.channels;
        let kernel = vec![self.kernel; self.input.len()];
        let x = random(&[&[batch], self.input, &[c_in]].concat())?;
        let w = random(&[&[c_out, c_in], &kernel[..]].concat())?;
        let b = random(&[c_out])?;
        let first = c_in == 3;

        let y = self.forward(&x.detach(), &w.detach(), &b.detach(), algorithm)?;
        let taps: usize = kernel.iter().product();
        let gflop = 2e-9 * (y.elem_count() * c_in * taps) as f64;
        let output = y.dims()[1..y.rank() - 1].to_vec();
        drop(y);
        let forward = time(|| self.forward(&x.detach(), &w.detach(), &b.detach(), algorithm))?;
        // `backward` starts from a gradient of ones.
        let for_data = self.forward(&x, &w.detach(), &b.detach(), algorithm)?;
        let data_gradient = if first { None } else { Some(time(|| backward(&for_data))?) };
        drop(for_data);
        let for_weights = self.forward(&x.detach(), &w, &b, algorithm)?;
        let weight_gradient = time(|| backward(&for_weights))?;
        Ok(json!({
            "layer": self.name,
            "x": x.dims(),
            "w": w.dims(),
            "output": output,
            "stride": self.stride,
            "padding": self.padding,
            "first": first,
            "gflop": gflop,
            "forward": forward,
            "data_gradient": data_gradient,
            "weight_gradient": weight_gradient,
        }))
    }

    /// The one place that says which operation is measured.
    fn forward(&self, x: &Tensor, w: &Tensor, b: &Tensor, algorithm: Algorithm) -> Result<Tensor> {
        let p = self.padding;
        if self.input.len() == 3 {
            let options = Conv3d { stride: [self.stride; 3], padding: [p; 3], algorithm };
            conv3d(x, w, Some(b), &options, &Then::default())
        } else {
            let padding = Padding2d { top: p, bottom: p, left: p, right: p };
            let options = Conv2d { stride: [self.stride; 2], padding, groups: 1, algorithm };
            conv2d(x, w, Some(b), &options, &Then::default())
        }
    }
}

fn random(shape: &[usize]) -> Result<Var> {
    let mut stream = Stream::new(0, Purpose::Test, 0, 0);
    Ok(Var::from_tensor(&init::uniform(shape, (-1.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?)?)
}

/// The median of at least three runs over at least half a second, after one that is not counted.
fn time<R>(run: impl Fn() -> Result<R>) -> Result<f64> {
    run()?;
    let begin = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 3 || begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
