//! Counter-based random streams.
//!
//! Every random draw of a run comes from a [`Stream`] keyed by (seed, purpose, epoch, sample). A draw therefore depends
//! on nothing but its key: not on the number of workers, not on what was drawn before it, and resuming a run needs no
//! generator state. The generator is ChaCha8; the distributions are written out here, so that a release of another
//! crate cannot change the bits of a run.
//!
//! ```
//! use dml_rand::{Purpose, Stream};
//!
//! let mut a = Stream::new(7, Purpose::Augment, 3, 41);
//! let mut b = Stream::new(7, Purpose::Augment, 3, 41);
//! assert_eq!(a.uniform(), b.uniform());
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a draw is for. Streams of different purposes are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Initial value of the parameter whose name hashes to the sample key (see [`hash`]).
    Init,
    /// Order of a dataset's samples in an epoch.
    Shuffle,
    /// Augmentation of a sample: crop, mirror.
    Augment,
    /// Dropout mask of a sample in the layer of this number.
    Dropout(u32),
    /// Which of a sample's captions is the target.
    Caption,
    /// Generation of the built-in sample data; the number tells its sets apart.
    Generate(u32),
    /// Everything about a test or a benchmark.
    Test,
}

impl Purpose {
    fn code(self) -> u64 {
        match self {
            Self::Init => 1,
            Self::Shuffle => 2,
            Self::Augment => 3,
            Self::Dropout(layer) => 4 | (u64::from(layer) << 32),
            Self::Caption => 5,
            Self::Generate(set) => 6 | (u64::from(set) << 32),
            Self::Test => 7,
        }
    }
}

/// A stream of random numbers that depends on its key alone.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of this key.
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> Self {
        Self(ChaCha8Rng::from_seed(Self::key(seed, purpose, epoch, sample)))
    }

    /// The key of the stream's ChaCha with 8 rounds, whose blocks from 0 on it gives: for who draws elsewhere.
    pub fn key(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> [u8; 32] {
        let mut key = [0u8; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose.code(), epoch, sample]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        key
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..n without bias (Lemire's multiply and reject).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "below(0) has no value to return");
        let n = n as u64;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if (wide as u64) >= n.wrapping_neg() % n {
                return (wide >> 64) as usize;
            }
        }
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// One of the values.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }

    /// Normal with mean 0 and standard deviation 1 (Box–Muller, one value a call).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A permutation of 0..n (Fisher–Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// A 64-bit hash of a name (FNV-1a), for keying streams by names. Stable for ever.
pub fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sample: u64) -> Stream {
        Stream::new(1, Purpose::Test, 0, sample)
    }

    #[test]
    fn each_part_of_the_key_matters() {
        let first = |seed, purpose, epoch, sample| Stream::new(seed, purpose, epoch, sample).next_u64();
        let base = first(1, Purpose::Shuffle, 2, 3);
        for other in [
            first(2, Purpose::Shuffle, 2, 3),
            first(1, Purpose::Augment, 2, 3),
            first(1, Purpose::Shuffle, 3, 3),
            first(1, Purpose::Shuffle, 2, 4),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(first(1, Purpose::Dropout(0), 0, 0), first(1, Purpose::Dropout(1), 0, 0));
        assert_eq!(base, first(1, Purpose::Shuffle, 2, 3));
    }

    #[test]
    fn bits_never_change() {
        let mut stream = Stream::new(7, Purpose::Init, 0, hash("root.conv1.weight"));
        assert_eq!(hash("root.conv1.weight"), 0xfa3d_4311_5bc5_f5b0);
        assert_eq!(stream.next_u64(), 5816977568896516357);
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = stream(0);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[stream.below(7)] += 1;
        }
        // Chi-squared with 6 degrees of freedom: 22.5 has a tail of 0.1 %.
        let chi: f64 = counts.iter().map(|&c| (c as f64 - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 22.5, "chi-squared {chi}, counts {counts:?}");
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut stream = stream(1);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!(draws.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn permutation_has_every_index_once() {
        for n in [0, 1, 2, 100] {
            let mut order = stream(n as u64).permutation(n);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..n));
        }
    }
}
