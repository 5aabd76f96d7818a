use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Args;
use dml_train::{Comparison, Grid, Method};

use crate::Done;
use crate::args::ConfigArgs;
use crate::sweep::{GridArgs, carry_out, report};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Methods, separated by commas; `dml info` lists them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "class-only,caption-only,dml,dml-matched,dml-lwf,mixed"
    )]
    methods: Vec<Method>,
    /// Show every measure, not only the main ones.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    grid: GridArgs,
}

pub(crate) fn run(args: &CompareArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let grid = Grid {
        base: args.config.resolve(None, None)?,
        axes: args.grid.averages(),
        methods: args.methods.clone(),
        seeds: args.grid.seeds(),
    };
    let carried = carry_out("compare", &grid, &args.grid, args.config.device()?, stop)?;
    let comparison = Comparison::new(&grid, &carried.sweep);
    report(&comparison, &carried, args.all, args.grid.json, None)?;
    Ok(carried.done)
}
