//! A sample's pictures give back the input that the evaluation view has of it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{flickr8k, photo, small, voc};
use dml_data::shards::{Sample, ShardOptions, Writer, escape};
use dml_data::{
    ClipPipeline, Dataset, Features, Flickr8k, Frames, ImagePipeline, Rows, View, Voc, YouTube2Text,
};

fn check(set: &dyn Dataset, pictures: usize) {
    for index in 0..set.len() {
        let shown = set.pictures(index).unwrap();
        assert_eq!(shown.len(), pictures, "{}", set.id(index));
        let mut expected = vec![f32::NAN; set.input_shape().iter().product()];
        set.read(index, View::evaluation(), &mut expected).unwrap();
        assert_eq!(set.input(&shown).unwrap(), expected, "{}", set.id(index));
        let error = set.input(&[&shown[..], &shown[..]].concat()).unwrap_err().to_string();
        assert!(error.contains(&(2 * pictures).to_string()), "{error}");
    }
}

#[test]
fn photographs() {
    let dir = tempfile::tempdir().unwrap();
    voc(dir.path(), 2012);
    flickr8k(dir.path());
    check(&Voc::open(dir.path(), None, "train", small()).unwrap(), 1);
    check(&Flickr8k::open(dir.path(), "train", small()).unwrap(), 1);
}

#[test]
fn clips() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&dir.path().join("shards"), "set", ShardOptions::default()).unwrap();
    let frame = |_: u32| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        photo(24, 18).write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    };
    let meta = serde_json::json!({"video": "abc_1_9"});
    writer
        .append(&Sample { key: escape("abc_1_9_0000"), frames: (0..4).map(frame).collect(), meta })
        .unwrap();
    writer.finish(serde_json::json!({})).unwrap();
    std::fs::write(dir.path().join("youtube_mapping.txt"), "abc_1_9 vid1\n").unwrap();
    std::fs::write(dir.path().join("AllVideoDescriptions.txt"), "abc_1_9 a black screen\n").unwrap();
    let pipeline = ClipPipeline { crop: 12, shrink: 2, ..ClipPipeline::default() };
    let set = YouTube2Text::open(dir.path(), "train", &pipeline).unwrap();
    check(&set, 4);
    // A single frame of each.
    let still = ImagePipeline { short_side: 9, crop: 8, ..ImagePipeline::default() };
    let frames =
        Frames::new(Arc::new(YouTube2Text::open(dir.path(), "train", &pipeline).unwrap()), still).unwrap();
    let shown = frames.pictures(0).unwrap();
    assert_eq!(shown, [set.pictures(0).unwrap().swap_remove(2)]);
    let mut expected = vec![f32::NAN; 3 * 8 * 8];
    frames.read(0, View::evaluation(), &mut expected).unwrap();
    assert_eq!(frames.input(&shown).unwrap(), expected);
    assert_eq!(frames.input(&set.pictures(0).unwrap()).unwrap(), expected);
    assert!(frames.input(&[]).is_err());
    assert_eq!((frames.len(), frames.id(0), frames.labels()), (set.len(), set.id(0), set.labels()));
    assert_ne!(frames.fingerprint(), set.fingerprint());
    // Frames of another size are resized.
    assert_eq!(set.input(&vec![photo(50, 40); 4]).unwrap().len(), 3 * 4 * 6 * 6);
}

#[test]
fn features_are_computed_of_what_is_beneath() {
    let dir = tempfile::tempdir().unwrap();
    flickr8k(dir.path());
    let set: Arc<dyn Dataset> = Arc::new(Flickr8k::open(dir.path(), "train", small()).unwrap());
    let sum = |input: &[f32]| vec![input.iter().sum::<f32>(), input[0]];
    let rows = (0..2).flat_map(|index| sum(&set.input(&set.pictures(index).unwrap()).unwrap())).collect();
    let rows = Rows { dim: 2, values: rows };
    let bare = Features::new(set.clone(), rows.clone(), "key").unwrap();
    assert!(bare.input(&bare.pictures(0).unwrap()).is_err());
    let computed =
        Features::new(set, rows, "key").unwrap().with_compute(Arc::new(move |input| Ok(sum(input))));
    for index in 0..2 {
        let pictures = computed.pictures(index).unwrap();
        assert_eq!(computed.input(&pictures).unwrap(), computed.rows().row(index));
    }
}
