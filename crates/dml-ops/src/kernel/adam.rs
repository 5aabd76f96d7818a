//! Adam's step as one pass over a parameter, its gradient and its moments, in place.

use std::cell::RefCell;

use candle_core::{CpuStorage, Device, Error, InplaceOp2, Layout, Result, Shape, Tensor, Var};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::simd::{Lane, Real, dispatch};
use super::{Scalar, on_cpu_kernel};
use crate::cuda;

/// Parameters that one task updates.
const ELEMENTS: usize = 1 << 15;

/// The numbers of one step, the bias corrections worked in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// The learning rate over the first moment's correction.
    pub(crate) rate: f64,
    /// The square root of the second moment's correction.
    pub(crate) root: f64,
}

/// A parameter, its gradient and its moments, all f32 and of one shape on one GPU; parameter and moments are changed in
/// place.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) struct Item<'a> {
    pub(crate) parameter: &'a Tensor,
    pub(crate) gradient: &'a Tensor,
    pub(crate) moments: [&'a Tensor; 2],
    pub(crate) step: Step,
}

/// The first and the second moment of a parameter's gradient.
#[derive(Debug)]
pub(crate) enum Moments {
    F32(Vec<f32>, Vec<f32>),
    F64(Vec<f64>, Vec<f64>),
    /// Of what has no kernel.
    Tensors(Tensor, Tensor),
}

impl Moments {
    /// Moments of these values, on the values' device.
    pub(crate) fn new(m: &Tensor, v: &Tensor) -> Result<Self> {
        use candle_core::DType::{F32, F64};
        Ok(match m.dtype() {
            F32 if on_cpu_kernel(m) => Self::F32(m.flatten_all()?.to_vec1()?, v.flatten_all()?.to_vec1()?),
            F64 if on_cpu_kernel(m) => Self::F64(m.flatten_all()?.to_vec1()?, v.flatten_all()?.to_vec1()?),
            // Of their own, as a GPU's kernel changes them in place.
            _ => Self::Tensors(m.copy()?.detach(), v.copy()?.detach()),
        })
    }

    /// Whether they are of the variable's type and device.
    pub(crate) fn fit(&self, var: &Var) -> bool {
        use candle_core::DType::{F32, F64};
        match self {
            Self::F32(..) => on_cpu_kernel(var) && var.dtype() == F32,
            Self::F64(..) => on_cpu_kernel(var) && var.dtype() == F64,
            Self::Tensors(m, _) => m.dtype() == var.dtype() && m.device().same_device(var.device()),
        }
    }

    /// Copies of the moments.
    pub(crate) fn tensors(&self, shape: &Shape) -> Result<(Tensor, Tensor)> {
        let cpu = &Device::Cpu;
        Ok(match self {
            Self::F32(m, v) => (Tensor::from_slice(m, shape, cpu)?, Tensor::from_slice(v, shape, cpu)?),
            Self::F64(m, v) => (Tensor::from_slice(m, shape, cpu)?, Tensor::from_slice(v, shape, cpu)?),
            // On a GPU they are changed in place.
            Self::Tensors(m, v) => (m.copy()?, v.copy()?),
        })
    }

    /// The moments that a GPU's kernel changes in place, where it serves.
    pub(crate) fn on_gpu(&self, var: &Var) -> Option<[Tensor; 2]> {
        match self {
            Self::Tensors(m, v) if cuda::serves(var) && var.dtype() == candle_core::DType::F32 => {
                Some([m.clone(), v.clone()])
            }
            _ => None,
        }
    }

    /// Updates the moments and the variable.
    pub(crate) fn update(&mut self, var: &Var, gradient: &Tensor, step: Step) -> Result<()> {
        if let Self::Tensors(m, v) = self {
            *m = ((&*m * step.beta1)? + (gradient * (1.0 - step.beta1))?)?;
            *v = ((&*v * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?;
            let denominator = ((v.sqrt()? / step.root)? + step.eps)?;
            return var.set(&(var.as_tensor() - ((&*m * step.rate)? / denominator)?)?.detach());
        }
        var.inplace_op2(&gradient.contiguous()?, &InPlace { step, moments: RefCell::new(self) })
    }
}

struct InPlace<'a> {
    step: Step,
    /// candle hands an operation out by shared reference.
    moments: RefCell<&'a mut Moments>,
}

impl InplaceOp2 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        p_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        let (Some((p0, p1)), Some((g0, g1))) = (p_layout.contiguous_offsets(), g_layout.contiguous_offsets())
        else {
            return Err(Error::RequiresContiguous { op: "adam" });
        };
        let mut moments = self.moments.borrow_mut();
        match (p, g, &mut **moments) {
            (CpuStorage::F32(p), CpuStorage::F32(g), Moments::F32(m, v)) => {
                update(&mut p[p0..p1], &g[g0..g1], m, v, self.step);
            }
            (CpuStorage::F64(p), CpuStorage::F64(g), Moments::F64(m, v)) => {
                update(&mut p[p0..p1], &g[g0..g1], m, v, self.step);
            }
            _ => return Err(Error::msg("adam: the parameter, its gradient and moments differ in type")),
        }
        Ok(())
    }
}

fn update<T: Scalar>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], step: Step) {
    let moments = m.par_chunks_mut(ELEMENTS).zip(v.par_chunks_mut(ELEMENTS));
    let parts = p.par_chunks_mut(ELEMENTS).zip(g.par_chunks(ELEMENTS)).zip(moments);
    parts.for_each(|((p, g), (m, v))| {
        assert!(p.len() == g.len() && p.len() == m.len() && p.len() == v.len(), "adam: lengths differ");
        dispatch(Part { p, g, m, v, step });
    });
}

/// Elements of the four that belong together, of one length.
struct Part<'a, T> {
    p: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
    step: Step,
}

impl<T: Real> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Step { beta1, beta2, eps, rate, root } = self.step;
        let splat = |x| Lane::splat(s, T::of(x));
        let [beta1, beta2, rest1, rest2] = [beta1, beta2, 1.0 - beta1, 1.0 - beta2].map(splat);
        let [eps, rate, root] = [eps, -rate, 1.0 / root].map(splat);
        let len = self.p.len();
        for i in (0..len).step_by(T::lanes::<S>()) {
            let left = len - i;
            // SAFETY: all four have `len` elements.
            unsafe {
                let g = Lane::load_up_to(s, self.g.as_ptr().add(i), left);
                let (p, m, v) =
                    (self.p.as_mut_ptr().add(i), self.m.as_mut_ptr().add(i), self.v.as_mut_ptr().add(i));
                let m_next = (rest1 * g).plus_product(beta1, Lane::load_up_to(s, m, left));
                let v_next = (rest2 * g * g).plus_product(beta2, Lane::load_up_to(s, v, left));
                let denominator = eps.plus_product(v_next.root(), root);
                let p_next = Lane::load_up_to(s, p, left).plus_product(rate, m_next / denominator);
                m_next.store_up_to(m, left);
                v_next.store_up_to(v, left);
                p_next.store_up_to(p, left);
            }
        }
    }
}
