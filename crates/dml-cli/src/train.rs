use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use dml_train::{Event, Experiment, Run};

use crate::Done;
use crate::args::TrainArgs;
use crate::progress::{Progress, complain, headline, say};
use crate::{runs, table};

pub(crate) fn run(args: &TrainArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let config = args.config.resolve(args.method, args.seed)?;
    let device = args.config.device()?;
    let mut progress = Progress::new("");
    let mut show = |event: &Event| match args.json {
        true => say(&serde_json::to_string(event).unwrap_or_default()),
        false => progress.show(event),
    };
    let experiment = Experiment::prepare(&config, &device, stop, &mut show)?;
    // A schedule that cannot run is refused before anything is written.
    experiment.schedule(config.method)?;
    let folder = runs::create(args.out.as_deref(), &config)?;
    let path = folder.join(runs::METRICS);
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let mut log = BufWriter::new(file);
    let mut failed = None;
    let run = Run {
        method: config.method,
        seed: config.seed,
        checkpoints: Some(folder.clone()),
        stop: stop.clone(),
    };
    let outcome = experiment.run(&run, &mut |event| {
        let text = serde_json::to_string(event).unwrap_or_default();
        if let Err(error) = writeln!(log, "{text}").and_then(|()| flush_after(event, &mut log)) {
            failed.get_or_insert(error);
        }
        if args.json {
            say(&text);
            return;
        }
        progress.show(event);
        if let Event::Evaluated { scores, .. } = event {
            progress.line(&format!("{:<28} {}", progress.place(), headline(scores)));
        }
    })?;
    if let Some(error) = failed {
        return Err(error).with_context(|| format!("writing {}", path.display()));
    }
    let place = folder.display();
    if outcome.interrupted {
        complain(&format!("interrupted; the checkpoint of this step is in {place}"));
        return Ok(Done::Interrupted);
    }
    runs::write(&folder.join(runs::SCORES), &serde_json::to_vec_pretty(&outcome.scores)?)?;
    if !args.json {
        say("");
        table::scores(&outcome.scores);
        say(&format!("\nrun: {place} (checkpoint, metrics.jsonl, scores.json, config.toml)"));
    }
    Ok(Done::Whole)
}

/// The log reaches the disk with every evaluation, so that little is lost with a killed process.
fn flush_after(event: &Event, log: &mut BufWriter<File>) -> std::io::Result<()> {
    match event {
        Event::Evaluated { .. } | Event::Saved { .. } | Event::Finished { .. } => log.flush(),
        _ => Ok(()),
    }
}
