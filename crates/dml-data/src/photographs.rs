use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::RgbImage;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::clip::with_scratch;
use crate::crop::check_length;
use crate::image::{ImageInput, decode_image};
use crate::prepared::Prepared;
use crate::text::wrong;
use crate::{DataError, PhotoPipeline, Result, View, jpeg};

/// The input side of a set of photographs: files, or samples of shards.
#[derive(Debug)]
pub(crate) struct Photographs {
    pub(crate) ids: Vec<String>,
    /// Listed photographs that the shards have not.
    pub(crate) missing: Vec<String>,
    source: Source,
    pub(crate) shape: [usize; 3],
    pipeline: ImageInput,
    fingerprint: OnceLock<String>,
}

#[derive(Debug)]
enum Source {
    Files(Vec<PathBuf>),
    Shards(Prepared, Vec<usize>),
}

impl Photographs {
    /// The listed photographs with their labels: samples of `dir/shards` where a finished set is there, else files.
    /// `list` is where the ids are listed, one a line.
    ///
    /// # Errors
    /// If the pipeline's parameters are wrong, if the shards are damaged or have none of the photographs, or if a
    /// file is missing.
    pub(crate) fn open<L: Clone>(
        dir: &Path,
        list: &Path,
        listed: Vec<(String, L)>,
        pipeline: &PhotoPipeline,
        file: impl FnOnce() -> Result<Box<dyn Fn(&str) -> PathBuf>>,
    ) -> Result<(Self, Vec<L>)> {
        let pipeline = ImageInput::new(pipeline)?;
        let (ids, labels): (Vec<String>, Vec<L>) = listed.into_iter().unzip();
        let made = |ids, missing, source| {
            let shape = pipeline.shape;
            Self { ids, missing, source, shape, pipeline, fingerprint: OnceLock::new() }
        };
        if Prepared::is_in(dir) {
            let prepared = Prepared::open(dir)?;
            let (samples, missing) = prepared.select(&ids)?;
            let of_place =
                |values: &dyn Fn(usize) -> (String, L)| samples.iter().map(|&(_, at)| values(at)).unzip();
            let (ids, labels) = of_place(&|at| (ids[at].clone(), labels[at].clone()));
            let samples = samples.into_iter().map(|(sample, _)| sample).collect();
            return Ok((made(ids, missing, Source::Shards(prepared, samples)), labels));
        }
        let file = file()?;
        let paths: Vec<PathBuf> = ids.iter().map(|id| file(id)).collect();
        if let Some(i) = paths.iter().position(|path| !path.is_file()) {
            let problem = format!("lists {}, but there is no {}", ids[i], paths[i].display());
            return Err(wrong(list, Some(i + 1), problem));
        }
        Ok((made(ids, Vec::new(), Source::Files(paths)), labels))
    }

    pub(crate) fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        check_length(&self.shape, out)?;
        let key = index as u64;
        let (prepared, sample) = match &self.source {
            Source::Files(paths) => {
                let path = &paths[index];
                return self.pipeline.read(decode_image(path)?, path, view, key, out);
            }
            Source::Shards(prepared, samples) => (prepared, samples[index]),
        };
        let reader = &prepared.reader;
        let bytes = reader.frame(sample, 0)?;
        with_scratch(|pixels| {
            let size =
                jpeg::decode(bytes, pixels).map_err(|problem| reader.bad_frame(sample, 0, &problem))?;
            if self.pipeline.fits(size) {
                return self.pipeline.crop(pixels, size, view, key, out);
            }
            let length = size.0 * size.1 * 3;
            let photo = RgbImage::from_raw(size.0 as u32, size.1 as u32, pixels[..length].to_vec())
                .ok_or_else(|| reader.bad_frame(sample, 0, "it is too large"))?;
            self.pipeline.read(photo, Path::new(reader.key(sample)), view, key, out)
        })
    }

    pub(crate) fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
        let [picture] = pictures else {
            let problem = format!("a photograph is one picture, not {}", pictures.len());
            return Err(DataError::Invalid(problem));
        };
        let mut out = vec![0.0; self.shape.iter().product()];
        let path = Path::new("a photograph");
        self.pipeline.read(picture.clone(), path, View::evaluation(), 0, &mut out)?;
        Ok(out)
    }

    pub(crate) fn picture(&self, index: usize) -> Result<RgbImage> {
        match &self.source {
            Source::Files(paths) => decode_image(&paths[index]),
            Source::Shards(prepared, samples) => prepared.picture(samples[index], 0),
        }
    }

    /// A digest of the files' contents, the pipeline and the labels' text, computed once: a set that was edited in
    /// place must not meet the features cached for what it was. An unreadable file counts as empty here; reading the
    /// sample says what is wrong with it. Of shards, the checksums stand for the contents.
    pub(crate) fn fingerprint(&self, name: &str, labels: impl FnOnce() -> String) -> String {
        let digest = |path: &PathBuf| Sha256::digest(std::fs::read(path).unwrap_or_default());
        self.fingerprint
            .get_or_init(|| {
                let mut all = Sha256::new();
                match &self.source {
                    Source::Files(paths) => {
                        let files: Vec<_> = paths.par_iter().map(digest).collect();
                        for (id, file) in self.ids.iter().zip(files) {
                            all.update(id);
                            all.update([0]);
                            all.update(file);
                        }
                    }
                    Source::Shards(prepared, _) => {
                        all.update(self.ids.join("\0"));
                        all.update(prepared.reader.sha256());
                    }
                }
                all.update(&self.pipeline.fingerprint);
                all.update([0]);
                all.update(labels());
                format!("{name}, {} images, sha256 {}", self.ids.len(), hex(&all.finalize()))
            })
            .clone()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
