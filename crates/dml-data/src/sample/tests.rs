use std::collections::BTreeSet;

use super::*;

fn small() -> SampleConfig {
    SampleConfig {
        frames: 4,
        size: 16,
        train: 40,
        caption_train: 30,
        pretrain: 36,
        test: 20,
        ..Default::default()
    }
}

fn sample() -> Sample {
    Sample::generate(&small()).unwrap()
}

fn read(set: &SampleSet, index: usize, view: View) -> Vec<f32> {
    let mut out = vec![f32::NAN; set.input_shape().iter().product()];
    set.read(index, view, &mut out).unwrap();
    out
}

fn all(sample: &Sample) -> [&SampleSet; 7] {
    [
        &sample.pretrain,
        &sample.actions_train,
        &sample.captions_train,
        &sample.actions_test,
        &sample.captions_test,
        &sample.actions_test_captions,
        &sample.captions_test_actions,
    ]
}

fn classes_of(set: &SampleSet) -> (&[String], &[u32]) {
    match set.labels() {
        Labels::Classes { names, of } => (names, of),
        other => panic!("{other:?}"),
    }
}

fn captions_of(set: &SampleSet) -> &[Vec<String>] {
    match set.labels() {
        Labels::Captions { of } => of,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_and_two_threads_make_the_same_bytes_and_another_seed_makes_others() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(sample)
    };
    let (one, two) = (with(1), with(2));
    let other = Sample::generate(&SampleConfig { seed: 1, ..small() }).unwrap();
    for ((a, b), c) in all(&one).into_iter().zip(all(&two)).zip(all(&other)) {
        assert_eq!(a.clips.pixels, b.clips.pixels);
        assert_eq!(a.labels, b.labels);
        assert_eq!(a.fingerprint(), b.fingerprint());
        assert_ne!(a.clips.pixels, c.clips.pixels);
        assert_ne!(a.fingerprint(), c.fingerprint());
    }
}

#[test]
fn no_clip_is_in_two_sets_and_no_set_is_like_another() {
    let sample = sample();
    let clip = 3 * 4 * 16 * 16;
    let disjoint = &all(&sample)[..5];
    let clips: BTreeSet<&[u8]> = disjoint.iter().flat_map(|set| set.clips.pixels.chunks(clip)).collect();
    assert_eq!(clips.len(), 36 + 40 + 30 + 20 + 20);
    for of in [|set: &SampleSet| set.fingerprint(), |set: &SampleSet| set.name().to_owned()] {
        assert_eq!(all(&sample).into_iter().map(of).collect::<BTreeSet<_>>().len(), 7);
    }
    assert_eq!(sample.actions_train.id(17), "actions-train/17");
}

#[test]
fn enlarging_a_set_keeps_the_clips_of_the_others() {
    let larger = Sample::generate(&SampleConfig { train: 50, ..small() }).unwrap();
    assert_eq!(larger.captions_test.clips.pixels, sample().captions_test.clips.pixels);
    assert_eq!(larger.actions_train.len(), 50);
}

#[test]
fn classes_are_balanced_and_in_no_fixed_order() {
    let sample = sample();
    for (set, each) in [(&sample.pretrain, 3), (&sample.actions_train, 4), (&sample.actions_test, 2)] {
        let (names, of) = classes_of(set);
        assert_eq!(of.len(), set.len());
        for class in 0..names.len() as u32 {
            assert_eq!(of.iter().filter(|&&c| c == class).count(), each, "{}", set.name());
        }
        assert!(of.iter().enumerate().any(|(i, &class)| class as usize != i % names.len()));
    }
    assert_eq!(classes_of(&sample.pretrain).0.len(), 12);
}

#[test]
fn hidden_labels_tell_of_the_same_clips() {
    let sample = sample();
    for (actions, captions) in [
        (&sample.actions_test, &sample.actions_test_captions),
        (&sample.captions_test_actions, &sample.captions_test),
    ] {
        assert!(Arc::ptr_eq(&actions.clips.pixels, &captions.clips.pixels));
        assert_eq!(actions.id(3), captions.id(3));
        let (_, of) = classes_of(actions);
        for (&class, sentences) in of.iter().zip(captions_of(captions)) {
            let verbs = grammar::verbs(Action::ALL[class as usize]);
            assert!((3..=5).contains(&sentences.len()));
            for sentence in sentences {
                assert!(
                    verbs.iter().any(|(a, b)| sentence.contains(a) || sentence.contains(b)),
                    "{sentence}"
                );
            }
        }
    }
}

/// The colour that is said is the colour that is shown: the mean over the clips of a colour leans to it.
#[test]
fn the_colour_said_is_the_colour_shown() {
    let config = SampleConfig { clutter: 0, caption_train: 300, ..small() };
    let set = Sample::generate(&config).unwrap().captions_train;
    let mean = |word: &str| {
        let mut sums = [0.0f64; 3];
        let mut count = 0.0;
        for (index, sentences) in captions_of(&set).iter().enumerate() {
            if sentences[0].split(|c: char| !c.is_alphabetic()).any(|w| w == word) {
                let clip = read(&set, index, View::evaluation());
                for (sum, channel) in sums.iter_mut().zip(clip.chunks(clip.len() / 3)) {
                    *sum += channel.iter().map(|&v| f64::from(v)).sum::<f64>() / channel.len() as f64;
                }
                count += 1.0;
            }
        }
        sums.map(|sum| sum / count)
    };
    let (red, blue) = (mean("red"), mean("blue"));
    assert!(red[0] - red[2] > blue[0] - blue[2] + 0.1, "{red:?} {blue:?}");
}

#[test]
fn evaluation_reads_the_stored_values() {
    let sample = sample();
    let set = &sample.actions_train;
    let values = read(set, 5, View::evaluation());
    let stored = &set.clips.pixels[5 * values.len()..6 * values.len()];
    assert!(values.iter().zip(stored).all(|(&v, &p)| v == (f32::from(p) - MEAN) / SCALE));
    assert!(values.iter().any(|&v| v != values[0]));
    let mut short = vec![0.0; 7];
    assert!(set.read(5, View::evaluation(), &mut short).is_err());
    assert!(set.read(40, View::evaluation(), &mut vec![0.0; values.len()]).is_err());
}

#[test]
fn augmentation_follows_seed_epoch_and_sample() {
    let sample = sample();
    let set = &sample.actions_train;
    let view = |seed, epoch| View { seed, epoch: Some(epoch) };
    let base = read(set, 5, view(1, 2));
    assert_eq!(base, read(set, 5, view(1, 2)));
    for other in [view(1, 3), view(2, 2), View::evaluation()] {
        assert_ne!(base, read(set, 5, other));
    }
    // The factors of brightness of two clips differ too, which the sum of shifted pixels shows.
    assert_ne!(base, read(set, 6, view(1, 2)));
}

/// An augmented clip is the stored one, moved by at most two pixels with its edge repeated, times one factor.
#[test]
fn augmentation_shifts_and_brightens() {
    let sample = sample();
    let set = &sample.captions_train;
    let grey = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|v| v * SCALE + MEAN).collect() };
    let plain = grey(read(set, 0, View::evaluation()));
    let at = |plane: usize, row: i64, column: i64| {
        plain[plane * 256 + row.clamp(0, 15) as usize * 16 + column.clamp(0, 15) as usize]
    };
    let mut shifts = BTreeSet::new();
    for epoch in 0..40 {
        let found = grey(read(set, 0, View { seed: 0, epoch: Some(epoch) }));
        let fits = |dy: i64, dx: i64| {
            let pairs = || {
                (0..found.len())
                    .map(|i| (found[i], at(i / 256, (i / 16 % 16) as i64 + dy, (i % 16) as i64 + dx)))
            };
            let (sum, total) = pairs().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            let factor = sum / total;
            (0.89..1.11).contains(&factor) && pairs().all(|(x, y)| (x - factor * y).abs() < 0.1)
        };
        let fit = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dy, dx))).find(|&(dy, dx)| fits(dy, dx));
        shifts.insert(fit.unwrap());
    }
    assert!(shifts.len() > 10, "{shifts:?}");
}

#[test]
fn noise_clutter_and_shake_do_what_they_say() {
    let calm = SampleConfig { noise: 0.0, clutter: 0, shake: 0.0, ..small() };
    let roughness = |config: &SampleConfig| {
        let set = Sample::generate(config).unwrap().actions_train;
        let pixels = &set.clips.pixels;
        pixels.windows(2).map(|w| f64::from(w[0].abs_diff(w[1]))).sum::<f64>() / pixels.len() as f64
    };
    let base = roughness(&calm);
    assert!(roughness(&SampleConfig { noise: 20.0, ..calm.clone() }) > base + 5.0);
    assert!(roughness(&SampleConfig { clutter: 12, ..calm.clone() }) > base + 1.0);

    // The upper left corner of a calm clip changes by the frames' brightness alone; a shaken one by its background.
    let still = |config: &SampleConfig| {
        let set = Sample::generate(config).unwrap().actions_train;
        let clip = 3 * 4 * 256;
        let change =
            |clip: &[u8]| (clip[0] as f64 / clip[256] as f64 - clip[15] as f64 / clip[256 + 15] as f64).abs();
        set.clips.pixels.chunks(clip).map(change).sum::<f64>()
    };
    assert!(still(&SampleConfig { shake: 3.0, ..calm.clone() }) > 1.5 * still(&calm));
}

/// Without jitter, one speed: the clips' poses differ by their start and side alone.
#[test]
fn jitter_varies_speed_and_stirs_limbs() {
    let pose = |jitter: f32, action: Action, clip: u64, frame: usize| {
        Motion::of_action(action, jitter, &mut Stream::new(0, Purpose::Test, 0, clip)).pose(frame, 8)
    };
    for clip in 0..20 {
        // A bowing figure's legs stand still but for jitter.
        let legs = |jitter| {
            (0..8).map(|frame| pose(jitter, Action::Bow, clip, frame).legs[0][0]).collect::<Vec<_>>()
        };
        let stirred = |legs: &[f32]| legs.iter().any(|&angle| angle != legs[0]);
        assert!(!stirred(&legs(0.0)) && stirred(&legs(1.0)));
        assert!(legs(1.0).iter().zip(legs(0.0)).all(|(a, b)| (a - b).abs() < 0.08));
    }
    let arms = |jitter| {
        (0..20).map(move |clip| {
            pose(jitter, Action::SpinArms, clip, 1).arms[0][0]
                - pose(jitter, Action::SpinArms, clip, 0).arms[0][0]
        })
    };
    let speeds =
        |jitter| arms(jitter).map(|by: f32| (by.abs() * 1000.0).round() as i32).collect::<BTreeSet<_>>();
    assert!(speeds(0.0).len() == 1 && speeds(1.0).len() > 10);
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, field) in [
        (SampleConfig { frames: 1, ..small() }, "frames"),
        (SampleConfig { size: 11, ..small() }, "size"),
        (SampleConfig { train: 0, ..small() }, "train"),
        (SampleConfig { caption_train: 0, ..small() }, "caption_train"),
        (SampleConfig { pretrain: 0, ..small() }, "pretrain"),
        (SampleConfig { test: 0, ..small() }, "test"),
        (SampleConfig { noise: f32::NAN, ..small() }, "noise"),
        (SampleConfig { shake: -1.0, ..small() }, "shake"),
        (SampleConfig { jitter: 2.5, ..small() }, "jitter"),
    ] {
        let message = Sample::generate(&config).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(&format!(" {field} is ")), "{message}");
    }
    let least =
        SampleConfig { frames: 2, size: 12, train: 1, caption_train: 1, pretrain: 1, test: 1, ..small() };
    assert_eq!(Sample::generate(&least).unwrap().actions_train.input_shape(), [3, 2, 12, 12]);
    assert!(serde_json::from_str::<SampleConfig>(r#"{"sise": 16}"#).is_err());
    let partial: SampleConfig = serde_json::from_str(r#"{"size": 16}"#).unwrap();
    assert_eq!(partial, SampleConfig { size: 16, ..Default::default() });
}

#[test]
fn the_input_of_a_clips_pictures_is_what_the_network_reads() {
    let sample = sample();
    for index in [0, 7] {
        let frames = sample.captions_test.pictures(index).unwrap();
        assert_eq!(frames.len(), 4);
        assert_eq!(
            sample.captions_test.input(&frames).unwrap(),
            read(&sample.captions_test, index, View::evaluation())
        );
    }
    let frames = vec![RgbImage::new(40, 30); 4];
    assert_eq!(sample.captions_test.input(&frames).unwrap().len(), 3 * 4 * 16 * 16);
    assert!(sample.captions_test.input(&frames[1..]).unwrap_err().to_string().contains("4 frames, not 3"));
}
