//! An order-embedding trained from captions: it learns, its files are read back, and its bits depend on the seed alone.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use dml_losses::{Hinges, Similarity};
use dml_teacher::{
    CaptionSet, OrderEmbedding, OrderEvent, OrderOutcome, OrderSettings, OrderTrainer, SentenceEncoder,
    load_encoder, paraphrase_retrieval,
};
use tempfile::TempDir;

/// Items that are a thing and what it does, each said in several ways; features tell both, where they are wanted.
fn set(name: &str, items: std::ops::Range<usize>, images: bool) -> CaptionSet {
    let things = ["dog", "cat", "man", "girl", "car", "horse", "bird", "boat"];
    let acts = ["runs", "sleeps", "jumps", "turns", "waits", "falls", "plays"];
    let of = |i: usize| (things[i % things.len()], acts[i % acts.len()]);
    let captions = items.clone().map(|i| {
        let (thing, act) = of(i);
        ["a {t} {a}", "the {t} {a} now", "there is a {t} that {a}", "{a} the {t}"]
            .map(|form| form.replace("{t}", thing).replace("{a}", act))
            .to_vec()
    });
    let features = items.clone().flat_map(|i| {
        let mut row = vec![0f32; things.len() + acts.len()];
        (row[i % things.len()], row[things.len() + i % acts.len()]) = (3.0, 2.0);
        row
    });
    let shape = (items.len(), things.len() + acts.len());
    let features =
        images.then(|| Tensor::from_vec(features.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap());
    CaptionSet { name: name.into(), captions: captions.collect(), features }
}

fn settings(similarity: Similarity) -> OrderSettings {
    OrderSettings {
        word_dim: 16,
        dim: 24,
        batch: 16,
        epochs: 30,
        learning_rate: 5e-3,
        ..OrderSettings::new(similarity)
    }
}

fn train(
    sets: &[CaptionSet],
    held_out: &[CaptionSet],
    settings: &OrderSettings,
    out: &Path,
    stop_after: usize,
) -> (OrderOutcome, Vec<OrderEvent>) {
    let stop = AtomicBool::new(false);
    let (mut events, mut steps) = (Vec::new(), 0);
    let mut trainer = OrderTrainer::new(sets, settings.clone(), &Device::Cpu).unwrap();
    let outcome = trainer.train(held_out, out, &stop, &mut |event| {
        steps += usize::from(matches!(event, OrderEvent::Step { .. }));
        stop.store(steps >= stop_after, Ordering::Relaxed);
        events.push(event.clone());
    });
    (outcome.unwrap(), events)
}

#[test]
fn it_learns_from_images_and_from_paraphrases() {
    let check = |images: bool, similarity: Similarity, hinges: Hinges| {
        let dir = TempDir::new().unwrap();
        // The 56 combinations, of which 16 are never seen.
        let (train_set, held_out) = (set("seen", 0..40, images), set("unseen", 40..56, images));
        let settings = OrderSettings { hinges, ..settings(similarity) };
        let (outcome, events) =
            train(&[train_set], std::slice::from_ref(&held_out), &settings, dir.path(), usize::MAX);
        assert!(!outcome.interrupted);
        let scores: Vec<f64> = events
            .iter()
            .filter_map(|event| match event {
                OrderEvent::Judged { scores, .. } => Some(scores[0].1.retrieval.r1),
                _ => None,
            })
            .collect();
        assert_eq!(scores.len(), settings.epochs);
        let case = format!("images {images}, {similarity:?}, {hinges:?}: {scores:?}");
        // Chance is 6.25.
        assert!(scores.iter().fold(0.0, |a: f64, b| a.max(*b)) > 50.0, "{case}");
        let file = dir.path().join("order-embedding.safetensors");
        let encoder = OrderEmbedding::from_file(&file, &Device::Cpu).unwrap();
        let vectors = encoder.encode(&["a dog runs", "never seen words"]).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(encoder.dim(), 24);
        assert_eq!(vectors.iter().flatten().all(|x| *x >= 0.0), similarity == Similarity::Order, "{case}");
        let any = load_encoder(Some(dir.path()), &Device::Cpu).unwrap();
        assert_eq!(any.fingerprint(), encoder.fingerprint());
        assert_eq!(load_encoder(Some(&file), &Device::Cpu).unwrap().fingerprint(), encoder.fingerprint());
        if !images {
            let again = paraphrase_retrieval(&encoder, &held_out.captions, 1, settings.seed).unwrap();
            assert!(scores.contains(&again.retrieval.r1), "{case}: {again:?}");
        }
    };
    check(true, Similarity::Order, Hinges::Sum);
    check(true, Similarity::Cosine, Hinges::Hardest);
    check(false, Similarity::Cosine, Hinges::Sum);
    check(false, Similarity::Cosine, Hinges::Hardest);
}

#[test]
fn the_bits_depend_on_the_seed_alone() {
    let bytes = |threads: usize, seed: u64| {
        let dir = TempDir::new().unwrap();
        let sets = [set("photographs", 0..20, true), set("clips", 20..40, false)];
        let settings = OrderSettings { seed, epochs: 2, ..settings(Similarity::Order) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&sets, &[], &settings, dir.path(), usize::MAX));
        ["safetensors", "json"]
            .map(|end| std::fs::read(dir.path().join(format!("order-embedding.{end}"))).unwrap())
    };
    let first = bytes(1, 0);
    assert!(first == bytes(1, 0), "twice the same");
    assert!(first == bytes(2, 0), "one thread and two");
    assert!(first[0] != bytes(2, 1)[0], "another seed");
}

#[test]
fn an_interrupted_run_has_saved() {
    let dir = TempDir::new().unwrap();
    let (outcome, events) =
        train(&[set("clips", 0..40, false)], &[], &settings(Similarity::Cosine), dir.path(), 2);
    assert_eq!(outcome, OrderOutcome { interrupted: true, saved: 1 });
    assert_eq!(events.iter().filter(|event| matches!(event, OrderEvent::Step { .. })).count(), 2);
    assert!(load_encoder(Some(dir.path()), &Device::Cpu).is_ok());
}

#[test]
fn wrong_settings_and_sets_are_named() {
    let good = settings(Similarity::Cosine);
    let check = |sets: &[CaptionSet], settings: OrderSettings, part: &str| {
        let message = OrderTrainer::new(sets, settings, &Device::Cpu).err().expect("an error").to_string();
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    };
    let clips = || [set("clips", 0..8, false)];
    check(&clips(), OrderSettings { batch: 1, ..good.clone() }, "2 pairs");
    check(&clips(), OrderSettings { margin: f64::NAN, ..good.clone() }, "margin is NaN");
    check(&clips(), OrderSettings { epochs: 0, ..good.clone() }, "epochs is 0");
    check(&clips(), OrderSettings { least: 1000, ..good.clone() }, "1000 times");
    check(&[set("one", 0..1, false)], good.clone(), "too few captions");
    let mut wrong = set("photographs", 0..8, true);
    wrong.captions.pop();
    check(&[wrong], good.clone(), "photographs has features of the shape [8, 15] for 7 items");
    let mut broken = set("photographs", 0..8, true);
    broken.features = broken.features.map(|x| (x * f64::NAN).unwrap());
    let mut trainer = OrderTrainer::new(&[broken], good, &Device::Cpu).unwrap();
    let dir = TempDir::new().unwrap();
    let error = trainer.train(&[], dir.path(), &AtomicBool::new(false), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("the loss is NaN in step 0 of epoch 1"), "{error}");
    let error = load_encoder(Some(dir.path()), &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("neither") && error.contains("there are 0"), "{error}");
    let error = load_encoder(Some("/nowhere/at/all".as_ref()), &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
    assert_eq!(load_encoder(Some("lexical".as_ref()), &Device::Cpu).unwrap().dim(), 256);
}
