use std::collections::HashMap;
use std::path::Path;

use crate::text::{lines, names, wrong};
use crate::{DataError, Result};

/// Reads the images of Flickr8k's split `train`, `dev` or `test` with their captions, in the order of the list.
///
/// The captions are in `Flickr8k.token.txt` with lines `<file>#<number>`, a tabulator and the caption; some copies begin
/// with a header. The splits are `Flickr_8k.{train,dev,test}Images.txt` with a file name a line. Captions of images
/// outside the split are checked for their form and left out; one image of the original
/// (`2258277193_586949ec62.jpg.1`) has captions only, and is in no split.
///
/// # Errors
/// If the split has another name, if a file is missing, if a line is not as above, or if an image has no caption.
pub fn flickr8k(dir: &Path, split: &str) -> Result<Vec<(String, Vec<String>)>> {
    if !["train", "dev", "test"].contains(&split) {
        return Err(DataError::Invalid(format!("Flickr8k has the splits train, dev and test, not {split}")));
    }
    let list = dir.join(format!("Flickr_8k.{split}Images.txt"));
    let tokens = dir.join("Flickr8k.token.txt");
    let ids = names(&list)?;
    let mut captions = read_captions(&tokens)?;
    let mut images = Vec::with_capacity(ids.len());
    for (i, id) in ids.into_iter().enumerate() {
        let Some(mut numbered) = captions.remove(id.as_str()) else {
            let problem = format!("lists {id}, which has no caption in {}", tokens.display());
            return Err(wrong(&list, Some(i + 1), problem));
        };
        numbered.sort();
        images.push((id, numbered.into_iter().map(|(_, caption)| caption).collect()));
    }
    Ok(images)
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
