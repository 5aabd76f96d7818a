//! Lists of the official sizes: made by code, and as published where DML_REAL_DATA names a folder with them.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;

use common::{folder, real_data, sentences};
use dml_data::splits::{self, ClassLists};
use tempfile::TempDir;

fn check_counts(lists: &ClassLists, classes: usize, expected: [(usize, usize, usize); 3]) {
    assert_eq!(lists.names.len(), classes);
    let counts = lists.splits.clone().map(|s| (s.train.len(), s.test.len(), s.unused.len()));
    assert_eq!(counts, expected);
}

const UCF101: [(usize, usize, usize); 3] = [(9537, 3783, 0), (9586, 3734, 0), (9624, 3696, 0)];

/// Lists of the official size: the published videos are 13 320 in 101 classes, 25 groups each; split k tests the groups
/// 7k − 6 to 7k. How many videos a group has is chosen so that the sums come out.
#[test]
fn ucf101_of_official_size() {
    let clips = |class: usize, group: usize| {
        let of_split = |split: usize, total: usize| {
            let slots = 101 * 7;
            let slot = class * 7 + (group - 1) % 7;
            (split == (group - 1) / 7).then_some(total / slots + usize::from(slot < total % slots))
        };
        let rest = 13_320 - 3783 - 3734 - 3696;
        let last = |slot: usize| rest / 404 + usize::from(slot < rest % 404);
        [(0, 3783), (1, 3734), (2, 3696)]
            .iter()
            .find_map(|&(split, total)| of_split(split, total))
            .unwrap_or_else(|| last(class * 4 + group - 22))
    };
    let dir = TempDir::new().unwrap();
    let names: Vec<String> = (0..101).map(|c| format!("Class{c}")).collect();
    let index: String = names.iter().enumerate().map(|(i, name)| format!("{} {name}\r\n", i + 1)).collect();
    fs::write(dir.path().join("classInd.txt"), index).unwrap();
    for split in 1..=3 {
        let (mut train, mut test) = (String::new(), String::new());
        for (c, name) in names.iter().enumerate() {
            for group in 1..=25 {
                for clip in 1..=clips(c, group) {
                    let path = format!("{name}/v_{name}_g{group:02}_c{clip:02}.avi");
                    if (group - 1) / 7 + 1 == split {
                        test += &format!("{path}\r\n");
                    } else {
                        train += &format!("{path} {}\r\n", c + 1);
                    }
                }
            }
        }
        fs::write(dir.path().join(format!("trainlist0{split}.txt")), train).unwrap();
        fs::write(dir.path().join(format!("testlist0{split}.txt")), test).unwrap();
    }
    let lists = splits::ucf101(dir.path()).unwrap();
    check_counts(&lists, 101, UCF101);
    assert_eq!(lists.videos().len(), 13_320);
}

#[test]
fn ucf101_as_published() {
    let Some(dir) = real_data() else { return };
    let lists = splits::ucf101(&dir).unwrap();
    check_counts(&lists, 101, UCF101);
    assert_eq!(lists.videos().len(), 13_320);
    assert_eq!((lists.names[0].as_str(), lists.names[100].as_str()), ("ApplyEyeMakeup", "YoYo"));
}

const HMDB51: [(usize, usize, usize); 3] = [(3570, 1530, 1666); 3];

#[test]
fn hmdb51_of_official_size() {
    let dir = TempDir::new().unwrap();
    for class in 0..51 {
        for split in 1..=3 {
            let unused = 1666 / 51 + usize::from(class < 1666 % 51);
            let flag = |i: usize| {
                if i < 70 {
                    1
                } else if i < 100 {
                    2
                } else {
                    0
                }
            };
            let lines: String =
                (0..100 + unused).map(|i| format!("v{i}_c{class}.avi {} \n", flag(i))).collect();
            fs::write(dir.path().join(format!("c{class:02}_test_split{split}.txt")), lines).unwrap();
        }
    }
    let lists = splits::hmdb51(dir.path()).unwrap();
    check_counts(&lists, 51, HMDB51);
    assert_eq!(lists.videos().len(), 6766);
}

#[test]
fn hmdb51_as_published() {
    let Some(dir) = real_data() else { return };
    let lists = splits::hmdb51(&dir).unwrap();
    check_counts(&lists, 51, HMDB51);
    assert_eq!(lists.names[..6], ["brush_hair", "cartwheel", "catch", "chew", "clap", "climb"]);
    let videos = lists.videos();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let hostile = videos.iter().filter(|(id, _)| !id.chars().all(plain)).count();
    assert_eq!((videos.len(), hostile), (6766, 536));
}

/// 8092 captioned images, 6000, 1000 and 1000 of them in a split.
#[test]
fn flickr8k_of_official_size() {
    let tokens: String = (0..8092 * 5).map(|i| format!("{}.jpg#{}\tCaption {i} .\n", i / 5, i % 5)).collect();
    let list = |from: usize, to: usize| (from..to).map(|i| format!("{i}.jpg\n")).collect::<String>();
    let dir = folder(&[
        ("Flickr8k.token.txt", &tokens),
        ("Flickr_8k.trainImages.txt", &list(0, 6000)),
        ("Flickr_8k.devImages.txt", &list(6000, 7000)),
        ("Flickr_8k.testImages.txt", &list(7000, 8000)),
    ]);
    let counts = ["train", "dev", "test"].map(|split| {
        let images = splits::flickr8k(dir.path(), split).unwrap();
        assert!(images.iter().all(|(_, captions)| captions.len() == 5));
        images.len()
    });
    assert_eq!(counts, [6000, 1000, 1000]);
}

const MSVD: [(usize, usize); 3] = [(1200, 48_774), (100, 4_290), (670, 27_763)];

#[test]
fn msvd_of_official_size() {
    let id = |n: usize| format!("video_{n:04}-_{}_{}", n % 60, n % 60 + 9);
    let mapping: Vec<String> = (1..=1970).map(|n| format!("{} vid{n}", id(n))).collect();
    let mut captions = String::new();
    let mut first = 1;
    for (videos, total) in MSVD {
        for i in 0..total {
            captions += &format!("{} sentence {i}\n", id(first + i % videos));
        }
        first += videos;
    }
    let dir =
        folder(&[("youtube_mapping.txt", &mapping.join("\r\n")), ("AllVideoDescriptions.txt", &captions)]);
    assert_eq!(sentences(&splits::msvd(dir.path()).unwrap()), MSVD);
}

#[test]
fn msvd_as_published() {
    let Some(dir) = real_data() else { return };
    let lists = splits::msvd(&dir.join("YouTube2Text")).unwrap();
    assert_eq!(sentences(&lists), MSVD);
    assert_eq!((lists.uncaptioned.len(), lists.unmapped), (0, 0));
    let parts = [lists.train, lists.val, lists.test].concat();
    let distinct: HashSet<_> = parts.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), 1970);
    assert!(parts.is_sorted_by_key(|(id, _)| id), "vid numbers follow the ids' bytes");
}
