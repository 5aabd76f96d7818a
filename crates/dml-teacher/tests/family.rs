//! The BERT family in sentence-transformers' layouts: small models that the library itself saved and encoded with (see
//! `golden/family.py`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use dml_teacher::{SentenceEncoder, SentenceTransformer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    sentences: Vec<String>,
    models: BTreeMap<String, Vec<Vec<f32>>>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/family").join(name)
}

#[test]
fn sentence_transformers_gives_the_same_vectors() {
    let golden: Golden = serde_json::from_str(include_str!("golden/family/vectors.json")).unwrap();
    let sentences: Vec<&str> = golden.sentences.iter().map(String::as_str).collect();
    let mut dims = Vec::new();
    for (name, want) in &golden.models {
        let encoder = SentenceTransformer::from_dir(&folder(name), &Device::Cpu).unwrap();
        dims.push((encoder.name().to_string(), encoder.dim()));
        let got = encoder.encode(&sentences).unwrap().to_vec2::<f32>().unwrap();
        for ((got, want), sentence) in got.iter().zip(want).zip(&sentences) {
            assert_eq!(got.len(), want.len(), "{name}");
            let distance = got.iter().zip(want).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(distance < 1e-5, "{name}, {sentence:?}: {got:?}, sentence-transformers {want:?}");
        }
    }
    let expected = [("bert", 5), ("distilbert", 16), ("mpnet", 8), ("roberta", 8)];
    assert_eq!(dims, expected.map(|(name, dim)| (name.to_string(), dim)));
}

#[test]
fn a_dense_layer_that_does_not_fit_is_refused() {
    let check = |file: &str, from: &str, to: &str, part: &str| {
        let dir = tempfile::TempDir::new().unwrap();
        copy(&folder("bert"), dir.path());
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let message = SentenceTransformer::from_dir(dir.path(), &Device::Cpu).err().unwrap().to_string();
        assert!(message.contains("2_Dense") && message.contains(part), "{message}");
    };
    check("2_Dense/config.json", "\"in_features\": 8", "\"in_features\": 9", "takes 9 values of 8");
    check("2_Dense/config.json", "\"out_features\": 5", "\"out_features\": 6", "shape");
    check("2_Dense/config.json", "Tanh", "GELU", "GELU");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
