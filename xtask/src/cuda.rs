//! `cargo xtask check-cuda`: what no machine without a GPU runs must at least compile.

use anyhow::Result;

use crate::step;

/// Compile and lint the whole workspace with the features cuda and cudnn
///
/// Takes a CUDA toolkit with nvcc and cuDNN's headers, but no GPU; the first time takes a quarter of an hour on two cores.
/// CUDA_COMPUTE_CAP names the GPU's generation where there is none to ask, such as 90. The build has a folder of its own,
/// target/cuda.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The features of the whole workspace.
const FEATURES: &str = "dml-cli/cuda,dml-cli/cudnn";

pub(crate) fn run(_: &Args) -> Result<()> {
    // In the profile of the build to be used, whose kernels it then need not compile again.
    let build =
        ["--release", "--workspace", "--locked", "--features", FEATURES, "--target-dir", "target/cuda"];
    step::cargo(&[&["clippy", "--all-targets"], &build[..], &["--", "-D", "warnings"]].concat())?;
    println!("Everything compiles with CUDA and cuDNN.");
    Ok(())
}
