//! The loaders on real files, in the folder that DML_REAL_DATA names: `VOCdevkit/VOC2007` and `Flickr8k`.
#![allow(clippy::unwrap_used)]

mod common;

use common::real_data;
use dml_data::{Dataset, Flickr8k, ImagePipeline, Labels, View, Voc};

/// A few images of the set decode to plausible inputs.
fn check_images(dataset: &dyn Dataset, expected: usize) {
    assert_eq!(dataset.len(), expected, "{}", dataset.name());
    assert_eq!(dataset.input_shape(), &[3, 224, 224]);
    let mut out = vec![0.0; 3 * 224 * 224];
    for index in (0..dataset.len()).step_by(50) {
        for epoch in [None, Some(1)] {
            dataset.read(index, View { seed: 0, epoch }, &mut out).unwrap();
            assert!(out.iter().all(|v| (-1.0..=1.0).contains(v)), "{}", dataset.id(index));
            assert!(out.iter().any(|v| *v != out[0]), "{} has one colour", dataset.id(index));
        }
    }
}

#[test]
fn voc() {
    let Some(folder) = real_data() else { return };
    for (split, expected) in [("train", 700), ("val", 165)] {
        let voc = Voc::open(&folder, None, split, ImagePipeline::default()).unwrap();
        check_images(&voc, expected);
        let Labels::MultiLabel { names, flags } = voc.labels() else { panic!("{:?}", voc.labels()) };
        for (c, name) in names.iter().enumerate() {
            assert!(flags.iter().any(|row| row[c] == 1), "{split} has no {name}");
        }
    }
}

#[test]
fn flickr8k() {
    let Some(folder) = real_data() else { return };
    for (split, expected) in [("train", 802), ("dev", 120)] {
        let flickr8k = Flickr8k::open(&folder.join("Flickr8k"), split, ImagePipeline::default()).unwrap();
        check_images(&flickr8k, expected);
        let Labels::Captions { of } = flickr8k.labels() else { panic!("{:?}", flickr8k.labels()) };
        // Subsets of the original have lost a caption here and there.
        assert!(of.iter().all(|captions| (4..=5).contains(&captions.len())));
    }
}
