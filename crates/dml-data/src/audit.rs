use std::collections::HashSet;
use std::fmt;

use image::{GrayImage, Luma};
use image_hasher::{HashAlg, Hasher, HasherConfig};
use rayon::prelude::*;

use crate::shards::Reader;
use crate::{Result, jpeg};

/// A sample of one set and a sample of another that look the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearDuplicate {
    /// In how many of 256 bits the two nearest frames differ.
    pub distance: u32,
    /// Key in the first set.
    pub first: String,
    /// Key in the second set.
    pub second: String,
}

/// What two sets have in common, as far as their pictures tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Samples compared, of the first and of the second set.
    pub compared: [usize; 2],
    /// Samples left out because all the frames looked at are nearly of one colour: such frames are all alike.
    pub flat: [usize; 2],
    /// The largest distance that counts.
    pub threshold: u32,
    /// The pairs, nearest first.
    pub pairs: Vec<NearDuplicate>,
}

impl AuditReport {
    /// How many samples of the first and of the second set have a near-duplicate in the other.
    pub fn shared(&self) -> [usize; 2] {
        let count =
            |key: fn(&NearDuplicate) -> &str| self.pairs.iter().map(key).collect::<HashSet<_>>().len();
        [count(|pair| &pair.first), count(|pair| &pair.second)]
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([first, second], [flat, other_flat]) = (self.compared, self.flat);
        let [shared, other_shared] = self.shared();
        writeln!(
            f,
            "compared {first} samples with {second} (left out, of one colour: {flat} and {other_flat})"
        )?;
        writeln!(f, "near-duplicates: {shared} of the first set, {other_shared} of the second")?;
        for NearDuplicate { distance, first, second } in &self.pairs {
            writeln!(f, "{distance:>4} of 256  {first}  {second}")?;
        }
        Ok(())
    }
}

/// Looks for samples of two prepared sets that show the same: each sample by its first, middle and last frame, each frame
/// by a difference hash of 256 bits (whether each of 16 × 16 cells is brighter than its neighbour). Two samples are
/// near-duplicates if two of their frames differ in at most `threshold` bits: unrelated pictures differ in about 128,
/// re-encoded or resized ones in a few. Mirrored or cropped copies are not found.
///
/// # Errors
/// If a frame is damaged or cannot be decoded.
pub fn audit(first: &Reader, second: &Reader, threshold: u32) -> Result<AuditReport> {
    let (left, right) = (hashes(first)?, hashes(second)?);
    let seen = |set: &[Vec<Hash>]| set.iter().filter(|hashes| !hashes.is_empty()).count();
    let compared = [seen(&left), seen(&right)];
    let mut pairs: Vec<NearDuplicate> = left
        .par_iter()
        .enumerate()
        .flat_map_iter(|(a, hashes)| {
            let near =
                move |other: &[Hash]| hashes.iter().flat_map(|x| other.iter().map(|y| x.distance(y))).min();
            right.iter().enumerate().filter_map(move |(b, other)| {
                let distance = near(other).filter(|&distance| distance <= threshold)?;
                Some(NearDuplicate { distance, first: first.key(a).into(), second: second.key(b).into() })
            })
        })
        .collect();
    pairs.sort_unstable();
    let flat = [first.len() - compared[0], second.len() - compared[1]];
    Ok(AuditReport { compared, flat, threshold, pairs })
}

#[derive(Clone, Copy)]
struct Hash([u64; 4]);

impl Hash {
    fn distance(&self, other: &Self) -> u32 {
        self.0.iter().zip(other.0).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

/// Standard deviation of the grey levels below which a frame says nothing.
const FLAT: f64 = 4.0;

/// The hashes of each sample's frames; none for a flat frame.
fn hashes(reader: &Reader) -> Result<Vec<Vec<Hash>>> {
    let config = HasherConfig::with_bytes_type::<[u8; 32]>().hash_alg(HashAlg::Gradient).hash_size(16, 16);
    let hasher = || (config.to_hasher(), Vec::new());
    (0..reader.len())
        .into_par_iter()
        .map_init(hasher, |(hasher, pixels), sample| {
            let last = reader.frames(sample) - 1;
            let mut frames = vec![0, last / 2, last];
            frames.dedup();
            let hashes = frames.into_iter().map(|frame| hash(reader, sample, frame, hasher, pixels));
            hashes.filter_map(Result::transpose).collect()
        })
        .collect()
}

fn hash(
    reader: &Reader,
    sample: usize,
    frame: usize,
    hasher: &Hasher<[u8; 32]>,
    pixels: &mut Vec<u8>,
) -> Result<Option<Hash>> {
    let (width, height) = jpeg::decode(reader.frame(sample, frame)?, pixels)
        .map_err(|problem| reader.bad_frame(sample, frame, &problem))?;
    let (pixels, _) = pixels[..width * height * 3].as_chunks::<3>();
    let grey = |x: u32, y: u32| {
        let [red, green, blue] = pixels[y as usize * width + x as usize].map(u32::from);
        Luma([((299 * red + 587 * green + 114 * blue) / 1000) as u8])
    };
    let picture = GrayImage::from_fn(width as u32, height as u32, grey);
    let levels = || picture.as_raw().iter().map(|&level| f64::from(level));
    let count = (width * height) as f64;
    let mean = levels().sum::<f64>() / count;
    if levels().map(|level| (level - mean).powi(2)).sum::<f64>() / count < FLAT * FLAT {
        return Ok(None);
    }
    let bytes = hasher.hash_image(&picture).into_inner();
    let (words, _) = bytes.as_chunks::<8>();
    let mut hash = [0; 4];
    for (to, word) in hash.iter_mut().zip(words) {
        *to = u64::from_le_bytes(*word);
    }
    Ok(Some(Hash(hash)))
}
