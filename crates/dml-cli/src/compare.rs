use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use clap::Args;
use dml_train::{Comparison, Grid, Method};

use crate::Done;
use crate::args::ConfigArgs;
use crate::sweep::{GridArgs, Show, carry_out, report};

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
    /// The method whose scores are taken from the others', seed by seed; by default the single-task method of each score.
    #[arg(long, value_name = "METHOD")]
    against: Option<Method>,
    /// Show every measure, not only the main ones.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    grid: GridArgs,
}

pub(crate) fn run(args: &CompareArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    if let Some(against) = args.against
        && !args.methods.contains(&against)
    {
        bail!("--against {against}: it is not among the --methods");
    }
    let grid = Grid {
        base: args.config.resolve(None, None)?,
        axes: args.grid.averages(),
        methods: args.methods.clone(),
        seeds: args.grid.seeds(),
    };
    let carried = carry_out("compare", &grid, &args.grid, args.config.device()?, stop)?;
    let comparison = Comparison::new(&grid, &carried.sweep);
    let show = Show { all: args.all, json: args.grid.json, against: args.against };
    report(&comparison, &carried, show, None)?;
    Ok(carried.done)
}
