use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::photographs::hex;
use crate::{DataError, Dataset, Labels, Result, View, files};

/// One vector for each sample of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Length of one row.
    pub dim: usize,
    /// The rows one after the other: (n, dim), row-major.
    pub values: Vec<f32>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of this sample.
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }
}

/// Reads the rows that were stored in `dir` under this key, or computes and stores them.
///
/// The key says in words everything that the rows depend on (fingerprints of data, model and weights). A file that is
/// damaged, or that was written for another key or shape, is computed anew and replaced.
///
/// # File format
/// The name is the SHA-256 of the key in hexadecimal and `.rows`. Content, little-endian: the eight bytes `dml rows`;
/// length of the key, number of rows, length of a row (u64 each); the key in UTF-8; the values (f32, row-major); the
/// SHA-256 of all that. It is written beside its place, synced and renamed, so that no reader sees half of it.
///
/// # Errors
/// Those of `compute`; if it gives another shape than (`rows`, `dim`); if `dir` cannot be written.
pub fn cached_rows<E: From<DataError>>(
    dir: &Path,
    key: &str,
    rows: usize,
    dim: usize,
    compute: impl FnOnce() -> std::result::Result<Rows, E>,
) -> std::result::Result<Rows, E> {
    let path = dir.join(format!("{}.rows", hex(&Sha256::digest(key))));
    if let Some(found) = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes, key, rows, dim)) {
        return Ok(found);
    }
    let made = compute()?;
    if made.dim != dim || made.values.len() != rows * dim {
        let (values, of) = (made.values.len(), made.dim);
        let problem =
            format!("{values} values in rows of {of} were computed where ({rows}, {dim}) were asked for");
        return Err(DataError::Invalid(problem).into());
    }
    files::write(&path, &encode(key, rows, &made)).map_err(|source| DataError::Io { path, source })?;
    Ok(made)
}

/// A dataset whose inputs are rows computed once, such as a frozen network's features; ids, labels and groups are
/// those of the dataset they were computed from. Augmentation ends with the rows: every view is the same.
pub struct Features {
    dataset: Arc<dyn Dataset>,
    rows: Rows,
    shape: [usize; 1],
    key: String,
    compute: Option<Compute>,
}

/// Turns one input of the dataset beneath into a row.
pub type Compute = Arc<dyn Fn(&[f32]) -> std::result::Result<Vec<f32>, String> + Send + Sync>;

impl Features {
    /// The rows of `dataset`'s samples, in its order. `key` is what they were cached under.
    ///
    /// # Errors
    /// If there is not one row a sample.
    pub fn new(dataset: Arc<dyn Dataset>, rows: Rows, key: &str) -> Result<Self> {
        if rows.dim == 0 || rows.values.len() != dataset.len() * rows.dim {
            let (values, dim) = (rows.values.len(), rows.dim);
            let (name, samples) = (dataset.name(), dataset.len());
            let problem =
                format!("{name} has {samples} samples, but {values} values in rows of {dim} were given");
            return Err(DataError::Invalid(problem));
        }
        Ok(Self { shape: [rows.dim], dataset, rows, key: key.to_owned(), compute: None })
    }

    /// With what the rows were computed by, so that rows of further pictures can be.
    pub fn with_compute(self, compute: Compute) -> Self {
        Self { compute: Some(compute), ..self }
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }
}

impl Dataset for Features {
    fn name(&self) -> &str {
        self.dataset.name()
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn input_shape(&self) -> &[usize] {
        &self.shape
    }

    fn id(&self, index: usize) -> String {
        self.dataset.id(index)
    }

    fn read(&self, index: usize, _: View, out: &mut [f32]) -> Result<()> {
        if out.len() != self.rows.dim {
            let (dim, given) = (self.rows.dim, out.len());
            return Err(DataError::Invalid(format!("a row of {dim} does not fit {given} values")));
        }
        out.copy_from_slice(self.rows.row(index));
        Ok(())
    }

    fn pictures(&self, index: usize) -> Result<Vec<RgbImage>> {
        self.dataset.pictures(index)
    }

    fn input(&self, pictures: &[RgbImage]) -> Result<Vec<f32>> {
        let input = self.dataset.input(pictures)?;
        let Some(compute) = &self.compute else {
            return Err(DataError::Invalid(format!("what made the rows of {} is not known", self.name())));
        };
        compute(&input).map_err(DataError::Invalid)
    }

    fn labels(&self) -> &Labels {
        self.dataset.labels()
    }

    fn group(&self, index: usize) -> usize {
        self.dataset.group(index)
    }

    fn missing(&self) -> &[String] {
        self.dataset.missing()
    }

    fn fingerprint(&self) -> String {
        format!("{}; as {}", self.dataset.fingerprint(), hex(&Sha256::digest(&self.key)))
    }
}

const MAGIC: &[u8; 8] = b"dml rows";
const CHECKSUM: usize = 32;

fn header(key: &str, rows: usize, dim: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for number in [key.len(), rows, dim] {
        bytes.extend((number as u64).to_le_bytes());
    }
    bytes.extend(key.as_bytes());
    bytes
}

fn encode(key: &str, rows: usize, made: &Rows) -> Vec<u8> {
    let mut bytes = header(key, rows, made.dim);
    bytes.extend(made.values.iter().flat_map(|value| value.to_le_bytes()));
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

fn decode(bytes: &[u8], key: &str, rows: usize, dim: usize) -> Option<Rows> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let values = content.strip_prefix(header(key, rows, dim).as_slice())?;
    if values.len() != rows * dim * size_of::<f32>() || Sha256::digest(content)[..] != *checksum {
        return None;
    }
    let (words, _) = values.as_chunks::<4>();
    Some(Rows { dim, values: words.iter().map(|word| f32::from_le_bytes(*word)).collect() })
}
