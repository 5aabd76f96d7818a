//! Near-duplicates between two prepared sets.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use dml_data::audit;
use dml_data::shards::{Reader, Sample, ShardOptions, Writer};
use dml_rand::{Purpose, Stream};
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A picture of soft blobs, as photographs are on the scale of the hash.
fn picture(number: u64) -> RgbImage {
    let mut stream = Stream::new(1, Purpose::Test, 0, number);
    let cells = RgbImage::from_fn(12, 9, |_, _| Rgb([(); 3].map(|()| stream.below(256) as u8)));
    resize(&cells, 171, 128, FilterType::CatmullRom)
}

fn write(dir: &Path, samples: &[(&str, &[RgbImage], u8)]) -> Reader {
    let mut writer = Writer::create(dir, "set", ShardOptions::default()).unwrap();
    for (key, frames, quality) in samples {
        let encode = |frame: &RgbImage| {
            let mut bytes = Vec::new();
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, *quality);
            frame.write_with_encoder(encoder).unwrap();
            bytes
        };
        let frames = frames.iter().map(encode).collect();
        writer.append(&Sample { key: (*key).into(), frames, meta: serde_json::Value::Null }).unwrap();
    }
    writer.finish(serde_json::Value::Null).unwrap();
    Reader::open(dir).unwrap()
}

#[test]
fn re_encoded_and_resized_pictures_are_found_and_others_are_not() {
    let dir = TempDir::new().unwrap();
    let smaller = resize(&picture(2), 100, 75, FilterType::Triangle);
    let flat = RgbImage::from_pixel(171, 128, Rgb([9, 9, 9]));
    let clip = [picture(10), picture(11), picture(12)];
    let late = [picture(20), picture(21), picture(12)];
    let first = write(
        &dir.path().join("a"),
        &[
            ("same", &[picture(1)], 95),
            ("small", &[picture(2)], 95),
            ("other", &[picture(3)], 95),
            ("clip", &clip, 90),
            ("flat", std::slice::from_ref(&flat), 90),
        ],
    );
    let second = write(
        &dir.path().join("b"),
        &[
            ("late", &late, 70),
            ("poor", &[picture(1)], 30),
            ("smaller", &[smaller], 80),
            ("unlike", &[picture(4)], 95),
            ("black", &[flat], 90),
        ],
    );
    let report = audit(&first, &second, 24).unwrap();
    let mut pairs: Vec<_> = report.pairs.iter().map(|p| (p.first.as_str(), p.second.as_str())).collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [("clip", "late"), ("same", "poor"), ("small", "smaller")], "{report}");
    assert_eq!((report.compared, report.flat, report.shared()), ([4, 4], [1, 1], [3, 3]));
    assert!(report.to_string().contains("3 of the first set"), "{report}");
    // Unrelated pictures are far apart.
    let all = audit(&first, &second, 256).unwrap();
    assert_eq!(all.pairs.len(), 16);
    assert!(all.pairs.iter().filter(|pair| pair.distance > 24).all(|pair| pair.distance > 70), "{all}");
}
