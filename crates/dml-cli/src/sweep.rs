use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Args;
use dml_model::RootConfig;
use dml_train::{Axis, Comparison, Config, DataConfig, Grid, Method, Row, Sweep, SweepEvent, SweepSettings};
use sha2::{Digest, Sha256};

use crate::args::ConfigArgs;
use crate::environment::Environment;
use crate::ledger::LEDGER;
use crate::progress::{MAIN, say};
use crate::{Done, ledger, runs, table};
use progress::SweepProgress;

mod progress;

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Any setting of the configuration with its values, such as `training.lambda_class=0.1,0.5,0.9` or
    /// `optimizer.adam=shared,per-task`; repeatable, for every combination.
    #[arg(long = "axis", value_name = "KEY=VALUE,VALUE", required = true)]
    axes: Vec<Axis>,
    /// Methods, separated by commas; by default that of the configuration. `dml info` lists them.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<Method>,
    /// The score by which the best is chosen: part of its name, such as `class | mAP`.
    #[arg(long, value_name = "SCORE")]
    best: Option<String>,
    /// Show every measure, not only the main ones.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    grid: GridArgs,
}

/// What every command understands that trains more than once.
#[derive(Debug, Args)]
pub(crate) struct GridArgs {
    /// Number of seeds: 0, 1, … for each row.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// A setting over whose values scores are averaged, such as `data.split=1,2,3`; repeatable.
    #[arg(long = "average", value_name = "KEY=VALUE,VALUE")]
    averages: Vec<Axis>,
    /// Runs at once, which share the threads: by default one a thread where the network is small and the device a
    /// processor, else one. Results are the same bits for any number.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Folder of all runs. Those that are finished there are not run again. By default one in `runs` that follows
    /// from the settings, so that the same command goes on where it was stopped.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the scores and curves of each run but not its network.
    #[arg(long)]
    no_models: bool,
    /// Print the results as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A sweep that has been carried out.
pub(crate) struct Carried {
    name: String,
    kind: &'static str,
    /// Fraction of the training samples on which the scores are taken, or 0.
    validation: f64,
    pub(crate) folder: PathBuf,
    pub(crate) sweep: Sweep,
    pub(crate) done: Done,
}

pub(crate) fn run(args: &SweepArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let base = args.config.resolve(None, None)?;
    let methods = if args.methods.is_empty() { vec![base.method] } else { args.methods.clone() };
    let axes = args.axes.iter().cloned().chain(args.grid.averages()).collect();
    let grid = Grid { base, axes, methods, seeds: args.grid.seeds() };
    let carried = carry_out("sweep", &grid, &args.grid, args.config.device()?, stop)?;
    let comparison = Comparison::new(&grid, &carried.sweep);
    let best = best_key(&comparison, args.best.as_deref())?;
    let show = Show { all: args.all, json: args.grid.json, against: None };
    report(&comparison, &carried, show, Some(best))?;
    Ok(carried.done)
}

impl GridArgs {
    pub(crate) fn seeds(&self) -> Vec<u64> {
        (0..self.seeds).collect()
    }

    /// Whether the runs' networks are kept.
    pub(crate) fn keeps_models(&self) -> bool {
        !self.no_models
    }

    pub(crate) fn averages(&self) -> Vec<Axis> {
        self.averages.iter().map(|axis| Axis { averaged: true, ..axis.clone() }).collect()
    }
}

/// Runs what is not finished of a grid, and shows how it goes.
pub(crate) fn carry_out(
    name: &str,
    grid: &Grid,
    args: &GridArgs,
    device: Device,
    stop: &Arc<AtomicBool>,
) -> Result<Carried> {
    let runs = grid.plan()?.len();
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => {
            PathBuf::from("runs").join(format!("{}-{name}-{}", runs::kind(&grid.base), digest(&grid.base)?))
        }
    };
    let small = is_small(&grid.base, &device);
    let usual = if small { rayon::current_num_threads() } else { 1 };
    let jobs = args.jobs.map_or(usual, NonZeroUsize::get);
    let settings = SweepSettings {
        folder: folder.clone(),
        environment: serde_json::to_value(Environment::here(&device))?,
        device,
        jobs,
        models: !args.no_models,
        checkpoints: !small,
        stop: stop.clone(),
    };
    let mut progress = SweepProgress::new(runs, jobs, !args.json);
    let mut diverged = Vec::new();
    let sweep = dml_train::sweep(grid, &settings, &mut |event| {
        if let SweepEvent::Diverged { planned, error } = &event {
            diverged.push(format!("{}: {error}", progress::label(planned)));
        }
        progress.show(&event);
    })
    .with_context(|| format!("the runs that were finished are in {}", folder.display()))?;
    progress.end();
    runs::fill(&folder, &grid.base)?;
    let done = match stop.load(Ordering::Relaxed) && sweep.runs.len() < runs {
        true => Done::Interrupted,
        false => Done::Whole,
    };
    if !diverged.is_empty() && sweep.runs.is_empty() {
        bail!("no run came to an end: {}", diverged.join("; "));
    }
    let (kind, validation) = (runs::kind(&grid.base), grid.base.validation);
    Ok(Carried { name: name.into(), kind, validation, folder, sweep, done })
}

/// How a comparison is printed.
pub(crate) struct Show {
    /// Whether with every measure.
    pub(crate) all: bool,
    /// Whether as JSON.
    pub(crate) json: bool,
    /// The method to whose scores differences are taken, in place of the single-task one.
    pub(crate) against: Option<Method>,
}

/// Writes `comparison.json` and the ledger, and prints the comparison; with a score to choose by, the best row is named.
pub(crate) fn report(
    comparison: &Comparison,
    carried: &Carried,
    show: Show,
    best: Option<String>,
) -> Result<()> {
    let Show { all, json, against } = show;
    let folder = &carried.folder;
    ledger::write(&folder.join(LEDGER), &carried.name, carried.kind, &carried.sweep)?;
    runs::write(&folder.join(runs::COMPARISON), &serde_json::to_vec_pretty(comparison)?)?;
    let chosen = best.and_then(|key| Some((comparison.best(&key)?, key)));
    if json {
        let text = match &chosen {
            None => serde_json::to_string_pretty(comparison)?,
            Some(((row, mean), key)) => {
                let row = &comparison.rows[*row];
                let best = serde_json::json!({
                    "score": key, "mean": mean, "method": row.method, "settings": row.settings,
                });
                let of_method = |(row, mean): (usize, f64)| {
                    let row = &comparison.rows[row];
                    serde_json::json!({ "method": row.method, "settings": row.settings, "mean": mean })
                };
                let each: Vec<_> = comparison.best_of_each(key).into_iter().map(of_method).collect();
                let value = serde_json::json!({
                    "folder": folder, "comparison": comparison, "best": best, "best_of_each_method": each,
                });
                serde_json::to_string_pretty(&value)?
            }
        };
        say(&text);
        return Ok(());
    }
    say("");
    table::comparison(comparison, all, against);
    if carried.validation > 0.0 {
        let (part, seeds) = (100.0 * carried.validation, comparison.seeds.len());
        say(&format!(
            "\nscores on {part} % of the training samples, which are held out; {seeds} seeds on the rest"
        ));
    }
    if let Some(((row, _), key)) = &chosen {
        let settings = |row: &Row, before: &str| -> String {
            row.settings.iter().map(|(key, value)| format!(" {before}{key}={value}")).collect()
        };
        let row = &comparison.rows[*row];
        let score = table::values(&row.cells[key], comparison.seeds.len());
        say(&format!("\nbest by {key}: {}{} with {score}", row.method, settings(row, "")));
        if carried.validation > 0.0 {
            say("to be judged on the evaluation sets, each method with its best settings:");
            for (row, _) in comparison.best_of_each(key) {
                let row = &comparison.rows[row];
                say(&format!("  --methods {}{} --set validation=0.0", row.method, settings(row, "--set ")));
            }
        } else {
            say(
                "(chosen on the data it is reported on: judge it anew on data that chose nothing, or choose with \
                 --set validation=0.2)",
            );
        }
    }
    say(&format!("\n{} (ledger.csv with every run, sweep.json, comparison.json, runs)", folder.display()));
    Ok(())
}

/// The full name of the score to choose by: the only one that has the text, or the first of the main ones.
fn best_key(comparison: &Comparison, text: Option<&str>) -> Result<String> {
    let all = || comparison.rows.iter().flat_map(|row| row.cells.keys());
    // A task on its own data comes before the same on another's.
    let own = || all().filter(|key| !key.split(" | ").next().is_some_and(|eval| eval.contains(" of ")));
    let texts = text.map_or(MAIN.to_vec(), |text| vec![text]);
    match texts.iter().find_map(|text| own().chain(all()).find(|key| key.contains(text))) {
        Some(key) => Ok(key.clone()),
        None if comparison.rows.iter().all(|row| row.cells.is_empty()) => Ok(String::new()),
        None => {
            let all: std::collections::BTreeSet<&String> = all().collect();
            let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
            bail!("no score has {:?} in its name; there are:\n{}", text.unwrap_or_default(), all.join("\n"))
        }
    }
}

/// Whether runs are best run one a thread, and run again where they were interrupted. Two runs of a thread each took 0.68
/// times as long as one after the other on two threads for the sample's network, and 0.97 times for photographs' features;
/// large networks fill the threads by themselves, and the memory.
fn is_small(base: &Config, device: &Device) -> bool {
    let still = matches!(base.data, DataConfig::Sample(_) | DataConfig::Photographs(_));
    let small = matches!(
        base.root,
        RootConfig::SmallClip { .. } | RootConfig::SmallImage { .. } | RootConfig::Features { .. }
    );
    still && small && device.is_cpu()
}

/// A few letters that follow from the settings which all runs share.
fn digest(base: &Config) -> Result<String> {
    let mut shared = Config { seed: 0, method: Method::DmlLwf, cache: PathBuf::new(), ..base.clone() };
    (shared.checkpoints, shared.monitor) = Default::default();
    Ok(Sha256::digest(shared.to_toml()?).iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}
