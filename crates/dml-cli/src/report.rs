use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Args;
use dml_report::{Detail, Report};
use dml_train::{Experiment, TrainError};

use crate::args::device;
use crate::progress::{Progress, complain, say};
use crate::{Done, runs};

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders of runs; of several the page is a comparison. The folder of a sweep gives its heat maps.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write; `report.html` in the first folder by default.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write every chart as an SVG file into this folder.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Most samples with pictures of each evaluation set and run; 0 leaves checkpoint and data alone.
    #[arg(long, value_name = "N", default_value_t = 60)]
    gallery: usize,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(args: &ReportArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    let mut report = Report::read(&args.runs)?;
    for run in report.runs.iter_mut().filter(|run| args.runs.contains(&run.folder)) {
        run.detail = Some(if args.gallery == 0 {
            Err("they were not asked for.".into())
        } else {
            match look(&run.folder, args, stop) {
                Ok(detail) => Ok(detail),
                Err(error) if matches!(error.downcast_ref(), Some(TrainError::Interrupted(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    complain(&format!("{}: without predictions: {error:#}", run.folder.display()));
                    Err(format!("{error:#}"))
                }
            }
        });
    }
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join("report.html"));
    runs::write(&out, report.html().as_bytes())?;
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        for (name, svg) in report.svgs() {
            runs::write(&folder.join(name), svg.as_bytes())?;
        }
    }
    say(&out.display().to_string());
    Ok(Done::Whole)
}

/// What the checkpoint of a run answers.
fn look(folder: &Path, args: &ReportArgs, stop: &Arc<AtomicBool>) -> Result<Detail> {
    let config = runs::config(folder)?;
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &device(&args.device)?, stop, &mut |event| progress.show(event))?;
    let answers = experiment.answers(folder)?;
    Ok(Detail {
        scores: answers.scores()?,
        classes: answers.class_tables()?,
        galleries: answers.galleries(args.gallery)?,
        untrained: answers.untrained(),
    })
}
