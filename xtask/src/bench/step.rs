//! `cargo xtask bench step`: a whole training step, ours and PyTorch's in turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use super::child::{Program, number, rest};
use super::spread::{Spread, seconds};
use super::{Model, example, graphics_processor, processor, profile, torch};

/// Measure a training step: forward with dropout, backward, Adam
///
/// On the CPU ours is f32. On a GPU the forward pass, the step, and the step that preserves a second task by a frozen copy
/// are measured in f32, TF32 and bf16, each beside PyTorch's in the same type.
///
/// With efficientnet-lite0 the forward pass in evaluation is measured as well. Beside PyTorch, each of its variants
/// (contiguous and channels-last, fused and foreach Adam; in evaluation also with batch normalisation folded) warms up,
/// and the fastest for f32 and the fastest for bf16 autocast take turns with ours.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    model: Model,

    /// Clips or images a step
    #[arg(long)]
    batch: usize,

    /// Runs of each program; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Threads of each program
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,

    /// Where both run: `cuda` takes a CUDA toolkit to build ours with, or `--program`
    #[arg(long, value_enum, default_value = "cpu")]
    device: Where,

    /// Our measuring program, where it is built already (`cargo build --example step`)
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// Compare with PyTorch, installed into a cache folder where $DML_TORCH_VENV names none
    #[arg(long)]
    vs_torch: bool,

    /// Ours without Winograd's transforms
    #[arg(long)]
    exact: bool,

    /// Try torch.compile as one more variant
    #[arg(long, requires = "vs_torch")]
    compile: bool,

    /// Also show which share of our step each part takes, sampled with Linux's perf
    #[arg(long)]
    profile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    Cpu,
    Cuda,
}

impl Where {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let python = args.vs_torch.then(torch::python).transpose()?;
    let features: &[&str] = match args.device {
        Where::Cpu => &[],
        Where::Cuda => &["--features", "dml-cli/cuda,dml-cli/cudnn"],
    };
    let program = args.program.clone().map_or_else(|| example("step", features), Ok)?;
    let python = python.as_deref();
    if args.device == Where::Cuda {
        for precision in ["f32", "tf32", "bf16"] {
            for pass in ["forward", "step", "lwf"] {
                compare(args, (pass, precision), &program, python, &[precision])?;
            }
        }
        return Ok(());
    }
    if args.model == Model::EfficientnetLite0 {
        compare(args, ("forward", "f32"), &program, python, &["f32", "bf16"])?;
    }
    compare(args, ("step", "f32"), &program, python, &["f32", "bf16"])?;
    if args.profile {
        profile::run(&mut command(args, ("step", "f32"), &program), args.runs)?;
    }
    Ok(())
}

fn command(args: &Args, (pass, precision): (&str, &str), program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--model", args.model.name(), "--batch", &args.batch.to_string(), "--pass", pass]);
    command.args(["--device", args.device.name(), "--precision", precision]);
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    if args.exact {
        command.arg("--exact");
    }
    command
}

fn compare(
    args: &Args,
    (pass, precision): (&str, &str),
    program: &Path,
    python: Option<&Path>,
    dtypes: &[&'static str],
) -> Result<()> {
    let mut theirs = Vec::new();
    if let Some(python) = python {
        for &dtype in dtypes {
            theirs.push(Theirs::fastest(args, pass, dtype, python)?);
        }
    }
    let mut ours = Runs::new(Program::start("our program", &mut command(args, (pass, precision), program))?);
    for _ in 0..args.runs {
        ours.next()?;
        for theirs in &mut theirs {
            theirs.runs.next()?;
        }
    }
    let ours_s = ours.spread.median();
    let kind = if args.device == Where::Cuda { format!(" {precision}") } else { String::new() };
    let mut line = format!("{} {pass}: ours{kind} {} s", args.model.name(), seconds(ours_s));
    let mut spread = format!("  batch {}, {} runs: ours {} s", args.batch, args.runs, ours.spread);
    let mut peaks = ours.peak();
    let mut version = String::new();
    for (i, Theirs { dtype, variant, runs }) in theirs.iter().enumerate() {
        let comma = if i == 0 { "," } else { ";" };
        let median = runs.spread.median();
        line += &format!("{comma} torch {dtype} {} s, ratio {:.2}", seconds(median), median / ours_s);
        spread += &format!(", torch {dtype} {} s ({variant}, {} MiB)", runs.spread, runs.peak());
        if i == 0 {
            peaks += &format!(", {}", runs.peak());
            version = format!("; PyTorch {}", runs.program.ready["version"].as_str().unwrap_or("?"));
        }
    }
    println!("{line}; peak MiB {peaks}");
    let exact = if args.exact { "; ours exact" } else { "" };
    let machine = match args.device {
        Where::Cpu => format!("{} threads; {}", args.threads, processor()),
        Where::Cuda => graphics_processor(),
    };
    println!("{spread}; {machine}{version}{exact}");
    Ok(())
}

/// The runs of a program.
struct Runs {
    program: Program,
    spread: Spread,
    last: Value,
}

impl Runs {
    fn new(program: Program) -> Self {
        Self { program, spread: Spread::default(), last: Value::Null }
    }

    fn next(&mut self) -> Result<()> {
        rest();
        self.last = self.program.ask("")?;
        self.spread.push(number(&self.last, "seconds")?);
        Ok(())
    }

    fn peak(&self) -> String {
        self.last["peak_mib"].as_f64().map_or_else(|| "unknown".into(), |mib| format!("{mib:.0}"))
    }
}

/// PyTorch in one type of numbers.
struct Theirs {
    dtype: &'static str,
    variant: String,
    runs: Runs,
}

impl Theirs {
    /// Starts the variants one after the other, layouts first, and keeps the one with the fastest last warm-up.
    fn fastest(args: &Args, pass: &str, dtype: &'static str, python: &Path) -> Result<Self> {
        let mut kept: Option<(f64, Vec<&str>, Program)> = None;
        let mut consider = |variant: Vec<&'static str>| -> Result<Vec<&'static str>> {
            let mut command = Command::new(python);
            command.arg(script()).args(["--model", args.model.name(), "--batch", &args.batch.to_string()]);
            command.args(["--pass", pass, "--dtype", dtype, "--threads", &args.threads.to_string()]);
            command.args(["--device", args.device.name()]);
            let program = Program::start(&format!("PyTorch's {dtype} program"), command.args(&variant))?;
            let warm = number(&program.ready, "warm")?;
            eprintln!("torch {dtype} {pass}: {} s warm, {}", seconds(warm), variant.join(" "));
            if kept.as_ref().is_none_or(|(least, ..)| warm < *least) {
                kept = Some((warm, variant, program));
            }
            Ok(kept.as_ref().map(|(_, variant, _)| variant.clone()).unwrap_or_default())
        };
        consider(vec!["--layout", "channels_last"])?;
        let layout = consider(vec!["--layout", "contiguous"])?;
        let more: &[&str] = match pass {
            "forward" => &["--fold"],
            _ => &["--adam", "foreach"],
        };
        let best = consider([&layout, more].concat())?;
        if args.compile {
            consider([&best, &["--compile"][..]].concat())?;
        }
        let (_, variant, program) = kept.context("PyTorch ran in no variant")?;
        let mut variant = variant.join(" ").replace("--", "");
        if pass != "forward" && !variant.contains("adam") {
            variant += " adam fused";
        }
        Ok(Self { dtype, variant, runs: Runs::new(program) })
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/dml-model/bench/step.py")
}
