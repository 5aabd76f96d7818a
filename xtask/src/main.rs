//! The project's chores, as `cargo xtask <command>`. Each command is a module with its arguments and a `run`.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// A chore speaks to the person who runs it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cuda;
mod ffmpeg;
mod prepare;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    CheckCuda(cuda::Args),
    Test(test::Args),
    PrepareData(prepare::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::CheckCuda(args) => cuda::run(&args),
        Command::Test(args) => test::run(&args),
        Command::PrepareData(args) => prepare::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            step::exit_code(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["xtask", "test", "--mpi"]).is_ok());
        assert!(Cli::try_parse_from(["xtask", "prepare-data", "ucf101", "voc2012"]).is_ok());
        assert!(Cli::try_parse_from(["xtask", "prepare-data", "--help"]).is_ok());
        assert!(Cli::try_parse_from(["xtask", "no-such-chore"]).is_err());
        let bench = "xtask bench step --model c3d --batch 4 --runs 7 --threads 1 --vs-torch --profile";
        assert!(Cli::try_parse_from(bench.split(' ')).is_ok());
        assert!(Cli::try_parse_from("xtask bench kernels --model small".split(' ')).is_err());
    }
}
