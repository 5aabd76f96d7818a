//! A picture of the built-in sample: for each action the frames of two clips, and one of their sentences.
//!
//! `cargo run -p dml-data --example contact_sheet -- sheet.png`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use dml_data::sample::{Sample, SampleConfig, SampleSet};
use dml_data::{Dataset, Labels, Result, View};
use image::{Rgb, RgbImage};

const ZOOM: u32 = 4;
const GAP: u32 = 4;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name the PNG file to write")?;
    let start = Instant::now();
    let config = SampleConfig::default();
    let sample = Sample::generate(&config)?;
    println!("made in {:.2} s", start.elapsed().as_secs_f64());

    let set = &sample.actions_test;
    let Labels::Classes { names, of } = set.labels() else { return Err("no classes".into()) };
    let Labels::Captions { of: captions } = sample.actions_test_captions.labels() else {
        return Err("no captions".into());
    };
    let side = config.size as u32 * ZOOM;
    let frames = config.frames as u32;
    let mut sheet = RgbImage::new(2 * frames * side + GAP, names.len() as u32 * (side + GAP));
    for (class, name) in names.iter().enumerate() {
        let clips = (0..set.len()).filter(|&index| of[index] as usize == class).take(2);
        for (place, index) in clips.enumerate() {
            if place == 0 {
                println!("{name}: {}", captions[index].join(" | "));
            }
            let left = place as u32 * (frames * side + GAP);
            paste(set, &config, index, &mut sheet, [left, class as u32 * (side + GAP)])?;
        }
    }
    sheet.save(path)?;
    Ok(())
}

fn paste(
    set: &SampleSet,
    config: &SampleConfig,
    index: usize,
    sheet: &mut RgbImage,
    at: [u32; 2],
) -> Result<()> {
    let (frames, size) = (config.frames, config.size);
    let mut clip = vec![0.0; 3 * frames * size * size];
    set.read(index, View::evaluation(), &mut clip)?;
    for frame in 0..frames {
        for y in 0..size as u32 * ZOOM {
            for x in 0..size as u32 * ZOOM {
                let place = (y / ZOOM) as usize * size + (x / ZOOM) as usize;
                let value = |channel: usize| {
                    (clip[(channel * frames + frame) * size * size + place] * 20.0 + 66.0) as u8
                };
                let left = at[0] + frame as u32 * size as u32 * ZOOM;
                sheet.put_pixel(left + x, at[1] + y, Rgb([value(0), value(1), value(2)]));
            }
        }
    }
    Ok(())
}
