//! Which texts belong to which item.

use crate::{MetricError, Result, check};

/// Which texts belong to which item: each text to one item, each item to one or several texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relevance {
    owner: Vec<usize>,
    first_text: Vec<usize>,
}

impl Relevance {
    /// Relevance of `owner.len()` texts to `items` items, where text j belongs to item `owner[j]`.
    ///
    /// # Shapes
    /// `owner` (texts), each below `items`, in any order.
    ///
    /// # Errors
    /// `owner` is empty, names an item that is none, or leaves an item without a text; `items` is zero.
    pub fn new(items: usize, owner: &[usize]) -> Result<Self> {
        if items == 0 {
            return Err(MetricError::Empty { argument: "items" });
        }
        if owner.is_empty() {
            return Err(MetricError::Empty { argument: "owner" });
        }
        let mut first_text = vec![usize::MAX; items];
        for (text, &item) in owner.iter().enumerate() {
            let Some(first) = first_text.get_mut(item) else {
                return Err(check::invalid(
                    "owner",
                    format!("text {text} belongs to item {item}, of {items} items"),
                ));
            };
            *first = text.min(*first);
        }
        if let Some(item) = first_text.iter().position(|&text| text == usize::MAX) {
            return Err(check::invalid("owner", format!("item {item} has no text")));
        }
        Ok(Self { owner: owner.to_vec(), first_text })
    }

    /// How many items there are: the rows of a similarity matrix.
    pub fn items(&self) -> usize {
        self.first_text.len()
    }

    /// How many texts there are: the columns of a similarity matrix.
    pub fn texts(&self) -> usize {
        self.owner.len()
    }

    /// The item of each text.
    ///
    /// # Shapes
    /// (texts), each below [`items`](Self::items).
    pub fn owner(&self) -> &[usize] {
        &self.owner
    }

    /// The first text of each item, which is the one caption per item of [`pooled`](crate::pooled()).
    pub(crate) fn first_text(&self) -> &[usize] {
        &self.first_text
    }

    /// Checks that `similarity` is an (items, texts) matrix without NaN.
    pub(crate) fn check(&self, similarity: &[f32]) -> Result<()> {
        if similarity.is_empty() {
            return Err(MetricError::Empty { argument: "similarity" });
        }
        let expected = self.items() * self.texts();
        check::length("similarity", similarity.len(), expected, "items x texts of `relevance`")?;
        check::no_nan("similarity", similarity)
    }
}
