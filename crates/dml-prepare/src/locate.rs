//! Finding the parts of a dataset in a folder that somebody filled.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::manifest::Name;

/// How deep below the folder a part may lie: `VOCtrainval_06-Nov-2007/VOCdevkit/VOC2007`.
const DEPTH: usize = 3;

/// The folder of a part in `root` or below it: the nearest, and of equally near ones the first by name.
pub(crate) fn locate(name: Name, part: &str, root: &Path) -> Option<PathBuf> {
    // The nested layout first: a flat folder may be a sample beside the whole.
    let nested = breadth_first(root, |dir| is_part(name, part, dir));
    nested.or_else(|| {
        (name == Name::Ucf101 && part == "videos").then(|| breadth_first(root, has_flat_ucf101))?
    })
}

/// What [`locate`] looks for, in words.
pub(crate) fn wanted(name: Name, part: &str) -> &'static str {
    match (name, part) {
        (Name::Ucf101, "videos") => "UCF-101/<class>/v_<class>_g<GG>_c<CC>.avi, or all videos in one folder",
        (Name::Ucf101, _) => "ucfTrainTestlist with classInd.txt, trainlist01.txt, testlist01.txt and so on",
        (Name::Hmdb51, "videos") => "<class>/<name>_<class>_<...>.avi",
        (Name::Hmdb51, _) => "<class>_test_split1.txt and so on",
        (Name::Youtube2text, "clips") => "YouTubeClips/<video>_<start>_<end>.avi",
        (Name::Youtube2text, _) => "AllVideoDescriptions.txt or video_corpus.csv",
        (Name::Voc2012, _) => "VOCdevkit/VOC2012 with JPEGImages and ImageSets/Main",
        (Name::Voc2007, _) => "VOCdevkit/VOC2007 with JPEGImages and ImageSets/Main",
        (Name::Flickr8k, "images") => {
            "Flicker8k_Dataset (or Flickr8k_Dataset, or Images) with the photographs"
        }
        (Name::Flickr8k, _) => "Flickr8k.token.txt and Flickr_8k.trainImages.txt and so on",
    }
}

/// What is in a folder, by name; nothing if it cannot be read. What macOS leaves behind is passed over.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !name.starts_with("._") && name != "__MACOSX"
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn breadth_first(root: &Path, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut queue = VecDeque::from([(root.to_owned(), 0)]);
    while let Some((dir, depth)) = queue.pop_front() {
        if !dir.is_dir() {
            continue;
        }
        if is_it(&dir) {
            return Some(dir);
        }
        if depth < DEPTH {
            queue
                .extend(entries(&dir).into_iter().filter(|path| path.is_dir()).map(|path| (path, depth + 1)));
        }
    }
    None
}

fn is_part(name: Name, part: &str, dir: &Path) -> bool {
    let has = |file: &str| dir.join(file).is_file();
    match (name, part) {
        (Name::Ucf101, "videos") => {
            has_class_folders(dir, |class, file| starts_ignoring_case(file, &format!("v_{class}_g")))
        }
        (Name::Ucf101, _) => has("classInd.txt") && has("trainlist01.txt"),
        (Name::Hmdb51, "videos") => {
            has_class_folders(dir, |class, file| file.contains(&format!("_{class}_")))
        }
        (Name::Hmdb51, _) => files(dir).any(|file| file.ends_with("_test_split1.txt")),
        (Name::Youtube2text, "clips") => files(dir).any(|file| {
            let stem = file.strip_suffix(".avi");
            stem.is_some_and(|stem| dml_data::splits::ClipId::parse(stem).is_some())
        }),
        (Name::Youtube2text, _) => has("AllVideoDescriptions.txt") || has("video_corpus.csv"),
        (Name::Voc2012, part) => is_voc("VOC2012", part, dir),
        (Name::Voc2007, part) => is_voc("VOC2007", part, dir),
        (Name::Flickr8k, "images") => {
            let known = ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images"];
            dir.file_name().is_some_and(|name| known.iter().any(|known| name == *known))
        }
        (Name::Flickr8k, _) => has("Flickr8k.token.txt"),
    }
}

fn is_voc(year: &str, part: &str, dir: &Path) -> bool {
    let main = dir.join("ImageSets").join("Main");
    let lists: &[&str] =
        if part == "test" { &["test.txt"] } else { &["trainval.txt", "train.txt", "val.txt"] };
    dir.file_name().is_some_and(|name| name == year) && lists.iter().any(|list| main.join(list).is_file())
}

/// Whether a folder within has a video that belongs to a class of the folder's name.
fn has_class_folders(dir: &Path, belongs: impl Fn(&str, &str) -> bool) -> bool {
    entries(dir).iter().filter(|path| path.is_dir()).any(|path| {
        let class = path.file_name().unwrap_or_default().to_string_lossy();
        files(path).any(|file| file.ends_with(".avi") && belongs(&class, &file))
    })
}

fn has_flat_ucf101(dir: &Path) -> bool {
    let is_video = |file: String| {
        let stem = file.strip_prefix("v_").and_then(|rest| rest.strip_suffix(".avi"));
        stem.and_then(|stem| stem.rsplit_once("_g")).is_some_and(|(_, take)| take.contains("_c"))
    };
    files(dir).any(is_video)
}

fn files(dir: &Path) -> impl Iterator<Item = String> {
    let paths = entries(dir).into_iter().filter(|path| path.is_file());
    paths.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn starts_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}
