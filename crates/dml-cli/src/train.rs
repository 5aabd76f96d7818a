use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use candle_core::Device;
use dml_train::{CheckpointConfig, Config, Event, Experiment, Log, MonitorConfig, Run, Score};

use crate::args::TrainArgs;
use crate::environment::Environment;
use crate::progress::{Progress, complain, headline, phase_line, say};
use crate::tensorboard::TensorBoard;
use crate::tui::Screen;
use crate::{Done, runs, table};

pub(crate) fn run(args: &TrainArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let resumed = args.resume.as_deref().map(runs::to_resume).transpose()?;
    let config = match &resumed {
        Some(folder) => unchanged(args, &runs::config(folder)?)?,
        None => args.config.resolve(args.method, args.seed)?,
    };
    let device = args.config.device()?;
    let mut progress = Progress::new("");
    let mut show = |event: &Event| match args.json {
        true => say(&serde_json::to_string(event).unwrap_or_default()),
        false => progress.show(event),
    };
    let experiment = Experiment::prepare(&config, &device, stop, &mut show)?;
    // A schedule that cannot run is refused before anything is written.
    experiment.schedule(config.method)?;
    let resume = resumed.is_some();
    let folder = match resumed {
        Some(folder) => folder,
        None => runs::create(args.out.as_deref(), &config)?,
    };
    train(args, &config, &experiment, Place { folder, resume, device }, stop)
}

struct Place {
    folder: PathBuf,
    resume: bool,
    device: Device,
}

fn train(
    args: &TrainArgs,
    config: &Config,
    experiment: &Experiment,
    place: Place,
    stop: &Arc<AtomicBool>,
) -> Result<Done> {
    let Place { folder, resume, device } = place;
    let _hold = runs::hold(&folder, &Environment::here(&device))?;
    let mut log = Log::open(&folder.join(runs::METRICS))?;
    let mut board = TensorBoard::create(&folder)?;
    let run = Run {
        method: config.method,
        seed: config.seed,
        folder: Some(folder.clone()),
        resume,
        stop: stop.clone(),
    };
    let mut view = match (args.json, args.tui) {
        (true, _) => View::Json,
        (_, true) => View::Screen(Screen::open(&folder.display().to_string(), stop)?),
        _ => View::Lines(Progress::new(""), vec![]),
    };
    let outcome = experiment.run(&run, &mut |event| {
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
