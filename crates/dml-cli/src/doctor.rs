use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use console::style;
use dml_prepare::Patience;
use dml_train::Config;
use serde::Serialize;

use crate::progress::say;
use crate::{Done, args, environment};

mod gradients;

/// Less free disk or memory than this is worth a warning.
const SCARCE: u64 = 2 << 30;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The device to check: `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Also ask whether the Hugging Face hub can be reached.
    #[arg(long)]
    network: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    topic: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Good,
    /// Something that not every training needs.
    Missing,
    /// Something that training needs.
    Bad,
}

impl Finding {
    fn good(topic: &'static str, found: impl Into<String>) -> Self {
        Self { topic, state: State::Good, found: found.into(), advice: None }
    }

    fn other(topic: &'static str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { topic, state, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Done> {
    let mut findings = vec![build(), processor()];
    match args::device(&args.device) {
        Ok(device) => {
            findings.push(Finding::good("device", &args.device));
            findings.push(gradients::check(&device));
        }
        Err(error) => findings.push(Finding::other(
            "device",
            State::Bad,
            format!("{error:#}"),
            "name another --device, or build for this one",
        )),
    }
    findings.extend(memory());
    findings.push(folder("cache", &Config::sample().cache));
    findings.push(folder("runs", Path::new("runs")));
    findings.push(weights(
        "root weights",
        "EfficientNet-Lite0",
        dml_model::weights::find_here(&dml_model::weights::EFFICIENTNET_LITE0),
    ));
    findings.push(weights(
        "sentence encoder",
        "all-MiniLM-L6-v2",
        dml_teacher::find_sentence_transformer_here(),
    ));
    if args.network {
        findings.push(hub());
    }
    findings.push(ffmpeg());
    let bad = findings.iter().filter(|finding| finding.state == State::Bad).count();
    if args.json {
        let value = serde_json::json!({ "can_train": bad == 0, "findings": findings });
        say(&serde_json::to_string_pretty(&value)?);
    } else {
        show(&findings);
    }
    Ok(if bad == 0 { Done::Whole } else { Done::Unfit })
}

fn show(findings: &[Finding]) {
    let width = findings.iter().map(|finding| finding.topic.len()).max().unwrap_or(0);
    for Finding { topic, state, found, advice } in findings {
        let mark = match state {
            State::Good => style("✓").green(),
            State::Missing => style("–").yellow(),
            State::Bad => style("✗").red(),
        };
        say(&format!("{} {} {found}", mark.bold(), style(format!("{topic:<width$}")).bold()));
        if let Some(advice) = advice {
            say(&format!("  {:width$} {}", "", style(format!("→ {advice}")).dim()));
        }
    }
    let of = |state| findings.iter().filter(|finding| finding.state == state).count();
    let verdict = match (of(State::Bad), of(State::Missing)) {
        (0, 0) => style("everything is there".to_string()).green(),
        (0, _) => style("training works here; what is marked – is needed for some data only".into()).green(),
        (bad, _) => style(format!("training does not work here: {bad} marked ✗")).red(),
    };
    say(&format!("\n{}", verdict.bold()));
}

fn build() -> Finding {
    let features = environment::features();
    let features = if features.is_empty() { "no features".to_string() } else { features.join(", ") };
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    Finding::good("build", format!("dml {}, {features}, {system} {processor}", env!("CARGO_PKG_VERSION")))
}

fn processor() -> Finding {
    let name = environment::processor().map(|name| format!("{name}, "));
    let (threads, set) = (rayon::current_num_threads(), dml_ops::instruction_set());
    let found = format!("{}{threads} threads, vector instructions: {set}", name.unwrap_or_default());
    match set {
        "none" => Finding::other(
            "processor",
            State::Missing,
            found,
            "without vectors training is many times slower",
        ),
        _ => Finding::good("processor", found),
    }
}

/// Memory, where the system tells.
fn memory() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let (all, free) = (of("MemTotal:")?, of("MemAvailable:")?);
    let found = format!("{} of {} free", gib(free), gib(all));
    Some(match free < SCARCE {
        true => Finding::other(
            "memory",
            State::Missing,
            found,
            "the sample needs little; C3D and fine-tuning need more: smaller batches, or end other programs",
        ),
        false => Finding::good("memory", found),
    })
}

/// Whether a folder can be written to, and what is free there.
fn folder(topic: &'static str, path: &Path) -> Finding {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // What is not there yet is made in the nearest folder that is.
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let shown = path.display();
    let free = tempfile::tempfile_in(there).and_then(|_| fs4::available_space(there));
    match free {
        Ok(free) if free >= SCARCE => Finding::good(topic, format!("{shown}, {} free", gib(free))),
        Ok(free) => {
            let state = if free < SCARCE / 64 { State::Bad } else { State::Missing };
            Finding::other(topic, state, format!("{shown}, {} free", gib(free)), "make room on this disk")
        }
        Err(error) => Finding::other(
            topic,
            State::Bad,
            format!("{shown} cannot be written: {error}"),
            match topic {
                "cache" => "set XDG_CACHE_HOME, or `--set cache=DIR`",
                _ => "work in another folder, or give `--out DIR`",
            },
        ),
    }
}

fn weights(topic: &'static str, name: &str, path: Option<PathBuf>) -> Finding {
    match path {
        Some(path) => Finding::good(topic, format!("{name} at {}", path.display())),
        None => Finding::other(
            topic,
            State::Missing,
            format!("{name} is not on this machine"),
            "photographs and videos need it: it comes from the hub when it is, or from `dml weights fetch`; DML_WEIGHTS \
             names a folder of your own",
        ),
    }
}

fn hub() -> Finding {
    let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into());
    let patience = Patience { connect: Duration::from_secs(10), ..Patience::default() };
    match dml_prepare::silence(&endpoint, patience) {
        None => Finding::good("hub", format!("{endpoint} answers")),
        Some(error) => Finding::other(
            "hub",
            State::Missing,
            format!("{endpoint} does not answer: {error}"),
            "HF_ENDPOINT names a mirror; weights in DML_WEIGHTS need no hub",
        ),
    }
}

fn ffmpeg() -> Finding {
    let version = || -> Result<String> {
        let output = Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().and_then(|line| line.strip_prefix("ffmpeg version "));
        Ok(line.and_then(|line| line.split(' ').next()).context("it does not tell its version")?.to_string())
    };
    match version() {
        Ok(version) => Finding::good("ffmpeg", version),
        Err(error) => Finding::other(
            "ffmpeg",
            State::Missing,
            format!("does not start: {error}"),
            "preparing videos needs it: `apt-get install ffmpeg`, `brew install ffmpeg`, or ffmpeg.org",
        ),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
