//! The transforms of one axis: F(m, r), m outputs of a filter with r taps from m + r − 1 inputs (Winograd 1980; Lavin and
//! Gray, CVPR 2016). Interpolation points are 0, ±1, ±2 and ∞ where there are six, 0, ±1 and ∞ where there are four.

use pulp::Simd;

use crate::kernel::simd::{Lane, Real};

/// Most points that a transform has.
pub(super) const MOST: usize = 6;

/// The values along an axis: those beyond the number of points, outputs or taps have no meaning.
pub(super) type Line<T, S> = [Lane<T, S>; MOST];

/// One axis of a tile: y = Aᵀ(G·g ⊙ Bᵀ·d), and what its gradients need.
pub(super) trait Axis: Copy + Send + Sync + 'static {
    /// Inputs of a tile, and products for it.
    const POINTS: usize;
    /// Outputs of a tile.
    const OUTPUTS: usize;
    /// Taps of the filter.
    const TAPS: usize;

    /// Bᵀ·d: points from inputs.
    fn input<T: Real, S: Simd>(d: Line<T, S>) -> Line<T, S>;

    /// Aᵀ·m: outputs from points.
    fn output<T: Real, S: Simd>(m: Line<T, S>) -> Line<T, S>;

    /// A·y: points from gradients of outputs.
    fn gradient<T: Real, S: Simd>(y: Line<T, S>) -> Line<T, S>;

    /// G·g: points from taps.
    fn filter<T: Real, S: Simd>(g: Line<T, S>) -> Line<T, S>;

    /// Gᵀ·u: gradients of taps from points.
    fn filter_gradient<T: Real, S: Simd>(u: Line<T, S>) -> Line<T, S>;
}

/// An axis without a filter: one input, one tap of 1, one output.
#[derive(Clone, Copy)]
pub(super) struct One;

impl Axis for One {
    const POINTS: usize = 1;
    const OUTPUTS: usize = 1;
    const TAPS: usize = 1;

    #[inline(always)]
    fn input<T: Real, S: Simd>(d: Line<T, S>) -> Line<T, S> {
        d
    }

    #[inline(always)]
    fn output<T: Real, S: Simd>(m: Line<T, S>) -> Line<T, S> {
        m
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd>(y: Line<T, S>) -> Line<T, S> {
        y
    }

    #[inline(always)]
    fn filter<T: Real, S: Simd>(g: Line<T, S>) -> Line<T, S> {
        g
    }

    #[inline(always)]
    fn filter_gradient<T: Real, S: Simd>(u: Line<T, S>) -> Line<T, S> {
        u
    }
}

/// F(2, 3)
#[derive(Clone, Copy)]
pub(super) struct F23;

impl Axis for F23 {
    const POINTS: usize = 4;
    const OUTPUTS: usize = 2;
    const TAPS: usize = 3;

    #[inline(always)]
    fn input<T: Real, S: Simd>([d0, d1, d2, d3, ..]: Line<T, S>) -> Line<T, S> {
        [d0 - d2, d1 + d2, d2 - d1, d1 - d3, d0, d0]
    }

    #[inline(always)]
    fn output<T: Real, S: Simd>([m0, m1, m2, m3, ..]: Line<T, S>) -> Line<T, S> {
        [m0 + m1 + m2, m1 - m2 - m3, m0, m0, m0, m0]
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd>([y0, y1, ..]: Line<T, S>) -> Line<T, S> {
        [y0, y0 + y1, y0 - y1, y1.times(-1.0), y0, y0]
    }

    #[inline(always)]
    fn filter<T: Real, S: Simd>([g0, g1, g2, ..]: Line<T, S>) -> Line<T, S> {
        let outer = (g0 + g2).times(0.5);
        [g0, outer.plus(0.5, g1), outer.plus(-0.5, g1), g2, g0, g0]
    }

    #[inline(always)]
    fn filter_gradient<T: Real, S: Simd>([u0, u1, u2, u3, ..]: Line<T, S>) -> Line<T, S> {
        let sum = u1 + u2;
        [u0.plus(0.5, sum), (u1 - u2).times(0.5), u3.plus(0.5, sum), u0, u0, u0]
    }
}

/// Bᵀ of the six points.
#[inline(always)]
fn six_points<T: Real, S: Simd>([d0, d1, d2, d3, d4, d5]: Line<T, S>) -> Line<T, S> {
    let (a, b) = (d4.plus(-4.0, d2), d3.plus(-4.0, d1));
    let (e, f) = (d4 - d2, d3 - d1);
    let first = d4.plus(-5.0, d2).plus(4.0, d0);
    let last = d5.plus(-5.0, d3).plus(4.0, d1);
    [first, a + b, a - b, e.plus(2.0, f), e.plus(-2.0, f), last]
}

/// F(4, 3)
#[derive(Clone, Copy)]
pub(super) struct F43;

impl Axis for F43 {
    const POINTS: usize = 6;
    const OUTPUTS: usize = 4;
    const TAPS: usize = 3;

    #[inline(always)]
    fn input<T: Real, S: Simd>(d: Line<T, S>) -> Line<T, S> {
        six_points(d)
    }

    #[inline(always)]
    fn output<T: Real, S: Simd>([m0, m1, m2, m3, m4, m5]: Line<T, S>) -> Line<T, S> {
        let (s, d, s2, d2) = (m1 + m2, m1 - m2, m3 + m4, m3 - m4);
        [m0 + s + s2, d.plus(2.0, d2), s.plus(4.0, s2), d.plus(8.0, d2) + m5, m0, m0]
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd>([y0, y1, y2, y3, ..]: Line<T, S>) -> Line<T, S> {
        let (even, odd) = (y0 + y2, y1 + y3);
        let (even2, odd2) = (y0.plus(4.0, y2), y1.times(2.0).plus(8.0, y3));
        [y0, even + odd, even - odd, even2 + odd2, even2 - odd2, y3]
    }

    #[inline(always)]
    fn filter<T: Real, S: Simd>([g0, g1, g2, ..]: Line<T, S>) -> Line<T, S> {
        let (even, odd) = ((g0 + g2).times(-1.0 / 6.0), g1.times(-1.0 / 6.0));
        let (even2, odd2) = (g2.times(1.0 / 6.0).plus(1.0 / 24.0, g0), g1.times(1.0 / 12.0));
        [g0.times(0.25), even + odd, even - odd, even2 + odd2, even2 - odd2, g2]
    }

    #[inline(always)]
    fn filter_gradient<T: Real, S: Simd>([u0, u1, u2, u3, u4, u5]: Line<T, S>) -> Line<T, S> {
        let (s, d, s2, d2) = (u1 + u2, u1 - u2, u3 + u4, u3 - u4);
        let g0 = u0.times(0.25).plus(-1.0 / 6.0, s).plus(1.0 / 24.0, s2);
        let g1 = d.times(-1.0 / 6.0).plus(1.0 / 12.0, d2);
        let g2 = u5.plus(-1.0 / 6.0, s).plus(1.0 / 6.0, s2);
        [g0, g1, g2, u0, u0, u0]
    }
}

/// F(2, 5), on the points of F(4, 3).
#[derive(Clone, Copy)]
pub(super) struct F25;

impl Axis for F25 {
    const POINTS: usize = 6;
    const OUTPUTS: usize = 2;
    const TAPS: usize = 5;

    #[inline(always)]
    fn input<T: Real, S: Simd>(d: Line<T, S>) -> Line<T, S> {
        six_points(d)
    }

    #[inline(always)]
    fn output<T: Real, S: Simd>([m0, m1, m2, m3, m4, m5]: Line<T, S>) -> Line<T, S> {
        let (s, d, s2, d2) = (m1 + m2, m1 - m2, m3 + m4, m3 - m4);
        [m0 + s + s2, d.plus(2.0, d2) + m5, m0, m0, m0, m0]
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd>([y0, y1, ..]: Line<T, S>) -> Line<T, S> {
        [y0, y0 + y1, y0 - y1, y0.plus(2.0, y1), y0.plus(-2.0, y1), y1]
    }

    #[inline(always)]
    fn filter<T: Real, S: Simd>([g0, g1, g2, g3, g4, _]: Line<T, S>) -> Line<T, S> {
        let (even, odd) = ((g0 + g2 + g4).times(-1.0 / 6.0), (g1 + g3).times(-1.0 / 6.0));
        let even2 = g0.times(1.0 / 24.0).plus(1.0 / 6.0, g2).plus(2.0 / 3.0, g4);
        let odd2 = g1.times(1.0 / 12.0).plus(1.0 / 3.0, g3);
        [g0.times(0.25), even + odd, even - odd, even2 + odd2, even2 - odd2, g4]
    }

    #[inline(always)]
    fn filter_gradient<T: Real, S: Simd>([u0, u1, u2, u3, u4, u5]: Line<T, S>) -> Line<T, S> {
        let (s, d, s2, d2) = (u1 + u2, u1 - u2, u3 + u4, u3 - u4);
        let g0 = u0.times(0.25).plus(-1.0 / 6.0, s).plus(1.0 / 24.0, s2);
        let g1 = d.times(-1.0 / 6.0).plus(1.0 / 12.0, d2);
        let g2 = s.times(-1.0 / 6.0).plus(1.0 / 6.0, s2);
        let g3 = d.times(-1.0 / 6.0).plus(1.0 / 3.0, d2);
        let g4 = u5.plus(-1.0 / 6.0, s).plus(2.0 / 3.0, s2);
        [g0, g1, g2, g3, g4, u0]
    }
}
