//! Sentences a second: throughput FOLDER FILE OUTPUT, a sentence-transformers model and a file with one sentence a line; the
//! vectors go to OUTPUT, as safetensors, to be compared with another library's.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use dml_teacher::{SentenceEncoder, SentenceTransformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file, output] = args.as_slice() else {
        return Err("usage: throughput FOLDER FILE OUTPUT".into());
    };
    let encoder = SentenceTransformer::from_dir(Path::new(folder), &Device::Cpu)?;
    let text = std::fs::read_to_string(file)?;
    let sentences: Vec<&str> = text.lines().collect();
    encoder.encode(&sentences[..sentences.len().min(64)])?;
    let start = Instant::now();
    let vectors = encoder.encode(&sentences)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{:?}: {:.1} sentences/s, {seconds:.2} s", vectors.dims(), sentences.len() as f64 / seconds);
    vectors.save_safetensors("vectors", output)?;
    Ok(())
}
