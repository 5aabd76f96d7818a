//! `dml verify-resume`: a proof on the user's own machine and data.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use dml_train::{Event, Experiment, Method, Run};

use crate::Done;
use crate::args::ConfigArgs;
use crate::progress::{Progress, say};

/// Settings of the sample with which a proof takes a minute.
const SHORT: [&str; 7] = [
    "data.train=96",
    "data.caption_train=96",
    "data.pretrain=96",
    "data.test=64",
    "pretrain.epochs=1",
    "training.epochs=2",
    "training.block=1",
];

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to train; `dml info` lists the methods.
    #[arg(long)]
    method: Option<Method>,
    /// How many times the run is stopped, at places spread over it; every second time it goes on with one thread.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    cuts: u32,
}

pub(crate) fn run(args: &VerifyArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let mut config = args.config.resolve(args.method, None)?;
    if args.config.is_plain() {
        config = dml_train::Config::load(&config, None, &SHORT.map(String::from))?;
    }
    let mut progress = Progress::new("");
    let device = args.config.device()?;
    let experiment = Experiment::prepare(&config, &device, stop, &mut |event| progress.show(event))?;
    let place = tempfile::tempdir().context("making a folder for the runs")?;
    let train = |folder: &Path, resume, stop_at: Option<usize>| -> Result<Vec<Event>> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (method, seed) = (config.method, config.seed);
        let run = Run { method, seed, folder: Some(folder.into()), resume, stop: stopped.clone() };
        let mut events = Vec::new();
        experiment.run(&run, &mut |event| {
            events.push(event.clone());
            if Some(events.len()) == stop_at || stop.load(Ordering::Relaxed) {
                stopped.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(events)
    };
    let whole = place.path().join("whole");
    let events = train(&whole, false, None)?;
    let steps = events.iter().filter(|event| matches!(event, Event::Step { .. })).count();
    say(&format!(
        "whole run: {steps} steps, {} with {} threads",
        config.method,
        rayon::current_num_threads()
    ));
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut different = 0;
    for number in 0..args.cuts as usize {
        if stop.load(Ordering::Relaxed) {
            return Ok(Done::Interrupted);
        }
        let cut = 1 + number * (events.len() - 1) / (args.cuts as usize);
        let folder = place.path().join(format!("cut{number}"));
        train(&folder, false, Some(cut))?;
        let (threads, resumed) = match number % 2 {
            0 => ("all threads", train(&folder, true, None)),
            _ => ("one thread", alone.install(|| train(&folder, true, None))),
        };
        resumed?;
        let same = same_bytes(&whole, &folder)?;
        different += usize::from(!same);
        let verdict = if same { "equal" } else { "DIFFERENT" };
        say(&format!("stopped at {:<46} resumed with {threads:<12} {verdict}", place_of(&events[..cut])));
        std::fs::remove_dir_all(&folder)?;
    }
    if different > 0 {
        bail!("{different} of {} resumed runs ended with other bytes than the whole run", args.cuts);
    }
    say(&format!("all {} resumed runs ended with the same bytes as the whole run", args.cuts));
    Ok(Done::Whole)
}

/// Where the last of these events is, in words.
fn place_of(events: &[Event]) -> String {
    let phase = events.iter().rev().find_map(|event| match event {
        Event::PhaseStarted { phase, name, .. } => Some(format!("phase {phase} {name}")),
        _ => None,
    });
    let what = match events.last() {
        Some(Event::Step { step, .. }) => format!("step {step}"),
        Some(Event::Evaluating { done, .. }) => format!("evaluation, batch {done}"),
        Some(Event::Recorded { .. } | Event::Preparing { .. }) => "recording".into(),
        Some(Event::Saving { .. } | Event::Saved { .. }) => "checkpoint".into(),
        Some(Event::PhaseStarted { .. }) => "start".into(),
        Some(Event::PhaseFinished { .. }) => "end".into(),
        _ => "in between".into(),
    };
    format!("{}, {what}", phase.unwrap_or_else(|| "the start".into()))
}

/// Whether the last checkpoints are the same, file by file and byte by byte.
fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let last = |run: &Path| -> Result<_> {
        let all = std::fs::read_dir(run.join("checkpoints"))?.collect::<std::io::Result<Vec<_>>>()?;
        all.into_iter().map(|entry| entry.path()).max().context("a run left no checkpoint")
    };
    let (a, b) = (last(a)?, last(b)?);
    for entry in std::fs::read_dir(&a)? {
        let name = entry?.file_name();
        let other = b.join(&name);
        if !other.exists() || std::fs::read(a.join(&name))? != std::fs::read(other)? {
            return Ok(false);
        }
    }
    Ok(a.file_name() == b.file_name())
}
