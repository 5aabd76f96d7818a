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
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    ffmpeg::ensure();
    step::cargo(&["fmt", "--all", "--check"])?;
    step::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    step::cargo(&["test", "--workspace", "--locked"])?;
    println!("All checks passed.");
    Ok(())
}
