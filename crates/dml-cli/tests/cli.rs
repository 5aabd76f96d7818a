//! The command as a person meets it: output, errors and exit codes, on a sample small enough to train in seconds.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use assert_cmd::Command;

/// A sample and a network that train in a second or two.
const TINY: &str = r#"
[data]
kind = "sample"
size = 16
train = 32
caption_train = 32
pretrain = 32
test = 32

[root]
kind = "small-clip"
frames = 8
size = 16
channels = [4, 4, 8]
hidden = 16
dropout = 0.5

[pretrain]
epochs = 1

[training]
epochs = 2
block = 1
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path().join("tiny.toml"), TINY).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `dml`; returns exit code, standard output and standard error.
    fn dml(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("dml").unwrap();
        command
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env_remove("DML_WEIGHTS");
        let output = command.args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs `dml`, which must fail with exit code 1, and returns its complaint.
    fn complaint(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.dml(args);
        assert_eq!(code, 1, "{args:?}\n{stdout}{stderr}");
        stderr
    }
}

#[test]
fn help_texts() {
    let place = Place::new();
    for command in ["", "train", "eval", "compare", "info", "report", "predict"] {
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
    for file in ["model.safetensors", "optimizer.safetensors", "metrics.jsonl", "scores.json", "config.toml"]
    {
        assert!(run.join(file).exists(), "{file}");
    }
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
fn checkpoints_are_the_same_bytes_for_one_and_two_threads() {
    let place = Place::new();
    let run = |out: &str, threads: &str, cache: &str| {
        let cache = format!("cache={cache}");
        let args = ["train", "--config", "tiny.toml", "--out", out, "--threads", threads, "--set", &cache];
        let (code, _, stderr) = place.dml(&args);
        assert_eq!(code, 0, "{stderr}");
        ["model.safetensors", "optimizer.safetensors"]
            .map(|file| std::fs::read(place.path().join(out).join(file)).unwrap())
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

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_report_has_the_numbers_of_eval() {
    let place = Place::new();
    place.dml(&["train", "--config", "tiny.toml", "--out", "run"]);
    let (code, stdout, stderr) = place.dml(&["report", "run", "--svg", "charts"]);
    assert_eq!((code, stdout.trim()), (0, "run/report.html"), "{stderr}");
    let read = |path: &str| std::fs::read_to_string(place.path().join(path)).unwrap();
    let (_, scores, _) = place.dml(&["eval", "run", "--json"]);
    let scores: serde_json::Value = serde_json::from_str(&scores).unwrap();
    let html = read("run/report.html");
    let table = html.split("Scores at the end</caption>").nth(1).unwrap().split("</table>").next().unwrap();
    let rows: Vec<&str> = table.split("<tr").skip(2).collect();
    let scores = scores.as_array().unwrap();
    assert_eq!(rows.len(), scores.len());
    for (row, score) in rows.iter().zip(scores) {
        let value = row.split("data-value=\"").nth(1).unwrap().split('"').next().unwrap();
        // Numbers read from JSON may be off by their last bit.
        let (value, expected) = (value.parse::<f64>().unwrap(), score["value"].as_f64().unwrap());
        assert!((value - expected).abs() <= 1e-12 * expected.abs(), "{value}: {score}");
        for part in ["measure", "protocol"] {
            assert!(row.contains(score[part].as_str().unwrap()), "{score}");
        }
    }
    // Both directions across the tasks, with the frames of the clips.
    assert_eq!(html.matches("<ol class=\"gallery\"").count(), 2);
    assert_eq!(html.matches("data:image/png;base64").count(), 2 * 32);
    assert!(files_below(&place.path().join("charts")).len() > 5);

    // Without its checkpoint a run keeps all but that; several runs are compared.
    std::fs::create_dir_all(place.path().join("bare")).unwrap();
    for file in ["config.toml", "metrics.jsonl", "scores.json"] {
        std::fs::copy(place.path().join("run").join(file), place.path().join("bare").join(file)).unwrap();
    }
    let (code, stdout, stderr) =
        place.dml(&["report", "bare", "run", "--out", "both.html", "--gallery", "5"]);
    assert_eq!((code, stdout.trim()), (0, "both.html"), "{stderr}");
    assert!(stderr.contains("bare: without predictions"), "{stderr}");
    let html = read("both.html");
    assert!(html.contains("2 runs side by side") && html.contains("its predictions are not shown"));
    assert_eq!(html.matches("data:image/png;base64").count(), 2 * 5);
    assert!(place.complaint(&["report", "nowhere"]).contains("nowhere"));
}

#[test]
fn predictions_on_frames_and_videos() {
    let place = Place::new();
    place.dml(&["train", "--config", "tiny.toml", "--out", "run"]);
    let path = |name: &str| place.path().join(name);
    std::fs::create_dir(path("frames")).unwrap();
    for frame in 0..10u8 {
        let picture =
            image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, frame * 20]));
        picture.save(path("frames").join(format!("{frame:02}.png"))).unwrap();
    }
    std::fs::copy(path("frames").join("00.png"), path("one.png")).unwrap();
    std::fs::write(path("noise.avi"), [7; 100]).unwrap();
    std::fs::write(path("captions.txt"), "a man jumps\n\na woman waves\n").unwrap();
    let lines = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };

    // What cannot be read is named, the rest is answered, and the end says that something is missing.
    let args = ["predict", "one.png", "absent.avi", "frames", "--run", "run", "--json"];
    let (code, stdout, stderr) = place.dml(&args);
    assert_eq!(code, 1, "{stderr}");
    for part in ["one.png: a single image", "absent.avi: there is no such file", "2 of 3 files"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let answers = lines(&stdout);
    assert_eq!((answers.len(), &answers[0]["file"]), (1, &serde_json::json!("frames")));
    let classes = answers[0]["classes"]["class"].as_array().unwrap();
    let probabilities: Vec<f64> = classes.iter().map(|class| class[1].as_f64().unwrap()).collect();
    assert_eq!(probabilities.len(), 5);
    assert!(probabilities.is_sorted_by(|a, b| a >= b) && probabilities.iter().sum::<f64>() <= 1.0 + 1e-6);
    assert_eq!(answers[0]["captions"]["caption"].as_array().unwrap().len(), 5);

    let args = ["predict", "frames", "--run", "run", "--captions", "captions.txt", "--top", "1", "--json"];
    let (code, stdout, stderr) = place.dml(&args);
    assert_eq!(code, 0, "{stderr}");
    let nearest = &lines(&stdout)[0]["captions"]["caption"][0][0];
    assert!(["a man jumps", "a woman waves"].contains(&nearest.as_str().unwrap()), "{nearest}");
    assert!(
        place.complaint(&["predict", "frames", "--run", "run", "--captions", "one.png"]).contains("one.png")
    );

    let mut command = Command::cargo_bin("dml").unwrap();
    command.current_dir(place.path()).env("XDG_CACHE_HOME", path("cache")).env("PATH", "");
    let output = command.args(["predict", "noise.avi", "--run", "run"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("noise.avi: ffmpeg") && stderr.contains("install"), "{stderr}");

    let video = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x48:rate=10:duration=4",
        "-c:v",
        "mjpeg",
        "t.avi",
    ];
    match std::process::Command::new("ffmpeg").args(video).current_dir(place.path()).status() {
        Ok(status) if status.success() => {}
        _ => {
            eprintln!("left out: a video, as there is no ffmpeg to make one");
            return;
        }
    }
    let (code, stdout, stderr) =
        place.dml(&["predict", "noise.avi", "t.avi", "--run", "run", "--interval", "10", "--json"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("noise.avi: ffmpeg"), "{stderr}");
    assert_eq!(lines(&stdout)[0]["file"], "t.avi");
}
