//! Which captions are trained against what, in which order.

use dml_rand::{Purpose, Stream};

/// A caption of an item, and what belongs to it: another caption of the item, or the item itself where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) item: usize,
    pub(crate) caption: usize,
    pub(crate) other: Option<usize>,
}

/// The batches of one epoch over a set, in which every caption comes once (and once more as the other one). `lengths` has
/// those of each item's captions; `set` tells sets apart.
///
/// No batch has two pairs of one item, which would be taken for strangers. Its captions are of like length. What cannot
/// be had so is left out: an item's only caption where captions belong together, and the last captions of the items that
/// have most.
pub(crate) fn batches(
    lengths: &[Vec<usize>],
    images: bool,
    size: usize,
    [seed, epoch, set]: [u64; 3],
) -> Vec<Vec<Pair>> {
    let stream = |purpose, sample: usize| Stream::new(seed, purpose, epoch, (set << 40) | sample as u64);
    let orders: Vec<Vec<usize>> = lengths
        .iter()
        .enumerate()
        .map(|(item, captions)| stream(Purpose::Caption, item).permutation(captions.len()))
        .collect();
    let mut all = Vec::new();
    for round in 0..lengths.iter().map(Vec::len).max().unwrap_or(0) {
        let order = stream(Purpose::Shuffle, round).permutation(lengths.len());
        let pair = |item: usize| {
            let order: &[usize] = &orders[item];
            let caption = *order.get(round)?;
            let other = (!images).then(|| order[(round + 1) % order.len()]);
            (other != Some(caption)).then_some(Pair { item, caption, other })
        };
        let mut pairs: Vec<Pair> = order.into_iter().filter_map(pair).collect();
        let length = |pair: &Pair| {
            let of = |caption: usize| lengths[pair.item][caption];
            of(pair.caption).max(pair.other.map_or(0, of))
        };
        // Stable, so that among equal lengths the draw decides.
        pairs.sort_by_key(length);
        if pairs.len() > 1 {
            // All batches of a round are equally large, but for one.
            let count = pairs.len().div_ceil(size);
            all.extend(
                pairs.chunks(pairs.len().div_ceil(count)).filter(|batch| batch.len() > 1).map(<[_]>::to_vec),
            );
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Items with one caption to six, of 1 to 9 words.
    fn lengths() -> Vec<Vec<usize>> {
        (0..40)
            .map(|item| (0..1 + item % 6).map(|caption| 1 + (item * 5 + caption * 7) % 9).collect())
            .collect()
    }

    #[test]
    fn every_caption_comes_once_and_no_item_twice_in_a_batch() {
        let check = |images: bool, wanted: usize| {
            let lengths = lengths();
            let all = batches(&lengths, images, 8, [3, 1, 0]);
            let mut seen = BTreeSet::new();
            for batch in &all {
                assert!((2..=8).contains(&batch.len()));
                let items: BTreeSet<usize> = batch.iter().map(|pair| pair.item).collect();
                assert_eq!(items.len(), batch.len());
                for pair in batch {
                    assert!(pair.caption < lengths[pair.item].len() && pair.other != Some(pair.caption));
                    assert_eq!(pair.other.is_none(), images);
                    assert!(seen.insert((pair.item, pair.caption)), "{pair:?} twice");
                }
            }
            assert_eq!(seen.len(), wanted, "images {images}");
        };
        let all: usize = lengths().iter().map(Vec::len).sum();
        let alone = lengths().iter().filter(|captions| captions.len() == 1).count();
        check(true, all);
        check(false, all - alone);
    }

    #[test]
    fn seed_epoch_and_set_draw_anew() {
        let draw = |key| batches(&lengths(), false, 8, key);
        let first = draw([3, 1, 0]);
        assert_eq!(first, draw([3, 1, 0]));
        for other in [[4, 1, 0], [3, 2, 0], [3, 1, 1]] {
            assert_ne!(first, draw(other), "{other:?}");
        }
    }
}
