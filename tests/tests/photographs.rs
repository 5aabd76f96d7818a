//! The way from photographs to a trained network, on a small part of real data where there is some.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candle_core::Device;
use dml_tests::{real_data, trees};
use dml_train::{Config, Event, Experiment, Method, Run, Score};

#[test]
fn photographs_train_from_frozen_features() {
    let Some(data) = real_data("training on photographs") else { return };
    if std::env::var_os("DML_WEIGHTS").is_none() {
        return dml_tests::left_out(
            "training on photographs",
            "DML_WEIGHTS names no folder of pretrained weights",
        );
    }
    let place = tempfile::tempdir().unwrap();
    let (images, captions) = (place.path().join("VOCdevkit"), place.path().join("Flickr8k"));
    trees::shortened(&data.join("VOCdevkit"), &images, 24, 8).unwrap();
    trees::shortened(&data.join("Flickr8k"), &captions, 24, 8).unwrap();
    // Few steps, so larger ones.
    let settings = ["training.epochs=12", "training.batch=8", "optimizer.root_learning_rate=0.0005"];
    let settings = settings.map(String::from);
    let mut config = Config::load(&Config::photographs(&images, &captions), None, &settings).unwrap();
    config.cache = place.path().join("cache");
    let stop = Arc::default();
    let mut prepared = 0;
    let mut count = |event: &Event| prepared += usize::from(matches!(event, Event::Preparing { .. }));
    let experiment = Experiment::prepare(&config, &Device::Cpu, &stop, &mut count).unwrap();
    let run = Run { method: Method::Mixed, seed: 0, folder: None, resume: false, stop: stop.clone() };
    let mut evaluations = Vec::new();
    let mut collect = |event: &Event| {
        if let Event::Evaluated { scores, .. } = event {
            evaluations.push(scores.clone());
        }
    };
    experiment.run(&run, &mut collect).unwrap();
    let score = |scores: &[Score], eval: &str, measure: &str| {
        scores.iter().find(|score| score.eval == eval && score.measure == measure).unwrap().value
    };
    let (first, last) = (evaluations.first().unwrap(), evaluations.last().unwrap());
    for (eval, measure) in [("class", "mAP"), ("caption", "text→item R@1")] {
        let (before, after) = (score(first, eval, measure), score(last, eval, measure));
        assert!(after > 1.2 * before + 5.0, "{eval} {measure}: {before} before training, {after} after");
    }
    assert!(prepared >= 6);
    // All of it is in the cache now.
    let mut again = 0;
    let mut count = |event: &Event| again += usize::from(matches!(event, Event::Preparing { .. }));
    Experiment::prepare(&config, &Device::Cpu, &stop, &mut count).unwrap();
    assert_eq!(again, 0);
}
