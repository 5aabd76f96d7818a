use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use dml_train::{Experiment, Length, Method, Phase};

use crate::args::InfoArgs;
use crate::progress::{Progress, say};
use crate::{Done, table};

pub(crate) fn run(args: &InfoArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let config = args.config.resolve(args.method, None)?;
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &args.config.device()?, stop, &mut |event| progress.show(event))?;
    let schedule = experiment.schedule(config.method)?;
    let parameters: Vec<(String, Vec<usize>)> = experiment
        .params(config.seed)?
        .vars()
        .into_iter()
        .map(|(name, var)| (name, var.dims().to_vec()))
        .collect();
    if args.json {
        let value = serde_json::json!({
            "config": config, "net": experiment.net(), "schedule": schedule, "parameters": parameters,
        });
        say(&serde_json::to_string_pretty(&value)?);
        return Ok(Done::Whole);
    }
    let total: usize = parameters.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    say(&format!("network: {total} parameters"));
    let rows = parameters.iter().map(|(name, shape)| {
        vec![name.clone(), format!("{shape:?}"), shape.iter().product::<usize>().to_string()]
    });
    table::markdown(&["parameter", "shape", "size"], rows.collect());
    say(&format!("\nschedule of {}: {} rounds of the repeated phases", config.method, schedule.rounds));
    let prologue = schedule.prologue.iter().map(|phase| ("once", phase));
    let rows = prologue.chain(schedule.repeat.iter().map(|phase| ("repeated", phase))).map(describe);
    table::markdown(&["phase", "when", "length", "trains", "preserves", "held still"], rows.collect());
    say("\nmethods:");
    table::markdown(
        &["name", "what it is"],
        Method::all().map(|(_, name, what)| vec![name.into(), what.into()]).collect(),
    );
    Ok(Done::Whole)
}

fn describe((when, phase): (&str, &Phase)) -> Vec<String> {
    let length = match phase.length {
        Length::Epochs(epochs) => format!("{epochs} epochs"),
        Length::Steps(steps) => format!("{steps} steps"),
    };
    let join = |parts: Vec<String>| if parts.is_empty() { "–".to_string() } else { parts.join(", ") };
    let trains = phase.streams.iter().map(|stream| {
        format!("{} on {} × {:.2}", stream.supervise.task, stream.dataset, stream.supervise.weight)
    });
    let preserves = phase.streams.iter().flat_map(|stream| &stream.preserve).map(|preserve| {
        format!("{} × {:.2} ({})", preserve.task, preserve.weight, serde_name(preserve.recorded))
    });
    vec![
        phase.name.clone(),
        when.into(),
        length,
        join(trains.collect()),
        join(preserves.collect()),
        join(phase.freeze.clone()),
    ]
}

fn serde_name(recorded: dml_train::Recorded) -> &'static str {
    match recorded {
        dml_train::Recorded::AtStart => "recorded at its start",
        dml_train::Recorded::Kept => "recorded once",
        dml_train::Recorded::MeanTeacher => "by the mean teacher",
    }
}
