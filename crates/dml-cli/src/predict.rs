use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use dml_prepare::{Ffmpeg, Sampling, Unreadable, clips};
use dml_train::{Experiment, Prediction, Takes};
use image::RgbImage;
use serde::Serialize;

use crate::args::device;
use crate::progress::{Progress, complain, say};
use crate::{Done, runs};

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Photographs (JPEG or PNG), or for a network of clips: videos, or folders with the frames of one clip each.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder of the run whose network answers.
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Text file with the captions to choose from, one a line; by default those of the run's evaluation set.
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// How many classes and captions to name.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Frames of a video from the start of one clip to that of the next; its clips are averaged.
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
    /// Print a JSON object a line for each file.
    #[arg(long)]
    json: bool,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Endings of files that hold one picture.
const PICTURES: [&str; 3] = ["jpg", "jpeg", "png"];

pub(crate) fn run(args: &PredictArgs, stop: &Arc<AtomicBool>) -> Result<Done> {
    // Before the network is loaded, which may take a while.
    let captions = args.captions.as_deref().map(read_captions).transpose()?;
    let config = runs::config(&args.run)?;
    let mut progress = Progress::new("");
    let experiment =
        Experiment::prepare(&config, &device(&args.device)?, stop, &mut |event| progress.show(event))?;
    let mut predictor = experiment.predictor(&args.run)?;
    if let Some(captions) = captions {
        predictor = predictor.with_captions(captions)?;
    }
    let mut failed = 0;
    for file in &args.files {
        if stop.load(Ordering::Relaxed) {
            return Ok(Done::Interrupted);
        }
        let answered = look(file, predictor.takes(), args.interval, stop)
            .and_then(|clips| Ok(predictor.predict(&clips, args.top)?));
        match answered {
            Ok(prediction) => show(file, &prediction, args.json)?,
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(Done::Interrupted),
            Err(error) => {
                failed += 1;
                complain(&format!("{}: {error:#}", file.display()));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} files gave no answer", args.files.len());
    }
    Ok(Done::Whole)
}

fn read_captions(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let captions: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if captions.is_empty() {
        bail!("{} has no caption; write one a line", path.display());
    }
    Ok(captions)
}

/// The pictures of a file, as the network takes them: a photograph, or the clips of a video.
fn look(file: &Path, takes: Takes, interval: u32, stop: &AtomicBool) -> Result<Vec<Vec<RgbImage>>> {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let is_picture = PICTURES.contains(&ending.as_str());
    if !file.exists() {
        bail!("there is no such file");
    }
    match takes {
        Takes::Photograph if file.is_dir() => {
            bail!("a folder, but this network looks at photographs: name the files")
        }
        Takes::Photograph if !is_picture && !is_image(file) => {
            bail!("not a JPEG or PNG image, but this network looks at photographs")
        }
        Takes::Photograph => Ok(vec![vec![dml_data::decode_image(file).map_err(without_path)?]]),
        Takes::Clip { frames, .. } if file.is_dir() => Ok(vec![frames_of(file, frames)?]),
        Takes::Clip { .. } if is_picture => {
            bail!(
                "a single image, but this network looks at clips: name a video, or a folder with the frames of a clip"
            )
        }
        Takes::Clip { frames, width, height } => {
            let ffmpeg = Ffmpeg::find()?;
            let sampling = Sampling { frames: frames as u32, width, height, ..Sampling::every(interval) };
            let clips = clips(&ffmpeg, file, &sampling, stop).map_err(|unreadable| match unreadable {
                Unreadable::Video(problem) => anyhow!(problem),
                Unreadable::Other(error) => error.into(),
            })?;
            let decode = |clip: &dml_prepare::Clip| {
                let frames = clip.frames.iter().map(|frame| dml_data::decode_frame(frame));
                Ok(frames.collect::<dml_data::Result<Vec<_>>>()?)
            };
            clips.iter().map(decode).collect()
        }
    }
}

/// Whether a file begins as an image of a known kind does, whatever its name.
fn is_image(file: &Path) -> bool {
    let guess = |path| image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.format();
    guess(file).is_some()
}

/// The message alone: the file is named before it.
fn without_path(error: dml_data::DataError) -> anyhow::Error {
    match error {
        dml_data::DataError::Format { problem, .. } => anyhow!(problem),
        dml_data::DataError::Io { source, .. } => source.into(),
        other => other.into(),
    }
}

/// The images of a folder in the order of their names, as one clip: so many, at equal distances.
fn frames_of(folder: &Path, frames: usize) -> Result<Vec<RgbImage>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if PICTURES.contains(&ending.as_str()) {
            files.push(path);
        }
    }
    files.sort();
    if files.len() < 2 {
        bail!("{} images in this folder; a clip needs at least two frames", files.len());
    }
    let place = |frame: usize| frame * (files.len() - 1) / (frames - 1).max(1);
    (0..frames).map(|frame| Ok(dml_data::decode_image(&files[place(frame)])?)).collect()
}

fn show(file: &Path, prediction: &Prediction, json: bool) -> Result<()> {
    if json {
        #[derive(Serialize)]
        struct Line<'a> {
            file: std::borrow::Cow<'a, str>,
            #[serde(flatten)]
            prediction: &'a Prediction,
        }
        let file = file.to_string_lossy();
        say(&serde_json::to_string(&Line { file, prediction })?);
        return Ok(());
    }
    say(&file.display().to_string());
    for (task, classes) in &prediction.classes {
        say(&format!("  {task}"));
        for (name, probability) in classes {
            say(&format!("    {:>5.1} %  {name}", 100.0 * probability));
        }
    }
    for (task, captions) in &prediction.captions {
        say(&format!("  {task}"));
        for (text, cosine) in captions {
            say(&format!("    {cosine:>7.3}  {text}"));
        }
    }
    Ok(())
}
