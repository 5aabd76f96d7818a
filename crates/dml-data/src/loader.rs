use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

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
        let rows = indices.par_iter().map(|&index| read(dataset, index, view)).collect();
        batch(dataset, rows, indices, &device)
    })
}

/// How batches are read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Threads that read samples; 0 counts as 1.
    pub workers: usize,
    /// How many batches are read before they are asked for, at most; 0 counts as 1. Memory is bounded by these
    /// batches and the one that is handed out.
    pub batches: usize,
}

impl Default for Prefetch {
    /// As many workers as processors, two batches.
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { workers, batches: 2 }
    }
}

impl Prefetch {
    /// Batches of a dataset in the given order, as [`batches`] gives them, but read ahead by threads of their own.
    /// Dropping the iterator ends the threads after the samples they are at.
    ///
    /// # Errors
    /// If a thread cannot be started. Items are errors as those of [`batches`]; a dataset that panics gives an error
    /// too, and later batches can still be read.
    pub fn batches(
        self,
        dataset: Arc<dyn Dataset>,
        order: Vec<usize>,
        view: View,
        batch_size: usize,
        device: &Device,
    ) -> Result<Prefetched> {
        let batch_size = batch_size.max(1);
        let room = batch_size.saturating_mul(self.batches.max(1));
        let queue = Queue { rows: VecDeque::new(), claimed: 0, taken: 0, stopped: false };
        let shared = Arc::new(Shared {
            dataset,
            order,
            view,
            room,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
        });
        let mut batches = Prefetched { shared, workers: Vec::new(), batch_size, device: device.clone() };
        for number in 0..self.workers.max(1) {
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

/// The batches of [`Prefetch::batches`].
pub struct Prefetched {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    batch_size: usize,
    device: Device,
}

impl Iterator for Prefetched {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let Shared { dataset, order, .. } = &*self.shared;
        let start = self.shared.lock().taken;
        let indices = order.get(start..)?;
        let indices = indices[..self.batch_size.min(indices.len())].to_vec();
        if indices.is_empty() {
            return None;
        }
        let rows = indices.iter().map(|_| self.shared.take()).collect();
        Some(batch(&**dataset, rows, indices, &self.device))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.shared.order.len() - self.shared.lock().taken).div_ceil(self.batch_size);
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
    order: Vec<usize>,
    view: View,
    /// Samples that may be claimed and not yet taken.
    room: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// The samples from `taken` to `claimed`; none for one that is being read.
    rows: VecDeque<Option<Result<Vec<f32>>>>,
    claimed: usize,
    taken: usize,
    stopped: bool,
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
        let total = self.order.len();
        loop {
            let mut queue = self.wait(self.lock(), |queue| {
                queue.stopped || queue.claimed == total || queue.claimed < queue.taken + self.room
            });
            if queue.stopped || queue.claimed == total {
                return;
            }
            let number = queue.claimed;
            queue.claimed += 1;
            queue.rows.push_back(None);
            drop(queue);
            let index = self.order[number];
            let row = catch_unwind(AssertUnwindSafe(|| read(&*self.dataset, index, self.view)))
                .unwrap_or_else(|_| {
                    let problem = format!("reading sample {index} of {} panicked", self.dataset.name());
                    Err(DataError::Invalid(problem))
                });
            let mut queue = self.lock();
            let place = number - queue.taken;
            queue.rows[place] = Some(row);
            drop(queue);
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Result<Vec<f32>> {
        let mut queue = self.wait(self.lock(), |queue| matches!(queue.rows.front(), Some(Some(_))));
        queue.taken += 1;
        let row = queue.rows.pop_front().flatten();
        drop(queue);
        self.changed.notify_all();
        row.unwrap_or_else(|| Err(DataError::Invalid("a sample was taken before it was read".into())))
    }
}

fn read(dataset: &dyn Dataset, index: usize, view: View) -> Result<Vec<f32>> {
    if index >= dataset.len() {
        let (name, samples) = (dataset.name(), dataset.len());
        let problem = format!("sample {index} of {name} was asked for, which has {samples} samples");
        return Err(DataError::Invalid(problem));
    }
    let mut row = vec![0.0; dataset.input_shape().iter().product()];
    dataset.read(index, view, &mut row).map(|()| row)
}

fn batch(
    dataset: &dyn Dataset,
    rows: Vec<Result<Vec<f32>>>,
    indices: Vec<usize>,
    device: &Device,
) -> Result<Batch> {
    let rows: Vec<Vec<f32>> = rows.into_iter().collect::<Result<_>>()?;
    let shape = dataset.input_shape();
    let tensors = rows.into_iter().map(|row| Tensor::from_vec(row, shape, &Device::Cpu));
    let mut batcher = Batcher::new_r1(tensors).batch_size(indices.len()).return_last_incomplete_batch(true);
    let inputs =
        batcher.next().ok_or_else(|| DataError::Invalid("an empty batch was asked for".into()))??;
    Ok(Batch { inputs: inputs.to_device(device)?, indices })
}
