//! From sources to shards, and what is left when it is interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dml_data::shards::{Reader, ShardOptions};
use fs4::FileExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clips::Sampling;
use crate::decode::{Decoder, bearable, decode};
use crate::error::io;
use crate::event::Run;
use crate::fetch::{Fetcher, Network, Offer};
use crate::files::remove;
use crate::layout;
use crate::manifest::{Lock, Manifest, Name};
use crate::part::{self, PartOf, Parts};
use crate::sources::sources;
use crate::video::Ffmpeg;
use crate::{PrepareError, Result};

/// How a dataset is prepared.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of all datasets; a dataset has a folder of its name in it.
    pub data: PathBuf,
    /// Where to take the dataset from instead of the network: a folder with it or with its archives, or an archive.
    pub from: Option<PathBuf>,
    /// Videos or images that are decoded at the same time.
    pub jobs: usize,
    /// The part of the dataset's videos or images to decode, where several preparations share the work; all by default.
    pub part: Option<PartOf>,
    /// Whether downloaded archives are kept.
    pub keep_archives: bool,
    /// How clips are cut; [`sampling`] gives the dataset's own.
    pub sampling: Option<Sampling>,
    /// Length of the short side of stored images.
    pub short_side: u32,
    /// Quality of JPEG for stored images that had to be resized, 1..=100.
    pub quality: u8,
    /// Share of videos or images, in percent, that may be undecodable.
    pub failures: f64,
    /// Time that one video may take.
    pub time_limit: Duration,
    /// A shard's largest size.
    pub shards: ShardOptions,
    /// How downloads are made.
    pub network: Network,
}

impl Options {
    /// The defaults, for a folder of datasets: as many jobs as cores, short side 256, quality 95, at most 1 % failures,
    /// five minutes a video.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            from: None,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            part: None,
            keep_archives: false,
            sampling: None,
            short_side: 256,
            quality: 95,
            failures: 1.0,
            time_limit: Duration::from_secs(300),
            shards: ShardOptions::default(),
            network: Network::default(),
        }
    }
}

/// How clips are cut from a dataset's videos: every 150 frames, and every 24 from YouTube2Text, so that it gives about
/// as many. None for images.
pub fn sampling(name: Name) -> Option<Sampling> {
    match name {
        Name::Ucf101 | Name::Hmdb51 => Some(Sampling::every(150)),
        Name::Youtube2text => Some(Sampling::every(24)),
        Name::Voc2012 | Name::Voc2007 | Name::Flickr8k => None,
    }
}

/// How a preparation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The dataset was prepared before; nothing was done.
    Already(Summary),
    /// The dataset is prepared.
    Prepared(Summary),
    /// The part that was asked for is prepared, and these are not yet. Who prepares the last one finishes the dataset.
    Part(Summary, Vec<usize>),
}

/// What a prepared set holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Clips or images.
    pub samples: usize,
    /// Videos or images they come from.
    pub items: usize,
    /// What could not be decoded, with the reason.
    pub failures: Vec<(String, String)>,
    /// Counts that differ from the official ones, in words.
    pub differences: Vec<String>,
}

/// Prepares a dataset: fetches what is missing, unpacks it, decodes it and writes `<data>/<name>` with its split files
/// and `shards`. Continues what was interrupted; does nothing if it is all there. Where a part is asked for, others may
/// prepare other parts at the same time, also on other machines that see the same folder; what has to be fetched and unpacked
/// is by one of them, while the others wait.
///
/// # Errors
/// The first thing that cannot be got over, see [`PrepareError`]. What was downloaded, unpacked and written until then
/// is kept and used the next time.
pub fn prepare(manifest: &Manifest, options: &Options, run: Run<'_>) -> Result<Outcome> {
    let dir = options.data.join(manifest.name.as_str());
    std::fs::create_dir_all(&dir).map_err(io(&dir))?;
    let held = match options.part {
        Some(_) => wait_for(&dir, run)?,
        None => exclusive(&dir, LOCK)?,
    };
    let settings = settings(manifest.name, options)?;
    if let Some(summary) = finished(&dir, &settings)? {
        clean(&dir, options)?;
        return Ok(Outcome::Already(summary));
    }
    part::check_division(&dir, manifest.name, options.part)?;
    // Asked for first: a missing program should not show after a download of hours.
    let ffmpeg = match manifest.name.is_video() {
        true => Some(Ffmpeg::find()?.with_time_limit(options.time_limit)),
        false => None,
    };
    let mut lock = Lock::read(options.data.join(format!("{}.lock", manifest.name)))?;
    let parts = sources(manifest, options, &dir, &mut lock, run)?;
    layout::copy_lists(manifest.name, &parts, &dir)?;
    let found = layout::read(manifest.name, &parts, &dir)?;
    if found.items.is_empty() {
        let folders: Vec<_> = parts.values().flatten().map(|path| path.display().to_string()).collect();
        let problem = "none of the videos or images that the lists name is here".into();
        return Err(PrepareError::Layout { path: folders.join(", ").into(), problem });
    }
    let differences = compare(&manifest.expected, &found.counts);
    for text in &differences {
        run.note(format!("{}: {text}", manifest.name));
    }
    let decoder = Decoder { ffmpeg: ffmpeg.as_ref(), settings: &settings, run };
    let Some(part) = options.part else {
        let summary = decode(manifest, options, &dir, &found, &decoder, differences)?;
        clean(&dir, options)?;
        return Ok(Outcome::Prepared(summary));
    };
    part::look(&dir, manifest.name, part, &json!(settings))?;
    drop(held);
    let own = {
        let _held = exclusive(&dir, &format!("{LOCK}-part{}of{}", part.number, part.of))?;
        // Another may have finished the set, or this part, in the meantime.
        if let Some(summary) = finished(&dir, &settings)? {
            return Ok(Outcome::Already(summary));
        }
        match dml_data::shards::part(&dir.join("shards"), &part.prefix(manifest.name))? {
            Some(metadata) => summary_of(&metadata),
            None => Some(decode(manifest, options, &dir, &found, &decoder, vec![])?),
        }
    };
    let _held = wait_for(&dir, run)?;
    if let Some(summary) = finished(&dir, &settings)? {
        return Ok(Outcome::Prepared(summary));
    }
    match part::look(&dir, manifest.name, part, &json!(settings))? {
        Parts::Missing(missing) => {
            let own = own.unwrap_or(Summary { samples: 0, items: 0, failures: vec![], differences });
            Ok(Outcome::Part(own, missing))
        }
        Parts::Whole(metadata) => {
            let summary = part::summed(&dir, &metadata, differences)?;
            bearable(&summary.failures, found.items.len(), options.failures)?;
            part::merge(&dir, manifest.name, part, &metadata, &summary)?;
            clean(&dir, options)?;
            for part in part.all() {
                remove(&dir.join(format!("{LOCK}-part{}of{}", part.number, part.of)))?;
            }
            Ok(Outcome::Prepared(summary))
        }
    }
}

/// Checks a prepared set byte by byte, and its counts; gives the number of samples.
///
/// # Errors
/// If it is not there, if a checksum differs, or if the split files no longer say what they said.
pub fn verify(manifest: &Manifest, data: &Path) -> Result<Summary> {
    let dir = data.join(manifest.name.as_str());
    let shards = dir.join("shards");
    let wrong = |problem: String| PrepareError::Prepared { path: dir.clone(), problem };
    if !Reader::is_finished(&shards) {
        return Err(wrong("no finished set is here; prepare it first".into()));
    }
    let samples = dml_data::shards::verify(&shards)?;
    let reader = Reader::open(&shards)?;
    let summary =
        summary(&reader).ok_or_else(|| wrong("the set's metadata is not ours; prepare it anew".into()))?;
    if samples != summary.samples {
        return Err(wrong(format!("{samples} samples where the metadata say {}", summary.samples)));
    }
    let now = json!(layout::counts(manifest.name, &dir)?);
    let then = &reader.metadata()["list_counts"];
    if now != *then {
        return Err(wrong(format!("the split files have {now}, and had {then} when the set was made")));
    }
    Ok(summary)
}

/// Looks for near-duplicates between two prepared sets; see [`dml_data::audit`].
///
/// # Errors
/// If one of them is not prepared or is damaged.
pub fn audit(data: &Path, names: [Name; 2], threshold: u32) -> Result<dml_data::AuditReport> {
    let [first, second] = names.map(|name| Reader::open(&data.join(name.as_str()).join("shards")));
    Ok(dml_data::audit(&first?, &second?, threshold)?)
}

/// What a dataset's parts would be fetched from, in the order of preference.
pub fn offers(manifest: &Manifest, network: &Network, run: Run<'_>) -> Vec<(String, Vec<Offer>)> {
    let fetcher = Fetcher::new(network, run);
    manifest.parts.iter().map(|part| (part.name.clone(), fetcher.offers(part))).collect()
}

/// The file whose lock is held by who works on a dataset.
const LOCK: &str = ".lock";

/// The dataset's lock, once those who prepare other parts have released it.
fn wait_for(dir: &Path, run: Run<'_>) -> Result<File> {
    let mut told = false;
    loop {
        run.check()?;
        match exclusive(dir, LOCK) {
            Err(PrepareError::Busy(_)) if !told => {
                run.note(format!("{}: waiting for another process that fetches or unpacks", dir.display()));
                told = true;
            }
            Err(PrepareError::Busy(_)) => {}
            other => return other,
        }
    }
}

/// Held as long as one process works on a dataset.
fn exclusive(dir: &Path, lock: &str) -> Result<File> {
    let path = dir.join(lock);
    let file = File::create(&path).map_err(io(&path))?;
    // A program that was just started holds copies of our open files for a moment, and with them the lock; so not at the
    // first refusal.
    let begun = Instant::now();
    loop {
        match FileExt::try_lock(&file) {
            Ok(()) => return Ok(file),
            Err(fs4::TryLockError::WouldBlock) if begun.elapsed() < Duration::from_secs(1) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs4::TryLockError::WouldBlock) => return Err(PrepareError::Busy(dir.into())),
            Err(fs4::TryLockError::Error(source)) => return Err(PrepareError::Io { path, source }),
        }
    }
}

/// Everything that the stored bytes depend on beside the files and ffmpeg.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Settings {
    Clips(Sampling),
    Images { short_side: u32, quality: u8 },
}

fn settings(name: Name, options: &Options) -> Result<Settings> {
    let wrong = |problem: String| {
        Err(PrepareError::Prepared {
            path: options.data.join(name.as_str()),
            problem: format!("settings: {problem}"),
        })
    };
    let Some(own) = sampling(name) else {
        let (short_side, quality) = (options.short_side, options.quality);
        if short_side == 0 || !(1..=100).contains(&quality) {
            return wrong(format!("short side {short_side} and quality {quality}; the quality is 1 to 100"));
        }
        return Ok(Settings::Images { short_side, quality });
    };
    let chosen = options.sampling.unwrap_or(own);
    if let Err(problem) = chosen.check() {
        return wrong(problem);
    }
    Ok(Settings::Clips(chosen))
}

/// The summary of a finished set with these settings; none if there is no finished set.
fn finished(dir: &Path, settings: &Settings) -> Result<Option<Summary>> {
    let shards = dir.join("shards");
    if !Reader::is_finished(&shards) {
        return Ok(None);
    }
    let wrong = |problem: String| PrepareError::Prepared { path: dir.into(), problem };
    let reader = Reader::open(&shards)?;
    let (then, now) = (&reader.metadata()["settings"], json!(settings));
    if *then != now {
        let problem = format!(
            "it was prepared with {then} and now {now} is asked for; remove the folder to prepare it anew"
        );
        return Err(wrong(problem));
    }
    let summary = summary(&reader);
    Ok(Some(summary.ok_or_else(|| wrong("the set's metadata is not ours; remove the folder".into()))?))
}

fn summary(reader: &Reader) -> Option<Summary> {
    summary_of(reader.metadata())
}

/// The summary in the metadata of a set or of a part.
pub(crate) fn summary_of(metadata: &Value) -> Option<Summary> {
    let strings = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let pair = |value: &Value| Some((value[0].as_str()?.to_owned(), value[1].as_str()?.to_owned()));
    Some(Summary {
        samples: usize::try_from(metadata["samples"].as_u64()?).ok()?,
        items: usize::try_from(metadata["items"].as_u64()?).ok()?,
        failures: metadata["failures"].as_array()?.iter().map(pair).collect::<Option<_>>()?,
        differences: strings(&metadata["differences"])?,
    })
}

/// Removes what only the preparation needed, also what a run left that was killed between the index and the end.
fn clean(dir: &Path, options: &Options) -> Result<()> {
    for path in crate::locate::entries(&dir.join("shards")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".tmp") || (name.ends_with(".json") && name != "index.json") {
            remove(&path)?;
        }
    }
    remove(&dir.join("source"))?;
    if options.keep_archives { Ok(()) } else { remove(&dir.join("archives")) }
}

/// The counts that differ from the official ones, in words.
fn compare(expected: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let number =
        |counts: &BTreeMap<String, u64>, name| counts.get(name).map_or("none".into(), u64::to_string);
    names
        .into_iter()
        .filter(|&name| expected.contains_key(name) && expected.get(name) != found.get(name))
        .map(|name| format!("{name}: {} here, {} officially", number(found, name), number(expected, name)))
        .collect()
}
