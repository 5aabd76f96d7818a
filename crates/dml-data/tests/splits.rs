//! Split files as they are published, with the defects that copies of them have.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{folder, sentences};
use dml_data::splits::{self, ClassLists, ClipId, Sources, VOC_CLASSES};
use tempfile::TempDir;

/// The error's text has all of these parts.
fn check_error<T>(result: dml_data::Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
    }
}

fn ids(videos: &[(String, u32)]) -> Vec<(&str, u32)> {
    videos.iter().map(|(id, class)| (id.as_str(), *class)).collect()
}

// UCF101

/// A small copy of UCF101's lists after one edit.
fn ucf101_after(file: &str, from: &str, to: &str) -> dml_data::Result<ClassLists> {
    let train = "Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c02.avi 2\r\n";
    let test = "Archery/v_Archery_g01_c01.avi\r\nHandstandPushups/v_HandStandPushups_g01_c01.avi\r\n";
    let mut files = vec![("classInd.txt".to_owned(), "1 Archery\r\n2 HandstandPushups\r\n".to_owned())];
    for split in 1..=3 {
        files.push((format!("trainlist0{split}.txt"), train.into()));
        files.push((format!("testlist0{split}.txt"), test.into()));
    }
    let dir = TempDir::new().unwrap();
    for (name, text) in &files {
        let text = if name == file {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        } else {
            text.clone()
        };
        fs::write(dir.path().join(name), text).unwrap();
    }
    splits::ucf101(dir.path())
}

#[test]
fn ucf101_numbers_from_one_and_names_the_class_of_a_test_video_by_its_folder() {
    let lists = ucf101_after("", "", "").unwrap();
    assert_eq!(lists.names, ["Archery", "HandstandPushups"]);
    let expected = [
        [("Archery/v_Archery_g08_c01.avi", 0), ("HandstandPushups/v_HandstandPushups_g08_c02.avi", 1)],
        [("Archery/v_Archery_g01_c01.avi", 0), ("HandstandPushups/v_HandstandPushups_g01_c01.avi", 1)],
    ];
    for split in &lists.splits {
        assert_eq!([ids(&split.train), ids(&split.test)], expected);
    }
    assert_eq!(lists.videos().len(), 4);
    // Copies with LF; with either spelling in folder, file or class list.
    for (file, from, to) in [
        ("classInd.txt", "\r\n", "\n"),
        ("trainlist02.txt", "\r\n", "\n"),
        ("testlist01.txt", "v_HandStand", "v_Handstand"),
        ("testlist01.txt", "HandstandPushups/", "HandStandPushups/"),
    ] {
        assert_eq!(ucf101_after(file, from, to).unwrap(), lists, "{file}: {from:?} as {to:?}");
    }
}

#[test]
fn ucf101_refuses_wrong_lines() {
    for (file, from, to, parts) in [
        ("classInd.txt", "1 Archery", "0 Archery", ["line 1", "number 0"]),
        ("classInd.txt", "2 Hand", "3 Hand", ["line 2", "number 3"]),
        ("classInd.txt", "2 HandstandPushups", "2 archery", ["line 2", "twice"]),
        ("classInd.txt", "2 HandstandPushups", "HandstandPushups", ["line 2", "a number and a class"]),
        ("trainlist01.txt", "g08_c01.avi 1", "g08_c01.avi 2", ["line 1", "number 2"]),
        ("trainlist01.txt", "g08_c01.avi 1", "g08_c01.avi 0", ["line 1", "number 0"]),
        ("trainlist02.txt", " 1", "", ["line 1", "a path and a number"]),
        ("testlist03.txt", "g01_c01.avi", "g01_c01.avi 1", ["line 1", "a path alone"]),
        ("testlist03.txt", "Archery/v", "Fencing/v", ["line 1", "Fencing"]),
        ("testlist03.txt", "v_Archery", "v_Fencing", ["line 1", "v_Archery_g<GG>"]),
        ("testlist03.txt", "_g01_c01", "_g1_c01", ["line 1", "v_Archery_g<GG>"]),
        ("testlist01.txt", "Archery/v", "v", ["line 1", "no folder"]),
        ("testlist02.txt", "Archery_g01_c01", "Archery_g08_c01", ["line 1", "twice"]),
        ("testlist02.txt", "\r\n", "\r\n\r\n", ["line 2", "a path alone"]),
    ] {
        check_error(ucf101_after(file, from, to), &[&[file], &parts[..]].concat());
    }
    check_error(splits::ucf101("/nowhere".as_ref()), &["classInd.txt", "No such file"]);
}

// HMDB51

const HOSTILE: [&str; 3] = [
    "Geena_und_die_Radschl_ge___;-)_climb_f_cm_np1_fr_med_2.avi",
    "#20_Rhythm_climb_u_nm_np1_fr_goo_0.avi",
    "Die_Another_Day_[HD]_&_(more)!_climb_u_cm_np2_ri_med_3.avi",
];

fn hmdb51(change: impl Fn(&Path)) -> dml_data::Result<ClassLists> {
    let dir = TempDir::new().unwrap();
    for split in 1..=3 {
        let lines: String =
            HOSTILE.iter().zip(["1", "2", "0"]).map(|(name, flag)| format!("{name} {flag} \n")).collect();
        fs::write(dir.path().join(format!("climb_test_split{split}.txt")), lines).unwrap();
        let path = dir.path().join(format!("climb_stairs_test_split{split}.txt"));
        fs::write(path, "a_climb_stairs_1.avi 2 \nb_climb_stairs_1.avi 1 \n").unwrap();
    }
    change(dir.path());
    splits::hmdb51(dir.path())
}

#[test]
fn hmdb51_reads_hostile_names_flags_and_prefixed_classes() {
    let lists = hmdb51(|_| ()).unwrap();
    assert_eq!(lists.names, ["climb", "climb_stairs"]);
    for split in &lists.splits {
        let hostile = HOSTILE.map(|name| format!("climb/{name}"));
        assert_eq!(ids(&split.train), [(hostile[0].as_str(), 0), ("climb_stairs/b_climb_stairs_1.avi", 1)]);
        assert_eq!(ids(&split.test), [(hostile[1].as_str(), 0), ("climb_stairs/a_climb_stairs_1.avi", 1)]);
        assert_eq!(ids(&split.unused), [(hostile[2].as_str(), 0)]);
    }
    assert_eq!(lists.videos().len(), 5);
}

#[test]
fn hmdb51_refuses_wrong_files() {
    let check = |change: &dyn Fn(&Path), parts: &[&str]| check_error(hmdb51(change), parts);
    let file = "climb_test_split2.txt";
    let edit = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let text = fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.contains(from));
            fs::write(dir.join(file), text.replacen(from, to, 1)).unwrap();
        }
    };
    check(&edit("avi 1 ", "avi 3 "), &[file, "line 1", "flag 3"]);
    check(&edit("avi 1 ", "avi "), &[file, "line 1", "a file and a flag"]);
    check(&edit("fr_med_2.avi", "fr_med_2.txt"), &[file, "line 1", ".avi"]);
    check(&edit("#20", "other"), &[file, "other files"]);
    check(&edit(HOSTILE[1], HOSTILE[0]), &[file, "line 2", "twice"]);
    check(&edit(HOSTILE[1], "a_climb_stairs_1.avi"), &["other files"]);
    let other_class = |dir: &Path| {
        for split in 1..=3 {
            let text = format!("{} 1 \n", HOSTILE[0]);
            fs::write(dir.join(format!("climb_stairs_test_split{split}.txt")), text).unwrap();
        }
    };
    check(&other_class, &["climb_stairs_test_split1.txt", "line 1", "another class"]);
    check(&|dir| fs::remove_file(dir.join(file)).unwrap(), &["climb", "splits 1, 2 and 3"]);
    check(&|dir| fs::write(dir.join("climb_test_split4.txt"), "").unwrap(), &["climb", "splits 1, 2 and 3"]);
    check(&|dir| fs::write(dir.join("notes.txt"), "").unwrap(), &["notes.txt", "_test_split"]);
    check_error(splits::hmdb51(TempDir::new().unwrap().path()), &["no <class>_test_split"]);
}

// PASCAL VOC

#[test]
fn voc_flags_with_any_white_space() {
    let dir = TempDir::new().unwrap();
    let main = dir.path().join("ImageSets/Main");
    fs::create_dir_all(&main).unwrap();
    fs::write(main.join("val.txt"), "2008_000002\n2008_000003\n2011_003276\n").unwrap();
    for class in VOC_CLASSES {
        let text = match class {
            "cat" => "2008_000002  1\r\n2008_000003\t0\r\n2011_003276 -1\r\n",
            _ => "2008_000002 -1\n2008_000003   -1 \n2011_003276\t \t-1\n",
        };
        fs::write(main.join(format!("{class}_val.txt")), text).unwrap();
    }
    let images = splits::voc(dir.path(), "val").unwrap();
    assert_eq!(
        images.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["2008_000002", "2008_000003", "2011_003276"]
    );
    let cat = VOC_CLASSES.iter().position(|class| *class == "cat").unwrap();
    for ((_, flags), expected) in images.iter().zip([1, 0, -1]) {
        assert_eq!((flags.len(), flags[cat]), (20, expected));
        assert!(flags.iter().enumerate().all(|(c, flag)| c == cat || *flag == -1));
    }
}

// Flickr8k

#[test]
fn flickr8k_with_header_and_the_image_that_is_only_captioned() {
    let missing = "2258277193_586949ec62.jpg.1";
    let header = "image_id\tcaption_text\n";
    for prefix in ["", header] {
        let tokens = format!(
            "{prefix}1_a.jpg#1\tA second .\r\n1_a.jpg#0\tA dog # runs .\r\n{missing}#0\tNobody saw this\r\n"
        );
        let dir = folder(&[("Flickr8k.token.txt", &tokens), ("Flickr_8k.devImages.txt", "1_a.jpg\n")]);
        let images = splits::flickr8k(dir.path(), "dev").unwrap();
        assert_eq!(images, [("1_a.jpg".to_owned(), vec!["A dog # runs .".to_owned(), "A second .".into()])]);
    }
    let late = format!("1_a.jpg#0\tA dog .\n{header}");
    let dir = folder(&[("Flickr8k.token.txt", &late), ("Flickr_8k.devImages.txt", "1_a.jpg\n")]);
    check_error(splits::flickr8k(dir.path(), "dev"), &["Flickr8k.token.txt", "line 2", "image_id"]);
}

// YouTube2Text

#[test]
fn clip_ids_are_split_from_the_right() {
    let id = |video, start, end| Some(ClipId { video, start, end });
    assert_eq!(ClipId::parse("-4wsuPCjDBc_5_15"), id("-4wsuPCjDBc", 5, 15));
    assert_eq!(ClipId::parse("zzit5b_-ukg_5_20"), id("zzit5b_-ukg", 5, 20));
    assert_eq!(ClipId::parse("a_1_2_3_4"), id("a_1_2", 3, 4));
    for wrong in ["", "a", "a_1", "_1_2", "a_b_2", "a_1_b", "a_5_5", "a_1_2.avi"] {
        assert_eq!(ClipId::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn msvd_mapping_splits_by_number_whatever_the_line_ends() {
    let captions =
        "# a comment\n\nb_c_-_1_2 a dog  runs\na_1_2 a cat\na_1_2 a # cat\nz_3_9 a bird\nnot_1_2 unmapped\n";
    for mapping in [
        "a_1_2 vid1\r\nb_c_-_1_2 vid1200\r\nq_1_2 vid1201\r\nw_1_5 vid1300\r\nz_3_9 vid1301",
        "a_1_2 vid1\nb_c_-_1_2 vid1200\nq_1_2 vid1201\nw_1_5 vid1300\nz_3_9 vid1301\n",
    ] {
        let dir = folder(&[("youtube_mapping.txt", mapping), ("AllVideoDescriptions.txt", captions)]);
        let lists = splits::msvd(dir.path()).unwrap();
        assert_eq!(sentences(&lists), [(2, 3), (0, 0), (1, 1)]);
        assert_eq!(lists.train[0], ("a_1_2".to_owned(), vec!["a cat".to_owned(), "a # cat".into()]));
        assert_eq!(lists.train[1].1, ["a dog runs"]);
        assert_eq!((lists.uncaptioned, lists.unmapped), (vec!["q_1_2".to_owned(), "w_1_5".into()], 1));
    }
    let check = |mapping: &str, captions: &str, parts: &[&str]| {
        let dir = folder(&[("youtube_mapping.txt", mapping), ("AllVideoDescriptions.txt", captions)]);
        check_error(splits::msvd(dir.path()), parts);
    };
    check("a_1_2 vid1\na_1_2 vid2\n", captions, &["youtube_mapping.txt", "line 2", "twice"]);
    check("a_1_2 vid1\nb_1_2 vid1\n", captions, &["youtube_mapping.txt", "line 2", "twice"]);
    check("a_1_2 vid0\n", captions, &["youtube_mapping.txt", "line 1", "vid0"]);
    check("a_1 vid1\n", captions, &["youtube_mapping.txt", "line 1", "a_1 vid1"]);
    check("a_1_2 vid1\n", "a_1_2 \n", &["AllVideoDescriptions.txt", "line 1", "no sentence"]);
    check("a_1_2 vid1\n", "a_1_2 a\na dog\n", &["AllVideoDescriptions.txt", "line 2", "a dog"]);
}

#[test]
fn video_corpus_is_real_csv() {
    let header = "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description";
    let rows = [
        "-_aa,1,5,12,clean,55,English,\"A man\nsings,\r\nloudly\"",
        "-_aa,1,5,12,unverified,55,English,\u{feff}A \"\"man\"\" sings\r",
        "-_aa,1,5,13,clean,20,German,Ein Mann singt",
        "bb,10,25,13,clean,20,English,",
        "bb,10,25,13,clean,20,English,  Runs ",
    ];
    let corpus = |sources, text: String| {
        let dir = folder(&[("video_corpus.csv", &text)]);
        splits::video_corpus(&dir.path().join("video_corpus.csv"), sources)
    };
    for (newline, mark) in [("\n", ""), ("\r\n", "\u{feff}")] {
        let text = format!("{mark}{header}{newline}{}{newline}", rows.join(newline));
        let all = corpus(Sources::All, text.clone()).unwrap();
        assert_eq!(all["-_aa_1_5"], ["A man sings, loudly", "A \"\"man\"\" sings"]);
        assert_eq!(all["bb_10_25"], ["Runs"]);
        assert_eq!(corpus(Sources::Clean, text).unwrap()["-_aa_1_5"], ["A man sings, loudly"]);
    }
    // Copies have a column of line numbers in front, without a name.
    let text = format!(",{header}\n0,{}\n", rows[4]);
    assert_eq!(corpus(Sources::All, text).unwrap()["bb_10_25"], ["Runs"]);
    let check = |text: String, parts: &[&str]| check_error(corpus(Sources::All, text), parts);
    check(format!("{header}\n{}\nbb,1\n", rows[4]), &["video_corpus.csv", "line 3"]);
    check(
        format!("{header}\n{}", rows[4].replace("10,", "ten,")),
        &["video_corpus.csv", "line 2", "invalid digit"],
    );
    check(
        format!("{header}\n{}", rows[4].replace("clean", "odd")),
        &["video_corpus.csv", "\"odd\"", "bb_10_25"],
    );
    check(header.replace("Language", "Tongue") + "\n" + rows[4], &["video_corpus.csv", "Language"]);
}

#[test]
fn msvd_takes_the_corpus_where_the_descriptions_are_missing() {
    let corpus = "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n\
                  a,1,2,1,clean,1,English,A cat\na,1,2,1,unverified,1,English,A dog\n";
    let dir = folder(&[("youtube_mapping.txt", "a_1_2 vid1"), ("video_corpus.csv", corpus)]);
    assert_eq!(sentences(&splits::msvd(dir.path()).unwrap()), [(1, 2), (0, 0), (0, 0)]);
}
