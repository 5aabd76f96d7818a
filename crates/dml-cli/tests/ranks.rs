//! `mpirun dml train`: processes that train as one.
#![cfg(unix)]
// A test that is left out says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod place;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use candle_core::Device;
use place::{Place, newest};

/// 24 steps or more.
const TRAIN: [&str; 9] = [
    "train",
    "--config",
    "tiny.toml",
    "--set",
    "training.epochs=4",
    "--set",
    "checkpoints.steps=2",
    "--json",
    "--out",
];

/// Whether there is an mpirun, and a dml that it can start.
fn can(what: &str) -> bool {
    let why = if !cfg!(feature = "mpi") {
        "this build is without the feature mpi"
    } else if Command::new("mpirun").arg("--version").output().is_err() {
        "there is no mpirun"
    } else {
        return true;
    };
    println!("left out: {what}, because {why}");
    false
}

/// mpirun with a process for each list of arguments, over the loopback interface.
fn mpirun(place: &Place, processes: &[Vec<&str>]) -> Command {
    let dml = place.command(&[]);
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command.args("--mca btl tcp,self --mca btl_tcp_if_include lo --mca oob_tcp_if_include lo".split(' '));
    for (number, arguments) in processes.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command.args(["-n", "1"]).arg(dml.get_program()).args(arguments);
    }
    command.current_dir(place.path()).env("RAYON_NUM_THREADS", "1").stdin(Stdio::null());
    for (name, value) in dml.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn ended(mut command: Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().unwrap(), text)
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN[..], more].concat()
}

type Parameters = BTreeMap<String, Vec<f32>>;

/// Parameters and scores of a finished run.
fn left(run: &Path) -> (Parameters, Vec<(String, f64)>) {
    let tensors = dml_model::load_safetensors(&run.join("model.safetensors"), &Device::Cpu).unwrap();
    let values = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let scores: Vec<dml_train::Score> =
        serde_json::from_slice(&std::fs::read(run.join("scores.json")).unwrap()).unwrap();
    let scores = scores.into_iter().map(|score| (format!("{} {}", score.key(), score.n), score.value));
    (tensors.into_iter().map(|(name, tensor)| (name, values(tensor))).collect(), scores.collect())
}

/// The largest distance between the parameters of two runs.
fn distance(a: &Parameters, b: &Parameters) -> f32 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.iter().flat_map(|(name, values)| values.iter().zip(&b[name]));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The parameters are those of the other run up to the rounding of sums, and so are the scores.
fn same(place: &Place, run: &str, expected: &str) {
    let (run_parameters, run_scores) = left(&place.path().join(run));
    let (parameters, scores) = left(&place.path().join(expected));
    let moved = distance(&run_parameters, &parameters);
    assert!(moved < 1e-4, "{run}: {moved} from {expected}");
    assert_eq!(run_scores.len(), scores.len());
    for ((name, value), (expected_name, expected)) in run_scores.iter().zip(&scores) {
        assert_eq!(name, expected_name);
        assert!((value - expected).abs() < 1e-3, "{run}: {name} {value}, not {expected}");
    }
}

#[test]
fn processes_with_a_part_of_the_batch_train_as_one_with_all_of_it() {
    if !can("training under mpirun") {
        return;
    }
    let place = Place::new();
    for (ranks, whole, batch) in [(2, 16, 8), (3, 12, 4)] {
        let [whole, batch] = [whole, batch].map(|size| format!("training.batch={size}"));
        let (one, several) = (format!("one{ranks}"), format!("several{ranks}"));
        let (code, _, stderr) = place.dml(&with(&[&one, "--set", &whole]));
        assert_eq!(code, 0, "{stderr}");
        let (code, text) = ended(mpirun(&place, &vec![with(&[&several, "--set", &batch]); ranks]));
        assert_eq!(code, 0, "{text}");
        same(&place, &several, &one);
        // Rank 0 alone tells what happens, and the run is written down as that of one process.
        assert_eq!(text.matches("\"event\":\"finished\"").count(), 1, "{text}");
        let read = |run: &str| std::fs::read_to_string(place.path().join(run).join("config.toml")).unwrap();
        assert_eq!(read(&several), read(&one));
    }
}

#[test]
fn gradients_travel_in_bf16_where_that_is_asked_for() {
    if !can("gradients in bf16 under mpirun") {
        return;
    }
    let place = Place::new();
    for (run, more) in [("f32", "training.gradients=f32"), ("bf16", "training.gradients=bf16")] {
        let (code, text) = ended(mpirun(&place, &vec![with(&[run, "--set", more]); 2]));
        assert_eq!(code, 0, "{text}");
    }
    let [f32s, bf16s] = ["f32", "bf16"].map(|run| left(&place.path().join(run)).0);
    let moved = distance(&f32s, &bf16s);
    assert!(moved > 1e-6 && moved < 0.05, "{moved}");
}

/// The process of this rank among those that work in the folder.
fn process_of(rank: &str, folder: &Path) -> Option<String> {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.ok()?.path();
        let here = std::fs::read_link(path.join("cwd")).ok()? == folder;
        let environment = std::fs::read(path.join("environ")).ok()?;
        let is = environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes());
        (here && is).then(|| path.file_name().unwrap().to_string_lossy().into_owned())
    })
}

#[test]
fn a_rank_that_is_killed_ends_all_and_others_go_on_from_the_last_checkpoint() {
    if !can("a rank that dies under mpirun") || !cfg!(target_os = "linux") {
        return;
    }
    let place = Place::new();
    let (code, _, stderr) = place.dml(&with(&["whole", "--set", "training.batch=12"]));
    assert_eq!(code, 0, "{stderr}");
    let arguments = with(&["run", "--set", "training.batch=6"]);
    let mut command = mpirun(&place, &vec![arguments; 2]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoints = place.path().join("run/checkpoints");
    let begun = Instant::now();
    let saved = || {
        let entries = std::fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("step-"))
    };
    while !saved() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(5));
    }
    let folder = place.path().canonicalize().unwrap();
    let victim = process_of("1", &folder).expect("rank 1 was over before it could be killed");
    assert!(Command::new("kill").args(["-s", "KILL", &victim]).status().unwrap().success());
    let killed = Instant::now();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let (seconds, text) = (killed.elapsed().as_secs_f64(), String::from_utf8_lossy(&stderr).into_owned());
    println!("all ranks had ended {seconds:.2} s after one was killed");
    assert!(!status.success() && seconds < 10.0, "{seconds} s, {text}");
    assert!(text.contains("rank 1") && text.contains("signal 9"), "{text}");
    assert!(process_of("0", &folder).is_none());
    // Whatever it was killed in, the newest checkpoint is whole, and three processes or one go on from it.
    assert!(newest(&place.path().join("run")).join("state.toml").exists());
    let three = mpirun(&place, &vec![vec!["train", "--resume", "run", "--json"]; 3]);
    let (code, text) = ended(three);
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.matches("\"event\":\"resumed\"").count(), 1, "{text}");
    same(&place, "run", "whole");
}

#[test]
fn a_rank_that_hangs_is_named_and_ends_all() {
    if !can("a rank that hangs under mpirun") || !cfg!(target_os = "linux") {
        return;
    }
    let place = Place::new();
    let arguments = with(&["run", "--set", "training.epochs=400", "--rank-timeout", "5"]);
    let mut command = mpirun(&place, &vec![arguments; 3]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let folder = place.path().canonicalize().unwrap();
    let begun = Instant::now();
    while !place.path().join("run/checkpoints").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(5));
    }
    let victim = process_of("2", &folder).expect("rank 2 was over before it could be stopped");
    assert!(Command::new("kill").args(["-s", "STOP", &victim]).status().unwrap().success());
    let stopped = Instant::now();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let (seconds, text) = (stopped.elapsed().as_secs_f64(), String::from_utf8_lossy(&stderr).into_owned());
    println!("all ranks had ended {seconds:.2} s after one was stopped");
    assert!(!status.success() && seconds < 40.0, "{seconds} s, {text}");
    assert!(text.contains("rank 2 did not come within 5s and does not answer"), "{text}");
    assert!(newest(&place.path().join("run")).join("state.toml").exists());
}

#[test]
fn a_rank_with_other_settings_is_named_and_ends_all() {
    if !can("ranks that do not agree under mpirun") {
        return;
    }
    let place = Place::new();
    let check = |setting: &str, expected: &str| {
        let begun = Instant::now();
        let same = with(&["run"]);
        let other = with(&["run", "--set", setting]);
        let (code, text) = ended(mpirun(&place, &[same.clone(), same, other]));
        assert_ne!(code, 0, "{text}");
        assert!(text.contains("rank 2") && text.contains(expected), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert!(!place.path().join("run/checkpoints").exists());
        std::fs::remove_dir_all(place.path().join("run")).unwrap();
    };
    check("training.lambda_class=0.4", "weight: rank 0 has");
    check("data.caption_train=31", "dataset.caption: rank 0 has");
}
