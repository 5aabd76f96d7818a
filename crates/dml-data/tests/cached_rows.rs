//! Rows that are computed once.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::small;
use dml_data::{DataError, Dataset, Features, Flickr8k, Rows, View, cached_rows};
use tempfile::TempDir;

fn rows(first: f32) -> Rows {
    Rows { dim: 2, values: vec![first, 2.0, -0.0, f32::MIN_POSITIVE, 5.5, 6.0] }
}

/// What the cache gives and whether it had to compute.
fn get(dir: &Path, key: &str, first: f32) -> (Rows, bool) {
    let mut computed = false;
    let found = cached_rows::<DataError>(dir, key, 3, 2, || {
        computed = true;
        Ok(rows(first))
    });
    (found.unwrap(), computed)
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn rows_are_computed_once_for_each_key() {
    let dir = TempDir::new().unwrap();
    let cache = dir.path().join("not/there/yet");
    assert_eq!(get(&cache, "a", 1.0), (rows(1.0), true));
    assert_eq!(get(&cache, "a", 9.0), (rows(1.0), false));
    assert_eq!(get(&cache, "b", 9.0), (rows(9.0), true));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_damaged_file_is_computed_anew() {
    let dir = TempDir::new().unwrap();
    get(dir.path(), "a", 1.0);
    let file = only_file(dir.path());
    let good = fs::read(&file).unwrap();
    // Every byte matters, and so does every length.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&file, bad).unwrap();
        assert_eq!(get(dir.path(), "a", 1.0), (rows(1.0), true), "byte {at}");
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    for length in [0, 7, 40, good.len() - 1] {
        fs::write(&file, &good[..length]).unwrap();
        assert_eq!(get(dir.path(), "a", 1.0), (rows(1.0), true), "length {length}");
    }
    fs::write(&file, [good.as_slice(), &[0]].concat()).unwrap();
    assert_eq!(get(dir.path(), "a", 1.0), (rows(1.0), true), "a byte more");
    assert_eq!(get(dir.path(), "a", 1.0), (rows(1.0), false));
}

#[test]
fn another_shape_or_key_is_not_taken() {
    let dir = TempDir::new().unwrap();
    get(dir.path(), "a", 1.0);
    let transposed = || Ok::<_, DataError>(Rows { dim: 3, values: vec![0.5; 6] });
    assert_eq!(cached_rows(dir.path(), "a", 2, 3, transposed).unwrap().dim, 3);
    // The right shape under another key's name.
    let file = only_file(dir.path());
    get(dir.path(), "b", 1.0);
    let other = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| *p != file).unwrap();
    fs::copy(&file, &other).unwrap();
    assert_eq!(get(dir.path(), "b", 4.0), (rows(4.0), true));
}

#[test]
fn failures_are_passed_on_and_nothing_is_stored() {
    #[derive(Debug, thiserror::Error)]
    enum Mine {
        #[error("no network today")]
        Network,
        #[error(transparent)]
        Data(#[from] DataError),
    }
    let dir = TempDir::new().unwrap();
    let message =
        |made: Result<Rows, Mine>| cached_rows(dir.path(), "a", 3, 2, || made).unwrap_err().to_string();
    assert_eq!(message(Err(Mine::Network)), "no network today");
    let wrong = message(Ok(Rows { dim: 2, values: vec![0.0; 4] }));
    assert!(wrong.contains("4 values") && wrong.contains("(3, 2)"), "{wrong}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // A folder that cannot be one.
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = cached_rows::<DataError>(&blocked.join("sub"), "a", 3, 2, || Ok(rows(1.0))).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn features_stand_in_for_their_dataset() {
    let dir = TempDir::new().unwrap();
    common::flickr8k(dir.path());
    let photos: Arc<dyn Dataset> = Arc::new(Flickr8k::open(dir.path(), "train", small()).unwrap());
    let two = Rows { dim: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
    let features = Features::new(photos.clone(), two.clone(), "mean colour").unwrap();
    let mut out = [0.0; 2];
    features.read(1, View { seed: 1, epoch: Some(2) }, &mut out).unwrap();
    assert_eq!(out, [3.0, 4.0]);
    assert_eq!(features.input_shape(), &[2]);
    assert_eq!((features.name(), features.len(), features.id(1)), (photos.name(), 2, photos.id(1)));
    assert_eq!((features.labels(), features.group(1)), (photos.labels(), 1));
    let other = Features::new(photos.clone(), two, "another key").unwrap();
    assert_ne!(features.fingerprint(), other.fingerprint());
    assert!(features.fingerprint().starts_with(&photos.fingerprint()));
    assert!(features.read(0, View::evaluation(), &mut [0.0; 3]).is_err());
    let short = Rows { dim: 2, values: vec![0.0; 2] };
    let message = Features::new(photos, short, "").err().unwrap().to_string();
    assert!(message.contains("2 samples"), "{message}");
}
