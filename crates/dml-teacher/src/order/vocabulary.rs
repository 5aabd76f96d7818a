use std::collections::HashMap;
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
