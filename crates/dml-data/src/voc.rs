use std::path::{Path, PathBuf};

use crate::photographs::Photographs;
use crate::text::{lines, names, wrong};
use crate::{DataError, Dataset, ImagePipeline, Labels, Result, View};

/// The twenty classes, in the devkit's order.
const CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Image classification on PASCAL VOC: photographs that carry several of twenty classes.
///
/// Layout (devkit documentation, "Image sets"): `VOC<year>/JPEGImages/<id>.jpg`, the list `ImageSets/Main/<split>.txt`
/// with an id a line, and for each class `ImageSets/Main/<class>_<split>.txt` with lines `<id> <flag>` in the list's
/// order. Flag 1: an object of the class is there; −1: none; 0: all that are there are marked difficult.
#[derive(Debug)]
pub struct Voc {
    name: String,
    photographs: Photographs,
    labels: Labels,
}

impl Voc {
    /// Opens one split of one year. `dir` is the year's folder, `VOCdevkit`, or the folder that holds `VOCdevkit`;
    /// the year may be left out where only one is there. Every label is read and checked, and every image must exist.
    ///
    /// # Errors
    /// If the year's folder cannot be told, if a file is missing, or if one is not as the layout says; the error
    /// names the file and, where there is one, the line.
    pub fn open(dir: &Path, year: Option<u16>, split: &str, pipeline: ImagePipeline) -> Result<Self> {
        let root = year_folder(dir, year)?;
        let main = root.join("ImageSets").join("Main");
        let list = main.join(format!("{split}.txt"));
        let ids = names(&list)?;
        let mut flags = vec![Vec::with_capacity(CLASSES.len()); ids.len()];
        for class in CLASSES {
            let path = main.join(format!("{class}_{split}.txt"));
            for (row, flag) in flags.iter_mut().zip(read_flags(&path, &ids)?) {
                row.push(flag);
            }
        }
        let paths: Vec<PathBuf> =
            ids.iter().map(|id| root.join("JPEGImages").join(format!("{id}.jpg"))).collect();
        for (i, path) in paths.iter().enumerate() {
            if !path.is_file() {
                let problem = format!("lists {}, but there is no {}", ids[i], path.display());
                return Err(wrong(&list, Some(i + 1), problem));
            }
        }
        Ok(Self {
            name: format!("{} {split}", root.file_name().unwrap_or(root.as_os_str()).to_string_lossy()),
            photographs: Photographs::new(ids, paths, pipeline)?,
            labels: Labels::MultiLabel { names: CLASSES.map(String::from).to_vec(), flags },
        })
    }
}

impl Dataset for Voc {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.photographs.ids.len()
    }

    fn input_shape(&self) -> &[usize] {
        &self.photographs.shape
    }

    fn id(&self, index: usize) -> String {
        self.photographs.ids[index].clone()
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        self.photographs.read(index, view, out)
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn fingerprint(&self) -> String {
        self.photographs.fingerprint(&self.name, || format!("{:?}", self.labels))
    }
}

fn year_folder(dir: &Path, year: Option<u16>) -> Result<PathBuf> {
    let is_year = |path: &Path| path.join("ImageSets").join("Main").is_dir();
    let mut found = Vec::new();
    if is_year(dir) {
        found.push(dir.to_owned());
    }
    for parent in [dir.to_owned(), dir.join("VOCdevkit")] {
        let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut years: Vec<_> = entries.filter(|path| year_of(path).is_some() && is_year(path)).collect();
        years.sort();
        found.append(&mut years);
    }
    if let Some(year) = year {
        // A year's own folder may have been renamed; then the caller knows what it is.
        found.retain(|path| year_of(path).is_none_or(|y| y == year));
    }
    let wanted = year.map_or("VOC<year>".into(), |year| format!("VOC{year}"));
    match found.as_slice() {
        [root] => Ok(root.clone()),
        [] => Err(DataError::Invalid(format!(
            "{}: no {wanted}/ImageSets/Main here or in VOCdevkit; give the folder of PASCAL VOC",
            dir.display()
        ))),
        several => {
            let list: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(DataError::Invalid(format!("several years of PASCAL VOC, say which: {}", list.join(", "))))
        }
    }
}

/// The year in a folder's name `VOC<year>`.
fn year_of(path: &Path) -> Option<u16> {
    path.file_name()?.to_str()?.strip_prefix("VOC")?.parse().ok()
}

fn read_flags(path: &Path, ids: &[String]) -> Result<Vec<i8>> {
    let lines = lines(path)?;
    let mut flags = Vec::with_capacity(ids.len());
    for ((number, line), id) in lines.iter().zip(ids) {
        let fail = |problem| Err(wrong(path, Some(*number), problem));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [given, flag] = words[..] else {
            return fail(format!("expected an image id and a flag, found \"{line}\""));
        };
        if given != id {
            return fail(format!("{given} where the split's list has {id}"));
        }
        flags.push(match flag {
            "1" => 1,
            "0" => 0,
            "-1" => -1,
            _ => return fail(format!("flag {flag} is none of 1, 0 and -1")),
        });
    }
    if lines.len() != ids.len() {
        let problem = format!("{} lines, but the split lists {} images", lines.len(), ids.len());
        return Err(wrong(path, None, problem));
    }
    Ok(flags)
}
