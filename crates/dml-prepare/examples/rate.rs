//! How fast UCF101 is prepared, beside ffmpeg alone on the same files:
//! `cargo run --release -p dml-prepare --example rate -- <folder with UCF-101 and ucfTrainTestlist> [jobs]`.
//!
//! "decodes" is `ffmpeg -f null`, one process a file, one thread each. "makes JPEG files" is what one would do by hand: the
//! same frames, resized and written as JPEG files by ffmpeg.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use dml_prepare::{Manifest, Options, Outcome, Run, prepare};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let from = PathBuf::from(arguments.next().ok_or("name the folder that holds UCF-101")?);
    let jobs: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let mut videos = Vec::new();
    for class in std::fs::read_dir(from.join("UCF-101"))? {
        videos.extend(std::fs::read_dir(class?.path())?.flatten().map(|entry| entry.path()));
    }
    videos.sort();
    let report = |what: &str, began: Instant| {
        let seconds = began.elapsed().as_secs_f64();
        let rate = videos.len() as f64 / seconds;
        println!("{what:<28} {seconds:6.1} s  {rate:6.1} videos/s  {:6.1} a job", rate / jobs as f64);
    };
    println!("{} videos, {jobs} jobs", videos.len());

    let began = Instant::now();
    each(&videos, jobs, |_, video| ffmpeg(video, &["-f", "null", "-"]));
    report("ffmpeg alone decodes", began);

    let scratch = tempfile::tempdir()?;
    let began = Instant::now();
    each(&videos, jobs, |number, video| {
        let filter = "select='lt(mod(n,150),46)*not(mod(mod(n,150),3))',scale=171:128:flags=bilinear";
        let into = scratch.path().join(format!("{number:05}-%03d.jpg"));
        let into = into.to_string_lossy().into_owned();
        ffmpeg(video, &["-vf", filter, "-vsync", "passthrough", "-q:v", "2", &into]);
    });
    report("ffmpeg alone makes JPEG files", began);

    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/ucf101.toml");
    let mut options = Options::new(scratch.path().join("data"));
    (options.from, options.jobs) = (Some(from), jobs);
    let began = Instant::now();
    let run = Run { events: &|_| (), stop: &AtomicBool::new(false) };
    let done = prepare(&Manifest::read(&manifest)?, &options, run)?;
    report("prepare", began);
    if let Outcome::Prepared(summary) = done {
        println!(
            "{} clips of {} videos, {} left out",
            summary.samples,
            summary.items,
            summary.failures.len()
        );
    }
    Ok(())
}

fn ffmpeg(video: &Path, arguments: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-threads", "1", "-i"]).arg(video);
    // A file that fails shows in the counts of the preparation; here only the time matters.
    let _ =
        command.args(["-threads", "1"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn each(videos: &[PathBuf], jobs: usize, work: impl Fn(usize, &Path) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(number) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < videos.len())
                {
                    work(number, &videos[number]);
                }
            });
        }
    });
}
