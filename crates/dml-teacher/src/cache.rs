use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::encoder::hex;
use crate::{Result, SentenceEncoder, TeacherError};

const MAGIC: &[u8; 8] = b"dml embs";
/// Sentences that are encoded before they are on disk; at most these are lost with a killed process.
const SEGMENT: usize = 8192;
/// Sentences that are encoded between two reports.
const CHUNK: usize = 256;
/// The rows begin at a multiple of this, so that they can be read as numbers where they lie.
const ALIGNMENT: usize = 64;

/// The first half of a text's SHA-256.
type TextHash = [u8; 16];

/// Embeddings on disk, by the encoder's fingerprint and the sentence's hash: no sentence is encoded twice, whichever
/// caption set it comes from.
///
/// # File format
/// In the folder `embeddings-<SHA-256 of the fingerprint, 16 digits>`, files `<SHA-256 of the hashes, 32 digits>.embs`,
/// little-endian: the eight bytes `dml embs`; the number of rows and the length of a row (u64 each); the SHA-256 of the
/// fingerprint; 16 bytes of each sentence's SHA-256; the SHA-256 of all that; zeros up to a multiple of 64 bytes; the rows
/// (f32). New sentences come in new files, so files are never changed, and processes may share the folder. A file that is
/// damaged is passed over, and what it held is computed anew.
pub struct EmbeddingCache<'e> {
    encoder: &'e dyn SentenceEncoder,
    folder: PathBuf,
    segments: Vec<Arc<Segment>>,
    places: HashMap<TextHash, Place>,
}

/// A row: its segment, and its place there.
type Place = (usize, usize);

/// The vectors of some sentences, where they lie in mapped files.
pub struct Embeddings {
    dim: usize,
    segments: Vec<Arc<Segment>>,
    places: Vec<Place>,
}

impl<'e> EmbeddingCache<'e> {
    /// The embeddings that `dir` has for this encoder; the folder is made where it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(dir: &Path, encoder: &'e dyn SentenceEncoder) -> Result<Self> {
        let key = fingerprint_hash(encoder);
        let folder = dir.join(format!("embeddings-{}", &hex(&key)[..16]));
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        let entries = std::fs::read_dir(&folder).map_err(io(&folder))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "embs"));
        paths.sort();
        let mut cache = Self { encoder, folder, segments: Vec::new(), places: HashMap::new() };
        for path in paths {
            if let Some(segment) = Segment::open(&path, &key, encoder.dim()) {
                cache.add(segment);
            }
        }
        Ok(cache)
    }

    /// The vectors of these sentences: those that are not there yet are encoded, in batches of like length, and stored.
    /// `progress` is told how many of how many are done, and may stop the work; what is stored stays.
    ///
    /// # Errors
    /// Those of the encoder and of `progress`; if a file cannot be written.
    pub fn embed<E: From<TeacherError>>(
        &mut self,
        sentences: &[&str],
        progress: &mut dyn FnMut(usize, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<Embeddings, E> {
        let hashes: Vec<TextHash> = sentences.iter().map(|sentence| text_hash(sentence)).collect();
        let mut missing: HashMap<TextHash, &str> = HashMap::new();
        for (hash, sentence) in hashes.iter().zip(sentences) {
            if !self.places.get(hash).is_some_and(|&(segment, row)| self.segments[segment].is_unit(row)) {
                missing.insert(*hash, sentence);
            }
        }
        let mut missing: Vec<(TextHash, &str)> = missing.into_iter().collect();
        missing.sort_by_key(|&(hash, sentence)| (sentence.len(), hash));
        let mut done = 0;
        for segment in missing.chunks(SEGMENT) {
            let mut values = Vec::with_capacity(segment.len() * self.encoder.dim());
            for chunk in segment.chunks(CHUNK) {
                progress(done, missing.len())?;
                let sentences: Vec<&str> = chunk.iter().map(|&(_, sentence)| sentence).collect();
                let rows = self.encoder.encode(&sentences)?;
                values.extend(
                    rows.flatten_all().and_then(|rows| rows.to_vec1::<f32>()).map_err(TeacherError::from)?,
                );
                done += chunk.len();
            }
            let hashes: Vec<TextHash> = segment.iter().map(|&(hash, _)| hash).collect();
            let segment = self.store(&hashes, &values)?;
            self.add(segment);
        }
        let places = hashes.iter().map(|hash| self.places[hash]).collect();
        Ok(Embeddings { dim: self.encoder.dim(), segments: self.segments.clone(), places })
    }

    fn add(&mut self, segment: Segment) {
        let number = self.segments.len();
        for (row, hash) in segment.hashes().enumerate() {
            // A sentence is in two files where it was found damaged in one.
            let known = self.places.get(&hash);
            if !known.is_some_and(|&(segment, row)| self.segments[segment].is_unit(row)) {
                self.places.insert(hash, (number, row));
            }
        }
        self.segments.push(Arc::new(segment));
    }

    fn store(&self, hashes: &[TextHash], values: &[f32]) -> Result<Segment> {
        let key = fingerprint_hash(self.encoder);
        let mut head = header(hashes.len(), self.encoder.dim(), &key);
        head.extend(hashes.as_flattened());
        let checksum = Sha256::digest(&head);
        head.extend(checksum);
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        let name = &hex(&Sha256::digest(hashes.as_flattened()))[..32];
        let path = self.folder.join(format!("{name}.embs"));
        let written = temporary_in(&self.folder).and_then(|mut file| {
            file.write_all(&head)?;
            for value in values {
                file.write_all(&value.to_le_bytes())?;
            }
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        });
        written.map_err(io(&path))?;
        Segment::open(&path, &key, self.encoder.dim()).ok_or_else(|| {
            let source = std::io::Error::other("was changed while it was written");
            TeacherError::Io { path, source }
        })
    }
}

impl Embeddings {
    /// Number of sentences.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Length of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vector of the sentence in this place among those given.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn row(&self, index: usize) -> &[f32] {
        let (segment, row) = self.places[index];
        self.segments[segment].row(row)
    }

    /// The vectors of some sentences.
    ///
    /// # Shapes
    /// (indices, dim), f32
    ///
    /// # Errors
    /// If the tensor cannot be made.
    ///
    /// # Panics
    /// If there are not so many sentences.
    pub fn tensor(&self, indices: &[usize], device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = indices.iter().flat_map(|&index| self.row(index)).copied().collect();
        Ok(Tensor::from_vec(values, (indices.len(), self.dim), device)?)
    }
}

/// One file, mapped.
struct Segment {
    map: Mmap,
    dim: usize,
    count: usize,
}

impl Segment {
    /// Nothing if the file is not whole, or of another encoder.
    fn open(path: &Path, key: &[u8; 32], dim: usize) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: these files are renamed into place when whole and never written again; someone who cuts one while it is
        // mapped breaks more than this process.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let count = u64::from_le_bytes(map.get(MAGIC.len()..MAGIC.len() + 8)?.try_into().ok()?);
        let segment = Self { dim, count: usize::try_from(count).ok()?, map };
        let (hashed, end) = (segment.hashes_end()?, segment.rows_start()?);
        let rows = segment.count.checked_mul(dim)?.checked_mul(size_of::<f32>())?;
        let head = segment.map.get(..hashed)?;
        let sound = head.starts_with(&header(segment.count, dim, key))
            && segment.map.get(hashed..hashed + 32)? == Sha256::digest(head).as_slice()
            && segment.map.len() == end.checked_add(rows)?;
        sound.then_some(segment)
    }

    fn hashes_end(&self) -> Option<usize> {
        self.count.checked_mul(size_of::<TextHash>())?.checked_add(HEADER)
    }

    fn rows_start(&self) -> Option<usize> {
        Some(self.hashes_end()?.checked_add(32)?.next_multiple_of(ALIGNMENT))
    }

    fn hashes(&self) -> impl Iterator<Item = TextHash> {
        let (hashes, _) = self.map[HEADER..].as_chunks::<16>();
        hashes[..self.count].iter().copied()
    }

    fn row(&self, row: usize) -> &[f32] {
        // `open` has seen that it does not overflow.
        let start = self.rows_start().unwrap_or(0) + row * self.dim * size_of::<f32>();
        bytemuck::cast_slice(&self.map[start..start + self.dim * size_of::<f32>()])
    }

    /// Whether the row has length one, as every embedding: a row whose bytes were damaged hardly has.
    fn is_unit(&self, row: usize) -> bool {
        let square: f32 = self.row(row).iter().map(|x| x * x).sum();
        (square - 1.0).abs() < 1e-3
    }
}

const HEADER: usize = MAGIC.len() + 8 + 8 + 32;

fn header(count: usize, dim: usize, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((count as u64).to_le_bytes());
    bytes.extend((dim as u64).to_le_bytes());
    bytes.extend(key);
    bytes
}

fn fingerprint_hash(encoder: &dyn SentenceEncoder) -> [u8; 32] {
    Sha256::digest(encoder.fingerprint()).into()
}

fn text_hash(text: &str) -> TextHash {
    let [half, _] = bytemuck::cast::<[u8; 32], [TextHash; 2]>(Sha256::digest(text).into());
    half
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TeacherError + '_ {
    move |source| TeacherError::Io { path: path.into(), source }
}
/// A file that gets its name when it is whole. Who may read it is the user's setting (`umask`), as with other files.
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}
