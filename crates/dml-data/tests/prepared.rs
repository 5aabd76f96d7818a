//! Prepared sets: from a tree in the true layout through shards to batches.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_data::shards::{Sample, ShardOptions, Writer, escape};
use dml_data::{
    BgrPipeline, ClipPipeline, Dataset, Flickr8k, Hmdb51, Labels, Prefetch, Ucf101, View, Voc, YouTube2Text,
    batches, open_actions, order,
};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

const FRAMES: u32 = 4;

/// A frame whose blue tells its column, green its row, and red its number and video.
fn frame(video: u32, number: u32) -> RgbImage {
    RgbImage::from_fn(24, 18, |x, y| Rgb([(40 * video + 10 * number) as u8, (12 * y) as u8, (10 * x) as u8]))
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100);
    picture.write_with_encoder(encoder).unwrap();
    bytes
}

/// Writes `clips` clips of each video as shards, and the files.
fn prepare(dir: &Path, videos: &[(&str, Value)], clips: usize, files: &[(&str, &str)]) {
    let mut writer = Writer::create(&dir.join("shards"), "set", ShardOptions { max_bytes: 20_000 }).unwrap();
    for (v, (video, label)) in videos.iter().enumerate() {
        for clip in 0..clips {
            let frames = (0..FRAMES).map(|n| jpeg(&frame(v as u32, n))).collect();
            let meta = json!({"video": video, "label": label, "source": "test"});
            writer.append(&Sample { key: format!("{}_{clip:04}", escape(video)), frames, meta }).unwrap();
        }
    }
    writer.finish(json!({})).unwrap();
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn small() -> ClipPipeline {
    ClipPipeline { crop: 12, mean: [1.0, 2.0, 3.0], ..ClipPipeline::default() }
}

fn read(set: &dyn Dataset, index: usize, view: View) -> Vec<f32> {
    let mut out = vec![f32::NAN; set.input_shape().iter().product()];
    set.read(index, view, &mut out).unwrap();
    out
}

/// The error's text has all of these parts.
fn check_error<T>(result: dml_data::Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

const ARCHERY: [&str; 2] = ["Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g01_c01.avi"];
const PUSHUPS: &str = "HandstandPushups/v_HandstandPushups_g09_c01.avi";

fn ucf101(dir: &Path) {
    let train = "Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g09_c01.avi 2\r\n\
                 Archery/v_Archery_g10_c01.avi 1\r\n";
    let mut files = vec![("ucfTrainTestlist/classInd.txt".to_owned(), "1 Archery\r\n2 HandstandPushups\r\n")];
    for split in 1..=3 {
        files.push((format!("ucfTrainTestlist/trainlist0{split}.txt"), train));
        files.push((format!("ucfTrainTestlist/testlist0{split}.txt"), "Archery/v_Archery_g01_c01.avi\r\n"));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let videos = [(ARCHERY[0], json!(0)), (ARCHERY[1], json!(0)), (PUSHUPS, json!(1))];
    prepare(dir, &videos, 2, &files);
}

#[test]
fn ucf101_has_clips_classes_and_videos() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let train = Ucf101::open(dir.path(), 1, "train", &small()).unwrap();
    assert_eq!(
        (train.name(), train.len(), train.input_shape()),
        ("UCF101 split 1 train", 4, &[3, 4, 12, 12][..])
    );
    let names = vec!["Archery".to_owned(), "HandstandPushups".into()];
    assert_eq!(train.labels(), &Labels::Classes { names, of: vec![0, 0, 1, 1] });
    assert_eq!((0..4).map(|i| train.group(i)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(train.id(1), "Archery%2Fv_Archery_g08_c01%2Eavi_0001");
    assert_eq!(train.missing(), ["Archery/v_Archery_g10_c01.avi"]);
    let test = Ucf101::open(dir.path(), 3, "test", &small()).unwrap();
    assert_eq!((test.len(), test.id(0)), (2, "Archery%2Fv_Archery_g01_c01%2Eavi_0000".into()));
    assert_ne!(train.fingerprint(), test.fingerprint());
    let other = ClipPipeline { mean: [0.0; 3], ..small() };
    assert_ne!(train.fingerprint(), Ucf101::open(dir.path(), 1, "train", &other).unwrap().fingerprint());
    check_error(Ucf101::open(dir.path(), 4, "train", &small()), &["splits 1, 2 and 3", "train of 4"]);
    check_error(Ucf101::open(dir.path(), 1, "val", &small()), &["train and test", "val of 1"]);
    check_error(
        Ucf101::open(dir.path(), 1, "train", &ClipPipeline { crop: 19, ..small() }),
        &["crop 19", "24x18"],
    );
    fs::write(dir.path().join("ucfTrainTestlist/classInd.txt"), "1 HandstandPushups\n2 Archery\n").unwrap();
    let swapped = [("1\r\n", "x\r\n"), ("2\r\n", "1\r\n"), ("x\r\n", "2\r\n")];
    for split in 1..=3 {
        let path = dir.path().join(format!("ucfTrainTestlist/trainlist0{split}.txt"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, swapped.iter().fold(text, |text, (from, to)| text.replace(from, to))).unwrap();
    }
    check_error(Ucf101::open(dir.path(), 1, "train", &small()), &["class 0", "lists say 1"]);
}

/// What the view of a clip shows: crop corner and mirroring, the same for all frames. Levels are exact up to JPEG.
fn seen(values: &[f32], video: usize) -> (usize, usize, bool) {
    let at = |channel: usize, frame: usize, y: usize, x: usize| {
        values[((channel * FRAMES as usize + frame) * 12 + y) * 12 + x] + [1.0, 2.0, 3.0][channel]
    };
    let near = |value: f32, step: f32| (value / step).round() as usize;
    let (first, last) = (near(at(0, 0, 5, 0), 10.0), near(at(0, 0, 5, 11), 10.0));
    let (top, mirror) = (near(at(1, 0, 0, 5), 12.0), first > last);
    let left = first.min(last);
    for frame in 0..FRAMES as usize {
        for (y, x) in [(0, 0), (3, 7), (11, 11)] {
            let column = left + if mirror { 11 - x } else { x };
            let expected = [10 * column, 12 * (top + y), 40 * video + 10 * frame];
            for (channel, expected) in expected.into_iter().enumerate() {
                let found = at(channel, frame, y, x);
                assert!(
                    (found - expected as f32).abs() <= 4.0,
                    "{channel} {frame} {y} {x}: {found}, not {expected}"
                );
            }
        }
    }
    (top, left, mirror)
}

#[test]
fn clips_are_blue_first_and_cropped_alike_for_all_frames() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let train = Ucf101::open(dir.path(), 1, "train", &small()).unwrap();
    assert_eq!(seen(&read(&train, 0, View::evaluation()), 0), (3, 6, false));
    assert_eq!(seen(&read(&train, 2, View::evaluation()), 2), (3, 6, false));
    let mut views = Vec::new();
    for epoch in 0..300 {
        let view = View { seed: 5, epoch: Some(epoch) };
        let values = read(&train, 1, view);
        assert_eq!(values, read(&train, 1, view));
        views.push(seen(&values, 0));
    }
    // 24 × 18 pixels leave places 0 to 12 and 0 to 6; the original never draws the last.
    let all = |of: &dyn Fn(&(usize, usize, bool)) -> usize| {
        let mut all: Vec<_> = views.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(all(&|v| v.0), (0..6).collect::<Vec<_>>());
    assert_eq!(all(&|v| v.1), (0..12).collect::<Vec<_>>());
    assert!((100..200).contains(&views.iter().filter(|v| v.2).count()));
}

#[test]
fn the_official_crop_begins_at_row_8_and_column_29() {
    let dir = TempDir::new().unwrap();
    let mut writer = Writer::create(&dir.path().join("shards"), "set", ShardOptions::default()).unwrap();
    let picture = RgbImage::from_fn(171, 128, |x, y| Rgb([7, y as u8, x as u8]));
    let frames = vec![jpeg(&picture); 16];
    writer.append(&Sample { key: "a".into(), frames, meta: json!({"video": "a_1_2"}) }).unwrap();
    writer.finish(json!({})).unwrap();
    fs::write(dir.path().join("youtube_mapping.txt"), "a_1_2 vid1301").unwrap();
    fs::write(dir.path().join("AllVideoDescriptions.txt"), "a_1_2 A ramp\n").unwrap();
    let set = YouTube2Text::open(dir.path(), "test", &ClipPipeline::default()).unwrap();
    assert_eq!(set.input_shape(), [3, 16, 112, 112]);
    let values = read(&set, 0, View::evaluation());
    let plane = 112 * 112;
    for (channel, expected) in [29.0 - 90.25, 8.0 - 97.66, 7.0 - 101.41].into_iter().enumerate() {
        let found = values[(channel * 16 + 15) * plane];
        assert!((found - expected).abs() <= 4.0, "channel {channel}: {found}, not {expected}");
    }
}

#[test]
fn the_mean_cube_belongs_to_places_of_the_frame() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    // The mean is the clip itself: nothing is left, in every view.
    let reader = dml_data::shards::Reader::open(&dir.path().join("shards")).unwrap();
    let mut cube = vec![0f32; 3 * 4 * 18 * 24];
    for number in 0..4 {
        let picture = image::load_from_memory(reader.frame(0, number).unwrap()).unwrap().into_rgb8();
        for (x, y, pixel) in picture.enumerate_pixels() {
            for channel in 0..3 {
                cube[((channel * 4 + number) * 18 + y as usize) * 24 + x as usize] =
                    f32::from(pixel[2 - channel]);
            }
        }
    }
    let write = |name: &str, shape: &[usize]| {
        let path = dir.path().join(name);
        Tensor::from_slice(&cube, shape, &Device::Cpu).unwrap().write_npy(&path).unwrap();
        ClipPipeline { mean_file: Some(path), ..small() }
    };
    let tensor = Tensor::from_slice(&cube, &[3, 4, 18, 24], &Device::Cpu).unwrap();
    let named = |name: &str| ClipPipeline { mean_file: Some(dir.path().join(name)), ..small() };
    let (imported, caffe) = (named("mean.safetensors"), named("mean.binaryproto"));
    candle_core::safetensors::save(
        &[("mean", tensor)].into_iter().collect(),
        dir.path().join("mean.safetensors"),
    )
    .unwrap();
    fs::write(dir.path().join("mean.binaryproto"), binaryproto(&[3, 4, 18, 24], &cube)).unwrap();
    for pipeline in
        [write("cube.npy", &[3, 4, 18, 24]), write("one.npy", &[1, 3, 4, 18, 24]), imported, caffe]
    {
        let set = Ucf101::open(dir.path(), 1, "train", &pipeline).unwrap();
        for epoch in [None, Some(1), Some(2), Some(3)] {
            assert!(read(&set, 0, View { seed: 0, epoch }).iter().all(|&value| value == 0.0));
        }
    }
    // Frames and channels exchanged, a known way to misread the original.
    let wrong = write("wrong.npy", &[4, 3, 18, 24]);
    check_error(Ucf101::open(dir.path(), 1, "train", &wrong), &["wrong.npy", "[4, 3, 18, 24]"]);
    let other = write("other.npy", &[3, 4, 24, 18]);
    check_error(
        Ucf101::open(dir.path(), 1, "train", &other),
        &["other.npy", "[3, 4, 24, 18]", "[3, 4, 18, 24]"],
    );
    let missing = ClipPipeline { mean_file: Some("none.npy".into()), ..small() };
    check_error(Ucf101::open(dir.path(), 1, "train", &missing), &["none.npy"]);
}

/// A Caffe blob: its shape (field 7, dimensions in field 1) and its values (field 5), both packed.
fn binaryproto(shape: &[u8], values: &[f32]) -> Vec<u8> {
    let mut length = values.len() * 4;
    let mut blob = vec![7 << 3 | 2, shape.len() as u8 + 2, 1 << 3 | 2, shape.len() as u8];
    blob.extend(shape);
    blob.push(5 << 3 | 2);
    while length >= 0x80 {
        blob.push(length as u8 | 0x80);
        length >>= 7;
    }
    blob.push(length as u8);
    blob.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    blob
}

#[test]
fn a_shrunk_clip_has_the_means_of_squares() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let open = |pipeline: &ClipPipeline| Ucf101::open(dir.path(), 1, "train", pipeline);
    let whole = open(&small()).unwrap();
    let shrunk = open(&ClipPipeline { shrink: 3, scale: 2.0, ..small() }).unwrap();
    assert_eq!(shrunk.input_shape(), [3, 4, 4, 4]);
    for epoch in [None, Some(1), Some(2)] {
        let view = View { seed: 0, epoch };
        let (whole, shrunk) = (read(&whole, 1, view), read(&shrunk, 1, view));
        for (i, &value) in shrunk.iter().enumerate() {
            let (plane, y, x) = (i / 16, i / 4 % 4, i % 4);
            let square = (0..9).map(|j| whole[(plane * 12 + 3 * y + j / 3) * 12 + 3 * x + j % 3]);
            let expected = square.sum::<f32>() / 18.0;
            assert!((value - expected).abs() < 1e-3, "{epoch:?} {i}: {value}, not {expected}");
        }
    }
    assert_ne!(whole.fingerprint(), shrunk.fingerprint());
    check_error(open(&ClipPipeline { shrink: 5, ..small() }), &["shrink 5", "12"]);
    check_error(open(&ClipPipeline { shrink: 0, ..small() }), &["shrink 0"]);
    check_error(open(&ClipPipeline { scale: 0.0, ..small() }), &["scale 0"]);
}

#[test]
fn actions_are_told_by_their_lists() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    assert_eq!(open_actions(dir.path(), 2, "test", &small()).unwrap().name(), "UCF101 split 2 test");
    let lists = dir.path().join("ucfTrainTestlist");
    fs::rename(lists, dir.path().join("lists")).unwrap();
    check_error(
        open_actions(dir.path(), 1, "train", &small()),
        &["ucfTrainTestlist", "testTrainMulti_7030_splits", "prepare-data"],
    );
}

#[test]
fn hmdb51_opens_clips_of_hostile_names() {
    let dir = TempDir::new().unwrap();
    let name = "#20_(Rhythm)_[HD];-)_clap_u_nm_np1_fr_goo_0.avi";
    let lines = format!("{name} 1 \nb_clap_1.avi 2 \nc_clap_1.avi 0 \n");
    let files = [1, 2, 3].map(|split| format!("testTrainMulti_7030_splits/clap_test_split{split}.txt"));
    let files: Vec<_> = files.iter().map(|file| (file.as_str(), lines.as_str())).collect();
    let video = format!("clap/{name}");
    prepare(dir.path(), &[(&video, json!(0)), ("clap/b_clap_1.avi", json!(0))], 1, &files);
    let train = Hmdb51::open(dir.path(), 2, "train", &small()).unwrap();
    assert_eq!((train.name(), train.len()), ("HMDB51 split 2 train", 1));
    assert_eq!(train.id(0), format!("{}_0000", escape(&video)));
    assert_eq!(seen(&read(&train, 0, View::evaluation()), 0), (3, 6, false));
    assert_eq!(Hmdb51::open(dir.path(), 2, "test", &small()).unwrap().len(), 1);
}

#[test]
fn youtube2text_gives_each_clip_the_sentences_of_its_video() {
    let dir = TempDir::new().unwrap();
    let files = [
        ("youtube_mapping.txt", "a_1_2 vid1\r\nb_1_2 vid1201\r\nc_1_2 vid1301\r\nd_1_2 vid1302"),
        ("AllVideoDescriptions.txt", "a_1_2 one\na_1_2 two\nb_1_2 three\nc_1_2 four\nd_1_2 five\n"),
    ];
    let videos = ["a_1_2", "b_1_2", "c_1_2"].map(|id| (id, json!(null)));
    prepare(dir.path(), &videos, 2, &files);
    let check = |part: &str, expected: &[&[&str]]| {
        let set = YouTube2Text::open(dir.path(), part, &small()).unwrap();
        let of = expected.iter().map(|s| s.iter().map(|s| s.to_string()).collect()).collect();
        assert_eq!(set.labels(), &Labels::Captions { of });
        set
    };
    check("train", &[&["one", "two"], &["one", "two"]]);
    let both = check("train+val", &[&["one", "two"], &["one", "two"], &["three"], &["three"]]);
    assert_eq!((0..4).map(|i| both.group(i)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(check("test", &[&["four"], &["four"]]).missing(), ["d_1_2"]);
    check_error(YouTube2Text::open(dir.path(), "dev", &small()), &["train+val", "dev"]);
}

#[test]
fn photographs_come_from_shards_where_there_are_some() {
    let dir = TempDir::new().unwrap();
    common::voc(dir.path(), 2012);
    common::flickr8k(dir.path());
    let root = dir.path().join("VOC2012");
    let shards = |dir: &Path, names: &[&str], picture: &RgbImage| {
        let mut writer = Writer::create(&dir.join("shards"), "photos", ShardOptions::default()).unwrap();
        for name in names {
            let meta = json!({"video": name});
            writer.append(&Sample { key: escape(name), frames: vec![jpeg(picture)], meta }).unwrap();
        }
        writer.finish(json!({})).unwrap();
    };
    let files = Voc::open(&root, None, "train", common::small()).unwrap();
    // Another size than the pipeline's, so that it must still be resized.
    shards(&root, &["000005", "000026"], &common::photo(20, 18));
    fs::remove_dir_all(root.join("JPEGImages")).unwrap();
    let set = Voc::open(&root, None, "train", common::small()).unwrap();
    assert_eq!((set.name(), set.len(), set.id(1)), ("VOC2012 train", 2, "000026".into()));
    assert_eq!(set.missing(), ["000009"]);
    let (Labels::MultiLabel { flags, .. }, Labels::MultiLabel { flags: all, .. }) =
        (set.labels(), files.labels())
    else {
        panic!("{:?}", set.labels())
    };
    assert_eq!(flags, &[all[0].clone(), all[2].clone()]);
    assert_ne!(set.fingerprint(), files.fingerprint());
    let values = read(&set, 0, View::evaluation());
    assert!(values.iter().any(|v| *v != values[0]) && values.iter().all(|v| (-1.0..=1.0).contains(v)));

    shards(dir.path(), &["1_a.jpg", "2_b.jpg"], &common::photo(16, 22));
    fs::remove_dir_all(dir.path().join("Flicker8k_Dataset")).unwrap();
    let set = Flickr8k::open(dir.path(), "train", common::small()).unwrap();
    // In the order of the shards, with its own captions.
    assert_eq!((set.len(), set.id(0)), (2, "1_a.jpg".into()));
    let Labels::Captions { of } = set.labels() else { panic!("{:?}", set.labels()) };
    assert_eq!(of[0], ["A dog runs .", "A second sentence ."]);

    // Blue first, minus a mean that belongs to places of the crop.
    let rgb = read(&set, 0, View::evaluation());
    let path = dir.path().join("mean.npy");
    let mean: Vec<f32> = (0..3 * 144).map(|i| i as f32 / 7.0).collect();
    Tensor::from_slice(&mean, (3, 12, 12), &Device::Cpu).unwrap().write_npy(&path).unwrap();
    let colour = BgrPipeline { short_side: 16, crop: 12, mean: [1.0, 2.0, 3.0], mean_file: None };
    let image = BgrPipeline { mean_file: Some(path), ..colour.clone() };
    let by_colour = Flickr8k::open(dir.path(), "train", colour).unwrap();
    let by_image = Flickr8k::open(dir.path(), "train", image).unwrap();
    assert_ne!(by_colour.fingerprint(), by_image.fingerprint());
    let (by_colour, by_image) =
        (read(&by_colour, 0, View::evaluation()), read(&by_image, 0, View::evaluation()));
    for (i, (&colour, &image)) in by_colour.iter().zip(&by_image).enumerate() {
        let level = rgb[(2 - i / 144) * 144 + i % 144] * 128.0 + 127.0;
        assert_eq!((colour, image), (level - (i / 144 + 1) as f32, level - mean[i]));
    }
}

#[test]
fn damaged_frames_are_named_and_the_rest_is_read() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let shard = dir.path().join("shards/set-000000.tar");
    let index: Value =
        serde_json::from_slice(&fs::read(dir.path().join("shards/index.json")).unwrap()).unwrap();
    let at = index["shards"][0]["samples"][1]["frames"][2][0].as_u64().unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    bytes[at as usize + 300] ^= 0xff;
    fs::write(&shard, bytes).unwrap();
    let set: Arc<dyn Dataset> = Arc::new(Ucf101::open(dir.path(), 1, "train", &small()).unwrap());
    let prefetch = Prefetch { workers: 2, batches: 1 };
    let mut loaded = prefetch.batches(set, vec![1, 0, 2], View::evaluation(), 1, &Device::Cpu).unwrap();
    check_error(
        loaded.next().unwrap(),
        &["set-000000.tar", &format!("byte {at}"), "c01%2Eavi_0001", "checksum"],
    );
    assert_eq!(loaded.map(|batch| batch.unwrap().indices).collect::<Vec<_>>(), [[0], [2]]);
}

#[test]
fn a_tree_goes_through_shards_and_the_loader() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let set: Arc<dyn Dataset> = Arc::new(Ucf101::open(dir.path(), 1, "train", &small()).unwrap());
    let view = View { seed: 7, epoch: Some(3) };
    let order = order(7, 3, set.len());
    let tensors = |batches: Vec<dml_data::Batch>| -> Vec<(Vec<usize>, Vec<f32>)> {
        let values = |batch: &dml_data::Batch| batch.inputs.flatten_all().unwrap().to_vec1().unwrap();
        batches.iter().map(|batch| (batch.indices.clone(), values(batch))).collect()
    };
    let expected: Vec<_> = batches(&*set, order.clone(), view, 3, &Device::Cpu).map(Result::unwrap).collect();
    assert_eq!(expected[0].inputs.dims(), [3, 3, 4, 12, 12]);
    let expected = tensors(expected);
    for workers in [0, 1, 2, 5] {
        let prefetch = Prefetch { workers, batches: 1 };
        let loaded = prefetch.batches(set.clone(), order.clone(), view, 3, &Device::Cpu).unwrap();
        assert_eq!(tensors(loaded.map(Result::unwrap).collect()), expected, "{workers} workers");
    }
}

#[test]
fn batches_of_several_epochs_are_read_ahead() {
    let dir = TempDir::new().unwrap();
    ucf101(dir.path());
    let set: Arc<dyn Dataset> = Arc::new(Ucf101::open(dir.path(), 1, "train", &small()).unwrap());
    let view = |epoch| View { seed: 7, epoch: Some(epoch) };
    let plan = vec![(view(3), vec![2, 0, 1]), (view(3), vec![3]), (view(4), vec![0, 1, 2])];
    let loaded = Prefetch { workers: 2, batches: 2 }.read(set.clone(), plan.clone(), &Device::Cpu).unwrap();
    assert_eq!(loaded.size_hint(), (3, Some(3)));
    for (batch, (view, indices)) in loaded.map(Result::unwrap).zip(&plan) {
        let expected: Vec<f32> = indices.iter().flat_map(|&index| read(&*set, index, *view)).collect();
        assert_eq!(&batch.indices, indices);
        assert_eq!(batch.inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    }
}
