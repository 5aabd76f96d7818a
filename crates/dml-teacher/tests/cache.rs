//! The embeddings' cache: what is encoded, how often, and what damage does.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use dml_teacher::{EmbeddingCache, Embeddings, Lexical, Result, SentenceEncoder, TeacherError};
use tempfile::TempDir;

/// Counts the sentences that it encodes.
struct Counting {
    inner: Lexical,
    count: AtomicUsize,
    version: &'static str,
}

impl Counting {
    fn new(version: &'static str) -> Self {
        Self { inner: Lexical::new(24).unwrap(), count: AtomicUsize::new(0), version }
    }

    fn count(&self) -> usize {
        self.count.swap(0, Ordering::Relaxed)
    }
}

impl SentenceEncoder for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn fingerprint(&self) -> String {
        self.version.into()
    }

    fn encode(&self, sentences: &[&str]) -> Result<Tensor> {
        self.count.fetch_add(sentences.len(), Ordering::Relaxed);
        self.inner.encode(sentences)
    }
}

fn embed(dir: &TempDir, encoder: &Counting, sentences: &[&str]) -> Embeddings {
    let mut cache = EmbeddingCache::open(dir.path(), encoder).unwrap();
    let embedded = cache.embed(sentences, &mut |_, _| Ok::<_, TeacherError>(())).unwrap();
    let expected = encoder.inner.encode(sentences).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!((embedded.len(), embedded.dim()), (sentences.len(), 24));
    for (i, row) in expected.iter().enumerate() {
        assert_eq!(embedded.row(i), row, "{}", sentences[i]);
    }
    embedded
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[test]
fn every_sentence_is_encoded_once() {
    let dir = TempDir::new().unwrap();
    let encoder = Counting::new("1");
    embed(&dir, &encoder, &["a dog", "a man sings", "a dog"]);
    assert_eq!(encoder.count(), 2);
    embed(&dir, &encoder, &["a man sings", "a dog"]);
    assert_eq!((encoder.count(), files(&dir).len()), (0, 1));
    // Another set that shares some.
    let both = embed(&dir, &encoder, &["a cat", "a dog", "a cat", "rain"]);
    assert_eq!((encoder.count(), files(&dir).len()), (2, 2));
    let tensor = both.tensor(&[2, 1], &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!((tensor[0].as_slice(), tensor[1].as_slice()), (both.row(0), both.row(1)));
    assert!(embed(&dir, &encoder, &[]).is_empty());
    // Another encoder shares nothing.
    let other = Counting::new("2");
    embed(&dir, &other, &["a dog"]);
    assert_eq!(other.count(), 1);
}

#[test]
fn damage_is_computed_anew() {
    let sentences = ["a dog", "a man sings", "two cats"];
    let length = {
        let dir = TempDir::new().unwrap();
        embed(&dir, &Counting::new("1"), &sentences);
        std::fs::metadata(&files(&dir)[0]).unwrap().len() as usize
    };
    // In the header, the fingerprint, the hashes, the checksum, a row; and a cut.
    for (at, lost) in [(0, 3), (9, 3), (30, 3), (60, 3), (110, 3), (length - 1, 1), (usize::MAX, 3)] {
        let dir = TempDir::new().unwrap();
        let encoder = Counting::new("1");
        embed(&dir, &encoder, &sentences);
        assert_eq!(encoder.count(), 3);
        let path = &files(&dir)[0];
        let mut bytes = std::fs::read(path).unwrap();
        match bytes.get_mut(at) {
            // The top byte of a number: its sign and most of its exponent.
            Some(byte) => *byte ^= 0x40,
            None => bytes.truncate(length - 4),
        }
        std::fs::write(path, bytes).unwrap();
        embed(&dir, &encoder, &sentences);
        assert_eq!(encoder.count(), lost, "byte {at}");
        embed(&dir, &encoder, &sentences);
        assert_eq!(encoder.count(), 0, "byte {at}");
    }
}

#[test]
fn work_that_is_stopped_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    let encoder = Counting::new("1");
    let sentences: Vec<String> = (0..9000).map(|i| format!("sentence {i}")).collect();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let mut cache = EmbeddingCache::open(dir.path(), &encoder).unwrap();
    let stopped = cache.embed(&sentences, &mut |done, of| {
        assert_eq!(of, 9000);
        if done < 8192 + 256 { Ok(()) } else { Err(TeacherError::Invalid("stopped".into())) }
    });
    assert_eq!(stopped.err().unwrap().to_string(), "stopped");
    assert_eq!(encoder.count(), 8192 + 256);
    embed(&dir, &encoder, &sentences);
    assert_eq!(encoder.count(), 9000 - 8192);
}
