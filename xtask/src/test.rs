//! `cargo xtask test`: everything that must hold before a change goes in.

use anyhow::Result;

use crate::{ffmpeg, step};

/// Check formatting, lints and tests of the whole workspace
///
/// First looks for ffmpeg, which decodes videos: where it is missing it is installed with apt-get if this runs as root,
/// otherwise a notice says how. Then runs `cargo fmt --all --check`, `cargo clippy --workspace --all-targets --locked`
/// with warnings as errors, and `cargo test --workspace --locked`. Stops at the first that fails, with its exit code.
///
/// The environment is passed on: DML_REAL_DATA names a folder of real data, DML_WEIGHTS one of pretrained weights; tests
/// that need them say so on one line where they are unset.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build dml with the feature mpi, and run the tests that start several processes; takes an MPI and libclang
    #[arg(long)]
    mpi: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let features: &[&str] = if args.mpi { &["--features", "dml-cli/mpi"] } else { &[] };
    ffmpeg::ensure();
    step::cargo(&["fmt", "--all", "--check"])?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked"];
    step::cargo(&[&clippy, features, &["--", "-D", "warnings"]].concat())?;
    step::cargo(&[&["test", "--workspace", "--locked"], features].concat())?;
    println!("All checks passed.");
    Ok(())
}
