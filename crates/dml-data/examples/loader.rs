//! How fast prepared data are read: `cargo run -p dml-data --example loader -- clips DIR` for a prepared UCF101, or
//! `images DIR` for a prepared VOC. `loader.py` beside this file runs PyTorch on the same files and compares.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use dml_data::{BgrPipeline, ClipPipeline, Dataset, Prefetch, Ucf101, View, Voc, order};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, dir, workers, seconds] = arguments.as_slice() else {
        return Err("usage: loader clips|images DIR WORKERS SECONDS".into());
    };
    let (workers, seconds): (usize, f64) = (workers.parse()?, seconds.parse()?);
    let dir = Path::new(dir);
    let (set, batch): (Arc<dyn Dataset>, usize) = match kind.as_str() {
        "clips" => (Arc::new(Ucf101::open(dir, 1, "train", &ClipPipeline::default())?), 16),
        "images" => (Arc::new(Voc::open(dir, None, "train", BgrPipeline::default())?), 64),
        _ => return Err("the first argument is clips or images".into()),
    };
    let prefetch = Prefetch { workers, batches: 2 * workers };
    // The first epoch fills the page cache and is not timed.
    let (mut start, mut samples) = (Instant::now(), 0);
    for epoch in 0.. {
        if epoch == 1 {
            (start, samples) = (Instant::now(), 0);
        }
        let view = View { seed: 1, epoch: Some(epoch) };
        for loaded in prefetch.batches(set.clone(), order(1, epoch, set.len()), view, batch, &Device::Cpu)? {
            samples += loaded?.indices.len();
        }
        if epoch >= 1 && start.elapsed().as_secs_f64() >= seconds {
            break;
        }
    }
    println!("{:.1}", samples as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
