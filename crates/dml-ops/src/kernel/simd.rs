//! Vector arithmetic for f32 and f64, the same code on every instruction set that pulp finds at run time.

use std::ops::{Add, Div, Mul, Sub};

use pulp::{Arch, Simd, WithSimd};

use super::cache::LINE;

/// Runs an operation in the best instruction set of this processor.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(test)]
    if let Some(arch) = testing::ARCH.get() {
        return arch.dispatch(op);
    }
    Arch::new().dispatch(op)
}

/// The instruction set that [`dispatch`] takes.
pub(crate) fn instruction_set() -> &'static str {
    match Arch::new() {
        Arch::Scalar => "none",
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => "AVX2 with FMA",
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => "AVX-512",
        _ => std::env::consts::ARCH,
    }
}

/// f32 or f64, with vectors of as many as the processor has lanes for.
pub(crate) trait Real: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// A register of values.
    type Lanes<S: Simd>: Copy;

    /// Values in a register.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Lanes<S>>() / size_of::<Self>()
    }

    /// A constant, rounded to this type.
    fn of(x: f64) -> Self;

    /// The integer part of a value from 0 to 255.
    fn to_u8(self) -> u8;

    /// The same value in every lane.
    fn splat<S: Simd>(s: S, x: Self) -> Self::Lanes<S>;

    fn add<S: Simd>(s: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;

    fn sub<S: Simd>(s: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;

    fn mul<S: Simd>(s: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;

    fn div<S: Simd>(s: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;

    fn root<S: Simd>(s: S, a: Self::Lanes<S>) -> Self::Lanes<S>;

    /// The sum over a register.
    fn sum<S: Simd>(s: S, a: Self::Lanes<S>) -> Self;

    /// a·b + c, fused where the processor can.
    fn fma<S: Simd>(s: S, a: Self::Lanes<S>, b: Self::Lanes<S>, c: Self::Lanes<S>) -> Self::Lanes<S>;

    /// `yes` where the first of the pair is greater than the second, `no` elsewhere, and where one is not a number.
    fn if_greater<S: Simd>(
        s: S,
        pair: [Self::Lanes<S>; 2],
        yes: Self::Lanes<S>,
        no: Self::Lanes<S>,
    ) -> Self::Lanes<S>;

    /// `yes` where the two of the pair are equal, `no` elsewhere.
    fn if_equal<S: Simd>(
        s: S,
        pair: [Self::Lanes<S>; 2],
        yes: Self::Lanes<S>,
        no: Self::Lanes<S>,
    ) -> Self::Lanes<S>;

    /// # Safety
    /// A register's values can be read at `from`.
    unsafe fn load<S: Simd>(from: *const Self) -> Self::Lanes<S>;

    /// # Safety
    /// A register's values can be written at `to`.
    unsafe fn store<S: Simd>(to: *mut Self, x: Self::Lanes<S>);

    /// The first `count` values, at most a register's; zeros after them.
    ///
    /// # Safety
    /// `count` values can be read at `from`.
    unsafe fn load_part<S: Simd>(s: S, from: *const Self, count: usize) -> Self::Lanes<S>;

    /// # Safety
    /// `count` values can be written at `to`; `count` is at most a register's.
    unsafe fn store_part<S: Simd>(s: S, to: *mut Self, count: usize, x: Self::Lanes<S>);
}

/// A register with the token of its instruction set, for formulas.
#[derive(Clone, Copy)]
pub(crate) struct Lane<T: Real, S: Simd> {
    s: S,
    x: T::Lanes<S>,
}

impl<T: Real, S: Simd> Lane<T, S> {
    #[inline(always)]
    pub(crate) fn zero(s: S) -> Self {
        Self::splat(s, T::default())
    }

    #[inline(always)]
    pub(crate) fn splat(s: S, x: T) -> Self {
        Self { s, x: T::splat(s, x) }
    }

    /// # Safety
    /// A register's values can be read at `from`.
    #[inline(always)]
    pub(crate) unsafe fn load(s: S, from: *const T) -> Self {
        // SAFETY: the caller's promise.
        Self { s, x: unsafe { T::load::<S>(from) } }
    }

    /// The first `count` values, at most a register's; zeros after them.
    ///
    /// # Safety
    /// `count` values, or a register's if those are fewer, can be read at `from`.
    #[inline(always)]
    pub(crate) unsafe fn load_up_to(s: S, from: *const T, count: usize) -> Self {
        // SAFETY: the caller's promise.
        let x = unsafe {
            if count >= T::lanes::<S>() { T::load::<S>(from) } else { T::load_part(s, from, count) }
        };
        Self { s, x }
    }

    /// # Safety
    /// A register's values can be written at `to`.
    #[inline(always)]
    pub(crate) unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { T::store::<S>(to, self.x) }
    }

    /// Stores past the caches what will not be read soon, where a register is a whole line: the line is then not read
    /// from memory first. [`streamed`](super::cache::streamed) comes after the last.
    ///
    /// # Safety
    /// A register's values can be written at `to`, which is where a line begins.
    #[inline(always)]
    pub(crate) unsafe fn stream(self, to: *mut T) {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T::Lanes<S>>() == LINE {
            // SAFETY: only AVX-512 has such registers; the caller's promise.
            unsafe {
                let x = std::mem::transmute_copy(&self.x);
                std::arch::x86_64::_mm512_stream_ps(to.cast(), x);
            }
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }

    /// # Safety
    /// `count` values, or a register's if those are fewer, can be written at `to`.
    #[inline(always)]
    pub(crate) unsafe fn store_up_to(self, to: *mut T, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if count >= T::lanes::<S>() {
                T::store::<S>(to, self.x);
            } else {
                T::store_part(self.s, to, count, self.x);
            }
        }
    }

    /// self + factor·x
    #[inline(always)]
    pub(crate) fn plus(self, factor: f64, x: Self) -> Self {
        Self { x: T::fma(self.s, T::splat(self.s, T::of(factor)), x.x, self.x), ..self }
    }

    /// self + a·b
    #[inline(always)]
    pub(crate) fn plus_product(self, a: Self, b: Self) -> Self {
        Self { x: T::fma(self.s, a.x, b.x, self.x), ..self }
    }

    /// factor·self
    #[inline(always)]
    pub(crate) fn times(self, factor: f64) -> Self {
        self * Self::splat(self.s, T::of(factor))
    }

    /// The sum of its values.
    #[inline(always)]
    pub(crate) fn sum(self) -> T {
        T::sum(self.s, self.x)
    }

    /// The square root.
    #[inline(always)]
    pub(crate) fn root(self) -> Self {
        Self { x: T::root(self.s, self.x), ..self }
    }

    /// `yes` where self > x, `no` elsewhere, and where one of the two is not a number.
    #[inline(always)]
    pub(crate) fn if_greater(self, x: Self, yes: Self, no: Self) -> Self {
        Self { x: T::if_greater(self.s, [self.x, x.x], yes.x, no.x), ..self }
    }

    /// `yes` where self = x, `no` elsewhere.
    #[inline(always)]
    pub(crate) fn if_equal(self, x: Self, yes: Self, no: Self) -> Self {
        Self { x: T::if_equal(self.s, [self.x, x.x], yes.x, no.x), ..self }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl<T: Real, S: Simd> $trait for Lane<T, S> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self { x: T::$method(self.s, self.x, other.x), ..self }
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

macro_rules! real {
    ($ty:ident, $lanes:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $div:ident, $root:ident, $sum:ident, $fma:ident,
     $greater:ident, $equal:ident, $select:ident, $load:ident, $store:ident) => {
        impl Real for $ty {
            type Lanes<S: Simd> = S::$lanes;

            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $ty
            }

            #[inline(always)]
            fn to_u8(self) -> u8 {
                self as i32 as u8
            }

            #[inline(always)]
            fn splat<S: Simd>(s: S, x: Self) -> S::$lanes {
                s.$splat(x)
            }

            #[inline(always)]
            fn add<S: Simd>(s: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                s.$add(a, b)
            }

            #[inline(always)]
            fn sub<S: Simd>(s: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                s.$sub(a, b)
            }

            #[inline(always)]
            fn mul<S: Simd>(s: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                s.$mul(a, b)
            }

            #[inline(always)]
            fn div<S: Simd>(s: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                s.$div(a, b)
            }

            #[inline(always)]
            fn root<S: Simd>(s: S, a: S::$lanes) -> S::$lanes {
                s.$root(a)
            }

            #[inline(always)]
            fn sum<S: Simd>(s: S, a: S::$lanes) -> $ty {
                s.$sum(a)
            }

            #[inline(always)]
            fn fma<S: Simd>(s: S, a: S::$lanes, b: S::$lanes, c: S::$lanes) -> S::$lanes {
                s.$fma(a, b, c)
            }

            #[inline(always)]
            fn if_greater<S: Simd>(s: S, [a, b]: [S::$lanes; 2], yes: S::$lanes, no: S::$lanes) -> S::$lanes {
                s.$select(s.$greater(a, b), yes, no)
            }

            #[inline(always)]
            fn if_equal<S: Simd>(s: S, [a, b]: [S::$lanes; 2], yes: S::$lanes, no: S::$lanes) -> S::$lanes {
                s.$select(s.$equal(a, b), yes, no)
            }

            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const Self) -> S::$lanes {
                // SAFETY: the caller's promise; any bits are values.
                unsafe { from.cast::<S::$lanes>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store<S: Simd>(to: *mut Self, x: S::$lanes) {
                // SAFETY: the caller's promise.
                unsafe { to.cast::<S::$lanes>().write_unaligned(x) }
            }

            #[inline(always)]
            unsafe fn load_part<S: Simd>(s: S, from: *const Self, count: usize) -> S::$lanes {
                // SAFETY: the caller's promise.
                s.$load(unsafe { std::slice::from_raw_parts(from, count) })
            }

            #[inline(always)]
            unsafe fn store_part<S: Simd>(s: S, to: *mut Self, count: usize, x: S::$lanes) {
                // SAFETY: the caller's promise.
                s.$store(unsafe { std::slice::from_raw_parts_mut(to, count) }, x)
            }
        }
    };
}

real!(
    f32,
    f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    div_f32s,
    sqrt_f32s,
    reduce_sum_f32s,
    mul_add_e_f32s,
    greater_than_f32s,
    equal_f32s,
    select_f32s,
    partial_load_f32s,
    partial_store_f32s
);
real!(
    f64,
    f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    div_f64s,
    sqrt_f64s,
    reduce_sum_f64s,
    mul_add_e_f64s,
    greater_than_f64s,
    equal_f64s,
    select_f64s,
    partial_load_f64s,
    partial_store_f64s
);

/// One instruction set after the other, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use pulp::Arch;

    thread_local!(pub(super) static ARCH: Cell<Option<Arch>> = const { Cell::new(None) });

    /// What `task` gives in each instruction set of this processor, and without any.
    pub(crate) fn on_each<R: Send>(task: impl Fn() -> R + Sync) -> Vec<R> {
        let mut all = vec![Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V3::try_new().map(Arch::V3));
            all.extend(pulp::x86::V4::try_new().map(Arch::V4));
        }
        if cfg!(not(target_arch = "x86_64")) {
            all.push(Arch::new());
        }
        let run = |arch| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(2).start_handler(move |_| ARCH.set(Some(arch)));
            pool.build().unwrap().install(&task)
        };
        all.into_iter().map(run).collect()
    }
}
