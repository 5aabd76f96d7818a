use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use dml_train::{Event, Experiment, compare};

use crate::args::CompareArgs;
use crate::progress::{Progress, headline, say};
use crate::{Done, runs, table};

pub(crate) fn run(args: &CompareArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let config = args.config.resolve(None, None)?;
    if config.schedule.is_some() {
        bail!("a configuration with its own schedule has one method only: train it with `dml train`");
    }
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &args.config.device()?, stop, &mut |event| progress.show(event))?;
    let seeds: Vec<u64> = (0..args.seeds).collect();
    let mut current = None;
    let comparison = compare(&experiment, &args.methods, &seeds, stop, &mut |method, seed, event| {
        if current != Some((method, seed)) {
            current = Some((method, seed));
            progress = Progress::new(&format!("{method} seed {seed}"));
        }
        progress.show(event);
        if let (Event::Evaluated { name, scores, .. }, false) = (event, args.json) {
            progress.line(&format!("{method} seed {seed}, after {name}: {}", headline(scores)));
        }
    })?;
    let folder = runs::create_named("compare", &config)?;
    let text = serde_json::to_string_pretty(&comparison)?;
    runs::write(&folder.join(runs::COMPARISON), text.as_bytes())?;
    if args.json {
        say(&text);
    } else {
        say("");
        table::comparison(&comparison, args.all);
        say(&format!("\n{} (comparison.json with every seed, config.toml)", folder.display()));
    }
    Ok(if stop.load(Ordering::Relaxed) { Done::Interrupted } else { Done::Whole })
}
