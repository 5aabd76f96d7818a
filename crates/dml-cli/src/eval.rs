use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use dml_train::{Checkpoint, Experiment, Which};

use crate::args::{EvalArgs, device};
use crate::progress::{Progress, say};
use crate::{Done, runs, table};

pub(crate) fn run(args: &EvalArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let config = runs::config(&args.run)?;
    let which = match args.checkpoint.as_str() {
        "newest" => Which::Newest,
        "best" => Which::Best,
        name => Which::Named(name.into()),
    };
    let file = Checkpoint::find(&args.run, &which)?;
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &device(&args.device)?, stop, &mut |event| progress.show(event))?;
    let scores = experiment.evaluate_file(&file)?;
    if args.json {
        say(&serde_json::to_string_pretty(&scores)?);
    } else {
        table::scores(&scores);
    }
    Ok(Done::Whole)
}
