use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use crate::{Result, TeacherError};

/// The word that ends every sentence, as a step of its own.
pub(crate) const END: u32 = 0;
/// Any word that the vocabulary lacks.
pub(crate) const UNKNOWN: u32 = 1;
/// The first number of a word proper.
pub(crate) const FIRST: u32 = 2;

/// Words and their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Vocabulary(pub(crate) HashMap<String, u32>);

impl Vocabulary {
    /// From an object of words and numbers; numbers beyond the `words` vectors there are count as unknown.
    pub(crate) fn from_json(path: &Path, object: &Value, words: usize) -> Result<Self> {
        let wrong = |problem: String| TeacherError::Model { path: path.into(), problem };
        let Some(object) = object.as_object() else {
            return Err(wrong("worddict is no dictionary of words and numbers".into()));
        };
        let mut numbers = HashMap::new();
        for (word, number) in object {
            match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if number >= FIRST => {
                    if (number as usize) < words {
                        numbers.insert(word.clone(), number);
                    }
                }
                _ => {
                    return Err(wrong(format!(
                        "the word {word:?} has the number {number}, not one from 2 on"
                    )));
                }
            }
        }
        if numbers.is_empty() {
            return Err(wrong("no word has a vector".into()));
        }
        Ok(Self(numbers))
    }

    /// Of the words that stand in these sentences at least so often, the most frequent first; of words that are equally
    /// frequent the first in the alphabet.
    pub(crate) fn from_sentences<'s>(sentences: impl Iterator<Item = &'s str>, least: usize) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for sentence in sentences {
            for word in normalise(sentence).split_whitespace() {
                match counts.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(word.to_owned(), 1)),
                }
            }
        }
        let mut words: Vec<(String, usize)> =
            counts.into_iter().filter(|(_, count)| *count >= least).collect();
        words.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Self(words.into_iter().zip(FIRST..).map(|((word, _), number)| (word, number)).collect())
    }

    /// The number of vectors that these words need.
    pub(crate) fn vectors(&self) -> usize {
        self.0.len() + FIRST as usize
    }

    /// The words and their numbers as an object, in alphabetical order.
    pub(crate) fn to_json(&self) -> Value {
        let words: BTreeMap<&String, u32> = self.0.iter().map(|(word, &number)| (word, number)).collect();
        words.into_iter().map(|(word, number)| (word.clone(), Value::from(number))).collect()
    }

    /// The sentence as steps: its words, then the end.
    ///
    /// The published captions are split and stripped already: lower case, without punctuation. Any caption is brought
    /// to that form here: lower-cased, ASCII punctuation deleted, split at white space.
    pub(crate) fn steps(&self, sentence: &str) -> Vec<u32> {
        let number = |word: &str| self.0.get(word).copied().unwrap_or(UNKNOWN);
        let text = normalise(sentence);
        text.split_whitespace().map(number).chain([END]).collect()
    }
}

/// Lower case, without ASCII punctuation.
pub(crate) fn normalise(sentence: &str) -> String {
    sentence.to_lowercase().replace(|c: char| c.is_ascii_punctuation(), "")
}
