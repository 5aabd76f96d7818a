use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use dml_collective::{Collective, Launch};
use dml_train::{CheckpointConfig, Config, Event, Experiment, Log, MonitorConfig, Run, Score};

use crate::args::TrainArgs;
use crate::environment::Environment;
use crate::progress::{Progress, complain, headline, phase_line, say};
use crate::tensorboard::TensorBoard;
use crate::tui::Screen;
use crate::{Done, runs, table};

pub(crate) fn run(args: &TrainArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let launch = Launch::here()?;
    let device = args.config.device_of(&launch)?;
    let own = launch.rank;
    let limit = Duration::from_secs(args.rank_timeout.max(1));
    let ranks = dml_collective::open(&launch, &device, limit, move |error| {
        complain(&format!("rank {own}: error: {error}; the run goes on with --resume"));
    })?;
    match run_on(&ranks, args, device, stop) {
        Err(error) if ranks.size() > 1 => {
            // The others would wait for this one, so all end here.
            complain(&format!("rank {}: error: {error:#}", ranks.rank()));
            ranks.abort(1)
        }
        done => done,
    }
}

fn run_on(
    ranks: &Arc<dyn Collective>,
    args: &TrainArgs,
    device: Device,
    stop: &Arc<AtomicBool>,
) -> Result<Done> {
    let first = ranks.rank() == 0;
    let resumed = match &args.resume {
        Some(which) => Some(agreed(&**ranks, || runs::to_resume(which))?),
        None => None,
    };
    let mut config = match &resumed {
        Some(folder) => unchanged(args, &runs::config(folder)?)?,
        None => {
            // A run of several ranks is that of one process with all their samples in a batch, and is written as such.
            let mut config = args.config.resolve(args.method, args.seed)?;
            config.training.batch *= ranks.size();
            config
        }
    };
    config.monitor.profile |= args.profile;
    let mut progress = Progress::new("");
    let mut show = |event: &Event| match (first, args.json) {
        (false, _) => {}
        (true, true) => say(&serde_json::to_string(event).unwrap_or_default()),
        (true, false) => progress.show(event),
    };
    // Rank 0 fills the cache, and the others read it.
    if !first {
        ranks.barrier()?;
    }
    let experiment = Experiment::prepare(&config, &device, stop, &mut show)?;
    // A schedule that cannot run is refused before anything is written.
    experiment.schedule(config.method)?;
    if first {
        ranks.barrier()?;
    }
    // How long the preparation takes nobody knows: after it, ranks wait for each other only as long as they are to.
    ranks.barrier()?;
    let resume = resumed.is_some();
    let folder = match resumed {
        Some(folder) => folder,
        None => agreed(&**ranks, || runs::create(args.out.as_deref(), &config))?,
    };
    let run =
        Run { method: config.method, seed: config.seed, folder: Some(folder), resume, stop: stop.clone() };
    match first {
        true => train(args, &experiment, ranks, &run, device),
        false => help(&experiment, ranks, &run),
    }
}

/// A folder that rank 0 chooses or makes, and all must see.
fn agreed(ranks: &dyn Collective, choose: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    if ranks.size() == 1 {
        return choose();
    }
    let mut path = Vec::new();
    if ranks.rank() == 0 {
        let chosen = choose()?;
        let text = chosen.to_str();
        path = text.with_context(|| format!("{} is not UTF-8", chosen.display()))?.into();
    }
    ranks.broadcast(&mut path)?;
    Ok(String::from_utf8(path)?.into())
}

/// Trains as one of the ranks that write and show nothing.
fn help(experiment: &Experiment, ranks: &Arc<dyn Collective>, run: &Run) -> Result<Done> {
    let outcome = experiment.run_on(ranks.clone(), &experiment.params(run.seed)?, run, &mut |_| {})?;
    Ok(if outcome.interrupted { Done::Interrupted } else { Done::Whole })
}

fn train(
    args: &TrainArgs,
    experiment: &Experiment,
    ranks: &Arc<dyn Collective>,
    run: &Run,
    device: Device,
) -> Result<Done> {
    let folder = run.folder.clone().unwrap_or_default();
    let _hold = runs::hold(&folder, &Environment::here(&device))?;
    let mut log = Log::open(&folder.join(runs::METRICS))?;
    let mut board = TensorBoard::create(&folder)?;
    let mut view = match (args.json, args.tui) {
        (true, _) => View::Json,
        (_, true) => View::Screen(Screen::open(&folder.display().to_string(), &run.stop)?),
        _ => View::Lines(Progress::new(""), vec![]),
    };
    let mut parts = BTreeMap::new();
    let outcome = experiment.run_on(ranks.clone(), &experiment.params(run.seed)?, run, &mut |event| {
        if let Event::Profile { seconds, .. } = event {
            seconds.iter().for_each(|(part, seconds)| *parts.entry(part.clone()).or_default() += seconds);
        }
        log.write(event);
        board.write(event);
        view.show(event);
    });
    // The terminal is as it was before anything is said on it.
    drop(view);
    let outcome = outcome?;
    log.close()?;
    board.close()?;
    let place = folder.display();
    if outcome.interrupted {
        complain(&format!("interrupted and saved; go on with: dml train --resume {place}"));
        return Ok(Done::Interrupted);
    }
    runs::write(&folder.join(runs::SCORES), &serde_json::to_vec_pretty(&outcome.scores)?)?;
    if !args.json {
        say("");
        table::scores(&outcome.scores);
        if !parts.is_empty() {
            say("");
            table::profile(&parts);
        }
        say(&format!(
            "\nrun: {place} (model.safetensors, scores.json, metrics.jsonl, config.toml, checkpoints)"
        ));
    }
    Ok(Done::Whole)
}

/// The configuration of the run to go on with, which options may change only in what does not change its result.
fn unchanged(args: &TrainArgs, saved: &Config) -> Result<Config> {
    let given = args.config.over(saved, args.method, args.seed)?;
    let compared = |config: &Config| {
        let mut config = config.clone();
        config.cache = PathBuf::new();
        config.checkpoints = CheckpointConfig::default();
        config.monitor = MonitorConfig::default();
        config.training.recording = Default::default();
        config.to_toml()
    };
    let (before, after) = (compared(saved)?, compared(&given)?);
    if before == after {
        return Ok(given);
    }
    let changed: Vec<String> =
        after.lines().filter(|line| !before.lines().any(|l| l == *line)).map(Into::into).collect();
    bail!("a run cannot go on with other settings; these differ from its config.toml: {}", changed.join(", "))
}

/// How a person, or a program, sees the run.
enum View {
    Json,
    Lines(Progress, Vec<Score>),
    Screen(Screen),
}

impl View {
    fn show(&mut self, event: &Event) {
        match self {
            Self::Json => say(&serde_json::to_string(event).unwrap_or_default()),
            Self::Screen(screen) => screen.show(event),
            Self::Lines(progress, last) => {
                progress.show(event);
                if let Event::Evaluated { name, scores, .. } = event {
                    *last = scores.clone();
                    if progress.place().is_none() {
                        progress.line(&format!("{name:<28} {headline}", headline = headline(scores)));
                    }
                }
                if let Some(line) = phase_line(progress.place().unwrap_or_default(), event, last) {
                    progress.line(&line);
                }
            }
        }
    }
}
