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
    /// batches and the one that is handed out.
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
        let shared =
            Arc::new(Shared { dataset, batches, room, queue: Mutex::new(queue), changed: Condvar::new() });
        let mut batches = Prefetched { shared, workers: Vec::new(), device: device.clone() };
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
    device: Device,
}

impl Iterator for Prefetched {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, values) = self.shared.take()?;
        let indices = self.shared.batches[number].1.clone();
        let shape = [&[indices.len()][..], self.shared.dataset.input_shape()].concat();
        Some(values.and_then(|values| {
            let inputs = Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(&self.device)?;
            Ok(Batch { inputs, indices })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.batches.len() - self.shared.lock().taken;
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
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// The batches from `taken` to `claimed`; none for one that is being read.
    read: VecDeque<Option<Result<Vec<f32>>>>,
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
    fn read(&self, indices: &[usize], view: View) -> Result<Vec<f32>> {
        let size: usize = self.dataset.input_shape().iter().product();
        let mut values = vec![0.0; indices.len() * size];
        huge_pages(&mut values);
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
        Ok(values)
    }

    fn take(&self) -> Option<(usize, Result<Vec<f32>>)> {
        let total = self.batches.len();
        let ready = |queue: &Queue| queue.taken == total || matches!(queue.read.front(), Some(Some(_)));
        let mut queue = self.wait(self.lock(), ready);
        let values = queue.read.pop_front().flatten()?;
        let number = queue.taken;
        queue.taken += 1;
        drop(queue);
        self.changed.notify_all();
        Some((number, values))
    }
}

/// Asks for large pages, as a batch of clips touches ten thousand small ones for the first time. Only a hint.
fn huge_pages(values: &mut [f32]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 21;
        let start = values.as_mut_ptr().addr().next_multiple_of(PAGE);
        let end = (values.as_mut_ptr().addr() + size_of_val(values)) / PAGE * PAGE;
        if start < end {
            // SAFETY: the range lies within `values`, and the advice changes no content.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
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
