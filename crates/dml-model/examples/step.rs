//! Times training steps of a network; `cargo xtask bench step` runs it, beside PyTorch where asked.
//!
//! `yes | head -5 | cargo run -p dml-model --example step -- --model c3d --batch 4`; RAYON_NUM_THREADS says how
//! many threads. After warming up it prints a line, then makes one run for every line on its standard input and
//! answers with one JSON line: seconds a step, steps in the run, the process's peak memory in MiB, and when each
//! step's forward pass, backward pass and Adam began and Adam ended (seconds since 1970).
#![allow(clippy::print_stdout)]

use std::io::{BufRead, stdin};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use candle_core::{DType, Device, Tensor, Var};
use clap::{Parser, ValueEnum};
use dml_model::{HeadConfig, Mode, MultiTaskNet, NetConfig, Params, RootConfig};
use dml_ops::{Adam, AdamConfig, RowKeys, init};
use dml_rand::{Purpose, Stream};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    model: Model,
    #[arg(long)]
    batch: usize,
    #[arg(long, default_value = "step")]
    pass: Pass,
    /// Convolutions without Winograd's transforms.
    #[arg(long)]
    exact: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    C3d,
    VggS,
    EfficientnetLite0,
    /// The network of the built-in sample.
    Small,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pass {
    /// Forward with dropout, backward, Adam.
    Step,
    /// Forward in evaluation.
    Forward,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Freed memory stays with the process, as in the `dml` command: fresh memory costs a page fault every 4 KiB.
fn keep_memory() {
    // SAFETY: sets an option of the allocator.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

const HEAD: &str = "class";
const LEARNING_RATE: f64 = 1e-6;

fn main() -> Result<()> {
    keep_memory();
    let args = Args::parse();
    dml_ops::set_exact(args.exact);
    let mut bench = Bench::new(&args)?;
    bench.time(1)?;
    let second = bench.time(1)?;
    // A run takes half a second at least: short steps are measured several at a time.
    let steps = (0.5 / second).ceil().max(1.0) as usize;
    println!("{}", serde_json::json!({ "ready": true, "warm": second }));
    for line in stdin().lock().lines() {
        line?;
        bench.marks.clear();
        let seconds = bench.time(steps)?;
        let answer = serde_json::json!({
            "seconds": seconds,
            "steps": steps,
            "peak_mib": peak_mib(),
            "marks": bench.marks,
        });
        println!("{answer}");
    }
    Ok(())
}

struct Bench {
    net: MultiTaskNet,
    vars: Vec<(String, Var)>,
    adam: Adam,
    x: Tensor,
    labels: Tensor,
    keys: RowKeys,
    pass: Pass,
    marks: Vec<[f64; 4]>,
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        let (root, classes) = match args.model {
            Model::C3d => (RootConfig::C3d { dropout: 0.5 }, 101),
            Model::VggS => (RootConfig::VggS { dropout: 0.5 }, 20),
            Model::EfficientnetLite0 => (RootConfig::EfficientNetLite0 { hidden: 1024, dropout: 0.5 }, 20),
            Model::Small => {
                let channels = [8, 16, 32];
                (RootConfig::SmallClip { frames: 8, size: 24, channels, hidden: 128, dropout: 0.5 }, 20)
            }
        };
        let params = Params::new(0, &Device::Cpu);
        let builder = match args.pass {
            Pass::Step => params.builder(),
            // No parameter is a variable, so the forward pass keeps nothing for a backward one.
            Pass::Forward => params.builder_frozen(&[""]),
        };
        let heads = [(HEAD.to_owned(), HeadConfig::Classes { classes })].into();
        let net = MultiTaskNet::new(&NetConfig { root, heads }, builder)?;
        let shape: Vec<usize> = [args.batch].into_iter().chain(net.input_shape()).collect();
        let mut stream = Stream::new(0, Purpose::Test, 0, 0);
        let labels: Vec<u32> = (0..args.batch).map(|_| stream.below(classes) as u32).collect();
        Ok(Self {
            net,
            vars: params.vars(),
            adam: Adam::new(AdamConfig::default()),
            x: init::normal(shape, (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            keys: RowKeys { seed: 0, epoch: 0, samples: (0..args.batch as u64).collect() },
            pass: args.pass,
            marks: Vec::new(),
        })
    }

    /// Seconds a step.
    fn time(&mut self, steps: usize) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..steps {
            match self.pass {
                Pass::Step => self.step()?,
                Pass::Forward => drop(self.answers(&Mode::Eval)?),
            }
        }
        Ok(start.elapsed().as_secs_f64() / steps as f64)
    }

    fn answers(&self, mode: &Mode) -> Result<Tensor> {
        Ok(self.net.head(HEAD, &self.net.features(&self.x, mode)?)?)
    }

    fn step(&mut self) -> Result<()> {
        let forward = now()?;
        self.keys.epoch += 1;
        let loss = dml_losses::cls(&self.answers(&Mode::Train(&self.keys))?, &self.labels)?;
        let value: f32 = loss.to_scalar()?;
        if !value.is_finite() {
            return Err(format!("the loss is {value}").into());
        }
        let backward = now()?;
        let gradients = dml_ops::backward(&loss)?;
        let adam = now()?;
        for (name, var) in &self.vars {
            let gradient = gradients.get(var).ok_or_else(|| format!("{name} got no gradient"))?;
            self.adam.update(name, var, gradient, LEARNING_RATE)?;
        }
        self.marks.push([forward, backward, adam, now()?]);
        Ok(())
    }
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// The most memory this process ever had, where the system tells (Linux).
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?;
    kib.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
