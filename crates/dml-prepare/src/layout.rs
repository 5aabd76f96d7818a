//! What a dataset's lists say, and which of it is here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use dml_data::splits::{self, ClassLists};
use serde_json::{Map, Value, json};

use crate::locate::entries;
use crate::manifest::Name;
use crate::{PrepareError, Result, files};

/// The folders of a dataset's parts, by the part's name; none for one that is missing and may be.
pub(crate) type Parts = BTreeMap<String, Option<PathBuf>>;

/// A video or image to be prepared.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its name in the lists.
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    /// Its label, flags or captions.
    pub(crate) meta: Map<String, Value>,
}

/// What a dataset's folders hold.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the lists name and is here, in the order of the ids.
    pub(crate) items: Vec<Item>,
    /// The counts of the lists, and how many `videos` or `images` of them are here.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// What the lists in a prepared folder say.
struct Listed {
    /// Id and meta.
    items: BTreeMap<String, Map<String, Value>>,
    counts: BTreeMap<String, u64>,
}

/// Copies the split files and captions from the parts into the prepared folder, in the published layout.
pub(crate) fn copy_lists(name: Name, parts: &Parts, dir: &Path) -> Result<()> {
    let (part, folder) = match name {
        Name::Ucf101 => ("splits", "ucfTrainTestlist"),
        Name::Hmdb51 => ("splits", "testTrainMulti_7030_splits"),
        Name::Youtube2text => ("captions", ""),
        Name::Voc2012 | Name::Voc2007 => ("", "ImageSets/Main"),
        Name::Flickr8k => ("text", ""),
    };
    let wanted = |file: &str| match name {
        Name::Ucf101 => {
            file == "classInd.txt" || file.starts_with("trainlist") || file.starts_with("testlist")
        }
        Name::Hmdb51 => file.contains("_test_split"),
        Name::Youtube2text => {
            ["AllVideoDescriptions.txt", "youtube_mapping.txt", "video_corpus.csv"].contains(&file)
        }
        Name::Voc2012 | Name::Voc2007 => file.ends_with(".txt"),
        Name::Flickr8k => file == "Flickr8k.token.txt" || file.starts_with("Flickr_8k."),
    };
    let into = dir.join(folder);
    std::fs::create_dir_all(&into).map_err(crate::error::io(&into))?;
    let sources =
        parts.iter().filter(|(key, _)| part.is_empty() || *key == part).filter_map(|(_, root)| root.as_ref());
    for root in sources {
        let root = if part.is_empty() { root.join(folder) } else { root.clone() };
        for file in entries(&root) {
            let base = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if file.is_file() && wanted(&base) {
                let content = std::fs::read(&file).map_err(crate::error::io(&file))?;
                files::write(&into.join(base), &content)?;
            }
        }
    }
    if name == Name::Youtube2text { write_mapping(dir) } else { Ok(()) }
}

/// The items that are here, and the counts.
pub(crate) fn read(name: Name, parts: &Parts, dir: &Path) -> Result<Found> {
    let Listed { items: listed, mut counts } = lists(name, dir)?;
    let here = media(name, parts);
    let place = |id: &str| here.get(&folded(name, id)).cloned();
    let items: Vec<Item> =
        listed.into_iter().filter_map(|(id, meta)| Some(Item { path: place(&id)?, id, meta })).collect();
    let kind = if name.is_video() { "videos" } else { "images" };
    counts.insert(kind.into(), items.len() as u64);
    Ok(Found { items, counts })
}

/// The counts of the lists in a prepared folder.
pub(crate) fn counts(name: Name, dir: &Path) -> Result<BTreeMap<String, u64>> {
    Ok(lists(name, dir)?.counts)
}

fn lists(name: Name, dir: &Path) -> Result<Listed> {
    match name {
        Name::Ucf101 => Ok(classes(splits::ucf101(dir)?)),
        Name::Hmdb51 => Ok(classes(splits::hmdb51(dir)?)),
        Name::Youtube2text => youtube2text(dir),
        Name::Voc2012 | Name::Voc2007 => voc(dir),
        Name::Flickr8k => flickr8k(dir),
    }
}

fn classes(lists: ClassLists) -> Listed {
    let mut counts = BTreeMap::from([("classes".to_owned(), lists.names.len() as u64)]);
    for (split, number) in lists.splits.iter().zip(1..) {
        for (part, videos) in [("train", &split.train), ("test", &split.test), ("unused", &split.unused)] {
            if part != "unused" || !videos.is_empty() {
                counts.insert(format!("{part}{number}"), videos.len() as u64);
            }
        }
    }
    let meta = |label: u32| object(json!({"label": label, "class": lists.names[label as usize]}));
    let items = lists.videos().into_iter().map(|(id, label)| (id, meta(label))).collect();
    Listed { items, counts }
}

fn youtube2text(dir: &Path) -> Result<Listed> {
    let lists = splits::msvd(dir)?;
    let (mut items, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for (split, part) in [("train", lists.train), ("val", lists.val), ("test", lists.test)] {
        counts.insert(split.to_owned(), part.len() as u64);
        let captions: usize = part.iter().map(|(_, captions)| captions.len()).sum();
        counts.insert(format!("captions_{split}"), captions as u64);
        items.extend(
            part.into_iter()
                .map(|(id, captions)| (id, object(json!({"splits": [split], "captions": captions})))),
        );
    }
    Ok(Listed { items, counts })
}

fn voc(dir: &Path) -> Result<Listed> {
    let mut counts = BTreeMap::from([("classes".to_owned(), splits::VOC_CLASSES.len() as u64)]);
    let mut images: BTreeMap<String, (Vec<i8>, Vec<&str>)> = BTreeMap::new();
    for split in ["train", "val", "trainval", "test"] {
        if !dir.join("ImageSets/Main").join(format!("{split}.txt")).is_file() {
            continue;
        }
        let listed = splits::voc(dir, split)?;
        counts.insert(split.to_owned(), listed.len() as u64);
        for (id, flags) in listed {
            images.entry(id).or_insert_with(|| (flags, Vec::new())).1.push(split);
        }
    }
    let meta = |(flags, of)| object(json!({"flags": flags, "splits": of}));
    Ok(Listed { items: images.into_iter().map(|(id, image)| (id, meta(image))).collect(), counts })
}

fn flickr8k(dir: &Path) -> Result<Listed> {
    let (mut items, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for split in ["train", "dev", "test"] {
        if !dir.join(format!("Flickr_8k.{split}Images.txt")).is_file() {
            continue;
        }
        let listed = splits::flickr8k(dir, split)?;
        counts.insert(split.to_owned(), listed.len() as u64);
        let captions: usize = listed.iter().map(|(_, captions)| captions.len()).sum();
        counts.insert(format!("captions_{split}"), captions as u64);
        items.extend(
            listed
                .into_iter()
                .map(|(id, captions)| (id, object(json!({"splits": [split], "captions": captions})))),
        );
    }
    Ok(Listed { items, counts })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The mapping numbers the clips in the order of their ids' bytes; where a source has none, it is made.
fn write_mapping(dir: &Path) -> Result<()> {
    let path = dir.join("youtube_mapping.txt");
    if path.is_file() {
        return Ok(());
    }
    let captions = splits::descriptions(&dir.join("AllVideoDescriptions.txt"))?;
    if captions.len() != MSVD_CLIPS {
        let problem = format!(
            "there is no youtube_mapping.txt, and it cannot be made: captions of {} clips are here, not of all {MSVD_CLIPS}",
            captions.len()
        );
        return Err(PrepareError::Layout { path: dir.into(), problem });
    }
    let mut ids: Vec<String> = captions.into_keys().collect();
    ids.sort_unstable();
    let lines: String = ids.iter().zip(1..).map(|(id, number)| format!("{id} vid{number}\n")).collect();
    files::write(&path, lines.as_bytes())
}

/// Clips of YouTube2Text that have captions, all of which the mapping numbers.
const MSVD_CLIPS: usize = 1970;

/// All media files of a dataset by their folded ids.
fn media(name: Name, parts: &Parts) -> HashMap<String, PathBuf> {
    let mut found = HashMap::new();
    for root in parts.values().flatten() {
        let folders: Vec<PathBuf> = match name {
            // Videos in a folder for each class, or (one mirror of UCF101) all in one.
            Name::Ucf101 | Name::Hmdb51 => {
                let inner = entries(root).into_iter().filter(|path| path.is_dir());
                inner.chain([root.clone()]).collect()
            }
            Name::Voc2012 | Name::Voc2007 => vec![root.join("JPEGImages")],
            Name::Youtube2text | Name::Flickr8k => vec![root.clone()],
        };
        for path in folders.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_file()) {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let folder =
                path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
            let id = match name {
                Name::Ucf101 => folded(name, &file),
                Name::Hmdb51 => format!("{folder}/{file}"),
                Name::Flickr8k => file,
                Name::Youtube2text | Name::Voc2012 | Name::Voc2007 => stem,
            };
            found.entry(id).or_insert(path);
        }
    }
    found
}

/// The form in which ids and files are compared. UCF101's file names carry the class, in one of two spellings.
fn folded(name: Name, id: &str) -> String {
    match name {
        Name::Ucf101 => id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase(),
        _ => id.to_owned(),
    }
}
