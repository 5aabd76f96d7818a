//! The program behind `cargo xtask prepare-data`: the datasets, ready for training.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// It speaks to the person who runs it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use dml_prepare::{Event, Manifest, Name, Options, Outcome, PartOf, PrepareError, Run, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Fetch, check, unpack and decode datasets for training
///
/// Each dataset ends in `<data>/<name>`: its split files, and `shards` with its clips or images as JPEG. A preparation that
/// was interrupted continues where it was; one that is finished is not done again. Videos are decoded by ffmpeg, which
/// must be installed. Where the publisher's server does not answer, mirrors are tried; what each file must be stands in
/// data/<name>.toml.
///
/// The environment is honoured: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY for downloads, HF_TOKEN and HF_ENDPOINT for
/// those from the Hugging Face hub.
#[derive(Parser)]
#[command(name = "cargo xtask prepare-data", bin_name = "cargo xtask prepare-data")]
struct Args {
    /// The datasets: ucf101, hmdb51, youtube2text, voc2012, voc2007, flickr8k, or all
    #[arg(required_unless_present = "audit", value_parser = names)]
    names: Vec<Names>,

    /// Take the dataset from this folder or archive and fetch only what is not there
    #[arg(long, value_name = "DIR_OR_ARCHIVE")]
    from: Option<PathBuf>,

    /// Folder of the prepared datasets [default: data, beside the manifests]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Videos or images decoded at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,

    /// Prepare one part of several, such as 3/8, as the jobs of an array on a shared file system do: each its own part, and the
    /// last to end makes one dataset of all. Only one fetches and unpacks
    #[arg(long, value_name = "NUMBER/OF", conflicts_with_all = ["verify", "list", "audit"])]
    part: Option<PartOf>,

    /// Keep the downloaded archives
    #[arg(long)]
    keep_archives: bool,

    /// Check every byte of prepared datasets, and their counts, instead of preparing them
    #[arg(long, conflicts_with_all = ["from", "list"])]
    verify: bool,

    /// Say what would be fetched, from where and how large it is, and fetch nothing
    #[arg(long, conflicts_with = "from")]
    list: bool,

    /// Look for near-duplicates between two prepared datasets instead: whether they are disjoint
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_parser = one_name, conflicts_with = "names")]
    audit: Vec<Name>,

    /// Bits of 256 in which the hashes of near-duplicates may differ
    #[arg(long, value_name = "BITS", default_value_t = 24, requires = "audit")]
    audit_threshold: u32,

    /// Share of videos or images, in percent, that may be undecodable
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    failures: f64,

    /// Seconds that one video may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    time_limit: u64,

    /// Quality of the stored JPEG files
    #[arg(long, value_name = "1-100", default_value_t = 95)]
    quality: u8,

    /// Size of stored frames
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size, default_value = "171x128")]
    size: (u32, u32),

    /// Short side of stored images
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    short_side: u32,

    /// Frames from the start of one clip to that of the next [default: 150; youtube2text 24]
    #[arg(long, value_name = "FRAMES")]
    interval: Option<u32>,
}

#[derive(Clone, Debug)]
struct Names(Vec<Name>);

fn names(text: &str) -> std::result::Result<Names, String> {
    if text == "all" {
        return Ok(Names(Name::ALL.to_vec()));
    }
    one_name(text).map(|name| Names(vec![name])).map_err(|problem| format!("{problem}, or all"))
}

fn one_name(text: &str) -> std::result::Result<Name, String> {
    Name::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = Name::ALL.iter().map(|name| name.as_str()).collect();
        format!("the datasets are {}", known.join(", "))
    })
}

fn size(text: &str) -> std::result::Result<(u32, u32), String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "a size is WIDTHxHEIGHT, such as 171x128".into())
}

/// It was told to stop. The chore ends with 128 + SIGINT, as shells have it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; the same command continues")]
struct Interrupted;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let stop = stop_on_signal()?;
    let bar = Bar::default();
    let events = |event| bar.show(event);
    let run = Run { events: &events, stop: &stop };
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let data = args.data.clone().unwrap_or_else(|| manifests.clone());
    if let [first, second] = args.audit[..] {
        let report = dml_prepare::audit(&data, [first, second], args.audit_threshold)?;
        say(report.to_string().trim_end());
        return Ok(());
    }
    let mut wanted: Vec<Name> = args.names.iter().flat_map(|Names(names)| names.clone()).collect();
    wanted.sort();
    wanted.dedup();
    let mut failed = Vec::new();
    for name in wanted {
        let done = Manifest::read(&manifests.join(format!("{name}.toml")))
            .and_then(|manifest| one(args, &manifest, &data, run));
        bar.clear();
        match done {
            Ok(text) => say(&text),
            Err(PrepareError::Interrupted) => return Err(Interrupted.into()),
            // The others may do; all of them are tried.
            Err(error) => {
                eprintln!("error: {name}: {error}");
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not done: {}", failed.join(", ")) }
}

fn one(args: &Args, manifest: &Manifest, data: &Path, run: Run<'_>) -> dml_prepare::Result<String> {
    let options = options(args, manifest.name, data);
    if args.list {
        return Ok(list(manifest, &options, run));
    }
    if args.verify {
        let summary = dml_prepare::verify(manifest, data)?;
        return Ok(format!("{}: every byte is as it was written; {}", manifest.name, told(&summary)));
    }
    let began = Instant::now();
    Ok(match dml_prepare::prepare(manifest, &options, run)? {
        Outcome::Already(summary) => {
            format!("{}: already prepared, nothing to do; {}", manifest.name, told(&summary))
        }
        Outcome::Prepared(summary) => {
            let seconds = began.elapsed().as_secs_f64();
            format!("{}: prepared in {seconds:.1} s; {}", manifest.name, told(&summary))
        }
        Outcome::Part(summary, missing) => {
            let missing: Vec<String> = missing.iter().map(usize::to_string).collect();
            format!(
                "{}: this part is prepared; {}; parts still to come: {}",
                manifest.name,
                told(&summary),
                missing.join(", ")
            )
        }
    })
}

fn options(args: &Args, name: Name, data: &Path) -> Options {
    let mut options = Options::new(data);
    options.from = args.from.clone();
    options.jobs = args.jobs.map_or(options.jobs, usize::from);
    options.part = args.part;
    options.keep_archives = args.keep_archives;
    options.failures = args.failures;
    options.time_limit = Duration::from_secs(args.time_limit);
    options.short_side = args.short_side;
    options.quality = args.quality;
    options.sampling = dml_prepare::sampling(name).map(|mut sampling| {
        (sampling.width, sampling.height) = args.size;
        sampling.quality = args.quality;
        sampling.interval = args.interval.unwrap_or(sampling.interval);
        sampling
    });
    options
}

/// A line on the standard output. A reader that has gone away is no error of ours.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn told(summary: &Summary) -> String {
    let Summary { samples, items, failures, differences } = summary;
    let mut text = format!("{samples} samples of {items} files, {} left out", failures.len());
    for (id, reason) in failures {
        text += &format!("\n  left out: {id}: {reason}");
    }
    for difference in differences {
        text += &format!("\n  differs: {difference}");
    }
    text
}

fn list(manifest: &Manifest, options: &Options, run: Run<'_>) -> String {
    let mut text = format!("{}: {} ({})", manifest.name, manifest.title, manifest.homepage);
    text += &format!("\n  licence: {}\n  cite: {}", manifest.licence, manifest.citation);
    for (part, offers) in dml_prepare::offers(manifest, &options.network, run) {
        for (number, offer) in offers.iter().enumerate() {
            let lead = if number == 0 { format!("{part}:") } else { "or".into() };
            let size = offer.size.map_or("size unknown".into(), dml_prepare::bytes);
            let note = if offer.usable { "" } else { " (no program for rar here)" };
            text += &format!("\n  {lead:>9} {size:>12}  {}{note}", offer.address);
        }
    }
    text
}

/// The first Ctrl-C lets what is being done end and keeps it; the second ends the process.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping; what is done is kept (once more to stop at once)");
    })
    .context("listening for Ctrl-C")?;
    Ok(stop)
}

/// Exit code after Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// A bar on a terminal; elsewhere a line for each beginning, and one each half minute.
struct Bar {
    bar: ProgressBar,
    terminal: bool,
    said: Mutex<Instant>,
}

impl Default for Bar {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target), terminal, said: Mutex::new(Instant::now()) }
    }
}

impl Bar {
    fn show(&self, event: Event) {
        match event {
            Event::Started { what, of, bytes, from } => {
                let template = match (of.is_some(), bytes) {
                    (true, true) => "{msg} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
                    (true, false) => "{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left",
                    (false, _) => "{msg} {spinner} {bytes}  {bytes_per_sec}",
                };
                let style = ProgressStyle::with_template(template);
                self.bar.reset();
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                if let Some(of) = of {
                    self.bar.set_length(of);
                } else {
                    self.bar.unset_length();
                }
                self.bar.set_position(from);
                self.bar.reset_eta();
                if !self.terminal {
                    eprintln!("{what}");
                }
                self.bar.set_message(what);
            }
            Event::Advanced(at) => {
                self.bar.set_position(at);
                self.say_sometimes();
            }
            Event::Finished => self.clear(),
            Event::Note(text) => self.line(&text),
            Event::LeftOut { id, reason } => self.line(&format!("left out: {id}: {reason}")),
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn say_sometimes(&self) {
        let Ok(mut said) = self.said.lock() else { return };
        if self.terminal || said.elapsed() < Duration::from_secs(30) {
            return;
        }
        *said = Instant::now();
        let (at, rate) = (self.bar.position(), self.bar.per_sec());
        let of = self.bar.length().map_or("?".into(), |of| of.to_string());
        eprintln!(
            "{} {at}/{of}, {rate:.0}/s, {:.0} s left",
            self.bar.message(),
            self.bar.eta().as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_by_name() {
        let check = |text, expected: Option<&[Name]>| {
            assert_eq!(names(text).ok().map(|Names(names)| names).as_deref(), expected, "{text}");
        };
        check("ucf101", Some(&[Name::Ucf101]));
        check("all", Some(&Name::ALL));
        check("UCF101", None);
        assert!(names("imagenet").unwrap_err().contains("hmdb51"));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("171x128"), Ok((171, 128)));
        assert!(size("171").is_err() && size("ax1").is_err());
    }

    #[test]
    fn every_manifest_is_in_order() {
        for name in Name::ALL {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(format!("{name}.toml"));
            let manifest = Manifest::read(&path).unwrap();
            assert_eq!(manifest.name, name);
            assert!(
                !manifest.expected.is_empty() && manifest.parts.iter().all(|part| !part.sources.is_empty())
            );
        }
    }
}
