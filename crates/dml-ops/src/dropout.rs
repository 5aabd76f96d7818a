use candle_core::{Device, Result as CandleResult, Shape, Tensor};
use dml_rand::{Purpose, Stream};
use rayon::prelude::*;

use crate::kernel::{Kernel, Op, Scalar, on_cpu_kernel};
use crate::{OpError, Result, cuda};

/// Random bits that decide about one element; four elements share a draw.
const BITS: u32 = 16;

/// What the random draws about each row of a batch depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKeys {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample in each row.
    pub samples: Vec<u64>,
}

/// Inverted dropout (Srivastava et al., JMLR 2014): each element is 0 with probability `p`, else times 1 / (1 − p).
///
/// Row i's mask is drawn from `Stream::new(seed, Purpose::Dropout(layer), epoch, samples[i])`, so it depends neither
/// on the other rows nor on the row's place. `p` is rounded to a multiple of 2⁻¹⁶, in the factor, too: the mean of the
/// result is exactly x.
///
/// # Shapes
/// `x` (n, …) → the same; `keys` has n samples.
///
/// # Errors
/// If `p` is not in [0, 1), or the samples are not as many as the rows.
pub fn dropout(x: &Tensor, p: f64, layer: u32, keys: &RowKeys) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if !(0.0..1.0).contains(&p) {
        return Err(OpError::argument("dropout", "p", format!("must be in [0, 1), is {p}")));
    }
    if keys.samples.len() != rows {
        let problem = format!("has {} samples for {rows} rows", keys.samples.len());
        return Err(OpError::argument("dropout", "keys", problem));
    }
    let levels = f64::from(1u32 << BITS);
    // At least one level is kept, so that the factor is finite.
    let threshold = (p * levels).round().min(levels - 1.0);
    if threshold == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let factor = levels / (levels - threshold);
    let mask =
        Dropout { threshold: threshold as u16, factor, layer, keys: keys.clone(), shape: x.shape().clone() };
    if on_cpu_kernel(x) {
        return Ok(Op(mask).apply([x])?);
    }
    if let Some(y) = cuda::dropout(x, mask.threshold, factor, mask.row_keys())? {
        return Ok(y);
    }
    let ones = vec![1f32; x.elem_count()];
    let mask = Tensor::from_vec(mask.run([&ones[..]]), x.shape(), &Device::Cpu)?;
    Ok((x * mask.to_device(x.device())?.to_dtype(x.dtype())?)?)
}

/// Multiplies by the mask; so does its gradient, drawing the mask anew.
#[derive(Clone)]
struct Dropout {
    threshold: u16,
    factor: f64,
    layer: u32,
    keys: RowKeys,
    shape: Shape,
}

impl Dropout {
    /// The keys of the rows' streams.
    fn row_keys(&self) -> Vec<[u8; 32]> {
        let RowKeys { seed, epoch, samples } = &self.keys;
        let purpose = Purpose::Dropout(self.layer);
        samples.iter().map(|&sample| Stream::key(*seed, purpose, *epoch, sample)).collect()
    }
}

impl Kernel<1> for Dropout {
    const NAME: &'static str = "dropout";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let row = x.len() / self.keys.samples.len();
        let factor = T::from_f64(self.factor);
        let mut y = vec![T::zero(); x.len()];
        let rows = y.par_chunks_mut(row).zip(x.par_chunks(row));
        rows.zip(&self.keys.samples).for_each(|((y, x), &sample)| {
            let purpose = Purpose::Dropout(self.layer);
            let mut stream = Stream::new(self.keys.seed, purpose, self.keys.epoch, sample);
            for (y, x) in y.chunks_mut(4).zip(x.chunks(4)) {
                let mut bits = stream.next_u64();
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = if (bits as u16) < self.threshold { T::zero() } else { x * factor };
                    bits >>= BITS;
                }
            }
        });
        y
    }

    fn backward(&self, _: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> CandleResult<[Option<Tensor>; 1]> {
        Ok([Some(Op(self.clone()).apply_detached([gradient])?)])
    }
}
