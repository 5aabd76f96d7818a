//! OrderEmbedding: against torch's GRU, from each of its forms, and wrong models.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dml_teacher::{OrderEmbedding, SentenceEncoder};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    sentences: Vec<String>,
    /// (n, dim), before the absolute value
    signed: Vec<Vec<f32>>,
    /// (2, dim)
    images: Vec<Vec<f32>>,
}

/// Files that numpy and Python 2 wrote.
fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dml-import/tests/golden").join(name)
}

/// A folder with the model as published.
fn model() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let weights = dir.path().join("order.npz");
    fs::copy(published("order.npz"), &weights).unwrap();
    fs::copy(published("order-0.pkl"), dir.path().join("order.pkl")).unwrap();
    (dir, weights)
}

/// The model converted, its object changed.
fn converted(change: impl Fn(&mut Value)) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let weights = dir.path().join("order.safetensors");
    let tensors = dml_import::read_npz(&published("order.npz")).unwrap().into_iter().collect();
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    let mut object = dml_import::read_object(&published("order-2.pkl")).unwrap();
    change(&mut object);
    fs::write(dir.path().join("order.json"), object.to_string()).unwrap();
    (dir, weights)
}

fn load(weights: &Path) -> dml_teacher::Result<OrderEmbedding> {
    OrderEmbedding::from_file(weights, &Device::Cpu)
}

fn check(got: &Tensor, want: &[Vec<f32>]) {
    let got = got.to_vec2::<f32>().unwrap();
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.len(), want.len());
        let distance = got.iter().zip(want).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(distance < 1e-6, "{got:?}, torch {want:?}");
    }
}

#[test]
fn torch_answers_the_same() {
    let golden: Golden = serde_json::from_str(include_str!("golden/order.json")).unwrap();
    let sentences: Vec<&str> = golden.sentences.iter().map(String::as_str).collect();
    let absolute: Vec<Vec<f32>> =
        golden.signed.iter().map(|row| row.iter().map(|x| x.abs()).collect()).collect();
    assert!(golden.signed.iter().flatten().any(|x| *x < -0.1), "without a negative value abs is not seen");

    // Of the words, the published vocabulary has "a" only.
    let plain: Vec<usize> = (0..sentences.len())
        .filter(|&i| !sentences[i].contains("dog") && !sentences[i].contains("cat"))
        .collect();
    assert_eq!(plain.len(), 3);
    let few: Vec<&str> = plain.iter().map(|&i| sentences[i]).collect();
    let (_dir, weights) = model();
    let encoder = load(&weights).unwrap();
    assert_eq!((encoder.name(), encoder.dim()), ("order", 3));
    check(&encoder.encode(&few).unwrap(), &plain.iter().map(|&i| absolute[i].clone()).collect::<Vec<_>>());
    assert_eq!(encoder.encode(&[]).unwrap().dims(), [0, 3]);
    let features: Vec<f32> = (0..10).map(|i| i as f32 - 4.0).collect();
    check(
        &encoder.images(&Tensor::from_vec(features, (2, 5), &Device::Cpu).unwrap()).unwrap(),
        &golden.images,
    );

    let (_dir, weights) = converted(|_| ());
    assert_eq!(load(&weights).unwrap().fingerprint(), encoder.fingerprint());

    let more = |object: &mut Value| {
        for (word, number) in [("dogs", 3), ("caf\u{e9}", 4), ("cat", 5)] {
            object["worddict"][word] = json!(number);
        }
    };
    let (_dir, weights) = converted(more);
    check(&load(&weights).unwrap().encode(&sentences).unwrap(), &absolute);
    let (_dir, weights) = converted(|object| {
        more(object);
        object["options"]["abs"] = json!(false);
    });
    let symmetric = load(&weights).unwrap();
    check(&symmetric.encode(&sentences).unwrap(), &golden.signed);
    assert_ne!(symmetric.fingerprint(), encoder.fingerprint());
}

#[test]
fn words_without_a_vector_are_unknown() {
    let rows = |number: Option<u32>| {
        let (_dir, weights) = converted(|object| {
            if let Some(number) = number {
                object["worddict"]["caf\u{e9}"] = json!(number);
            }
        });
        load(&weights).unwrap().encode(&["caf\u{e9}", "never seen"]).unwrap().to_vec2::<f32>().unwrap()
    };
    assert_ne!(rows(Some(5))[0], rows(None)[0]);
    // There are six vectors; the original too takes numbers beyond them for unknown words.
    assert_eq!(rows(Some(6)), rows(None));
}

#[test]
fn wrong_models_are_refused() {
    let refused = |weights: &Path, parts: &[&str]| {
        let message = load(weights).err().expect("an error").to_string();
        for part in parts {
            assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
        }
    };
    let object = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let (_dir, weights) = converted(change);
        refused(&weights, parts);
    };
    object(
        &|object| drop(object["options"].as_object_mut().unwrap().remove("abs")),
        &["order.json", "`abs`"],
    );
    object(&|object| object["worddict"] = json!([1]), &["order.json", "no dictionary"]);
    object(&|object| object["worddict"]["a"] = json!(-2), &["order.json", "\"a\" has the number -2"]);
    object(&|object| object["worddict"]["a"] = json!(1), &["\"a\" has the number 1"]);
    object(&|object| object["worddict"] = json!({}), &["no word"]);

    let tensors = |change: &dyn Fn(&mut std::collections::HashMap<String, Tensor>), parts: &[&str]| {
        let (_dir, weights) = converted(|_| ());
        let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        refused(&weights, parts);
    };
    tensors(&|t| drop(t.remove("encoder_Wx")), &["order.safetensors", "has no encoder_Wx"]);
    tensors(
        &|t| drop(t.insert("encoder_b".into(), t["encoder_bx"].clone())),
        &["encoder_b has the shape [3], not [6]"],
    );
    tensors(
        &|t| drop(t.insert("Wemb".into(), t["encoder_bx"].clone())),
        &["Wemb has the shape [3], not (words, word dim)"],
    );
    tensors(&|t| drop(t.remove("ff_image_b")), &["has no ff_image_b"]);

    let (dir, weights) = model();
    fs::write(dir.path().join("order.pkl"), b"cos\nsystem\n(S'true'\ntR.").unwrap();
    refused(&weights, &["order.pkl", "os.system"]);
    fs::remove_file(dir.path().join("order.pkl")).unwrap();
    refused(&weights, &["order.pkl"]);
    refused(&dir.path().join("none.safetensors"), &["none.safetensors"]);
    let (_dir, weights) = converted(|_| ());
    let error = load(&weights).unwrap().encode(&["a", "?!"]).unwrap_err().to_string();
    assert!(error.contains("sentence 1"), "{error}");
}
