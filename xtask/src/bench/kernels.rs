//! `cargo xtask bench kernels`: every convolution of a network, in all three directions.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::child::{Program, number, rest};
use super::{Model, example, processor, torch};

/// Measure the convolutions of C3D and VGG-S, layer by layer
///
/// For each: milliseconds, and GFLOP/s as the operations of a direct convolution over the time. Beside PyTorch, f32 in
/// the better of its two layouts, with the ratio of its time to ours.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Both networks unless one is named
    #[arg(long, value_parser = parse_model)]
    model: Option<Model>,

    /// Clips or images
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Threads of each program
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,

    /// Compare with PyTorch, installed into a cache folder where $DML_TORCH_VENV names none
    #[arg(long)]
    vs_torch: bool,
}

const MODELS: [Model; 2] = [Model::C3d, Model::VggS];

fn parse_model(name: &str) -> Result<Model, String> {
    let found = MODELS.into_iter().find(|model| model.name() == name);
    found.ok_or_else(|| "must be c3d or vgg-s".into())
}

const DIRECTIONS: [(&str, &str); 3] =
    [("forward", "forward"), ("data gradient", "data_gradient"), ("weight gradient", "weight_gradient")];

pub(super) fn run(args: &Args) -> Result<()> {
    let python = args.vs_torch.then(torch::python).transpose()?;
    let program = example("kernels", &[])?;
    let threads = args.threads.to_string();
    let mut theirs = match &python {
        Some(python) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/dml-ops/bench/kernels.py");
            let mut command = Command::new(python);
            Some(Program::start("PyTorch's program", command.arg(script).args(["--threads", &threads]))?)
        }
        None => None,
    };
    for model in args.model.map_or(MODELS.to_vec(), |model| vec![model]) {
        let mut command = Command::new(&program);
        command.args([model.name(), &args.batch.to_string()]).env("RAYON_NUM_THREADS", &threads);
        let mut ours = Program::start("our program", &mut command)?;
        println!("{}, batch {}, {threads} threads, {}: ms (GFLOP/s)", model.name(), args.batch, processor());
        let layers = number(&ours.ready, "layers")? as usize;
        for _ in 0..layers {
            rest();
            let layer = ours.ask("")?;
            rest();
            let torch = theirs.as_mut().map(|theirs| theirs.ask(&layer.to_string())).transpose()?;
            println!("{}", row(&layer, torch.as_ref())?);
        }
    }
    if let Some(theirs) = &theirs {
        println!(
            "PyTorch {}, f32, the better of its layouts",
            theirs.ready["version"].as_str().unwrap_or("?")
        );
    }
    Ok(())
}

fn row(layer: &Value, torch: Option<&Value>) -> Result<String> {
    let gflop = number(layer, "gflop")?;
    let mut row = format!("{:7}", layer["layer"].as_str().unwrap_or("?"));
    for (name, key) in DIRECTIONS {
        // A first layer needs no data gradient, and says so.
        if layer.get(key) == Some(&Value::Null) {
            continue;
        }
        let ours = number(layer, key)?;
        row += &format!(" | {name} {:.2} ({:.0})", ours * 1e3, gflop / ours);
        if let Some(torch) = torch {
            let theirs = number(torch, key)?;
            row +=
                &format!(", torch {:.2} ({:.0}), ratio {:.2}", theirs * 1e3, gflop / theirs, theirs / ours);
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_times_rates_and_ratios() {
        let first = json!({ "layer": "conv1", "gflop": 2.0, "forward": 0.01, "data_gradient": null,
            "weight_gradient": 0.02 });
        assert_eq!(row(&first, None).unwrap(), "conv1   | forward 10.00 (200) | weight gradient 20.00 (100)");
        let torch = json!({ "forward": 0.03, "weight_gradient": 0.01 });
        assert_eq!(
            row(&first, Some(&torch)).unwrap(),
            "conv1   | forward 10.00 (200), torch 30.00 (67), ratio 3.00 \
             | weight gradient 20.00 (100), torch 10.00 (200), ratio 0.50"
        );
        assert!(row(&json!({ "gflop": 1.0 }), None).is_err());
    }
}
