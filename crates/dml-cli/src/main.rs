//! The `dml` command: one network, several tasks, datasets that are each labelled for one task only.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod compare;
mod eval;
mod import;
mod info;
mod memory;
mod predict;
mod progress;
mod report;
mod runs;
mod table;
mod train;
mod weights;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use args::{Cli, Command};
use clap::Parser;

/// Exit code of a run that was interrupted and has saved what it had: 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// How a command ended, where it did not fail.
pub(crate) enum Done {
    Whole,
    Interrupted,
}

fn main() -> ExitCode {
    memory::keep();
    let cli = Cli::parse();
    match run(cli) {
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) if matches!(error.downcast_ref(), Some(dml_train::TrainError::Interrupted(_))) => {
            progress::complain(&format!("{error}; what was finished is in the cache"));
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            progress::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<Done> {
    if let Some(threads) = cli.threads {
        // candle reads this for its own products; the pool serves everything else. Results do not depend on it.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .context("starting threads")?;
    }
    let stop = stop_on_signal()?;
    match cli.command {
        Command::Train(args) => train::run(&args, &stop),
        Command::Eval(args) => eval::run(&args, &stop),
        Command::Compare(args) => compare::run(&args, &stop),
        Command::Info(args) => info::run(&args, &stop),
        Command::Predict(args) => predict::run(&args, &stop),
        Command::Report(args) => report::run(&args, &stop),
        Command::Import(args) => import::run(&args),
        Command::Weights(args) => weights::run(&args),
    }
}

/// The first Ctrl-C (or SIGTERM) asks the run to finish its step and save; the second ends the process at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        progress::complain("stopping after this step (Ctrl-C again to stop at once)");
    })
    .context("listening for Ctrl-C")?;
    Ok(stop)
}
