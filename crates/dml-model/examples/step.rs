//! Times training steps of a network; `cargo xtask bench step` runs it, beside PyTorch where asked.
//!
//! `yes | head -5 | cargo run -p dml-model --example step -- --model c3d --batch 4`; RAYON_NUM_THREADS says how
//! many threads. After warming up it prints a line, then makes one run for every line on its standard input and
//! answers with one JSON line: seconds a step, steps in the run, the process's peak memory in MiB, and when each
//! step's forward pass, backward pass and Adam began and Adam ended (seconds since 1970).
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
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
    /// `cpu` or `cuda`.
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value = "f32")]
    precision: Precision,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    Tf32,
    Bf16,
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
    /// The paper's step: the caption task is learnt and the class task is preserved, by distillation from a frozen copy
    /// that answers in the same step.
    Lwf,
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
const OTHER: &str = "caption";
/// Values of a caption's embedding.
const EMBEDDING: usize = 384;
const TEMPERATURE: f64 = 2.0;
const LEARNING_RATE: f64 = 1e-6;

fn main() -> Result<()> {
    keep_memory();
    let args = Args::parse();
    dml_ops::set_exact(args.exact);
    // As PyTorch's side: cuDNN's algorithms are timed in the warm-up.
    dml_ops::set_benchmark(true);
    dml_ops::set_precision(match args.precision {
        Precision::F32 => dml_ops::Precision::F32,
        Precision::Tf32 => dml_ops::Precision::Tf32,
        Precision::Bf16 => dml_ops::Precision::Bf16,
    });
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
            "peak_mib": bench.peak_mib()?,
            "marks": bench.marks,
        });
        println!("{answer}");
    }
    Ok(())
}

struct Bench {
    net: MultiTaskNet,
    /// What answers for the preserved task.
    copy: Option<MultiTaskNet>,
    targets: Tensor,
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
            Model::EfficientnetLite0 => {
                (RootConfig::EfficientNetLite0 { size: 224, hidden: 1024, dropout: 0.5 }, 20)
            }
            Model::Small => {
                let channels = [8, 16, 32];
                (RootConfig::SmallClip { frames: 8, size: 24, channels, hidden: 128, dropout: 0.5 }, 20)
            }
        };
        let device = match args.device.as_str() {
            "cpu" => Device::Cpu,
            _ => Device::new_cuda(0)?,
        };
        #[cfg(feature = "cuda")]
        dml_ops::keep_memory(&device)?;
        let params = Params::new(0, &device);
        let builder = match args.pass {
            Pass::Step | Pass::Lwf => params.builder(),
            // No parameter is a variable, so the forward pass keeps nothing for a backward one.
            Pass::Forward => params.builder_frozen(&[""]),
        };
        let mut heads = BTreeMap::from([(HEAD.to_owned(), HeadConfig::Classes { classes })]);
        if matches!(args.pass, Pass::Lwf) {
            heads.insert(OTHER.to_owned(), HeadConfig::Embedding { dim: EMBEDDING });
        }
        let config = NetConfig { root, heads };
        let net = MultiTaskNet::new(&config, builder)?;
        let copy = matches!(args.pass, Pass::Lwf)
            .then(|| MultiTaskNet::frozen_copy(&config, &params))
            .transpose()?;
        let shape: Vec<usize> = [args.batch].into_iter().chain(net.input_shape()).collect();
        let mut stream = Stream::new(0, Purpose::Test, 0, 0);
        let labels: Vec<u32> = (0..args.batch).map(|_| stream.below(classes) as u32).collect();
        Ok(Self {
            net,
            copy,
            targets: {
                let targets =
                    init::normal((args.batch, EMBEDDING), (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?;
                targets.to_device(&device)?
            },
            vars: params.vars(),
            adam: Adam::new(AdamConfig::default()),
            x: init::normal(shape, (0.0, 1.0), &mut stream, DType::F32, &Device::Cpu)?.to_device(&device)?,
            labels: Tensor::new(labels, &device)?,
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
                Pass::Step | Pass::Lwf => self.step()?,
                Pass::Forward => drop(self.answers(&Mode::Eval)?),
            }
        }
        self.x.device().synchronize()?;
        Ok(start.elapsed().as_secs_f64() / steps as f64)
    }

    /// Of the GPU's memory, or of the process's where there is none.
    fn peak_mib(&self) -> Result<Option<f64>> {
        #[cfg(feature = "cuda")]
        if let Some(memory) = dml_ops::device_memory(self.x.device())? {
            return Ok(Some(memory.peak as f64 / (1 << 20) as f64));
        }
        Ok(peak_mib())
    }

    /// The loss of a step.
    fn loss(&self) -> Result<Tensor> {
        let Some(copy) = &self.copy else {
            return Ok(dml_losses::cls(&self.answers(&Mode::Train(&self.keys))?, &self.labels)?);
        };
        let features = self.net.features(&self.x, &Mode::Train(&self.keys))?;
        let learnt = dml_losses::emb(&self.net.head(OTHER, &features)?, &self.targets)?;
        let recorded = copy.head(HEAD, &copy.features(&self.x, &Mode::Eval)?)?;
        let recorded = dml_losses::log_softmax(&recorded)?.exp()?;
        let kept = dml_losses::distill(&self.net.head(HEAD, &features)?, &recorded, TEMPERATURE)?;
        Ok((learnt + kept)?)
    }

    fn answers(&self, mode: &Mode) -> Result<Tensor> {
        Ok(self.net.head(HEAD, &self.net.features(&self.x, mode)?)?)
    }

    fn step(&mut self) -> Result<()> {
        let forward = now()?;
        self.keys.epoch += 1;
        let loss = self.loss()?;
        let on_cpu = self.x.device().is_cpu();
        let check = |loss: &Tensor| -> Result<()> {
            let value: f32 = loss.to_scalar()?;
            if value.is_finite() { Ok(()) } else { Err(format!("the loss is {value}").into()) }
        };
        if on_cpu {
            check(&loss)?;
        }
        let backward = now()?;
        let gradients = dml_ops::backward(&loss)?;
        let adam = now()?;
        let mut all = Vec::new();
        for (name, var) in &self.vars {
            let gradient = gradients.get(var).ok_or_else(|| format!("{name} got no gradient"))?;
            all.push((name.as_str(), var, gradient, LEARNING_RATE));
        }
        self.adam.update_all(&all)?;
        if !on_cpu {
            // A GPU is waited for once a step, when all of it is on its way.
            check(&loss)?;
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
