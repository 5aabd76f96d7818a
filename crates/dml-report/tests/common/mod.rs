//! Runs and sweeps as they lie on disk, with names that would break a page which does not escape them.

use std::path::{Path, PathBuf};

use dml_report::{Detail, Report};
use dml_train::{ClassRow, ClassTable, Gallery, Item, Score};
use image::{Rgb, RgbImage};

/// In text, in attributes, and as an end of style, script and comment.
pub(crate) const HOSTILE: &str =
    r#"</style></script>--><img src=x onerror="alert(1)"> 'quoted' "twice" & <b>bold</b>"#;

pub(crate) fn score(eval: &str, task: &str, measure: &str, protocol: &str, value: f64, n: usize) -> Score {
    Score {
        eval: eval.into(),
        task: task.into(),
        measure: measure.into(),
        protocol: protocol.into(),
        value,
        higher_is_better: !measure.contains("rank"),
        n,
    }
}

/// All tasks' scores at one moment, which `level` moves.
pub(crate) fn scores(level: f64) -> Vec<Score> {
    vec![
        score("class", "class", "hit@1", "clip", 40.125 + level, 200),
        score("class of caption data", "class", "hit@1", "clip", 35.0 + level, 200),
        score("caption", "caption", "item→text R@1", "pools of 16, one caption", 20.0 - level, 192),
        score("caption", "caption", "item→text R@5", "pools of 16, one caption", 60.0 + level, 192),
        score(
            "caption",
            "caption",
            "item→text mean rank",
            "whole set (200 items, 800 texts)",
            30.0 - level,
            200,
        ),
    ]
}

/// The folder of a run of three rounds of captions and classes.
pub(crate) fn write_run(folder: &Path, shift: f64) {
    std::fs::create_dir_all(folder).unwrap();
    let config = format!(
        "seed = 0\nmethod = \"dml-lwf\"\n[data]\nkind = \"sample\"\nnote = {}\n[training]\nepochs = 6\nblock = 2\n\
         lambda_class = {}\n",
        toml::Value::String(HOSTILE.into()),
        0.9 + shift / 100.0
    );
    std::fs::write(folder.join("config.toml"), config).unwrap();
    let mut lines = vec![serde_json::json!({"event":"started","phases":6,"steps":60,"parameters":123456})];
    let evaluated = |phase: usize, name: &str, epochs: f64, level: f64| serde_json::json!({"event":"evaluated","phase":phase,"name":name,"epochs":epochs,"scores":scores(level)});
    lines.push(evaluated(0, "before training", 0.0, -15.0 + shift));
    for phase in 1..=6usize {
        let name = if phase % 2 == 1 { "caption" } else { "class" };
        lines.push(
            serde_json::json!({"event":"phase-started","phase":phase,"name":name,"round":phase.div_ceil(2),
            "steps":10,"samples":100}),
        );
        lines.push(serde_json::json!({"event":"step","phase":phase,"step":1,"samples":10,"terms":{"class loss":0.5}}));
        let level = phase as f64 + shift + if phase % 2 == 1 { -6.0 } else { 4.0 };
        lines.push(evaluated(phase, name, phase as f64, level));
    }
    lines.push(serde_json::json!({"event":"finished","interrupted":false,"seconds":83.2}));
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(folder.join("metrics.jsonl"), lines.join("\n")).unwrap();
    std::fs::write(folder.join("scores.json"), serde_json::to_vec(&scores(10.0 + shift)).unwrap()).unwrap();
    let environment = serde_json::json!({"version": "0.1.0", "cpu": {"cores": 2, "name": HOSTILE}});
    std::fs::write(folder.join("environment.json"), environment.to_string()).unwrap();
}

/// The folder of a sweep over 3 × 3 settings.
pub(crate) fn write_sweep(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let values = [0.1, 0.5, 0.9];
    let runs: Vec<serde_json::Value> = (0..9)
        .map(|i| {
            let (a, b) = (values[i / 3], values[i % 3]);
            serde_json::json!({"hash": i.to_string(), "method": "dml-lwf", "seed": 0, "folder": format!("runs/{i}"),
                "settings": {"training.lambda_class": a, HOSTILE: b}, "scores": scores(i as f64)})
        })
        .collect();
    let axes =
        ["training.lambda_class", HOSTILE].map(|key| serde_json::json!({"key": key, "values": values}));
    let sweep = serde_json::json!({"axes": axes, "runs": runs});
    std::fs::write(folder.join("sweep.json"), sweep.to_string()).unwrap();
}

/// What a checkpoint might answer.
pub(crate) fn detail(level: f64) -> Detail {
    let names = ["walk", "jump", HOSTILE];
    let rows = names.map(|name| ClassRow {
        name: name.into(),
        positives: 10,
        average_precision: Some(33.3),
        eleven_points: Some(35.0),
        recall: Some(70.0),
        precision: None,
    });
    let confusion = vec![vec![7, 2, 1], vec![0, 10, 0], vec![3, 3, 4]];
    let classes = vec![ClassTable { eval: "class".into(), several: false, rows: rows.into(), confusion }];
    let picture = |i: usize, size: u32| {
        RgbImage::from_fn(size, size, |x, y| Rgb([(x * 4) as u8, (y * 4) as u8, (i * 9) as u8]))
    };
    let item = |i: usize, captions: bool| {
        let classes = vec![("walk".to_string(), 0.6), (HOSTILE.to_string(), 0.3)];
        let sentences = vec![("a tall man walks a dog".to_string(), 0.71), (HOSTILE.to_string(), 0.44)];
        let pictures = match (i, captions) {
            (3, _) => vec![],
            (_, true) => (0..8).map(|_| picture(i, 24)).collect(),
            (_, false) => vec![picture(i, 200)],
        };
        Item {
            index: i,
            id: format!("{HOSTILE}/{i}"),
            pictures,
            labels: if captions { vec!["walk".into()] } else { vec![HOSTILE.into(), "b".into(), "c".into()] },
            own: if captions { classes.clone() } else { sentences.clone() },
            answers: if captions { sentences } else { classes },
            confidence: ((i * 7) % 20) as f64 / 20.0,
            disagreement: ((i * 3) % 20) as f64 / 20.0,
        }
    };
    let gallery = |captions: bool| Gallery {
        set: format!("set {HOSTILE}"),
        own: "class".into(),
        task: "caption".into(),
        captions,
        samples: 200,
        items: (0..20).map(|i| item(i, captions)).collect(),
    };
    Detail {
        scores: scores(level),
        classes,
        galleries: vec![gallery(true), gallery(false)],
        untrained: vec![HOSTILE.into()],
    }
}

/// A report on one run with everything a checkpoint can say, and on a sweep.
pub(crate) fn report(place: &Path) -> (PathBuf, Report) {
    let (run, sweep) = (place.join("run"), place.join("sweep"));
    write_run(&run, 0.0);
    write_sweep(&sweep);
    let mut report = Report::read(&[&run, &sweep]).unwrap();
    report.runs[0].name = HOSTILE.into();
    report.runs[0].detail = Some(Ok(detail(10.0)));
    let path = place.join("report.html");
    std::fs::write(&path, report.html()).unwrap();
    (path, report)
}
