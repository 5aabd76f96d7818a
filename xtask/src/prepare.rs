//! `cargo xtask prepare-data`: hands over to the program of dml-prepare, so that the other chores need not wait until
//! candle and the decoders are built.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Fetch, check, unpack and decode datasets for training (`cargo xtask prepare-data --help` says how)
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the program of dml-prepare is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "dml-prepare", "--manifest-path"]).arg(manifest).arg("--");
    command.args(&args.arguments);
    hand_over(&mut command)
}

/// The program takes this process's place, and so its signals and its exit code.
#[cfg(unix)]
fn hand_over(command: &mut Command) -> Result<()> {
    let error = std::os::unix::process::CommandExt::exec(command);
    Err(error).context("starting cargo")
}

#[cfg(not(unix))]
fn hand_over(command: &mut Command) -> Result<()> {
    let status = command.status().context("starting cargo")?;
    std::process::exit(status.code().unwrap_or(1));
}
