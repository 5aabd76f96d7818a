use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use dml_train::Experiment;

use crate::args::{EvalArgs, device};
use crate::progress::{Progress, say};
use crate::{Done, runs, table};

pub(crate) fn run(args: &EvalArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let config = runs::config(&args.run)?;
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &device(&args.device)?, stop, &mut |event| progress.show(event))?;
    let scores = experiment.evaluate(&args.run)?;
    if args.json {
        say(&serde_json::to_string_pretty(&scores)?);
    } else {
        table::scores(&scores);
    }
    Ok(Done::Whole)
}
