//! Pages on runs, and predictions on files.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod place;

use std::path::Path;

use place::Place;

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

    let output = place.command(&["predict", "noise.avi", "--run", "run"]).env("PATH", "").output().unwrap();
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
