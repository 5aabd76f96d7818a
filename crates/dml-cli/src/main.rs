//! The `dml` command: one network, several tasks, datasets that are each labelled for one task only.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod compare;
mod doctor;
mod environment;
mod eval;
mod import;
mod info;
mod ledger;
mod memory;
mod predict;
mod progress;
mod report;
mod reproduce;
mod runs;
mod signals;
mod sweep;
mod table;
mod teacher;
mod tensorboard;
mod train;
mod tui;
mod verify;
mod weights;

use std::process::ExitCode;

use anyhow::{Context, Result};
use args::{Cli, Command};
use clap::Parser;

/// How a command ended, where it did not fail.
pub(crate) enum Done {
    Whole,
    Interrupted,
    /// What was to be found out has been, and it is bad.
    Unfit,
}

fn main() -> ExitCode {
    memory::keep();
    let cli = Cli::parse();
    match run(cli) {
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(signals::exit_code()),
        Ok(Done::Unfit) => ExitCode::FAILURE,
        Err(error) if matches!(error.downcast_ref(), Some(dml_train::TrainError::Interrupted(_))) => {
            progress::complain(&format!("{error}; what was finished is in the cache"));
            ExitCode::from(signals::exit_code())
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
    let stop = signals::listen()?;
    match cli.command {
        Command::Train(args) => train::run(&args, &stop),
        Command::Eval(args) => eval::run(&args, &stop),
        Command::VerifyResume(args) => verify::run(&args, &stop),
        Command::Compare(args) => compare::run(&args, &stop),
        Command::Sweep(args) => sweep::run(&args, &stop),
        Command::Reproduce(args) => reproduce::run(&args, &stop),
        Command::Info(args) => info::run(&args, &stop),
        Command::Predict(args) => predict::run(&args, &stop),
        Command::Report(args) => report::run(&args, &stop),
        Command::Import(args) => import::run(&args),
        Command::Weights(args) => weights::run(&args, &stop),
        Command::Teacher(args) => teacher::run(&args, &stop),
        Command::Doctor(args) => doctor::run(&args),
    }
}
