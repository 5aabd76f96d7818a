use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use candle_datasets::Batcher;
use dml_rand::{Purpose, Stream};
use rayon::prelude::*;

use crate::upload::{Sent, Upload, Values};
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
        let row = |&index: &usize| {
            let mut row = vec![0.0; shape.iter().product()];
            read(dataset, index, view, &mut row).map(|()| row)
        };
        let rows: Vec<Result<Vec<f32>>> = indices.par_iter().map(row).collect();
        let rows: Vec<Vec<f32>> = rows.into_iter().collect::<Result<_>>()?;
        let tensors = rows.into_iter().map(|row| Tensor::from_vec(row, shape, &Device::Cpu));
        let mut batcher = Batcher::new_r1(tensors).batch_size(batch_size).return_last_incomplete_batch(true);
        let inputs =
            batcher.next().ok_or_else(|| DataError::Invalid("an empty batch was asked for".into()))??;
        Ok(Batch { inputs: inputs.to_device(&device)?, indices })
    })
}

/// How batches are read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Threads that read, each a batch at a time; 0 counts as 1.
    pub workers: usize,
    /// How many batches are read, or being read, before they are asked for; 0 counts as 1. Memory is bounded by these
    /// batches, the one that is handed out, and on a GPU the one after it, which is copied there beside the computation.
    pub batches: usize,
}

impl Default for Prefetch {
    /// As many workers as rayon has threads, and a batch more than that.
    fn default() -> Self {
        let workers = rayon::current_num_threads();
        Self { workers, batches: workers + 1 }
    }
}

impl Prefetch {
    /// Batches of a dataset in the given order, as [`batches`] gives them, but read ahead; see [`Self::read`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn batches(
        self,
        dataset: Arc<dyn Dataset>,
        order: Vec<usize>,
        view: View,
        batch_size: usize,
        device: &Device,
    ) -> Result<Prefetched> {
        let batches = order.chunks(batch_size.max(1)).map(|indices| (view, indices.to_vec())).collect();
        self.read(dataset, batches, device)
    }

    /// These batches, each with its view, read ahead by threads of their own; bytes and order do not depend on their
    /// number. Dropping the iterator ends the threads after the samples they are at.
    ///
    /// # Errors
    /// If a thread cannot be started. Items are errors as those of [`batches`]; a dataset that panics gives an error
    /// too, and later batches can still be read.
    pub fn read(
        self,
        dataset: Arc<dyn Dataset>,
        batches: Vec<(View, Vec<usize>)>,
        device: &Device,
    ) -> Result<Prefetched> {
        let queue = Queue { read: VecDeque::new(), claimed: 0, taken: 0, stopped: false };
        let room = self.batches.max(1);
        let workers = self.workers.max(1).min(batches.len());
        let upload = Upload::to(device)?;
        let ahead = upload.is_beside();
        let (queue, changed) = (Mutex::new(queue), Condvar::new());
        let shared = Arc::new(Shared { dataset, batches, room, upload, queue, changed });
        let mut batches =
            Prefetched { shared, workers: Vec::new(), ahead, sent: None, device: device.clone() };
        for number in 0..workers {
            let shared = batches.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("dml-data-{number}"))
                .spawn(move || shared.work())
                .map_err(|e| DataError::Invalid(format!("no thread can be started to read data: {e}")))?;
            batches.workers.push(worker);
        }
        Ok(batches)
    }
}

/// The batches of [`Prefetch::read`].
pub struct Prefetched {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Whether the next batch is sent to the device when this one is handed out.
    ahead: bool,
    device: Device,
    sent: Option<(usize, Result<Sent>)>,
}

impl Prefetched {
    fn send(&self, (number, values): (usize, Result<Values>)) -> (usize, Result<Sent>) {
        let shared = &self.shared;
        let shape = [&[shared.batches[number].1.len()][..], shared.dataset.input_shape()].concat();
        (number, values.and_then(|values| values.send(shape, &self.device)))
    }
}

impl Iterator for Prefetched {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, sent) = match self.sent.take() {
            Some(sent) => sent,
            None => self.send(self.shared.take()?),
        };
        if self.ahead {
            self.sent = self.shared.take_if_read().map(|next| self.send(next));
        }
        let indices = self.shared.batches[number].1.clone();
        Some(sent.and_then(|sent| Ok(Batch { inputs: sent.tensor(&self.device)?, indices })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.batches.len() - self.shared.lock().taken + usize::from(self.sent.is_some());
        (left, Some(left))
    }
}

impl Drop for Prefetched {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker never panics; if one did, there would be nothing to clean up.
            let _ = worker.join();
        }
    }
}

struct Shared {
    dataset: Arc<dyn Dataset>,
    batches: Vec<(View, Vec<usize>)>,
    /// Batches that may be claimed and not yet taken.
    room: usize,
    upload: Upload,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// The batches from `taken` to `claimed`; none for one that is being read.
    read: VecDeque<Option<Result<Values>>>,
    claimed: usize,
    taken: usize,
    stopped: bool,
}

impl Queue {
    fn is_read(&self) -> bool {
        matches!(self.read.front(), Some(Some(_)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds the lock can panic halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        queue: MutexGuard<'a, Queue>,
        until: impl Fn(&Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        self.changed.wait_while(queue, |queue| !until(queue)).unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let total = self.batches.len();
        loop {
            let mut queue = self.wait(self.lock(), |queue| {
                queue.stopped || queue.claimed == total || queue.claimed < queue.taken + self.room
            });
            if queue.stopped || queue.claimed == total {
                return;
            }
            let number = queue.claimed;
            queue.claimed += 1;
            queue.read.push_back(None);
            drop(queue);
            let (view, indices) = &self.batches[number];
            let values = self.read(indices, *view);
            let mut queue = self.lock();
            let place = number - queue.taken;
            queue.read[place] = Some(values);
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// The inputs of these samples, each written where the batch's tensor will have it.
    fn read(&self, indices: &[usize], view: View) -> Result<Values> {
        let size: usize = self.dataset.input_shape().iter().product();
        let mut memory = self.upload.memory(indices.len() * size)?;
        let values = memory.as_mut_slice()?;
        for (i, &index) in indices.iter().enumerate() {
            if self.lock().stopped {
                return Err(DataError::Invalid("reading was stopped".into()));
            }
            let row = &mut values[i * size..][..size];
            let dataset = &*self.dataset;
            catch_unwind(AssertUnwindSafe(|| read(dataset, index, view, row))).unwrap_or_else(|_| {
                let problem = format!("reading sample {index} of {} panicked", dataset.name());
                Err(DataError::Invalid(problem))
            })?;
        }
        Ok(memory)
    }

    fn take(&self) -> Option<(usize, Result<Values>)> {
        let total = self.batches.len();
        self.front(self.wait(self.lock(), |queue| queue.taken == total || queue.is_read()))
    }

    /// The next batch, if it need not be waited for.
    fn take_if_read(&self) -> Option<(usize, Result<Values>)> {
        let queue = self.lock();
        if queue.is_read() { self.front(queue) } else { None }
    }

    fn front(&self, mut queue: MutexGuard<'_, Queue>) -> Option<(usize, Result<Values>)> {
        let values = queue.read.pop_front().flatten()?;
        let number = queue.taken;
        queue.taken += 1;
        drop(queue);
        self.changed.notify_all();
        Some((number, values))
    }
}

fn read(dataset: &dyn Dataset, index: usize, view: View, row: &mut [f32]) -> Result<()> {
    if index >= dataset.len() {
        let (name, samples) = (dataset.name(), dataset.len());
        let problem = format!("sample {index} of {name} was asked for, which has {samples} samples");
        return Err(DataError::Invalid(problem));
    }
    dataset.read(index, view, row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Sample, SampleConfig};

    #[test]
    fn batches_that_are_sent_ahead_are_the_same() {
        let sizes =
            SampleConfig { train: 11, caption_train: 1, pretrain: 1, test: 1, ..SampleConfig::default() };
        let set = Sample::generate(&sizes).unwrap().actions_train;
        let prefetch = Prefetch { workers: 2, batches: 3 };
        let view = View::evaluation();
        let mut sent = prefetch.batches(set.clone(), (0..11).collect(), view, 2, &Device::Cpu).unwrap();
        sent.ahead = true;
        for (done, batch) in batches(&*set, (0..11).collect(), view, 2, &Device::Cpu).enumerate() {
            assert_eq!(sent.size_hint(), (6 - done, Some(6 - done)));
            let (want, found) = (batch.unwrap(), sent.next().unwrap().unwrap());
            assert_eq!(found.indices, want.indices);
            let values = |batch: &Batch| batch.inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&found), values(&want));
        }
        assert!(sent.next().is_none());
    }
}
