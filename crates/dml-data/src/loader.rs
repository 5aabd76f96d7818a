use candle_core::{Device, Tensor};
use candle_datasets::Batcher;
use dml_rand::{Purpose, Stream};
use rayon::prelude::*;

use crate::{DataError, Dataset, Result, View};

/// The inputs of some samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// # Shapes
    /// (n, input shape…) f32.
    pub inputs: Tensor,
    /// Which samples, in the order of the rows.
    pub indices: Vec<usize>,
}

/// The order of a dataset's samples in an epoch: a permutation of 0..len keyed by (seed, epoch).
pub fn order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    Stream::new(seed, Purpose::Shuffle, epoch, 0).permutation(len)
}

/// Batches of a dataset in the given order, each read when it is asked for; the last one may be smaller. Samples of a
/// batch are read in parallel; bytes and order do not depend on the number of threads. A batch size of 0 counts as 1.
///
/// # Errors
/// An item is an error if a sample cannot be read (the first such in the batch is reported), if `order` has an index
/// that the dataset has not, or if the device has no room. Later batches can still be read.
pub fn batches<'a>(
    dataset: &'a dyn Dataset,
    order: Vec<usize>,
    view: View,
    batch_size: usize,
    device: &Device,
) -> impl Iterator<Item = Result<Batch>> + use<'a> {
    let device = device.clone();
    let batch_size = batch_size.max(1);
    let chunks: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    chunks.into_iter().map(move |indices| {
        let shape = dataset.input_shape();
        let size: usize = shape.iter().product();
        let rows: Vec<Result<Vec<f32>>> = indices
            .par_iter()
            .map(|&index| {
                if index >= dataset.len() {
                    let (name, samples) = (dataset.name(), dataset.len());
                    let problem =
                        format!("sample {index} of {name} was asked for, which has {samples} samples");
                    return Err(DataError::Invalid(problem));
                }
                let mut row = vec![0.0; size];
                dataset.read(index, view, &mut row).map(|()| row)
            })
            .collect();
        let rows: Vec<Vec<f32>> = rows.into_iter().collect::<Result<_>>()?;
        let tensors = rows.into_iter().map(|row| Tensor::from_vec(row, shape, &Device::Cpu));
        let mut batcher = Batcher::new_r1(tensors).batch_size(batch_size).return_last_incomplete_batch(true);
        let inputs =
            batcher.next().ok_or_else(|| DataError::Invalid("an empty batch was asked for".into()))??;
        Ok(Batch { inputs: inputs.to_device(&device)?, indices })
    })
}
