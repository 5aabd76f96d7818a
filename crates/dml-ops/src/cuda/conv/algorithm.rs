//! Which of cuDNN's algorithms a convolution takes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::CudnnError;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId, gemm_reduced_precision_f32};
use candle_core::{DType, Error, Result};

use super::plan::Plan;
use crate::algorithm::{benchmark, exact};

/// Bytes of working memory that an algorithm may take.
const WORKSPACE: usize = 1 << 30;

thread_local! {
    /// Algorithms by their place in the lists below, and their working memory in bytes.
    static CHOSEN: RefCell<HashMap<Key, (usize, usize)>> = RefCell::default();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Forward,
    Data,
    Filter,
}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    device: DeviceId,
    plan: Plan,
    direction: Direction,
    dtype: DType,
    tensor_cores: bool,
    exact: bool,
    benchmark: bool,
}

// The algorithms that give the same bits at every run; the first is taken where nothing else can be.
pub(super) const FORWARD: [ForwardAlgorithm; 7] = [
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
];
pub(super) const DATA: [DataAlgorithm; 5] = [
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING,
];
pub(super) const FILTER: [FilterAlgorithm; 4] = [
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING,
];
/// How many of each list are sums over the kernel's taps as they are written.
const PLAIN: [usize; 3] = [3, 1, 1];

/// The place of an algorithm in its list, and its working memory: chosen once for each key. By default it is cuDNN's
/// guess, where that gives the same bits at every run and its memory is bounded; `benchmark` times all.
pub(super) fn choose<A: Copy + PartialEq>(
    key: Key,
    stream: &Arc<CudaStream>,
    all: &[A],
    guess: impl FnOnce() -> std::result::Result<A, CudnnError>,
    workspace: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    mut run: impl FnMut(A, &mut CudaSlice<u8>) -> std::result::Result<(), CudnnError>,
) -> Result<(usize, usize)> {
    if let Some(known) = CHOSEN.with_borrow(|chosen| chosen.get(&key).copied()) {
        return Ok(known);
    }
    let all = &all[..if key.exact { PLAIN[key.direction as usize] } else { all.len() }];
    let fits = |place: usize| workspace(all[place]).ok().filter(|&bytes| bytes <= WORKSPACE);
    let mut choice = None;
    if key.benchmark {
        let mut best = f32::INFINITY;
        for (place, &algorithm) in all.iter().enumerate() {
            let Some(bytes) = fits(place) else { continue };
            let mut memory = room(stream, bytes)?;
            // The first run is not measured; an algorithm that fails is not taken.
            if run(algorithm, &mut memory).is_err() {
                continue;
            }
            let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
            let start = stream.record_event(timing).map_err(Error::wrap)?;
            let done = run(algorithm, &mut memory);
            let end = stream.record_event(timing).map_err(Error::wrap)?;
            let took = start.elapsed_ms(&end).map_err(Error::wrap)?;
            if done.is_ok() && took < best {
                (best, choice) = (took, Some((place, bytes)));
            }
        }
    } else if let Ok(guess) = guess() {
        let place = all.iter().position(|&algorithm| algorithm == guess);
        choice = place.and_then(|place| Some((place, fits(place)?)));
    }
    let choice = choice.or_else(|| (0..all.len()).find_map(|place| Some((place, fits(place)?))));
    let Some(choice) = choice else {
        let problem = format!("cuDNN has no algorithm within {} MiB for {:?}", WORKSPACE >> 20, key.plan);
        return Err(Error::msg(problem));
    };
    CHOSEN.with_borrow_mut(|chosen| chosen.insert(key, choice));
    Ok(choice)
}

pub(super) fn room(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>> {
    // SAFETY: cuDNN writes its working memory before it reads it.
    unsafe { stream.alloc::<u8>(bytes) }.map_err(|error| {
        Error::wrap(error).context(format!("no room on the GPU for cuDNN's {} MiB", bytes >> 20))
    })
}

pub(super) fn key(device: &CudaDevice, plan: Plan, direction: Direction, dtype: DType) -> Key {
    let tensor_cores = dtype != DType::F32 || gemm_reduced_precision_f32();
    Key { device: device.id(), plan, direction, dtype, tensor_cores, exact: exact(), benchmark: benchmark() }
}
