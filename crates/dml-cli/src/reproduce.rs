use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Args, ValueEnum};
use dml_data::actions_in;
use dml_metrics::SvmConfig;
use dml_train::{Comparison, Config, DataConfig, Experiment, Grid, Planned, Score, SweepRun};

use crate::args::ConfigArgs;
use crate::ledger::LEDGER;
use crate::progress::{Progress, say};
use crate::sweep::{GridArgs, carry_out};
use crate::{Done, ledger, runs};
use paper::{NAMES, Table};

mod files;
mod paper;
mod show;

#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {
    /// Which of the paper's tables or figures.
    #[arg(value_parser = NAMES)]
    what: String,
    /// The built-in sample in place of the paper's data; for those, name their folders.
    #[arg(long, value_enum, conflicts_with_all = ["images", "videos", "captions"])]
    data: Option<Data>,
    /// C of the linear SVM of table3, which the paper does not tell.
    #[arg(long, value_name = "C", default_value_t = 1.0)]
    svm_c: f64,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    grid: GridArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Data {
    Sample,
}

pub(crate) fn run(args: &ReproduceArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let mut table = Table::find(&args.what)?;
    let defaults = args.config.defaults();
    if args.data.is_none() && runs::kind(&defaults) == "sample" {
        bail!(
            "{}: name the folders of its data (--{} and --captions), or say --data sample for the built-in sample",
            table.title,
            if table.data[0] == "videos" { "videos" } else { "images" }
        );
    }
    let base = paper::settings(runs::kind(&defaults), &defaults)?;
    let base = args.config.over(&base, None, None)?;
    let kind = runs::kind(&base);
    table.check_kind(kind)?;
    if let DataConfig::Videos(data) = &base.data {
        table.keep_columns_of(actions_in(&data.videos)?);
    }
    if table.svm && !args.grid.keeps_models() {
        bail!("{} is made from the networks of its runs: leave out --no-models", table.title);
    }
    let axes = table.axes(kind, args.grid.averages())?;
    let grid = Grid { base, axes, methods: table.methods(), seeds: args.grid.seeds() };
    let device = args.config.device()?;
    let mut carried = carry_out(&table.name, &grid, &args.grid, device.clone(), stop)?;
    if table.svm {
        let config = SvmConfig { c: args.svm_c, ..SvmConfig::default() };
        add_svm(&grid, &carried.folder, &mut carried.sweep.runs, &device, &config, stop)?;
    }
    let comparison = Comparison::new(&grid, &carried.sweep);
    let folder = &carried.folder;
    runs::write(&folder.join(runs::COMPARISON), &serde_json::to_vec_pretty(&comparison)?)?;
    ledger::write(&folder.join(LEDGER), &table.name, kind, &carried.sweep)?;
    let mut written = "ledger.csv with every run, sweep.json, comparison.json, runs".to_string();
    if table.curves {
        files::curves(&folder.join("curves.csv"), folder, &carried.sweep)?;
        written = format!("curves.csv, {written}");
    }
    if comparison.axes.iter().any(|axis| !axis.averaged) {
        files::map(&folder.join("map.csv"), &comparison)?;
        written = format!("map.csv, {written}");
    }
    if args.grid.json {
        say(&serde_json::to_string_pretty(&show::json(&table, kind, &comparison, folder))?);
        return Ok(carried.done);
    }
    show::table(&table, kind, &comparison);
    if table.curves {
        show::curves(&table, folder, &carried.sweep)?;
    }
    say(&format!("\n{} ({written})", folder.display()));
    Ok(carried.done)
}

/// Adds to each run the accuracy of a linear SVM on its network's fc6; kept beside the run once it is known.
fn add_svm(
    grid: &Grid,
    folder: &Path,
    finished: &mut [SweepRun],
    device: &Device,
    config: &SvmConfig,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let plan = grid.plan()?;
    let mut prepared: Option<Experiment> = None;
    let mut progress = Progress::new("");
    for run in finished {
        let run_folder = folder.join(&run.folder);
        let path = run_folder.join(format!("svm-c{}.json", config.c));
        if !path.exists() {
            let of_run = |planned: &&Planned| {
                let Config { method, seed, .. } = planned.config;
                (method, seed, &planned.settings) == (run.method, run.seed, &run.settings)
            };
            let planned = plan.iter().find(of_run).context("a run that was not asked for")?;
            let shared = prepared.as_ref().and_then(|known| known.with(&planned.config));
            let experiment = match shared {
                Some(experiment) => experiment,
                None => {
                    Experiment::prepare(&planned.config, device, stop, &mut |event| progress.show(event))?
                }
            };
            let score = experiment
                .svm_accuracy(&run_folder, config)
                .with_context(|| format!("linear SVM on the network of {}", run_folder.display()))?;
            runs::write(&path, &serde_json::to_vec_pretty(&score)?)?;
            prepared = Some(experiment);
        }
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        run.scores.push(
            serde_json::from_slice::<Score>(&text).with_context(|| format!("reading {}", path.display()))?,
        );
    }
    Ok(())
}
