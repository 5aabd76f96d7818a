use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How a convolution is computed on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The fastest for the shape, unless [`set_exact`] asks for direct convolution.
    #[default]
    Auto,
    /// The sum over the kernel's taps, as it is written.
    Direct,
    /// Winograd's minimal filtering with tiles of so many outputs in time: 1, 2 or 4; where it does not serve, direct
    /// convolution. It serves kernels of 3 × 3 and 5 × 5 in space, with stride 1.
    Winograd(usize),
}

static EXACT: AtomicBool = AtomicBool::new(false);

/// Whether [`Algorithm::Auto`] means direct convolution, for all convolutions of the process. The error of direct
/// convolution in f32 is about 3e-7 of the result's scale, that of the fastest algorithm about 1e-5 (see the README).
pub fn set_exact(exact: bool) {
    EXACT.store(exact, Ordering::Relaxed);
}

/// In which type a GPU multiplies. Sums, parameters and the optimiser's moments are f32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits of mantissa.
    #[default]
    F32,
    /// Values stay f32, products have 11 bits of mantissa (NVIDIA's TF32).
    Tf32,
    /// Roots run in bf16, 8 bits of mantissa; their parameters are rounded at each use.
    Bf16,
}

static PRECISION: AtomicU8 = AtomicU8::new(Precision::F32 as u8);

/// The process's [`Precision`]. It is meant for GPUs; on the CPU bf16 has no kernels and is slow.
pub fn set_precision(precision: Precision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
    #[cfg(feature = "cuda")]
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
}

/// What [`set_precision`] was told last.
pub fn precision() -> Precision {
    [Precision::F32, Precision::Tf32, Precision::Bf16][usize::from(PRECISION.load(Ordering::Relaxed)).min(2)]
}

static BENCHMARK: AtomicBool = AtomicBool::new(false);

/// Whether cuDNN's algorithms are timed, once for each shape, and the fastest taken. Otherwise cuDNN guesses, and the same
/// run takes the same algorithms, and so gives the same bits, every time.
pub fn set_benchmark(benchmark: bool) {
    BENCHMARK.store(benchmark, Ordering::Relaxed);
}

#[cfg(feature = "cudnn")]
pub(crate) fn benchmark() -> bool {
    BENCHMARK.load(Ordering::Relaxed)
}

pub(crate) fn exact() -> bool {
    EXACT.load(Ordering::Relaxed)
}

impl Algorithm {
    /// The algorithm with the process's choice.
    pub(crate) fn resolved(self) -> Self {
        match self {
            Self::Auto if exact() => Self::Direct,
            other => other,
        }
    }
}
