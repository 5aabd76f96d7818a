//! From a dataset to tensors.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device};
use dml_data::{Batch, DataError, Dataset, Labels, Result, View, batches, order};

/// Sample i reads as i, i + ½; a broken one cannot be read.
struct Numbers {
    len: usize,
    broken: Vec<usize>,
    labels: Labels,
}

fn numbers(len: usize) -> Numbers {
    let labels = Labels::Classes { names: vec!["all".into()], of: vec![0; len] };
    Numbers { len, broken: vec![], labels }
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
