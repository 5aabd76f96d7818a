//! From a dataset to tensors.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::{DType, Device};
use dml_data::{Batch, DataError, Dataset, Labels, Prefetch, Result, View, batches, order};

/// Sample i reads as i, i + ½; a broken one cannot be read.
struct Numbers {
    len: usize,
    broken: Vec<usize>,
    labels: Labels,
    /// How often a sample was read.
    reads: AtomicUsize,
}

fn numbers(len: usize) -> Numbers {
    let labels = Labels::Classes { names: vec!["all".into()], of: vec![0; len] };
    Numbers { len, broken: vec![], labels, reads: AtomicUsize::new(0) }
}

impl Dataset for Numbers {
    fn name(&self) -> &str {
        "numbers"
    }

    fn len(&self) -> usize {
        self.len
    }

    fn input_shape(&self) -> &[usize] {
        &[1, 2]
    }

    fn id(&self, index: usize) -> String {
        format!("number {index}")
    }

    fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.broken.contains(&index) {
            return Err(DataError::Invalid(format!("{} is broken", self.id(index))));
        }
        let by = view.epoch.unwrap_or(0) as f32 * 100.0;
        out.copy_from_slice(&[index as f32 + by, index as f32 + 0.5 + by]);
        Ok(())
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn fingerprint(&self) -> String {
        format!("{} numbers", self.len)
    }
}

fn load(set: &Numbers, order: Vec<usize>, view: View, size: usize) -> Vec<Result<Batch>> {
    batches(set, order, view, size, &Device::Cpu).collect()
}

#[test]
fn batches_keep_the_order_and_the_last_one_may_be_smaller() {
    let set = numbers(7);
    let order = vec![6, 0, 3, 5, 1, 2, 4];
    for (size, lengths) in
        [(3, vec![3, 3, 1]), (7, vec![7]), (100, vec![7]), (1, vec![1; 7]), (0, vec![1; 7])]
    {
        let loaded: Vec<Batch> =
            load(&set, order.clone(), View::evaluation(), size).into_iter().map(Result::unwrap).collect();
        assert_eq!(loaded.iter().map(|batch| batch.indices.len()).collect::<Vec<_>>(), lengths);
        assert_eq!(loaded.iter().flat_map(|batch| batch.indices.clone()).collect::<Vec<_>>(), order);
        for Batch { inputs, indices } in loaded {
            assert_eq!((inputs.dims(), inputs.dtype()), ([indices.len(), 1, 2].as_slice(), DType::F32));
            let expected: Vec<f32> = indices.iter().flat_map(|&i| [i as f32, i as f32 + 0.5]).collect();
            assert_eq!(inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
    }
    assert!(load(&set, vec![], View::evaluation(), 3).is_empty());
}

#[test]
fn batches_read_the_view_that_is_asked_for() {
    let view = View { seed: 0, epoch: Some(2) };
    let batch = load(&numbers(4), vec![3], view, 2).remove(0).unwrap();
    assert_eq!(batch.inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [203.0, 203.5]);
}

#[test]
fn a_batch_with_a_bad_sample_is_an_error_that_names_the_first() {
    let set = Numbers { broken: vec![1, 5], ..numbers(6) };
    let loaded = load(&set, vec![0, 5, 1, 2, 3, 4, 6], View::evaluation(), 3);
    let message = |i: usize| loaded[i].as_ref().err().map(ToString::to_string);
    assert_eq!(message(0).unwrap(), "number 5 is broken");
    assert_eq!(loaded[1].as_ref().unwrap().indices, [2, 3, 4]);
    let outside = message(2).unwrap();
    assert!(outside.contains("sample 6 of numbers") && outside.contains("6 samples"), "{outside}");
}

fn prefetch(
    set: &Arc<Numbers>,
    order: Vec<usize>,
    size: usize,
    workers: usize,
    ahead: usize,
) -> dml_data::Prefetched {
    let prefetch = Prefetch { workers, batches: ahead };
    prefetch.batches(set.clone(), order, View { seed: 0, epoch: Some(1) }, size, &Device::Cpu).unwrap()
}

/// Indices and values of the batches, or the error's text.
fn contents(batch: Result<Batch>) -> std::result::Result<(Vec<usize>, Vec<f32>), String> {
    let Batch { inputs, indices } = batch.map_err(|e| e.to_string())?;
    Ok((indices, inputs.flatten_all().unwrap().to_vec1().unwrap()))
}

#[test]
fn reading_ahead_gives_the_same_batches_for_any_number_of_workers() {
    let set = Arc::new(Numbers { broken: vec![4, 9], ..numbers(23) });
    let order = [order(3, 1, 23), vec![99]].concat();
    for size in [0, 1, 5, 100] {
        let view = View { seed: 0, epoch: Some(1) };
        let expected: Vec<_> = load(&set, order.clone(), view, size).into_iter().map(contents).collect();
        for (workers, ahead) in [(0, 0), (1, 1), (2, 2), (7, 3)] {
            let loaded = prefetch(&set, order.clone(), size, workers, ahead);
            assert_eq!(loaded.size_hint(), (expected.len(), Some(expected.len())));
            assert_eq!(loaded.map(contents).collect::<Vec<_>>(), expected, "{size} {workers} {ahead}");
        }
    }
    assert_eq!(prefetch(&set, vec![], 3, 2, 2).count(), 0);
}

#[test]
fn reading_ahead_is_bounded_and_ends_when_it_is_dropped() {
    let set = Arc::new(numbers(1000));
    let mut loaded = prefetch(&set, (0..1000).collect(), 4, 3, 2);
    let settled = |expected: usize| {
        for _ in 0..200 {
            if set.reads.load(Ordering::SeqCst) == expected {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(set.reads.load(Ordering::SeqCst), expected);
    };
    settled(8);
    assert_eq!(loaded.next().unwrap().unwrap().indices, [0, 1, 2, 3]);
    settled(12);
    drop(loaded);
    assert_eq!(Arc::strong_count(&set), 1, "the workers are gone");
    settled(12);
}

#[test]
fn a_dataset_that_panics_gives_an_error() {
    struct Panics(Numbers);
    impl Dataset for Panics {
        fn name(&self) -> &str {
            "panics"
        }
        fn len(&self) -> usize {
            self.0.len
        }
        fn input_shape(&self) -> &[usize] {
            self.0.input_shape()
        }
        fn id(&self, index: usize) -> String {
            self.0.id(index)
        }
        fn read(&self, index: usize, view: View, out: &mut [f32]) -> Result<()> {
            assert!(index != 1, "one is too many");
            self.0.read(index, view, out)
        }
        fn labels(&self) -> &Labels {
            &self.0.labels
        }
        fn fingerprint(&self) -> String {
            self.0.fingerprint()
        }
    }
    let prefetch = Prefetch { workers: 2, batches: 1 };
    let set = Arc::new(Panics(numbers(3)));
    let loaded = prefetch.batches(set, vec![0, 1, 2], View::evaluation(), 1, &Device::Cpu).unwrap();
    let loaded: Vec<_> = loaded.map(contents).collect();
    assert_eq!(loaded[1], Err("reading sample 1 of panics panicked".into()));
    assert_eq!((&loaded[0], &loaded[2]), (&Ok((vec![0], vec![0.0, 0.5])), &Ok((vec![2], vec![2.0, 2.5]))));
}

#[test]
fn orders_are_permutations_keyed_by_seed_and_epoch() {
    for len in [0, 1, 50] {
        let mut all = order(1, 2, len);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..len));
    }
    assert_eq!(order(1, 2, 50), order(1, 2, 50));
    assert_ne!(order(1, 2, 50), order(1, 3, 50));
    assert_ne!(order(1, 2, 50), order(2, 2, 50));
}
