use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::photographs::Photographs;
use crate::text::{lines, names, wrong};
use crate::{DataError, Dataset, ImagePipeline, Labels, Result, View};

/// Photographs with several captions each, from Flickr8k.
///
/// Layout: the images in `Flicker8k_Dataset` (spelt so in the archive; `Flickr8k_Dataset` and `Images` will do), the
/// captions in `Flickr8k.token.txt` with lines `<file>#<number>`, a tabulator and the caption, and the official splits
/// in `Flickr_8k.{train,dev,test}Images.txt` with a file name a line. Captions of images outside the split are
/// checked for their form and left out; one image of the original (`2258277193_586949ec62.jpg.1`) has captions only,
/// and is in no split.
#[derive(Debug)]
pub struct Flickr8k {
    name: String,
    photographs: Photographs,
    labels: Labels,
}

impl Flickr8k {
    /// Opens the split `train`, `dev` or `test`. Every image of the split must exist and have a caption.
    ///
    /// # Errors
    /// If the split has another name, if a file is missing, or if one is not as the layout says; the error names the
    /// file and, where there is one, the line.
    pub fn open(dir: &Path, split: &str, pipeline: ImagePipeline) -> Result<Self> {
        if !["train", "dev", "test"].contains(&split) {
            return Err(DataError::Invalid(format!(
                "Flickr8k has the splits train, dev and test, not {split}"
            )));
        }
        let list = dir.join(format!("Flickr_8k.{split}Images.txt"));
        let ids = names(&list)?;
        let folder = ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images"]
            .map(|name| dir.join(name))
            .into_iter()
            .find(|path| path.is_dir())
            .ok_or_else(|| {
                let problem =
                    "no folder Flicker8k_Dataset (or Flickr8k_Dataset, or Images) with the photographs";
                wrong(dir, None, problem)
            })?;
        let tokens = dir.join("Flickr8k.token.txt");
        let mut captions = read_captions(&tokens)?;
        let mut of = Vec::with_capacity(ids.len());
        let mut paths: Vec<PathBuf> = Vec::with_capacity(ids.len());
        for (i, id) in ids.iter().enumerate() {
            let fail = |problem| Err(wrong(&list, Some(i + 1), problem));
            let path = folder.join(id);
            if !path.is_file() {
                return fail(format!("lists {id}, but there is no {}", path.display()));
            }
            let Some(mut numbered) = captions.remove(id.as_str()) else {
                return fail(format!("lists {id}, which has no caption in {}", tokens.display()));
            };
            numbered.sort();
            of.push(numbered.into_iter().map(|(_, caption)| caption).collect());
            paths.push(path);
        }
        Ok(Self {
            name: format!("Flickr8k {split}"),
            photographs: Photographs::new(ids, paths, pipeline)?,
            labels: Labels::Captions { of },
        })
    }
}

impl Dataset for Flickr8k {
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

/// The numbered captions of each image file.
fn read_captions(path: &Path) -> Result<HashMap<String, Vec<(u32, String)>>> {
    let mut captions: HashMap<String, Vec<(u32, String)>> = HashMap::new();
    for (number, line) in lines(path)? {
        let Some((file, index, caption)) = caption_line(&line) else {
            // Some copies of the file begin with a header.
            if number == 1 && !line.contains('#') {
                continue;
            }
            let problem =
                format!("expected \"<file>#<number>\", a tabulator and a caption, found \"{line}\"");
            return Err(wrong(path, Some(number), problem));
        };
        let of_image = captions.entry(file.to_owned()).or_default();
        if of_image.iter().any(|&(known, _)| known == index) {
            return Err(wrong(path, Some(number), format!("caption {index} of {file} is there twice")));
        }
        of_image.push((index, caption.to_owned()));
    }
    Ok(captions)
}

fn caption_line(line: &str) -> Option<(&str, u32, &str)> {
    let (key, caption) = line.split_once('\t')?;
    let (file, index) = key.rsplit_once('#')?;
    let caption = caption.trim();
    let whole = !file.is_empty() && !caption.is_empty();
    whole.then_some((file, index.parse().ok()?, caption))
}
