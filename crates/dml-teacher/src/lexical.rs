use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use dml_rand::{Purpose, Stream, hash};

use crate::encoder::check;
use crate::stem::stem;
use crate::{Result, SentenceEncoder, TeacherError};

/// Raised whenever the vectors change.
const VERSION: u32 = 1;
const PAIR_WEIGHT: f32 = 0.5;
const FUNCTION_WORD_WEIGHT: f32 = 0.25;

/// Words that say little about what is to be seen. They count, but less.
#[rustfmt::skip]
const FUNCTION_WORDS: [&str; 62] = [
    "a", "about", "above", "across", "after", "along", "an", "and", "are", "around", "as", "at", "be", "behind",
    "being", "below", "beside", "between", "by", "does", "down", "for", "from", "has", "have", "he", "her", "his",
    "in", "into", "is", "it", "its", "near", "of", "off", "on", "onto", "or", "out", "over", "she", "some", "that",
    "the", "their", "there", "they", "this", "through", "to", "toward", "towards", "under", "up", "very", "was",
    "were", "which", "while", "who", "with",
];

/// A lexical encoder that needs no download: hashed words and word pairs under a random projection.
///
/// A sentence is split into words, lower-cased and lightly stemmed, so that *runs*, *running* and *run* agree. Its
/// features are its words (weight 1, function words ¼) and its pairs of neighbouring content words (weight ½), each
/// times the square root of its count. Every feature has a fixed pseudo-random vector of signs of its own, keyed by a
/// hash of the feature; the sentence's vector is the weighted sum of them, scaled to length 1. The inner product of two
/// sentences is then, up to noise of about 1/√dim, the cosine of their weighted features (Achlioptas 2003, "Database-friendly
/// random projections").
///
/// It is **lexical, not semantic**: different words for one thing are unrelated to it, and word order counts only
/// between neighbours.
#[derive(Clone, Debug)]
pub struct Lexical {
    dim: usize,
}

impl Lexical {
    /// An encoder to this dimension; 128 is a good one.
    ///
    /// # Errors
    /// If the dimension is below 16, where unrelated sentences would look alike.
    pub fn new(dim: usize) -> Result<Self> {
        if dim < 16 {
            return Err(TeacherError::Invalid(format!("dimension {dim} of the lexical encoder is below 16")));
        }
        Ok(Self { dim })
    }

    fn vector(&self, sentence: &str) -> Vec<f32> {
        let mut sum = vec![0f32; self.dim];
        // Ordered, so that the sum has the same bits whatever order the words had.
        for (feature, (weight, count)) in features(sentence) {
            let value = weight * (count as f32).sqrt();
            let mut stream = Stream::new(0, Purpose::Init, 0, hash(&feature));
            for chunk in sum.chunks_mut(64) {
                let bits = stream.next_u64();
                for (i, x) in chunk.iter_mut().enumerate() {
                    *x += if bits >> i & 1 == 1 { value } else { -value };
                }
            }
        }
        sum
    }
}

impl Default for Lexical {
    /// Dimension 128.
    fn default() -> Self {
        Self { dim: 128 }
    }
}

impl SentenceEncoder for Lexical {
    fn name(&self) -> &str {
        "lexical"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn fingerprint(&self) -> String {
        format!("lexical {VERSION}, dim {}", self.dim)
    }

    fn encode(&self, sentences: &[&str]) -> Result<Tensor> {
        check(sentences)?;
        let mut values = Vec::with_capacity(sentences.len() * self.dim);
        for (index, sentence) in sentences.iter().enumerate() {
            let vector = self.vector(sentence);
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            if norm == 0.0 {
                return Err(TeacherError::Sentence {
                    index,
                    sentence: (*sentence).to_owned(),
                    problem: format!("projects to zero in {} dimensions; take more", self.dim),
                });
            }
            values.extend(vector.into_iter().map(|x| x / norm));
        }
        Ok(Tensor::from_vec(values, (sentences.len(), self.dim), &Device::Cpu)?)
    }
}

/// The sentence's features with their weights and counts.
fn features(sentence: &str) -> BTreeMap<String, (f32, usize)> {
    let text = sentence.to_lowercase().replace(['\'', '’'], "");
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut features = BTreeMap::new();
    let mut add = |feature: String, weight| features.entry(feature).or_insert((weight, 0)).1 += 1;
    let mut previous: Option<String> = None;
    for word in words {
        if FUNCTION_WORDS.contains(&word) {
            add(word.to_owned(), FUNCTION_WORD_WEIGHT);
            continue;
        }
        let word = stem(word);
        if let Some(previous) = previous {
            add(format!("{previous} {word}"), PAIR_WEIGHT);
        }
        // Another name space than the function words': the stem of "one" is "on".
        add(format!("{word}*"), 1.0);
        previous = Some(word);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let vectors = Lexical::default().encode(&[a, b]).unwrap();
        vectors.matmul(&vectors.t().unwrap()).unwrap().to_vec2::<f32>().unwrap()[0][1]
    }

    #[test]
    fn rows_have_length_one_and_do_not_depend_on_their_neighbours() {
        let encoder = Lexical::new(100).unwrap();
        let sentences = ["A dog runs .", "the the the", "Two men, 3 balls!", "naïve café"];
        let all = encoder.encode(&sentences).unwrap().to_vec2::<f32>().unwrap();
        for (sentence, row) in sentences.iter().zip(&all) {
            let alone = encoder.encode(&[sentence]).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(&alone[0], row);
            let norm: f32 = row.iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-5, "{sentence}: {norm}");
        }
        assert_eq!(encoder.encode(&[]).unwrap().dims(), [0, 100]);
    }

    #[test]
    fn inner_products_are_those_of_the_features() {
        let exact = |a: &str, b: &str| {
            let of = |s: &str| -> BTreeMap<String, f32> {
                features(s).into_iter().map(|(f, (w, n))| (f, w * (n as f32).sqrt())).collect()
            };
            let (a, b) = (of(a), of(b));
            let dot = |p: &BTreeMap<String, f32>, q: &BTreeMap<String, f32>| -> f32 {
                p.iter().map(|(f, w)| w * q.get(f).unwrap_or(&0.0)).sum()
            };
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        let (a, b) =
            ("A tall man throws a red ball to a dog", "The tall man catches the red ball near a tree");
        let vectors = Lexical::new(100_000).unwrap().encode(&[a, b]).unwrap().to_vec2::<f32>().unwrap();
        let found: f32 = vectors[0].iter().zip(&vectors[1]).map(|(x, y)| x * y).sum();
        // Four standard deviations of 1/√100000.
        assert!((found - exact(a, b)).abs() < 0.013, "{found}, {}", exact(a, b));
        assert!(exact(a, b) > 0.4);
    }

    #[test]
    fn inflections_agree_and_synonyms_do_not() {
        assert!(cosine("A dog runs.", "the dogs were running") > 0.8);
        assert!(cosine("A Dog runs", "a dog RUNS !") > 0.999);
        assert!(cosine("a dog", "a violin") < 0.4);
        assert!(cosine("person", "man").abs() < 0.35);
        assert!(cosine("man bites dog", "dog bites man") < 0.95, "word pairs have an order");
    }

    #[test]
    fn wrong_requests_are_refused() {
        let check = |sentences: &[&str], index: usize| {
            let error = Lexical::default().encode(sentences).unwrap_err();
            assert!(matches!(error, TeacherError::Sentence { index: i, .. } if i == index), "{error}");
        };
        check(&[""], 0);
        check(&["a dog", " . \t!"], 1);
        assert!(Lexical::new(15).unwrap_err().to_string().contains("15"));
    }

    #[test]
    fn vectors_never_change() {
        let row = Lexical::new(16).unwrap().encode(&["A dog runs"]).unwrap().to_vec2::<f32>().unwrap();
        let signs: String = row[0].iter().map(|x| if *x > 0.0 { '+' } else { '-' }).collect();
        assert_eq!(signs, "-+---+-------+++");
    }
}
