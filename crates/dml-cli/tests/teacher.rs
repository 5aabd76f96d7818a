//! `dml teacher`: a sentence encoder trained on a few captions, measured, and refused where it makes no sense.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

fn dml(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dml").unwrap();
    command.args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// YouTube2Text's two files, with four captions of each of a few clips in every part.
fn youtube2text(dir: &Path) {
    let (mut mapping, mut captions) = (String::new(), String::new());
    let things = ["dog", "cat", "man", "girl", "car", "horse", "bird", "boat"];
    let acts = ["runs", "sleeps", "jumps", "turns", "waits", "falls", "plays"];
    for part in [1..=40, 1201..=1210, 1301..=1310] {
        for number in part {
            let (thing, act) = (things[number % things.len()], acts[number % acts.len()]);
            mapping += &format!("v{number}_1_2 vid{number}\r\n");
            for form in ["a {t} {a}", "the {t} {a} now", "there is a {t} that {a}", "{a} the {t}"] {
                let caption = form.replace("{t}", thing).replace("{a}", act);
                captions += &format!("v{number}_1_2 {caption}\n");
            }
        }
    }
    std::fs::write(dir.join("youtube_mapping.txt"), mapping).unwrap();
    std::fs::write(dir.join("AllVideoDescriptions.txt"), captions).unwrap();
}

#[test]
fn help_texts() {
    for command in ["train", "score"] {
        let said = text(&dml(&["teacher", command, "--help"]).assert().success().get_output().stdout);
        insta::assert_snapshot!(format!("help-teacher-{command}"), said);
    }
}

#[test]
fn an_encoder_is_trained_and_measured() {
    let dir = TempDir::new().unwrap();
    youtube2text(dir.path());
    let (sets, out) = (dir.path().to_str().unwrap(), dir.path().join("teacher"));
    let out = out.to_str().unwrap();
    let args = ["teacher", "train", "--youtube2text", sets, "-o", out, "--dim", "16", "--word-dim", "8"];
    let args = [&args[..], &["--epochs", "20", "--batch", "16", "--learning-rate", "0.01"]].concat();
    let output = dml(&args).assert().success().get_output().clone();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    for part in ["epoch 1/20", "YouTube2Text val R@1", "(chance 10.0)", "saved", "--teacher"] {
        assert!(said.contains(part), "\"{said}\" does not say \"{part}\"");
    }
    assert!(told.contains("160 captions, 2"), "{told}");

    let score = |teacher: &str| {
        let said = text(
            &dml(&["teacher", "score", teacher, "--youtube2text", sets])
                .assert()
                .success()
                .get_output()
                .stdout,
        );
        assert!(
            said.contains("on YouTube2Text test: R@1")
                && said.contains("median rank")
                && said.contains("of 10"),
            "{said}"
        );
        let (_, rest) = said.split_once("R@1 ").unwrap();
        rest.split_once(' ').unwrap().0.parse::<f64>().unwrap()
    };
    // Chance is 10.
    assert!(score(out) > 50.0 && score("lexical") > 50.0);

    let refused = |args: &[&str], part: &str| {
        let told = text(&dml(args).assert().failure().get_output().stderr);
        assert!(told.contains(part), "\"{told}\" does not say \"{part}\"");
    };
    refused(&args, "holds a model already");
    refused(&["teacher", "train", "-o", "nowhere"], "--flickr8k");
    refused(&["teacher", "train", "--youtube2text", sets, "-o", "x", "--without-images"], "--flickr8k");
    refused(&["teacher", "train", "--youtube2text", sets, "-o", "x", "--batch", "1"], "2 pairs");
    refused(&["teacher", "score", sets, "--youtube2text", sets], "neither");
    assert!(!Path::new("x").exists());
}
