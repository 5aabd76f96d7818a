//! From a photograph's file to a network's input.
#![allow(clippy::unwrap_used)]

mod common;

use common::small;
use dml_data::{ImagePipeline, View};
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    width: u32,
    height: u32,
    /// (12, 12, 3)
    rgb: Vec<u8>,
}

/// The photograph of this size, as a PNG file, in this view.
fn view(width: u32, height: u32, pipeline: ImagePipeline, view: View, sample: u64) -> Vec<f32> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("photo.png");
    common::photo(width, height).save(&path).unwrap();
    let mut out = vec![f32::NAN; pipeline.shape().iter().product()];
    pipeline.read(&path, view, sample, &mut out).unwrap();
    out
}

fn epoch(epoch: u64) -> View {
    View { seed: 3, epoch: Some(epoch) }
}

#[test]
fn evaluation_view_is_that_of_pil() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("golden/resize.json")).unwrap();
    assert_eq!(golden.len(), 4);
    for Golden { width, height, rgb } in golden {
        let values = view(width, height, small(), View::evaluation(), 0);
        assert_eq!(values.len(), rgb.len());
        let level = |i: usize| values[i % 3 * 144 + i / 3] * 128.0 + 127.0;
        let differences: Vec<f32> =
            rgb.iter().enumerate().map(|(i, &rgb)| (level(i) - f32::from(rgb)).abs()).collect();
        // Both round fixed-point sums to a level, with different precision: one level, seldom.
        let differing = differences.iter().filter(|&&d| d > 0.0).count();
        let largest = differences.iter().fold(0f32, |a, &b| a.max(b));
        assert!(largest <= 1.0 && differing <= 4, "{width}x{height}: {differing} differ by up to {largest}");
    }
}

#[test]
fn crop_and_mirror_follow_their_key() {
    // As high as the crop and one pixel wider than it: two places, mirrored or not.
    let pipeline = ImagePipeline { short_side: 12, crop: 12, mean: 0.0, scale: 1.0 };
    let of = |width, v, sample| view(width, 12, pipeline, v, sample);
    let photo = common::photo(13, 12);
    let expected = |left: u32, mirror: bool| -> Vec<f32> {
        let place = |x: u32| left + if mirror { 11 - x } else { x };
        let value = |c: usize, y, x| f32::from(photo.get_pixel(place(x), y)[c]);
        let pixels = |c| (0..12).flat_map(move |y| (0..12).map(move |x| value(c, y, x)));
        (0..3).flat_map(pixels).collect()
    };
    let mut counts = [0usize; 4];
    for e in 0..20 {
        for sample in 0..10 {
            let found = of(13, epoch(e), sample);
            let which = (0..4).find(|i| found == expected(i / 2, i % 2 == 1)).expect("one of the four views");
            counts[which as usize] += 1;
        }
    }
    assert!(counts.iter().all(|&n| (30..=70).contains(&n)), "{counts:?}");
    assert_eq!(of(13, epoch(5), 7), of(13, epoch(5), 7));
    // Half a pixel is left over on each side: ties go to the even place.
    assert_eq!(of(13, View::evaluation(), 7), expected(0, false));
}

#[test]
fn grey_and_transparent_images_become_rgb() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("grey.jpg");
    image::GrayImage::from_pixel(20, 30, image::Luma([100])).save(&path).unwrap();
    let mut out = vec![0.0; 3 * 144];
    small().read(&path, View::evaluation(), 0, &mut out).unwrap();
    assert!(out.iter().all(|v| (v * 128.0 + 127.0 - 100.0).abs() <= 1.0), "{out:?}");
}

#[test]
fn wrong_parameters_are_refused() {
    let check = |pipeline: ImagePipeline, part: &str| {
        let message = pipeline.check().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    check(ImagePipeline { crop: 17, ..small() }, "crop 17");
    check(ImagePipeline { crop: 0, ..small() }, "crop 0");
    check(ImagePipeline { scale: 0.0, ..small() }, "scale 0");
    check(ImagePipeline { mean: f32::NAN, ..small() }, "mean NaN");
    let message =
        small().read("x.jpg".as_ref(), View::evaluation(), 0, &mut [0.0; 5]).unwrap_err().to_string();
    assert!(message.contains("(3, 12, 12)") && message.contains("5 values"), "{message}");
}
