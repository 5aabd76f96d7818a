//! Videos as published, and videos that are not what they say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::common::{ffmpeg_is_here, head, manifest, prepare};
use dml_data::shards::Reader;
use dml_prepare::{Event, Ffmpeg, Options, Outcome, PrepareError, Sampling, Select, Unreadable, clips};
use image::RgbImage;
use tempfile::TempDir;

fn make(arguments: &[&str], path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y"])
        .args(arguments)
        .arg(path)
        .status();
    assert!(status.unwrap().success(), "{arguments:?}");
}

/// A video of this many frames, all of which differ.
fn video(frames: u32, path: &Path) {
    let source = "testsrc2=size=64x48:rate=25";
    make(
        &["-f", "lavfi", "-i", source, "-frames:v", &frames.to_string(), "-c:v", "mpeg4", "-q:v", "2"],
        path,
    );
}

fn frames(ffmpeg: &Ffmpeg, path: &Path, select: Select) -> Result<Vec<RgbImage>, Unreadable> {
    let mut frames = Vec::new();
    let count = ffmpeg.frames(path, select, &AtomicBool::new(false), |frame| {
        frames.push(frame);
        Ok(())
    })?;
    assert_eq!(count, frames.len());
    Ok(frames)
}

#[test]
fn frames_are_those_of_ffmpeg() {
    let Some(real) = std::env::var_os("DML_REAL_DATA").map(PathBuf::from) else {
        eprintln!("frames_are_those_of_ffmpeg: left out, because DML_REAL_DATA is not set");
        return;
    };
    if !ffmpeg_is_here("frames_are_those_of_ffmpeg") {
        return;
    }
    let ffmpeg = Ffmpeg::find().unwrap();
    let mut videos = 0;
    for entry in std::fs::read_dir(real.join("UCF-101-original")).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-i"])
            .arg(&path)
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .output()
            .unwrap();
        let theirs: Vec<&[u8]> = output.stdout.chunks(320 * 240 * 3).collect();
        let all = frames(&ffmpeg, &path, Select::All).unwrap();
        assert_eq!(all.len(), theirs.len(), "{}", path.display());
        assert!(all.iter().zip(&theirs).all(|(ours, theirs)| ours.as_raw() == theirs), "{}", path.display());
        for interval in [150, 24] {
            let select = Select::Clips { interval, count: 16, stride: 3 };
            let some = frames(&ffmpeg, &path, select).unwrap();
            let wanted: Vec<_> = (0..).zip(&theirs).filter(|(n, _)| select.takes(*n)).collect();
            assert_eq!(some.len(), wanted.len());
            assert!(some.iter().zip(wanted).all(|(ours, (_, theirs))| ours.as_raw() == theirs));
        }
        videos += 1;
    }
    assert_eq!(videos, 8);
}

#[test]
fn clips_have_the_frames_that_are_documented() {
    if !ffmpeg_is_here("clips_have_the_frames_that_are_documented") {
        return;
    }
    let ffmpeg = Ffmpeg::find().unwrap();
    let dir = TempDir::new().unwrap();
    let check = |length: u32, sampling: Sampling, starts: &[u32]| {
        let path = dir.path().join(format!("{length}.avi"));
        video(length, &path);
        let all = clips(
            &ffmpeg,
            &path,
            &Sampling { frames: 1, stride: 1, interval: 1, ..sampling },
            &AtomicBool::new(false),
        );
        let all: Vec<Vec<u8>> = all.unwrap().into_iter().map(|clip| clip.frames[0].clone()).collect();
        assert_eq!(all.len(), length as usize);
        let found = clips(&ffmpeg, &path, &sampling, &AtomicBool::new(false)).unwrap();
        let span = (sampling.frames - 1) * sampling.stride + 1;
        let expected = starts.iter().map(|start| {
            (0..sampling.frames)
                .map(move |j| start + j * sampling.stride)
                .map(move |n| if length < span { n % length } else { n })
        });
        let expected: Vec<Vec<u32>> = expected.map(Iterator::collect).collect();
        assert_eq!(
            found.iter().map(|clip| clip.numbers.clone()).collect::<Vec<_>>(),
            expected,
            "{length} frames"
        );
        for clip in &found {
            let frames: Vec<_> = clip.numbers.iter().map(|&n| all[n as usize].clone()).collect();
            assert!(clip.frames == frames, "{length} frames: other frames than their numbers say");
        }
    };
    let every = |interval| Sampling { width: 32, height: 24, ..Sampling::every(interval) };
    check(46, every(150), &[0]);
    check(195, every(150), &[0]);
    check(196, every(150), &[0, 150]);
    // Clips that overlap, as of YouTube2Text.
    check(120, every(24), &[0, 24, 48, 72]);
    // Too short for one clip: played again.
    check(45, every(150), &[0]);
    check(7, every(24), &[0]);
    check(2, every(24), &[0]);
}

/// The five-hour video: a whole file whose header states 450 000 frames.
fn patch_length(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut patch = |tag: &[u8], offset: usize| {
        let at = bytes.windows(4).position(|part| part == tag).unwrap() + offset;
        bytes[at..at + 4].copy_from_slice(&450_000u32.to_le_bytes());
    };
    patch(b"avih", 8 + 16);
    patch(b"strh", 8 + 32);
    std::fs::write(path, bytes).unwrap();
}

/// A UCF101 in its layout: two classes, and files that are not what they say.
fn ucf101(root: &Path) -> Vec<&'static str> {
    let lists = root.join("ucfTrainTestlist");
    std::fs::create_dir_all(&lists).unwrap();
    std::fs::write(lists.join("classInd.txt"), "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n").unwrap();
    let good =
        ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g02_c01.avi"];
    let bad = ["cut", "empty", "text", "sound", "single", "picture", "long", "mp4"];
    let names: Vec<String> =
        (1..=bad.len()).map(|n| format!("ApplyEyeMakeup/v_ApplyEyeMakeup_g10_c0{n}.avi")).collect();
    for folder in ["ApplyEyeMakeup", "HandstandPushups"] {
        std::fs::create_dir_all(root.join("UCF-101").join(folder)).unwrap();
    }
    for name in good {
        video(200, &root.join("UCF-101").join(name));
    }
    for (kind, name) in bad.iter().zip(&names) {
        let path = root.join("UCF-101").join(name);
        match *kind {
            "cut" => {
                video(200, &path);
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
            "empty" => std::fs::write(&path, "").unwrap(),
            "text" => std::fs::write(&path, "#EXTM3U\nfile:///etc/passwd\n").unwrap(),
            "sound" => make(&["-f", "lavfi", "-i", "sine=d=1"], &path),
            "single" => video(1, &path),
            "picture" => std::fs::write(&path, crate::common::jpeg(64, 48, 1)).unwrap(),
            "long" => {
                video(60, &path);
                patch_length(&path);
            }
            _ => {
                let mp4 = root.join("x.mp4");
                video(60, &mp4);
                std::fs::rename(mp4, path).unwrap();
            }
        }
    }
    for split in 1..=3 {
        let train: String = [good[0]]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .map(|name| format!("{name} 1\r\n"))
            .collect();
        std::fs::write(lists.join(format!("trainlist0{split}.txt")), train).unwrap();
        std::fs::write(lists.join(format!("testlist0{split}.txt")), format!("{}\n", good[1])).unwrap();
    }
    bad.to_vec()
}

#[test]
fn broken_videos_are_reported_and_the_rest_is_prepared() {
    if !ffmpeg_is_here("broken_videos_are_reported_and_the_rest_is_prepared") {
        return;
    }
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    ucf101(root.path());
    let part = |name| {
        format!(
            "[[parts]]\nname = \"{name}\"\nunpacked_max = 1\n[[parts.sources]]\nurl = \"http://127.0.0.1:9/x.zip\"\n"
        )
    };
    let text = format!(
        "{}{}{}[expected]\nvideos = 10\ntrain1 = 9537\n",
        head("ucf101"),
        part("videos"),
        part("splits")
    );
    let manifest = manifest(data.path(), &text);
    let mut options = Options::new(data.path());
    options.from = Some(root.path().into());
    // One in a hundred may fail, as a rule.
    let error = prepare(&manifest, &options).0.unwrap_err();
    assert!(matches!(error, PrepareError::Failures { failed: 1, of: 10, .. }), "{error}");
    assert!(error.to_string().contains("g10_c01.avi: cut short"), "{error}");

    options.failures = 80.0;
    let (done, events) = prepare(&manifest, &options);
    let Outcome::Prepared(summary) = done.unwrap() else { panic!("a part is no set") };
    let reasons: Vec<&str> = summary.failures.iter().map(|(_, reason)| reason.as_str()).collect();
    let expected = ["cut short", "empty", "Invalid data", "no video stream", "one frame only", "whitelist"];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, word) in reasons.iter().zip(expected) {
        assert!(reason.contains(word), "\"{reason}\" without \"{word}\"");
    }
    assert_eq!(events.iter().filter(|event| matches!(event, Event::LeftOut { .. })).count(), 6);
    assert_eq!(summary.differences, ["train1: 9 here, 9537 officially"]);
    // Two clips of each whole video; one of the two that are odd but decodable.
    let reader = Reader::open(&data.path().join("ucf101/shards")).unwrap();
    let key = |n| dml_data::shards::unescape(reader.key(n)).unwrap();
    let keys: Vec<String> = (0..reader.len()).map(key).collect();
    assert_eq!(
        keys,
        [
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi_0000",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi_0001",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g10_c07.avi_0000",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g10_c08.avi_0000",
            "HandstandPushups/v_HandstandPushups_g02_c01.avi_0000",
            "HandstandPushups/v_HandstandPushups_g02_c01.avi_0001",
        ]
    );
    let meta = reader.meta(5).unwrap();
    assert_eq!(meta["label"], 1);
    assert_eq!(meta["source"], "ucf101");
    assert_eq!(meta["frames"][1], 153);
    assert_eq!(reader.frames(5), 16);
    let metadata = reader.metadata();
    assert_eq!(metadata["ffmpeg"], Ffmpeg::find().unwrap().version());
    assert_eq!(metadata["settings"]["clips"]["interval"], 150);

    // A second time there is nothing to do, and other settings are not passed over.
    assert_eq!(prepare(&manifest, &options).0.unwrap(), Outcome::Already(summary.clone()));
    assert_eq!(dml_prepare::verify(&manifest, data.path()).unwrap(), summary);
    options.sampling = Some(Sampling::every(100));
    let error = prepare(&manifest, &options).0.unwrap_err();
    assert!(
        matches!(error, PrepareError::Prepared { .. }) && error.to_string().contains("remove the folder"),
        "{error}"
    );
    // A flipped bit shows.
    let shard = data.path().join("ucf101/shards/ucf101-000000.tar");
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    assert!(dml_prepare::verify(&manifest, data.path()).is_err());
}

#[test]
fn a_video_that_takes_too_long_is_left_out() {
    if !ffmpeg_is_here("a_video_that_takes_too_long_is_left_out") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("long.avi");
    let source = "testsrc2=size=1280x720:rate=25";
    make(&["-f", "lavfi", "-i", source, "-frames:v", "150", "-c:v", "mpeg4", "-q:v", "20"], &path);
    let ffmpeg = Ffmpeg::find().unwrap().with_time_limit(Duration::from_millis(100));
    let began = Instant::now();
    // Each frame is looked at for a while, so that the limit passes on any machine.
    let done = ffmpeg.frames(&path, Select::All, &AtomicBool::new(false), |_| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    });
    assert!(matches!(&done, Err(Unreadable::Video(reason)) if reason.contains("time limit")), "{done:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
