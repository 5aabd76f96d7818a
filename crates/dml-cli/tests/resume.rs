//! Runs that are stopped, killed, or short of disk, and are resumed.
#![cfg(unix)]
// A test that is left out says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod place;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use place::{Place, newest};
use serde_json::Value;

/// A run with many checkpoints.
const TRAIN: [&str; 9] = [
    "train",
    "--config",
    "tiny.toml",
    "--set",
    "checkpoints.steps=2",
    "--set",
    "monitor.gradient_cosine_every=3",
    "--json",
    "--out",
];

/// What a run that nothing happens to leaves: its last checkpoint's files, and the numbers it told.
fn whole(place: &Place) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (code, _, stderr) = place.dml(&[&TRAIN[..], &["whole"]].concat());
    assert_eq!(code, 0, "{stderr}");
    left(&place.path().join("whole"))
}

fn left(run: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let files = std::fs::read_dir(newest(run)).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files = files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let numbers = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let told = ["step", "evaluated", "drift", "gradient-cosine"];
        told.contains(&event["event"].as_str().unwrap()).then(|| line.to_string())
    };
    (files, text.lines().filter_map(numbers).collect())
}

/// Starts a run and returns when it has told this event for the nth time.
fn start_until(place: &Place, args: &[&str], event: &str, times: usize) -> Child {
    let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..times {
        let found = lines.find(|line| {
            let line: Value = serde_json::from_str(line.as_ref().unwrap()).unwrap();
            line["event"] == event
        });
        assert!(found.is_some(), "the run ended before {event}");
    }
    // The rest is read, or the run would wait for its reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_ends_a_run_with_its_own_code_and_resuming_changes_nothing() {
    let place = Place::new();
    let expected = whole(&place);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = start_until(&place, &[&TRAIN[..], &[name]].concat(), "step", 3);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let (code, stdout, stderr) = place.dml(&["train", "--resume", name]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("going on from") && stdout.contains("model.safetensors"), "{stdout}{stderr}");
        assert!(left(&place.path().join(name)) == expected, "{name}");
    }
    // A run that is over says what it ended with.
    let (code, stdout, _) = place.dml(&["train", "--resume", "INT"]);
    assert!(code == 0 && stdout.contains("hit@1"), "{stdout}");
}

/// `DML_KILLS` sets how many processes are killed; a few are enough to see that it works.
#[test]
fn kill_9_at_any_time_loses_nothing() {
    let place = Place::new();
    let expected = whole(&place);
    let kills: u32 = std::env::var("DML_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    // A different time every time the test runs: the claim is about all of them.
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut runs = 0;
    for kill in 0..kills {
        let run = format!("killed{runs}");
        let new = [&TRAIN[..], &[&run]].concat();
        let args = match place.path().join(&run).join("config.toml").exists() {
            true => vec!["train", "--json", "--resume", &run],
            false => new,
        };
        let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 900));
        child.kill().unwrap();
        let ended = child.wait().unwrap().success();
        if ended || kill + 1 == kills {
            let run = place.path().join(&run);
            if run.join("config.toml").exists() {
                let (code, _, stderr) = place.dml(&["train", "--resume", run.to_str().unwrap()]);
                assert_eq!(code, 0, "{stderr}");
                assert!(left(&run) == expected, "after kill {kill}");
            }
            runs += 1;
        }
    }
}

#[test]
fn other_settings_are_refused_and_two_processes_do_not_share_a_run() {
    let place = Place::new();
    let mut child = start_until(&place, &[&TRAIN[..], &["run"]].concat(), "saved", 1);
    let busy = place.complaint(&["train", "--resume", "run"]);
    assert!(busy.contains("another process works on run"), "{busy}");
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = place.complaint(&["train", "--resume", "run", "--set", "training.batch=8"]);
    assert!(refused.contains("batch = 8"), "{refused}");
    let absent = place.complaint(&["train", "--resume", "nowhere"]);
    assert!(absent.contains("nowhere") && absent.contains("config.toml"), "{absent}");
    assert!(place.complaint(&["train", "--resume", "latest"]).contains("runs"));
    // What does not change the result may change, and what a kill in the middle of saving leaves is tidied.
    let checkpoints = place.path().join("run/checkpoints");
    std::fs::create_dir(checkpoints.join(".step-00000001.tmp")).unwrap();
    let (code, _, stderr) = place.dml(&["train", "--resume", "run", "--set", "checkpoints.keep=1"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 1);
    // A kill between the two renames of a save leaves the only checkpoint under another name.
    let last = newest(&place.path().join("run"));
    let name = last.file_name().unwrap().to_str().unwrap();
    std::fs::rename(&last, checkpoints.join(format!(".{name}.old"))).unwrap();
    let (code, stdout, stderr) = place.dml(&["train", "--json", "--resume", "run"]);
    assert!(code == 0 && stdout.contains(r#""event":"resumed""#), "{stdout}{stderr}");
    assert!(last.exists() && std::fs::read_dir(&checkpoints).unwrap().count() == 1);
}

#[test]
fn latest_is_the_run_that_was_worked_on_last() {
    let place = Place::new();
    let args = ["train", "--config", "tiny.toml", "--json", "--method", "class-only"];
    let mut child = start_until(&place, &args, "saved", 1);
    signal(&child, "INT");
    child.wait().unwrap();
    let (code, stdout, stderr) = place.dml(&["train", "--resume", "latest"]);
    assert!(code == 0 && stdout.contains("runs/sample-class-only-seed0"), "{stdout}{stderr}");
}

/// A disk of a few megabytes, which takes a mount and therefore root.
#[test]
fn a_full_disk_loses_nothing_older_than_the_last_checkpoint() {
    let place = Place::new();
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |args: &[&str]| Command::new(args[0]).args(&args[1..]).arg(&disk).output();
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("left out: a small disk cannot be mounted here");
        return;
    }
    let attempt = std::panic::catch_unwind(|| {
        let expected = whole(&place);
        let mut child = start_until(&place, &[&TRAIN[..], &["disk/run"]].concat(), "saved", 2);
        let filler = disk.join("filler");
        // Fails when the disk is full, which is what is wanted.
        let _ = std::fs::write(&filler, vec![0; 8 << 20]);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(newest(&disk.join("run")).join("state.toml").exists());
        let complaint = place.complaint(&["train", "--resume", "disk/run"]);
        assert!(complaint.contains("No space left"), "{complaint}");
        std::fs::remove_file(filler).unwrap();
        let (code, _, stderr) = place.dml(&["train", "--resume", "disk/run"]);
        assert_eq!(code, 0, "{stderr}");
        assert!(left(&disk.join("run")) == expected);
    });
    mount(&["umount"]).unwrap();
    attempt.unwrap();
}

#[test]
fn resuming_is_proven_where_it_is_used() {
    let place = Place::new();
    let (code, stdout, stderr) = place.dml(&["verify-resume", "--config", "tiny.toml", "--cuts", "3"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("all 3 resumed runs ended with the same bytes"), "{stdout}");
}

/// The event files, read by TensorBoard's own reader where a Python has it (`DML_PYTHON`, or else `python3`).
#[test]
fn tensorboard_reads_the_event_files() {
    let python = std::env::var("DML_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        println!("left out: {python} has no tensorboard package");
        return;
    }
    let place = Place::new();
    let mut child = start_until(&place, &[&TRAIN[..], &["run"]].concat(), "step", 5);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.dml(&["train", "--resume", "run"]).0, 0);
    let run = place.path().join("run");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_tensorboard.py");
    let output = Command::new(&python).arg(script).arg(&run).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_slice(&output.stdout).unwrap();
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let (mut steps, mut losses) = (0, vec![]);
    for line in log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if line["event"] == "step" {
            steps += 1;
            losses.extend(line["terms"]["class loss"].as_f64().map(|loss| (steps, loss)));
        }
    }
    let close = |a: &(u64, f64), b: &(u64, f64)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
    let found = &read["loss/class loss"];
    assert!(found.len() == losses.len() && found.iter().zip(&losses).all(|(a, b)| close(a, b)), "{found:?}");
}
