//! The command as a person meets it: output, errors and exit codes, on a sample small enough to train in seconds.
#![allow(clippy::unwrap_used)]

mod place;

use place::{Place, newest};

#[test]
fn help_texts() {
    let place = Place::new();
    let commands = [
        "",
        "train",
        "eval",
        "verify-resume",
        "compare",
        "sweep",
        "reproduce",
        "predict",
        "report",
        "info",
        "doctor",
    ];
    for command in commands {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        let (code, stdout, _) = place.dml(&args);
        assert_eq!(code, 0);
        insta::assert_snapshot!(format!("help-{command}"), stdout);
    }
}

#[test]
fn a_run_leaves_what_it_says_and_eval_agrees_with_it() {
    let place = Place::new();
    let (code, stdout, stderr) = place.dml(&["train", "--config", "tiny.toml"]);
    assert_eq!(code, 0, "{stderr}");
    let run = place.path().join("runs/sample-dml-lwf-seed0");
    assert!(stdout.contains("runs/sample-dml-lwf-seed0"), "{stdout}");
    for file in ["model.safetensors", "metrics.jsonl", "scores.json", "config.toml", "environment.json"] {
        assert!(run.join(file).exists(), "{file}");
    }
    assert!(newest(&run).join("optimizer.safetensors").exists());
    for line in std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let (code, scores, stderr) = place.dml(&["eval", "runs/sample-dml-lwf-seed0", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(&scores), read(&std::fs::read_to_string(run.join("scores.json")).unwrap()));
    // A second run of the same settings gets a folder of its own.
    place.dml(&["train", "--config", "tiny.toml"]);
    assert!(place.path().join("runs/sample-dml-lwf-seed0-2/model.safetensors").exists());
}

#[test]
fn the_profile_names_the_parts_and_changes_no_score() {
    let place = Place::new();
    let scores = |out: &str, more: &[&str]| {
        let (code, stdout, stderr) =
            place.dml(&[&["train", "--config", "tiny.toml", "--out", out], more].concat());
        assert_eq!(code, 0, "{stderr}");
        (std::fs::read_to_string(place.path().join(out).join("scores.json")).unwrap(), stdout)
    };
    let (plain, _) = scores("plain", &[]);
    let (profiled, shown) = scores("profiled", &["--profile"]);
    assert_eq!(plain, profiled);
    for part in ["forward", "answers of the recorded network", "heads and losses", "backward", "update"] {
        assert!(shown.contains(&format!("| {part}")), "{part}: {shown}");
    }
}

#[test]
fn checkpoints_are_the_same_bytes_for_one_and_two_threads() {
    let place = Place::new();
    let run = |out: &str, threads: &str, cache: &str| {
        let cache = format!("cache={cache}");
        let args = ["train", "--config", "tiny.toml", "--out", out, "--threads", threads, "--set", &cache];
        let (code, _, stderr) = place.dml(&args);
        assert_eq!(code, 0, "{stderr}");
        let last = newest(&place.path().join(out));
        ["model.safetensors", "optimizer.safetensors"].map(|file| std::fs::read(last.join(file)).unwrap())
    };
    let first = run("one", "1", "c1");
    assert!(first == run("again", "1", "c2"), "the same seed gave another checkpoint");
    assert!(first == run("two", "2", "c3"), "two threads gave another checkpoint than one");
}

#[test]
fn json_is_a_line_for_each_event() {
    let place = Place::new();
    let (code, stdout, stderr) =
        place.dml(&["train", "--config", "tiny.toml", "--json", "--method", "mixed"]);
    assert_eq!(code, 0, "{stderr}");
    let events: Vec<String> = stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_string()
        })
        .collect();
    for event in ["started", "phase-started", "step", "evaluated", "saved", "finished"] {
        assert!(events.iter().any(|e| e == event), "{event} is missing");
    }
}

#[test]
fn compare_puts_methods_side_by_side() {
    let place = Place::new();
    let args =
        ["compare", "--config", "tiny.toml", "--methods", "class-only,caption-only,dml-lwf", "--seeds", "2"];
    let (code, stdout, stderr) = place.dml(&args);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("2 seeds") && stdout.contains("| class-only ") && stdout.contains("± "),
        "{stdout}"
    );
    let (_, json, _) = place.dml(&[&args[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 3);
    assert_eq!(json["seeds"].as_array().unwrap().len(), 2);
}

#[test]
fn info_shows_the_schedule() {
    let place = Place::new();
    let (code, stdout, stderr) =
        place.dml(&["info", "--config", "tiny.toml", "--method", "lwf-class-caption"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("recorded once") && stdout.contains("parameters"), "{stdout}");
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    write("unknown.toml", "[training]\nepoch = 3\n");
    write("broken.toml", "training = [\n");
    let check = |args: &[&str], expected: &[&str]| {
        let complaint = place.complaint(args);
        for part in expected {
            assert!(complaint.contains(part), "{args:?} should say {part:?}: {complaint}");
        }
    };
    check(&["train", "--config", "unknown.toml"], &["unknown.toml", "epoch"]);
    check(&["train", "--config", "broken.toml"], &["broken.toml", "line 1"]);
    check(&["train", "--config", "absent.toml"], &["absent.toml"]);
    check(&["train", "--config", "tiny.toml", "--lambda-class", "1.5"], &["1.5", "lambda"]);
    check(&["train", "--config", "tiny.toml", "--lambda-caption=-0.1"], &["-0.1", "lambda"]);
    check(&["train", "--config", "tiny.toml", "--set", "training.batch=0"], &["batch"]);
    check(&["train", "--device", "cuda"], &["--features cuda"]);
    check(&["train", "--device", "tpu"], &["tpu"]);
    check(&["train", "--images", "nowhere", "--captions", "nowhere"], &["nowhere"]);
    let videos = ["train", "--videos", "nowhere", "--captions", "nowhere"];
    check(&videos, &["nowhere", "UCF101", "prepare-data"]);
    check(&[&videos[..], &["--root", "vgg"]].concat(), &["vgg", "small-clip"]);
    check(&["eval", "nowhere"], &["nowhere"]);
    let (code, _, stderr) = place.dml(&["train", "--images", "nowhere"]);
    assert!(code == 2 && stderr.contains("--captions"), "{code} {stderr}");
    let (code, _, stderr) = place.dml(&["train", "--captions", "nowhere"]);
    assert!(code == 2 && stderr.contains("--videos"), "{code} {stderr}");
    let (code, _, stderr) = place.dml(&[&videos[..], &["--split", "4"]].concat());
    assert!(code == 2 && stderr.contains("1..=3"), "{code} {stderr}");
    let (code, _, stderr) = place.dml(&["train", "--method", "dmll"]);
    assert!(code == 2 && stderr.contains("dml-lwf"), "{code} {stderr}");
    assert!(!place.path().join("runs").exists(), "a refused run left something behind");
}

#[test]
fn a_checkpoint_of_another_shape_is_refused_with_the_names() {
    let place = Place::new();
    place.dml(&["train", "--config", "tiny.toml", "--out", "run"]);
    let config = place.path().join("run/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("hidden = 16", "hidden = 24")).unwrap();
    let complaint = place.complaint(&["eval", "run"]);
    assert!(complaint.contains("root.fc6.weight") && complaint.contains("head.class.weight"), "{complaint}");
}
