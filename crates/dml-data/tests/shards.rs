//! Shards: written, read, interrupted, damaged.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use dml_data::shards::{Reader, Sample, ShardOptions, Writer, escape, unescape, verify};
use serde_json::json;
use tempfile::TempDir;

/// Sample i has i % 3 + 1 "JPEG files" of uneven lengths; shards never look inside.
fn sample(i: usize) -> Sample {
    let frame = |j: usize| {
        let noise = (0..(i * 97 + j * 31) % 1500).map(|k| (i * 7 + j * 3 + k * k) as u8);
        [0xff, 0xd8].into_iter().chain(noise).collect()
    };
    // Every fifth key is longer than a plain tar header can hold.
    let key = format!("clip-{i:03}{}", "%20x".repeat(if i % 5 == 4 { 40 } else { 1 }));
    Sample { key, frames: (0..i % 3 + 1).map(frame).collect(), meta: json!({"video": i, "text": "ä \n"}) }
}

fn options() -> ShardOptions {
    ShardOptions { max_bytes: 20_000 }
}

fn write(dir: &Path, count: usize) {
    let mut writer = Writer::create(dir, "clips", options()).unwrap();
    (0..count).for_each(|i| writer.append(&sample(i)).unwrap());
    writer.finish(json!({"count": count})).unwrap();
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&p).unwrap()))
        .collect();
    files.sort();
    files
}

/// The error's text has all of these parts.
fn check_error<T>(result: dml_data::Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

#[test]
fn what_was_written_is_read() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 30);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!((reader.len(), reader.metadata()), (30, &json!({"count": 30})));
    for i in 0..30 {
        let Sample { key, frames, meta } = sample(i);
        assert_eq!((reader.key(i), reader.frames(i)), (key.as_str(), frames.len()));
        for (j, frame) in frames.iter().enumerate() {
            assert_eq!(reader.frame(i, j).unwrap(), frame);
        }
        assert_eq!(reader.meta(i).unwrap(), meta);
    }
    assert_eq!(verify(dir.path()).unwrap(), 30);
    let files = files(dir.path());
    let shards = files.iter().filter(|(name, _)| name.ends_with(".tar"));
    assert!(shards.clone().count() > 3 && shards.clone().all(|(_, bytes)| bytes.len() <= 20_000));
    assert_eq!(files.len(), shards.count() + 1, "nothing but shards and the index is left");
}

#[test]
fn shards_are_plain_tar_archives() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 5);
    let mut archive = tar::Archive::new(fs::File::open(dir.path().join("clips-000000.tar")).unwrap());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected: Vec<String> = (0..5)
        .flat_map(|i| {
            let Sample { key, frames, .. } = sample(i);
            let frames: Vec<_> = (0..frames.len()).map(|j| format!("{key}.{j:03}.jpg")).collect();
            frames.into_iter().chain([format!("{key}.json")])
        })
        .collect();
    assert_eq!(names, expected);
}

#[test]
fn an_interrupted_writer_goes_on_after_its_last_finished_shard() {
    let whole = TempDir::new().unwrap();
    write(whole.path(), 30);
    for killed_after in [0, 1, 11, 17, 29] {
        let dir = TempDir::new().unwrap();
        let mut writer = Writer::create(dir.path(), "clips", options()).unwrap();
        (0..killed_after).for_each(|i| writer.append(&sample(i)).unwrap());
        drop(writer);
        check_error(Reader::open(dir.path()), &["index.json"]);
        let (mut writer, keys) = Writer::resume(dir.path(), "clips", options()).unwrap();
        assert!(keys.iter().enumerate().all(|(i, key)| *key == sample(i).key) && keys.len() <= killed_after);
        assert!(killed_after < 29 || keys.len() > 15, "{}", keys.len());
        (keys.len()..30).for_each(|i| writer.append(&sample(i)).unwrap());
        writer.finish(json!({"count": 30})).unwrap();
        assert!(files(dir.path()) == files(whole.path()), "killed after {killed_after}");
    }
}

#[test]
fn a_damaged_shard_and_those_behind_it_are_written_again() {
    let dir = TempDir::new().unwrap();
    let mut writer = Writer::create(dir.path(), "clips", options()).unwrap();
    (0..30).for_each(|i| writer.append(&sample(i)).unwrap());
    drop(writer);
    let second = dir.path().join("clips-000001.tar");
    let mut bytes = fs::read(&second).unwrap();
    bytes[700] ^= 1;
    fs::write(&second, bytes).unwrap();
    fs::write(dir.path().join("clips-notes.txt"), "not ours").unwrap();
    check_error(Writer::create(dir.path(), "clips", options()).map(|_| ()), &["resume"]);
    let (_, keys) = Writer::resume(dir.path(), "clips", options()).unwrap();
    let (_, again) = Writer::resume(dir.path(), "clips", options()).unwrap();
    assert!(!keys.is_empty() && keys.len() < 15 && keys == again);
    let left: Vec<String> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["clips-000000.json", "clips-000000.tar", "clips-notes.txt"]);
}

#[test]
fn damage_is_named_with_shard_and_offset() {
    let set = || {
        let dir = TempDir::new().unwrap();
        write(dir.path(), 12);
        let shard = dir.path().join("clips-000000.tar");
        (dir, shard)
    };
    // Sample 2 has three frames; its second is a file of its own in the archive.
    let offset = |shard: &PathBuf| {
        let bytes = fs::read(shard).unwrap();
        let name = sample(2).key + ".001.jpg";
        bytes.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + 512
    };
    let (dir, shard) = set();
    let at = offset(&shard);
    let mut bytes = fs::read(&shard).unwrap();
    bytes[at + 5] ^= 4;
    fs::write(&shard, &bytes).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let parts = ["clips-000000.tar", &format!("byte {at}"), &sample(2).key, "checksum"];
    check_error(reader.frame(2, 1), &parts);
    check_error(verify(dir.path()), &parts);
    assert_eq!(reader.frame(2, 0).unwrap(), sample(2).frames[0]);

    // A header, which no read of a sample looks at.
    let (dir, shard) = set();
    let mut bytes = fs::read(&shard).unwrap();
    bytes[at - 500] ^= 4;
    fs::write(&shard, &bytes).unwrap();
    check_error(verify(dir.path()), &["clips-000000.tar", &format!("byte {at}")]);

    // Padding, which nothing but the SHA-256 covers.
    let (dir, shard) = set();
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] = 1;
    fs::write(&shard, &bytes).unwrap();
    check_error(verify(dir.path()), &["clips-000000.tar"]);

    let (dir, shard) = set();
    fs::write(&shard, &fs::read(&shard).unwrap()[..4000]).unwrap();
    check_error(Reader::open(dir.path()), &["clips-000000.tar", "4000 bytes", "prepare"]);
    fs::remove_file(&shard).unwrap();
    check_error(Reader::open(dir.path()), &["clips-000000.tar"]);

    let (dir, _) = set();
    let index = dir.path().join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    for (from, to, part) in [
        ("dml shards 1", "dml shards 9", "dml shards 9"),
        ("clip-001", "clip-000", "twice"),
        ("[512,", "[99999999,", "outside"),
        ("clips-000000.tar", "../clips-000000.tar", "folder"),
        ("\"key\"", "\"kex\"", "damaged"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&index, text.replacen(from, to, 1)).unwrap();
        check_error(Reader::open(dir.path()), &["index.json", part]);
    }
    fs::write(&index, &text[..text.len() / 2]).unwrap();
    check_error(Reader::open(dir.path()), &["index.json", "damaged"]);
}

#[test]
fn wrong_samples_are_refused_and_the_writer_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut writer = Writer::create(dir.path(), "clips", options()).unwrap();
    writer.append(&sample(0)).unwrap();
    let with_key = |key: &str| Sample { key: key.into(), ..sample(1) };
    for (wrong, part) in [
        (with_key(""), "escape"),
        (with_key("a.b"), "escape"),
        (with_key("a/b"), "escape"),
        (with_key("a%2"), "escape"),
        (with_key("a%2e"), "escape"),
        (sample(0), "before"),
        (Sample { frames: vec![], ..sample(1) }, "0 frames"),
        (Sample { frames: vec![vec![0xff, 0xd8], vec![1, 2]], ..sample(1) }, "frame 1 is no JPEG"),
    ] {
        check_error(writer.append(&wrong), &[part]);
    }
    writer.append(&sample(1)).unwrap();
    writer.finish(json!(null)).unwrap();
    assert_eq!(verify(dir.path()).unwrap(), 2);
    check_error(Writer::create(dir.path(), "clips", options()).map(|_| ()), &["finished"]);
    check_error(Writer::create(dir.path(), "a/b", options()).map(|_| ()), &["prefix"]);
}

#[test]
fn an_empty_set_is_a_set() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 0);
    assert!(Reader::open(dir.path()).unwrap().is_empty());
    assert_eq!(verify(dir.path()).unwrap(), 0);
}

#[test]
fn keys_hold_any_name() {
    for name in [
        "Geena_und_die_Radschl_ge___;-)_cartwheel_f_cm_np1_fr_med_2.avi",
        "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",
        "Die_Another_Day_-_Fencing_Scene_Part_1_[HD]_avi_fencing_u_cm_np2_ri_med_3.avi",
        "a & b! (c) 100% .jpg.1",
        "Schläge\n",
    ] {
        let key = escape(name);
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-%".contains(&b)), "{key}");
        assert_eq!(unescape(&key).as_deref(), Some(name));
    }
    assert_eq!(unescape("%zz"), None);
    assert_eq!(unescape("%41"), None, "only one key for each name");
}
