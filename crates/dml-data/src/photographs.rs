use std::path::PathBuf;
use std::sync::OnceLock;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{ImagePipeline, Result, View};

/// The input side of a set of image files.
#[derive(Debug)]
pub(crate) struct Photographs {
    pub(crate) ids: Vec<String>,
    paths: Vec<PathBuf>,
    pipeline: ImagePipeline,
    pub(crate) shape: [usize; 3],
    fingerprint: OnceLock<String>,
}

impl Photographs {
    /// # Errors
    /// If the pipeline's parameters are wrong.
    pub(crate) fn new(ids: Vec<String>, paths: Vec<PathBuf>, pipeline: ImagePipeline) -> Result<Self> {
        pipeline.check()?;
        Ok(Self { ids, paths, pipeline, shape: pipeline.shape(), fingerprint: OnceLock::new() })
    }

    pub(crate) fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        self.pipeline.read(&self.paths[index], view, index as u64, out)
    }

    /// A digest of the files' contents, the pipeline and the labels' text, computed once: a set that was edited in
    /// place must not meet the features cached for what it was. An unreadable file counts as empty here; reading the
    /// sample says what is wrong with it.
    pub(crate) fn fingerprint(&self, name: &str, labels: impl FnOnce() -> String) -> String {
        let digest = |path: &PathBuf| Sha256::digest(std::fs::read(path).unwrap_or_default());
        self.fingerprint
            .get_or_init(|| {
                let files: Vec<_> = self.paths.par_iter().map(digest).collect();
                let mut all = Sha256::new();
                for (id, file) in self.ids.iter().zip(files) {
                    all.update(id);
                    all.update([0]);
                    all.update(file);
                }
                all.update(self.pipeline.fingerprint());
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
