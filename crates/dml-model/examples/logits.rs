//! The answers of C3D or VGG-S with imported weights: logits c3d|vgg-s WEIGHTS INPUT OUTPUT, all safetensors. INPUT holds
//! `input` (n, 3, …); OUTPUT gets `logits`.
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use candle_core::Device;
use dml_model::{C3d, Mode, Params, VggS, load_safetensors, save_safetensors};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, weights, input, output] = args.as_slice() else {
        return Err("usage: logits c3d|vgg-s WEIGHTS INPUT OUTPUT".into());
    };
    let tensors = load_safetensors(Path::new(weights), &Device::Cpu)?;
    let input = load_safetensors(Path::new(input), &Device::Cpu)?;
    let input = input.get("input").ok_or("no tensor `input`")?;
    let classes = tensors.get("fc8.bias").ok_or("no classifier fc8")?.elem_count();
    let params = Params::new(0, &Device::Cpu);
    let logits = match kind.as_str() {
        "c3d" => {
            let net = C3d::with_classifier(classes, 0.5, params.builder())?;
            params.load(tensors)?;
            net.logits(input, &Mode::Eval)?
        }
        "vgg-s" => {
            let net = VggS::with_classifier(classes, 0.5, params.builder())?;
            params.load(tensors)?;
            net.logits(input, &Mode::Eval)?
        }
        other => return Err(format!("unknown network {other}").into()),
    };
    let logits = logits.ok_or("no classifier")?;
    eprintln!("{:?} → {:?}", input.dims(), logits.dims());
    save_safetensors(Path::new(output), &BTreeMap::from([("logits".into(), logits)]), &BTreeMap::new())?;
    Ok(())
}
