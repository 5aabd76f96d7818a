//! `cargo xtask bench`: how fast this project is, alone or beside PyTorch on the same machine in the same minutes.

mod child;
mod kernels;
mod profile;
mod spread;
mod step;
mod torch;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};

/// Measure the speed of training steps and of single convolutions
///
/// Builds the measuring programs in this command's own profile (the development profile optimises), and runs them as
/// processes of their own. docs/performance.md says how to measure and what the lines mean.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Step(step::Args),
    Kernels(kernels::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Step(args) => step::run(args),
        What::Kernels(args) => kernels::run(args),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Model {
    C3d,
    VggS,
    EfficientnetLite0,
    /// The 3D network of the built-in sample
    Small,
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Self::C3d => "c3d",
            Self::VggS => "vgg-s",
            Self::EfficientnetLite0 => "efficientnet-lite0",
            Self::Small => "small",
        }
    }
}

/// Builds a measuring program, an example of this workspace, and says where it is.
fn example(name: &str, features: &[&str]) -> Result<PathBuf> {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    // With the features of the whole workspace, what its tests have built is used again.
    let build = ["build", "--locked", "--workspace", "--example", name];
    crate::step::cargo(&[&build, release, features].concat())?;
    // This program lies in the folder of the same profile.
    let xtask = std::env::current_exe().context("where this program lies is unknown")?;
    let folder = xtask.parent().context("this program lies in no folder")?;
    Ok(folder.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION))
}

/// The GPU's name and its driver, where NVIDIA's tool tells.
fn graphics_processor() -> String {
    let mut tool = std::process::Command::new("nvidia-smi");
    let answer = tool.args(["--query-gpu=name,driver_version", "--format=csv,noheader"]).output();
    let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| "a GPU".to_owned(), |line| line.trim().to_owned())
}

/// The processor's name, where the system tells.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
