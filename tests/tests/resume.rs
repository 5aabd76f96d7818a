//! A run that is stopped anywhere, or whose process dies anywhere, and is resumed ends with the same bytes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use dml_model::{MultiTaskNet, Params};
use dml_tests::{Bench, Toy, pair, settings};
use dml_train::{
    AdamSharing, Checkpoint, CheckpointConfig, Ema, Event, Length, Method, MonitorConfig, Outcome, Pair,
    Phase, Recording, Schedule, Settings, Stream, Supervise, TrainError, Weighting, Which,
};

fn two() -> Bench {
    Bench::new(vec![Toy::new("a", 3), Toy::new("b", 4)]).unwrap()
}

fn schedule(method: Method) -> Schedule {
    let pair = Pair { epochs: 2, block: 1, warm_up: 1, ..pair() };
    method.schedule(&pair).unwrap()
}

/// A folder, in memory where the system has such: what is tested here is not the disk, which takes its time to sync.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs in the folder, from the newest checkpoint there, and stops at the event of this number.
fn run(
    bench: &Bench,
    schedule: &Schedule,
    settings: &Settings,
    stop_at: Option<usize>,
) -> (Outcome, Vec<Event>) {
    let params = Params::new(3, &Device::Cpu);
    MultiTaskNet::new(&bench.net, params.builder()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let settings = Settings { resume: true, stop: stop.clone(), ..settings.clone() };
    let mut events = Vec::new();
    let outcome = bench
        .run_to(&params, schedule, settings, &mut |event| {
            events.push(event.clone());
            if Some(events.len()) == stop_at {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
    (outcome, events)
}

/// The newest checkpoint's files, byte for byte.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let newest = Checkpoint::find(folder, &Which::Newest).unwrap();
    assert_eq!(newest, folder.join("model.safetensors"), "the run is not finished");
    let last = checkpoints(folder).pop().unwrap();
    let files = fs::read_dir(last).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What was told of scores, drift and losses, in order, without what depends on the clock.
fn story(events: &[Event]) -> Vec<String> {
    let told = |event: &Event| match event {
        Event::Evaluated { .. } | Event::Drift { .. } | Event::GradientCosine { .. } | Event::Step { .. } => {
            Some(format!("{event:?}"))
        }
        _ => None,
    };
    events.iter().filter_map(told).collect()
}

/// Stops a run at every so many events, resumes it, and compares with the run that was never stopped.
fn check(method: Method, settings: Settings, every: usize) {
    check_schedule(method, &schedule(method), settings, every);
}

fn check_schedule(method: Method, schedule: &Schedule, settings: Settings, every: usize) {
    let bench = two();
    let within = |folder: &Path| Settings { folder: Some(folder.into()), ..settings.clone() };
    let whole = memory();
    let (outcome, events) = run(&bench, schedule, &within(whole.path()), None);
    let (expected, told) = (bytes(whole.path()), story(&events));
    for cut in (1..=events.len()).step_by(every) {
        let place = memory();
        let settings = within(place.path());
        let (first, before) = run(&bench, schedule, &settings, Some(cut));
        let cut_in = format!("{method}, {:?}, stopped at event {cut}: {:?}", settings.adam, events[cut - 1]);
        let (second, after) = run(&bench, schedule, &settings, None);
        assert!(!second.interrupted, "{cut_in}");
        assert!(expected == bytes(place.path()), "other bytes: {cut_in}");
        assert_eq!(outcome.scores, second.scores, "{cut_in}");
        if first.interrupted {
            // What had been told up to the last checkpoint, and what was told after it, are the whole story.
            assert_eq!(told, [story(&before), story(&after)].concat(), "{cut_in}");
        }
    }
}

#[test]
fn stopping_anywhere_changes_no_byte() {
    let throughout = Settings { evaluate_throughout: true, ..settings() };
    for adam in [AdamSharing::Shared, AdamSharing::PerTask, AdamSharing::PerPhase] {
        check(Method::DmlLwf, Settings { adam, ..throughout.clone() }, 3);
    }
    for method in [
        Method::Mixed,
        Method::MixedLwf,
        Method::Specialists,
        Method::Steps,
        Method::LwfClassCaption,
        Method::FinetuneCaptionClass,
    ] {
        check(method, throughout.clone(), 5);
    }
    check(Method::DmlLwf, settings(), 5);
    let (recording, adam) = (Recording::Table, AdamSharing::PerTask);
    let monitor = MonitorConfig { drift_samples: 5, gradient_cosine_every: 2, profile: true };
    check(Method::DmlLwf, Settings { recording, monitor, adam, ..throughout }, 1);
}

#[test]
fn averages_and_learnt_weights_go_on_from_where_they_were() {
    for method in [Method::DmlLwf, Method::MixedLwf] {
        for evaluate in [false, true] {
            let pair = Pair { epochs: 2, block: 1, mean_teacher: true, learnt_weights: true, ..pair() };
            let settings = Settings {
                ema: Ema { decay: 0.9, evaluate },
                weighting: Weighting::Uncertainty,
                evaluate_throughout: true,
                ..settings()
            };
            check_schedule(method, &method.schedule(&pair).unwrap(), settings, 5);
        }
    }
}

/// A process that dies leaves what it had written; the folder is copied as it is after every event.
#[test]
fn dying_anywhere_loses_nothing_older_than_the_last_checkpoint() {
    let (bench, schedule) = (two(), schedule(Method::DmlLwf));
    let checkpoints = CheckpointConfig { steps: 3, ..CheckpointConfig::default() };
    let settings = Settings { evaluate_throughout: true, checkpoints, ..settings() };
    let whole = memory();
    let folder = whole.path().to_path_buf();
    let settings_in = |folder: &Path| Settings { folder: Some(folder.into()), ..settings.clone() };
    let copies = memory();
    let params = Params::new(3, &Device::Cpu);
    MultiTaskNet::new(&bench.net, params.builder()).unwrap();
    let mut number = 0;
    let mut steps = Vec::new();
    bench
        .run_to(&params, &schedule, settings_in(&folder), &mut |event| {
            if let Event::Saving { steps: at, .. } = event {
                steps.push(*at);
            }
            copy(&folder, &copies.path().join(number.to_string()));
            number += 1;
        })
        .unwrap();
    let expected = bytes(&folder);
    // The policy: every three steps, and after each evaluation.
    assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 3), "{steps:?}");
    for copy in (0..number).map(|number| copies.path().join(number.to_string())) {
        run(&bench, &schedule, &settings_in(&copy), None);
        assert!(expected == bytes(&copy));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => assert!(fs::copy(&path, &target).is_ok()),
        }
    }
}

#[test]
fn broken_checkpoints_are_skipped_and_named() {
    let (bench, schedule) = (two(), schedule(Method::DmlLwf));
    type Breakage = (&'static str, fn(&Path));
    let breakages: [Breakage; 6] = [
        ("model.safetensors", |path| flip(path, 0.9)),
        ("model.safetensors", |path| fs::write(path, fs::read(path).unwrap().split_off(100)).unwrap()),
        ("optimizer.safetensors", |path| fs::remove_file(path).unwrap()),
        ("recorded.safetensors", |path| flip(path, 0.5)),
        ("state.toml", |path| flip(path, 0.7)),
        ("state.toml", |path| fs::write(path, "").unwrap()),
    ];
    for (file, breakage) in breakages {
        let place = memory();
        let checkpoints = CheckpointConfig { steps: 1, keep: 3, ..CheckpointConfig::default() };
        let settings =
            Settings { folder: Some(place.path().into()), checkpoints: checkpoints.clone(), ..settings() };
        // In the second phase, which has recorded responses.
        let whole = run(&bench, &schedule, &settings, Some(60)).0;
        assert!(whole.interrupted);
        let all = self::checkpoints(place.path());
        assert_eq!(all.len(), 3);
        breakage(&all[2].join(file));
        // A broken one does not count in what is kept, even where only one is.
        let one = CheckpointConfig { steps: 0, keep: 1, ..checkpoints.clone() };
        run(&bench, &schedule, &Settings { checkpoints: one, ..settings.clone() }, Some(1));
        assert_eq!(self::checkpoints(place.path()), all[1..], "{file}");
        let (_, events) = run(&bench, &schedule, &settings, None);
        let skipped: Vec<&Event> = events.iter().filter(|e| matches!(e, Event::Skipped { .. })).collect();
        let [Event::Skipped { path, problem }] = skipped[..] else { panic!("{file}: {skipped:?}") };
        assert!(*path == all[2] && problem.contains(file), "{problem}");
        let resumed = events.iter().find_map(|event| match event {
            Event::Resumed { path, .. } => Some(path.clone()),
            _ => None,
        });
        assert_eq!(resumed, Some(all[1].clone()), "{file}");
        let fresh = memory();
        run(&bench, &schedule, &Settings { folder: Some(fresh.path().into()), ..settings }, None);
        assert!(bytes(fresh.path()) == bytes(place.path()), "{file}");
    }
}

/// Turns one bit of the file, at this part of its length.
fn flip(path: &Path, part: f64) {
    let mut bytes = fs::read(path).unwrap();
    let at = (bytes.len() as f64 * part) as usize;
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn another_configuration_or_dataset_is_refused_by_name() {
    let schedule_of = schedule;
    let (bench, schedule) = (two(), schedule(Method::DmlLwf));
    let place = memory();
    let settings = Settings { folder: Some(place.path().into()), ..settings() };
    assert!(run(&bench, &schedule, &settings, Some(9)).0.interrupted);
    let refused = |bench: &Bench, schedule: &Schedule, settings: Settings| {
        let params = Params::new(3, &Device::Cpu);
        MultiTaskNet::new(&bench.net, params.builder()).unwrap();
        let settings = Settings { resume: true, ..settings };
        match bench.run_to(&params, schedule, settings, &mut |_| {}) {
            Err(TrainError::Changed { path, changes }) => {
                assert!(path.starts_with(place.path()));
                changes.join("\n")
            }
            other => panic!("{other:?}"),
        }
    };
    let batch = refused(&bench, &schedule, Settings { batch: 8, ..settings.clone() });
    assert_eq!(batch, "batch: was 16, is 8");
    let adam = refused(&bench, &schedule, Settings { adam: AdamSharing::PerTask, ..settings.clone() });
    assert!(adam.starts_with("adam: was \"shared\""), "{adam}");
    let method = refused(&bench, &schedule_of(Method::DmlMatched), settings.clone());
    assert!(method.contains("schedule.repeat.0.streams.0.preserve"), "{method}");
    let other = Bench::new(vec![Toy::new("a", 3), Toy::new("b", 5)]).unwrap();
    let data = refused(&other, &schedule, settings.clone());
    assert!(data.contains("dataset.b: was ") && data.contains("labels.b"), "{data}");
    // How responses are kept and when checkpoints are written changes nothing that is computed.
    let checkpoints = CheckpointConfig { steps: 2, ..CheckpointConfig::default() };
    let settings = Settings { recording: Recording::Table, checkpoints, ..settings };
    assert!(!run(&bench, &schedule, &settings, None).0.interrupted);
}

#[test]
fn the_newest_and_the_best_checkpoints_stay() {
    let (bench, schedule) = (two(), schedule(Method::ClassOnly));
    let schedule = Schedule { rounds: 6, ..schedule };
    let place = memory();
    let best = Some("a | hit@1".to_string());
    let checkpoints = CheckpointConfig { keep: 2, best, ..CheckpointConfig::default() };
    let settings =
        Settings { folder: Some(place.path().into()), evaluate_throughout: true, checkpoints, ..settings() };
    let (_, events) = run(&bench, &schedule, &settings, None);
    let mut steps = 0;
    let mut values = Vec::new();
    for event in &events {
        match event {
            Event::Step { .. } => steps += 1,
            Event::Evaluated { scores, .. } => {
                let score = scores.iter().find(|score| score.key().starts_with("a | hit@1")).unwrap();
                values.push((steps, score.value));
            }
            _ => {}
        }
    }
    let mut best = values[0];
    for &(steps, value) in &values {
        if value > best.1 {
            best = (steps, value);
        }
    }
    let expected = place.path().join(format!("checkpoints/step-{:08}/model.safetensors", best.0));
    assert_eq!(Checkpoint::find(place.path(), &Which::Best).unwrap(), expected);
    let left = self::checkpoints(place.path()).len();
    assert!(left == 2 || left == 3, "{left} checkpoints are left");
    let none = Checkpoint::find(place.path(), &Which::Named("step-00000001".into())).unwrap_err().to_string();
    assert!(none.contains("there are: step-"), "{none}");

    let ambiguous = CheckpointConfig { best: Some("| hit".into()), ..CheckpointConfig::default() };
    let other = memory();
    let settings = Settings { checkpoints: ambiguous, folder: Some(other.path().into()), ..settings };
    let error = bench.run(&schedule, settings).unwrap_err().to_string();
    assert!(error.contains("checkpoints.best") && error.contains("a | hit@1"), "{error}");
}

#[test]
fn a_phase_of_steps_is_gone_on_with_too() {
    let bench = two();
    let stream = |set: &str| Stream {
        dataset: set.into(),
        supervise: Supervise { task: set.into(), weight: 1.0 },
        preserve: vec![],
    };
    let phase = Phase {
        name: "steps".into(),
        streams: vec![stream("a"), stream("b")],
        length: Length::Steps(11),
        freeze: vec![],
        restart: false,
    };
    let schedule = Schedule { prologue: vec![], repeat: vec![phase], rounds: 2 };
    let whole = memory();
    let place = memory();
    let within = |folder: &Path| Settings { folder: Some(folder.into()), ..settings() };
    run(&bench, &schedule, &within(whole.path()), None);
    // Stopped again and again. A process must get as far as one evaluation, which is not gone on with.
    let mut stops = 0;
    while run(&bench, &schedule, &within(place.path()), Some(16)).0.interrupted {
        stops += 1;
        assert!(stops < 20);
    }
    assert!(stops > 1, "{stops}");
    assert!(bytes(whole.path()) == bytes(place.path()));
}
