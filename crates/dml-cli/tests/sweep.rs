//! Commands that train more than once, and the doctor, on a sample small enough to train in seconds.
#![allow(clippy::unwrap_used)]

mod place;

use place::Place;

/// Parses the standard output of a command that must succeed.
fn json(place: &Place, args: &[&str]) -> serde_json::Value {
    let (code, stdout, stderr) = place.dml(args);
    assert_eq!(code, 0, "{args:?}\n{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_sweep_marks_the_best_and_runs_nothing_twice() {
    let place = Place::new();
    let args = |jobs: &'static str, out: &'static str| {
        let axis = ["--axis", "training.lambda_class=0.1,0.9", "--axis", "optimizer.adam=shared,per-task"];
        let rest = ["--methods", "class-only,dml-lwf", "--seeds", "2", "--jobs", jobs, "--out", out];
        [&["sweep", "--config", "tiny.toml"][..], &axis, &rest].concat()
    };
    let (code, stdout, stderr) = place.dml(&args("1", "one"));
    assert_eq!(code, 0, "{stderr}");
    for part in ["2 seeds", "training.lambda_class", " * ", "best by class | hit@1", "one (ledger.csv"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    // Of 16 runs, class-only is the same for every λ and every sharing of Adam among tasks that is not per phase.
    let read = |path: &str| std::fs::read_to_string(place.path().join(path)).unwrap();
    let sweep: serde_json::Value = serde_json::from_str(&read("one/sweep.json")).unwrap();
    let runs = sweep["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 16);
    let folders =
        || std::fs::read_dir(place.path().join("one/runs")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(folders().count(), 12);
    for run in runs {
        let scores = read(&format!("one/{}/scores.json", run["folder"].as_str().unwrap()));
        assert_eq!(run["scores"], serde_json::from_str::<serde_json::Value>(&scores).unwrap());
    }
    // Two at once give the same, byte for byte.
    place.dml(&args("2", "two"));
    assert_eq!(read("one/sweep.json"), read("two/sweep.json"));
    // One that was interrupted is run again, and only that one.
    let times = || -> Vec<_> {
        let mut all: Vec<_> = folders().collect();
        all.sort();
        all.iter()
            .map(|run| std::fs::metadata(run.join("metrics.jsonl")).unwrap().modified().unwrap())
            .collect()
    };
    let (before, mut sorted) = (times(), folders().collect::<Vec<_>>());
    sorted.sort();
    std::fs::remove_file(sorted[5].join("scores.json")).unwrap();
    let whole = read("one/sweep.json");
    let (_, stdout, _) = place.dml(&args("1", "one"));
    assert_eq!(stdout.lines().filter(|line| line.starts_with('[')).count(), 1, "{stdout}");
    let changed: Vec<bool> = times().iter().zip(&before).map(|(now, before)| now != before).collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
    assert!(changed[5]);
    assert_eq!(read("one/sweep.json"), whole);
}

#[test]
fn settings_are_chosen_on_held_out_training_samples() {
    let place = Place::new();
    let args = |validation: &'static str, more: &[&'static str]| {
        let axis =
            ["--axis", "training.lambda_class=0.1,0.9", "--set", validation, "--seeds", "1", "--out", "v"];
        [&["sweep", "--config", "tiny.toml", "--methods", "class-only,dml-lwf"][..], &axis, more].concat()
    };
    let (code, stdout, stderr) = place.dml(&args("validation=0.25", &[]));
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "25 % of the training samples",
        "  --methods class-only --set training.lambda_class=",
        "  --methods dml-lwf --set",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let value = json(&place, &args("validation=0.25", &["--json"]));
    let best = value["best_of_each_method"].as_array().unwrap();
    assert_eq!(best.len(), 2, "{best:?}");
    // The samples that are scored are those held out.
    let scored = |folder: &str| -> u64 {
        let text = std::fs::read(place.path().join(folder).join("sweep.json")).unwrap();
        let sweep: serde_json::Value = serde_json::from_slice(&text).unwrap();
        sweep["runs"][0]["scores"][0]["n"].as_u64().unwrap()
    };
    let quarter = scored("v");
    place.dml(&args("validation=0.5", &[]));
    assert_eq!(scored("v"), 2 * quarter);
    let (code, _, stderr) = place.dml(&args("validation=0.001", &[]));
    assert!(code != 0 && stderr.contains("holds out nothing of the"), "{stderr}");
}

#[test]
fn a_run_that_diverges_leaves_the_others() {
    let place = Place::new();
    let args = ["sweep", "--config", "tiny.toml", "--seeds", "1", "--methods", "class-only", "--out", "s"];
    let axis = ["--axis", "optimizer.root_learning_rate=1e30,1e-3"];
    let (code, stdout, stderr) = place.dml(&[&args[..], &axis].concat());
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("the loss became"), "{stderr}");
    assert!(
        stdout.contains("best by class | hit@1 | clip: class-only optimizer.root_learning_rate=0.001"),
        "{stdout}"
    );
}

#[test]
fn differences_are_taken_to_the_method_that_is_named() {
    let place = Place::new();
    let base =
        ["compare", "--config", "tiny.toml", "--seeds", "2", "--methods", "class-only,dml", "--out", "c"];
    let (code, stdout, stderr) = place.dml(&[&base[..], &["--against", "dml"]].concat());
    assert_eq!(code, 0, "{stderr}");
    for part in ["difference to dml ", "+0.00 [+0.00, +0.00]", "ledger.csv"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let ledger = std::fs::read_to_string(place.path().join("c/ledger.csv")).unwrap();
    assert_eq!(ledger.lines().count(), 5, "{ledger}");
    assert!(ledger.lines().skip(1).all(|line| line.starts_with("compare,sample,")), "{ledger}");
    let (code, _, stderr) = place.dml(&[&base[..], &["--against", "mixed"]].concat());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("--against mixed: it is not among the --methods"), "{stderr}");
}

#[test]
fn averaged_settings_are_one_value_a_seed() {
    let place = Place::new();
    let args = ["compare", "--config", "tiny.toml", "--methods", "class-only", "--seeds", "2", "--json"];
    let all = json(&place, &[&args[..], &["--average", "data.seed=3,4"]].concat());
    let hit = |all: &serde_json::Value| all["rows"][0]["cells"]["class | hit@1 | clip"]["values"].clone();
    let one = |seed: &str| {
        let seed = format!("data.seed={seed}");
        serde_json::from_value::<Vec<f64>>(hit(&json(&place, &[&args[..], &["--set", &seed]].concat())))
            .unwrap()
    };
    let mean: Vec<f64> = one("3").iter().zip(one("4")).map(|(a, b)| (a + b) / 2.0).collect();
    assert_eq!(serde_json::from_value::<Vec<f64>>(hit(&all)).unwrap(), mean);
}

#[test]
fn a_table_of_the_paper_stands_beside_it_and_its_ledger_is_what_eval_says() {
    let place = Place::new();
    let base =
        ["reproduce", "table3", "--data", "sample", "--config", "tiny.toml", "--seeds", "1", "--out", "t"];
    let (code, stdout, stderr) = place.dml(&base);
    assert_eq!(code, 0, "{stderr}");
    for part in ["| C3D + DML + LwF", "82.8", "linear SVM with C = 1", "Simonyan", "ledger.csv"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let ledger = std::fs::read_to_string(place.path().join("t/ledger.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(ledger.as_bytes());
    let head = rows.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        let run = format!("t/runs/{}", row.iter().nth(2).unwrap());
        let scores = json(&place, &["eval", &run, "--json"]);
        for score in scores.as_array().unwrap() {
            let text = |key: &str| score[key].as_str().unwrap();
            let key = format!("{} | {} | {}", text("eval"), text("measure"), text("protocol"));
            let at = head.iter().position(|name| name == key).unwrap();
            assert_eq!(row[at].parse::<f64>().unwrap(), score["value"].as_f64().unwrap(), "{run} {key}");
        }
    }
    // Nothing is trained again, nor its features taken, and the numbers are the same.
    let again = json(&place, &[&base[..], &["--json"]].concat());
    let column = &again["columns"][0];
    assert_eq!(column["rows"].as_array().unwrap().len(), 5);
    assert_eq!(column["rows"][2]["paper"], 80.9);
    let difference = column["rows"][2]["mean"].as_f64().unwrap() - 80.9;
    assert_eq!(column["rows"][2]["difference"].as_f64().unwrap(), difference);
    assert!(place.complaint(&["reproduce", "table4"]).contains("--data sample"));
    let (code, _, stderr) = place.dml(&["reproduce", "table6", "--data", "sample"]);
    assert!(code == 2 && stderr.contains("table5"), "{stderr}");
}

#[test]
fn figures_leave_curves_and_maps() {
    let place = Place::new();
    let run = |what: &str, more: &[&str]| {
        let args =
            ["reproduce", what, "--data", "sample", "--config", "tiny.toml", "--seeds", "1", "--out", what];
        let (code, stdout, stderr) = place.dml(&[&args[..], more].concat());
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let lines = |path: &str| std::fs::read_to_string(place.path().join(path)).unwrap().lines().count();
    assert!(run("fig4", &[]).contains("class precision, after each round"));
    // Before training and after each phase: 3 + 3 evaluations of one task, 5 + 5 of two, of 66 scores each.
    assert_eq!((lines("fig4/curves.csv") - 1) % 16, 0);
    assert!(run("fig5", &["--set", "training.epochs=1"]).contains("training.lambda_class ↓"));
    assert_eq!(lines("fig5/ledger.csv"), 26);
    assert_eq!((lines("fig5/map.csv") - 1) % 25, 0);
}

#[test]
fn the_doctor_says_what_is_missing_and_fails_only_where_training_would() {
    let place = Place::new();
    let found = json(&place, &["doctor", "--json"]);
    assert_eq!(found["can_train"], true);
    let topic = |name: &str| {
        let all = found["findings"].as_array().unwrap();
        all.iter().find(|finding| finding["topic"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert!(topic("gradients")["found"].as_str().unwrap().starts_with("11 operations"));
    // The folder of this test has no weights.
    assert_eq!(topic("root weights")["state"], "missing");
    assert!(topic("root weights")["advice"].as_str().unwrap().contains("DML_WEIGHTS"));
    let (code, stdout, _) = place.dml(&["doctor", "--device", "tpu"]);
    assert!(
        code == 1 && stdout.contains("unknown device") && stdout.contains("does not work here"),
        "{stdout}"
    );
}
