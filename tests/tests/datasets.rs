//! The way of the five datasets: from a tree in the published layout through prepare-data and the loader to training.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use dml_prepare::{Ffmpeg, Manifest, Name, Options, Outcome, Run as Preparation, Summary, prepare};
use dml_tests::{left_out, real_data, trees};
use dml_train::{Config, Event, Experiment, Method, Run, Score};
use tempfile::TempDir;

/// A small clip network and a small image network.
const SMALL: &str = "{kind='small-clip', frames=16, size=56, channels=[4,4,4], hidden=8, dropout=0.5}";
const SMALL_IMAGE: &str = "{kind='small-image', size=224, channels=[4,4,4], hidden=8, dropout=0.5}";

fn manifest(name: Name) -> Manifest {
    Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../data/{name}.toml"))).unwrap()
}

/// Prepares a dataset from a tree and gives its folder.
fn prepared(name: Name, tree: &Path, data: &Path) -> (PathBuf, Summary) {
    let mut options = Options::new(data);
    options.from = Some(tree.into());
    let run = Preparation { events: &|_| (), stop: &AtomicBool::new(false) };
    match prepare(&manifest(name), &options, run).unwrap() {
        Outcome::Prepared(summary) => (data.join(name.as_str()), summary),
        Outcome::Already(_) => panic!("{name} was there before"),
        Outcome::Part(..) => panic!("{name} was asked for whole"),
    }
}

/// An experiment of an epoch on each set.
fn experiment(
    config: Config,
    settings: &[&str],
    place: &Path,
    sink: &mut dyn FnMut(&Event),
) -> dml_train::Result<Experiment> {
    let common = ["data.teacher=lexical", "training.epochs=1", "training.block=1"];
    let settings: Vec<String> = common.iter().chain(settings).map(|s| s.to_string()).collect();
    let mut config = Config::load(&config, None, &settings).unwrap();
    config.cache = place.join("cache");
    Experiment::prepare(&config, &Device::Cpu, &Arc::default(), sink)
}

/// Trains for an epoch on each set, and gives the scores and the losses of all steps.
fn trained(config: Config, settings: &[&str], place: &Path) -> (Vec<Score>, Vec<BTreeMap<String, f64>>) {
    let experiment = experiment(config, settings, place, &mut |_| ()).unwrap();
    let mut steps = Vec::new();
    let mut collect = |event: &Event| {
        if let Event::Step { terms, .. } = event {
            steps.push(terms.clone());
        }
    };
    let run = Run { method: Method::DmlLwf, seed: 0, folder: None, resume: false, stop: Arc::default() };
    (experiment.run(&run, &mut collect).unwrap().scores, steps)
}

/// The number of samples behind a measure.
fn counted(scores: &[Score], eval: &str, measure: &str) -> Option<(usize, String)> {
    let found = scores.iter().find(|score| score.eval == eval && score.measure == measure)?;
    assert!(found.value.is_finite(), "{found:?}");
    Some((found.n, found.protocol.clone()))
}

/// Every step has a loss for its own task and holds the other one.
fn check_steps(steps: &[BTreeMap<String, f64>], count: usize) {
    assert_eq!(steps.len(), count);
    for step in steps {
        let names: Vec<&str> = step.keys().map(String::as_str).collect();
        let known = [["caption loss", "class kept"], ["caption kept", "class loss"]];
        assert!(known.iter().any(|terms| names == terms), "{step:?}");
        assert!(step.values().all(|loss| loss.is_finite()), "{step:?}");
    }
}

fn has_ffmpeg(test: &str) -> bool {
    let here = Ffmpeg::find().is_ok();
    if !here {
        left_out(test, "ffmpeg is not installed");
    }
    here
}

#[test]
fn videos_from_made_trees_train() {
    if !has_ffmpeg("training on made videos") {
        return;
    }
    let place = TempDir::new().unwrap();
    let [ucf101, hmdb51, msvd, data] = ["u", "h", "y", "data"].map(|name| place.path().join(name));
    trees::ucf101(&ucf101, &mut trees::video).unwrap();
    trees::hmdb51(&hmdb51, &mut trees::video).unwrap();
    trees::youtube2text(&msvd, &mut trees::video).unwrap();
    let (captions, summary) = prepared(Name::Youtube2text, &msvd, &data);
    assert_eq!((summary.samples, summary.items, summary.failures.len()), (12, 6, 0));
    let root = format!("root={SMALL}");
    // (dataset, tree, clips, training clips of split 2, videos for testing)
    for (name, tree, clips, train, test) in [(Name::Ucf101, ucf101, 8, 6, 2), (Name::Hmdb51, hmdb51, 8, 4, 2)]
    {
        let (videos, summary) = prepared(name, &tree, &data);
        assert_eq!((summary.samples, summary.failures.len()), (clips, 0), "{name}");
        let settings = [&root, "data.split=2", "training.batch=4"];
        let (scores, steps) = trained(Config::videos(&videos, &captions), &settings, place.path());
        // Captions: 10 clips of 5 videos.
        check_steps(&steps, 3 + usize::div_ceil(train, 4));
        assert_eq!(counted(&scores, "class", "hit@1"), Some((test, "clip".into())), "{name}");
        let (_, protocol) = counted(&scores, "caption", "text→item R@1").unwrap();
        assert_eq!(protocol, "whole set (1 items, 2 texts), clips averaged");
    }
}

#[test]
fn photographs_from_made_trees_train() {
    let place = TempDir::new().unwrap();
    let [devkit, flickr, data] = ["VOCdevkit", "f", "data"].map(|name| place.path().join(name));
    trees::voc(&devkit, 2007).unwrap();
    trees::voc(&devkit, 2012).unwrap();
    trees::flickr8k(&flickr).unwrap();
    let (captions, summary) = prepared(Name::Flickr8k, &flickr, &data);
    assert_eq!(summary.samples, 12);
    let root = format!("root={SMALL_IMAGE}");
    let settings = [&root, "training.batch=4"];
    let train = |images: &Path, captions: &Path, more: &[&str]| {
        let settings: Vec<&str> = settings.iter().copied().chain(more.iter().copied()).collect();
        trained(Config::photographs(images, captions), &settings, place.path())
    };
    for name in [Name::Voc2007, Name::Voc2012] {
        let (images, summary) = prepared(name, &devkit, &data);
        assert_eq!(summary.samples, 12, "{name}");
        let (scores, steps) = train(&images, &captions, &[]);
        check_steps(&steps, 4);
        assert_eq!(counted(&scores, "class", "precision@1").unwrap().0, 4);
        let (_, protocol) = counted(&scores, "caption", "text→item R@1").unwrap();
        assert_eq!(protocol, "whole set (4 items, 8 texts)");
    }
    // A root that is pretrained on the classes is every seed's, and is computed once.
    let steps = |more: &[&str]| {
        let settings: Vec<&str> = settings.iter().copied().chain(more.iter().copied()).collect();
        let mut steps = 0;
        let mut count = |event: &Event| steps += usize::from(matches!(event, Event::Step { .. }));
        let config = Config::photographs(&data.join("voc2007"), &captions);
        let experiment = experiment(config, &settings, place.path(), &mut count).unwrap();
        let first = |seed| {
            let tensors = experiment.params(seed).unwrap().tensors();
            let (_, first) = tensors
                .into_iter()
                .find(|(name, _)| name.starts_with("root.") && name.ends_with("weight"))
                .unwrap();
            first.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        (steps, first(0), first(1))
    };
    let (none, drawn, other) = steps(&[]);
    assert!(none == 0 && drawn != other);
    // 8 images in batches of 4, twice.
    let (four, learnt, again) = steps(&["pretrain.epochs=2"]);
    assert_eq!(four, 4);
    assert!(learnt == again && learnt != drawn);
    assert_eq!(steps(&["pretrain.epochs=2"]), (0, learnt, again));
    // The published layout, without preparation.
    let (scores, _) = train(&devkit, &flickr, &["data.year=2012"]);
    assert_eq!(counted(&scores, "class", "precision@1").unwrap().0, 4);
}

/// Differences from the official counts, without the number of files.
fn differing(summary: &Summary) -> Vec<&String> {
    summary.differences.iter().filter(|text| !text.starts_with("videos:")).collect()
}

#[test]
fn real_videos_train() {
    let Some(real) = real_data("training on real videos") else { return };
    if !has_ffmpeg("training on real videos") {
        return;
    }
    let place = TempDir::new().unwrap();
    let [ucf101, hmdb51, msvd, data] = ["u", "h", "y", "data"].map(|name| place.path().join(name));
    // The official lists, and of the videos six of two classes, three of them in a split's training part.
    let lists = real.join("ucfTrainTestlist");
    trees::link(&lists, &ucf101.join("ucfTrainTestlist")).unwrap();
    let mut videos = Vec::new();
    for list in ["trainlist01.txt", "testlist01.txt"] {
        let text = fs::read_to_string(lists.join(list)).unwrap();
        for class in ["Punch/", "Lunges/"] {
            let of_class = text.lines().filter(|line| line.starts_with(class)).take(3);
            videos.extend(of_class.map(|line| line.split_whitespace().next().unwrap().to_string()));
        }
    }
    for video in &videos {
        trees::link(&real.join("UCF-101").join(video), &ucf101.join("UCF-101").join(video)).unwrap();
    }
    // HMDB51's official lists, with those videos under the names of its own.
    let splits = real.join("testTrainMulti_7030_splits");
    trees::link(&splits, &hmdb51.join("testTrainMulti_7030_splits")).unwrap();
    let mut files = videos.iter();
    for class in ["clap", "climb_stairs"] {
        let list = fs::read_to_string(splits.join(format!("{class}_test_split1.txt"))).unwrap();
        for flag in ["1", "2"] {
            let of_flag = list.lines().filter(|line| line.trim_end().ends_with(&format!(" {flag}"))).take(2);
            for line in of_flag {
                let name = line.split_whitespace().next().unwrap();
                let file = real.join("UCF-101").join(files.next().unwrap());
                trees::link(&file, &hmdb51.join(class).join(name)).unwrap();
            }
        }
    }
    // All captions, and four videos of the training and of the test part.
    let from = real.join("YouTube2Text");
    for list in ["AllVideoDescriptions.txt", "youtube_mapping.txt"] {
        trees::link(&from.join(list), &msvd.join(list)).unwrap();
    }
    let mapping = fs::read_to_string(from.join("youtube_mapping.txt")).unwrap();
    let mut wanted = [4, 4];
    for line in mapping.lines() {
        let (id, number) = line.split_once(" vid").unwrap();
        let part = usize::from(number.trim().parse::<u32>().unwrap() > 1300);
        let file = from.join(format!("YouTubeClips/{id}.avi"));
        if wanted[part] > 0 && file.is_file() {
            wanted[part] -= 1;
            trees::link(&file, &msvd.join(format!("YouTubeClips/{id}.avi"))).unwrap();
        }
    }
    let (captions, summary) = prepared(Name::Youtube2text, &msvd, &data);
    assert!(differing(&summary).is_empty() && summary.items == 8, "{summary:?}");
    let root = format!("root={SMALL}");
    for (name, tree, test) in [(Name::Ucf101, ucf101, 6), (Name::Hmdb51, hmdb51, 4)] {
        let (videos, summary) = prepared(name, &tree, &data);
        assert!(differing(&summary).is_empty() && summary.failures.is_empty(), "{summary:?}");
        let (scores, steps) = trained(Config::videos(&videos, &captions), &[&root], place.path());
        assert!(steps.len() >= 2, "{} steps", steps.len());
        assert!(counted(&scores, "class", "hit@1").unwrap().0 >= test, "{name}");
        let (_, protocol) = counted(&scores, "caption", "item→text R@1").unwrap();
        assert!(protocol.starts_with("whole set (4 items") && protocol.contains("averaged"), "{protocol}");
    }
}

#[test]
fn real_photographs_train() {
    let Some(real) = real_data("training on real photographs that were prepared") else { return };
    let place = TempDir::new().unwrap();
    let [devkit, flickr, data] = ["VOCdevkit", "f", "data"].map(|name| place.path().join(name));
    trees::shortened(&real.join("VOCdevkit"), &devkit, 8, 8).unwrap();
    trees::shortened(&real.join("Flickr8k"), &flickr, 8, 8).unwrap();
    let (images, summary) = prepared(Name::Voc2007, &devkit, &data);
    assert_eq!((summary.samples, summary.failures.len()), (16, 0));
    let (captions, summary) = prepared(Name::Flickr8k, &flickr, &data);
    assert_eq!(summary.samples, 16);
    let settings = [&format!("root={SMALL_IMAGE}"), "training.batch=4"];
    let (scores, steps) = trained(Config::photographs(&images, &captions), &settings, place.path());
    check_steps(&steps, 4);
    assert_eq!(counted(&scores, "class", "precision@1").unwrap().0, 8);
    assert_eq!(counted(&scores, "caption", "item→text R@1").unwrap().0, 8);
}
