//! The arithmetic of the CUDA kernels, on the CPU: `cuda/ops.cu` is written in the common part of C and CUDA, is compiled
//! here by the C compiler, and runs thread by thread, one after the other. What only a GPU can show is not seen here: the
//! launches, cuDNN, bf16.
#![cfg(unix)]

use std::ffi::{CString, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use candle_core::{DType, Tensor, Var};
use dml_ops::channels_last;
use dml_ops::{Activation, Adam, AdamConfig, Lrn, LrnAlpha, Pool, RowKeys, dropout, portable};
use dml_rand::{Purpose, Stream};

use crate::{assert_close, distinct, gradients, normal, values};

/// The compiled kernels.
struct Library(usize);

/// Nothing where there is no C compiler.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    let open = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda/ops.cu");
        let object = std::env::temp_dir().join(format!("dml-ops-kernels-{}.so", std::process::id()));
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-x", "c", "-DDML_ON_HOST", "-std=c99", "-O1", "-shared", "-fPIC", "-o"]);
        let Ok(status) = compiler.arg(&object).arg(&source).arg("-lm").status() else {
            eprintln!("left out, as there is no C compiler");
            return None;
        };
        assert!(status.success(), "the kernels do not compile as C");
        let path = CString::new(object.to_str().unwrap()).unwrap();
        // SAFETY: a library without initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        std::fs::remove_file(object).unwrap();
        Some(Library(handle as usize))
    };
    LIBRARY.get_or_init(open).as_ref()
}

impl Library {
    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap();
        // SAFETY: the library stays open.
        let symbol = unsafe { libc::dlsym(self.0 as *mut c_void, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        symbol
    }

    /// Calls a kernel once for each thread of the blocks that `elements` need.
    fn launch(&self, elements: usize, kernel: impl Fn()) {
        // Threads are counted in one place of the library.
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = ONE.lock();
        let thread = self.symbol("dml_thread").cast::<usize>();
        for index in 0..elements.next_multiple_of(256) {
            // SAFETY: the variable is the library's, and only written here.
            unsafe { *thread = index };
            kernel();
        }
    }
}

/// A function of the library by its name and type.
macro_rules! function {
    ($library:expr, $name:expr, fn($($ty:ty),*)) => {
        // SAFETY: the type is the one in `cuda/ops.inc`.
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($ty),*)>($library.symbol($name)) }
    };
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Pooling {
    inputs: usize,
    outputs: usize,
    channels: i32,
    input: [i32; 3],
    kernel: [i32; 3],
    stride: [i32; 3],
    low: [i32; 3],
    output: [i32; 3],
}

fn f32s(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn f64s(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn pooling_is_that_of_the_cpu_kernels() {
    let Some(library) = library() else { return };
    let forward = function!(
        library,
        "bias_activation_pool_f32",
        fn(*const f32, *const f32, *mut f32, *mut u8, Pooling, i32)
    );
    let backward = function!(
        library,
        "pool_gradient_f32",
        fn(*const f32, *const f32, *const u8, *mut f32, Pooling, i32)
    );
    let check = |[n, t, h, w, c]: [usize; 5], pool: Pool<3>, activation: Activation, code: i32| {
        let x = distinct((n, t, h, w, c), 1);
        let bias = (distinct(c, 2) * 0.5).unwrap();
        let (want, gradients) = gradients(
            &[x.clone(), bias.clone()],
            |i| {
                let sum = i[0].broadcast_add(&i[1])?;
                portable::activate(&channels_last::max_pool3d(&sum, &pool)?, activation)
            },
            |shape| normal(shape, 3),
        );
        let output = pool.output([t, h, w]).unwrap();
        let sizes = |sizes: [usize; 3]| sizes.map(|size| size as i32);
        let pooling = Pooling {
            inputs: x.elem_count(),
            outputs: want.elem_count(),
            channels: c as i32,
            input: sizes([t, h, w]),
            kernel: sizes(pool.kernel),
            stride: sizes(pool.stride),
            low: sizes(pool.padding),
            output: sizes(output),
        };
        let (x, bias, dy) = (f32s(&x), f32s(&bias), f32s(&normal(want.dims(), 3)));
        let (mut y, mut places) = (vec![f32::NAN; pooling.outputs], vec![0u8; pooling.outputs]);
        let mut dx = vec![f32::NAN; pooling.inputs];
        let (y_to, places_to, dx_to) = (y.as_mut_ptr(), places.as_mut_ptr(), dx.as_mut_ptr());
        // SAFETY: all have the sizes that the windows say.
        library.launch(pooling.outputs, || unsafe {
            forward(x.as_ptr(), bias.as_ptr(), y_to, places_to, pooling, code);
        });
        assert_close("pooled", &f64s(&y), &values(&want), 1e-6);
        // SAFETY: as above.
        library.launch(pooling.inputs, || unsafe {
            backward(y.as_ptr(), dy.as_ptr(), places.as_ptr(), dx_to, pooling, code);
        });
        assert_close("gradient", &f64s(&dx), &values(&gradients[0]), 1e-6);
    };
    let pool = |kernel, stride, padding, ceil| Pool { kernel, stride, padding, ceil };
    check([2, 4, 6, 8, 3], pool([2; 3], [2; 3], [0; 3], true), Activation::Relu, 1);
    check([1, 3, 7, 7, 5], pool([1, 3, 3], [1, 2, 2], [0, 1, 1], false), Activation::None, 0);
    check([2, 2, 7, 7, 2], pool([2; 3], [2; 3], [0, 1, 1], true), Activation::Relu6, 2);
    check([1, 1, 13, 12, 3], pool([1, 3, 3], [1, 3, 3], [0; 3], true), Activation::Relu, 1);
    check([1, 5, 9, 8, 2], pool([3, 2, 4], [2, 1, 3], [1, 0, 2], false), Activation::Relu, 1);
}

#[test]
fn a_value_that_is_not_finite_is_not_hidden() {
    let Some(library) = library() else { return };
    let forward = function!(
        library,
        "bias_activation_pool_f32",
        fn(*const f32, *const f32, *mut f32, *mut u8, Pooling, i32)
    );
    let plain =
        function!(library, "bias_activation_f32", fn(*const f32, *const f32, *mut f32, usize, i32, i32));
    let x = [1.0, f32::NAN, 3.0, 2.0, f32::NEG_INFINITY, -5.0];
    let pooling = Pooling {
        inputs: 6,
        outputs: 3,
        channels: 1,
        input: [1, 1, 6],
        kernel: [1, 1, 2],
        stride: [1, 1, 2],
        low: [0; 3],
        output: [1, 1, 3],
    };
    let (mut y, mut places) = ([0f32; 3], [0u8; 3]);
    let (y_to, places_to) = (y.as_mut_ptr(), places.as_mut_ptr());
    // SAFETY: the sizes are as the windows say; there is no bias.
    library.launch(3, || unsafe { forward(x.as_ptr(), std::ptr::null(), y_to, places_to, pooling, 1) });
    assert!(y[0].is_nan() && y[1] == 3.0 && y[2].is_nan(), "{y:?}");
    let mut y = [0f32; 6];
    let y_to = y.as_mut_ptr();
    // SAFETY: six values and one channel's bias.
    library.launch(6, || unsafe { plain(x.as_ptr(), [10f32].as_ptr(), y_to, 6, 1, 2) });
    assert!(y[1].is_nan());
    assert_eq!([y[0], y[2], y[3], y[4], y[5]], [6.0, 6.0, 6.0, 0.0, 5.0]);
}

#[test]
fn activations_gradient_and_sums_of_columns_are_right() {
    let Some(library) = library() else { return };
    let gradient =
        function!(library, "activation_gradient_f32", fn(*const f32, *const f32, *mut f32, usize, i32));
    let (y, dy) = ([0.0, 2.0, 6.0, -0.0], [1.0, 2.0, 3.0, 4.0]);
    for (code, want) in [(0, dy), (1, [0.0, 2.0, 3.0, 0.0]), (2, [0.0, 2.0, 0.0, 0.0])] {
        let mut dx = [9f32; 4];
        let to = dx.as_mut_ptr();
        // SAFETY: four values each.
        library.launch(4, || unsafe { gradient(y.as_ptr(), dy.as_ptr(), to, 4, code) });
        assert_eq!(dx, want);
    }
    let sums = function!(library, "column_sums_f32", fn(*const f32, *mut f32, usize, i32, usize));
    let totals = function!(library, "column_totals_f32", fn(*const f32, *mut f32, i32, i32));
    for (rows, columns, of_chunk) in [(1usize, 3usize, 1usize), (100, 7, 9), (64, 64, 64)] {
        let x = normal((rows, columns), 4);
        let chunks = rows.div_ceil(of_chunk);
        let (values_of, mut partial) = (f32s(&x), vec![f32::NAN; chunks * columns]);
        let (mut total, to) = (vec![f32::NAN; columns], partial.as_mut_ptr());
        // SAFETY: the sizes are those given.
        library.launch(chunks * columns, || unsafe {
            sums(values_of.as_ptr(), to, rows, columns as i32, of_chunk);
        });
        let to = total.as_mut_ptr();
        // SAFETY: as above.
        library.launch(columns, || unsafe { totals(partial.as_ptr(), to, columns as i32, chunks as i32) });
        assert_close("sums", &f64s(&total), &values(&x.sum(0).unwrap()), 1e-5);
    }
}

#[test]
fn response_normalisation_is_that_of_the_cpu_kernel() {
    let Some(library) = library() else { return };
    let forward = function!(library, "lrn_f32", fn(*const f32, *mut f32, usize, i32, i32, f32, f32, f32));
    let backward = function!(
        library,
        "lrn_gradient_f32",
        fn(*const f32, *const f32, *mut f32, usize, i32, i32, f32, f32, f32)
    );
    for (size, channels) in [(5, 11), (4, 6), (3, 2), (1, 4)] {
        let options = Lrn { size, alpha: 0.3, beta: 0.75, k: 2.0, convention: LrnAlpha::DividedBySize };
        let x = (normal((2, 3, 2, channels), 5) * 2.0).unwrap();
        let (want, gradients) = gradients(
            std::slice::from_ref(&x),
            |i| channels_last::lrn(&i[0], &options),
            |shape| normal(shape, 6),
        );
        let (x, dy) = (f32s(&x), f32s(&normal(want.dims(), 6)));
        let (mut y, mut dx, count) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()], x.len());
        let (y_to, dx_to, factor) = (y.as_mut_ptr(), dx.as_mut_ptr(), 0.3 / size as f32);
        let (channels, size) = (channels as i32, size as i32);
        // SAFETY: all have `count` values.
        library.launch(count, || unsafe {
            forward(x.as_ptr(), y_to, count, channels, size, factor, 0.75, 2.0);
            backward(x.as_ptr(), dy.as_ptr(), dx_to, count, channels, size, factor, 0.75, 2.0);
        });
        assert_close("lrn", &f64s(&y), &values(&want), 1e-6);
        assert_close("its gradient", &f64s(&dx), &values(&gradients[0]), 1e-5);
    }
}

#[test]
fn operations_on_rows_are_those_of_the_compositions() {
    let Some(library) = library() else { return };
    type Composition = fn(&Tensor) -> dml_ops::Result<Tensor>;
    let check = |name: &str, x: &Tensor, composition: Composition, gradient_takes_result: bool| {
        let forward = function!(library, name, fn(*const f32, *mut f32, usize, usize));
        let name_of_gradient = format!("{name}_gradient");
        let backward =
            function!(library, &name_of_gradient, fn(*const f32, *const f32, *mut f32, usize, usize));
        let (rows, columns) = x.dims2().unwrap();
        let (want, gradients) =
            gradients(std::slice::from_ref(x), |i| composition(&i[0]), |shape| normal(shape, 6));
        let (x, dy) = (f32s(x), f32s(&normal(want.dims(), 6)));
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        let (y_to, dx_to) = (y.as_mut_ptr(), dx.as_mut_ptr());
        // SAFETY: all have so many rows and columns.
        library.launch(rows, || unsafe { forward(x.as_ptr(), y_to, rows, columns) });
        assert_close(name, &f64s(&y), &values(&want), 1e-6);
        let from = if gradient_takes_result { y.as_ptr() } else { x.as_ptr() };
        // SAFETY: as above.
        library.launch(rows, || unsafe { backward(from, dy.as_ptr(), dx_to, rows, columns) });
        assert_close(&name_of_gradient, &f64s(&dx), &values(&gradients[0]), 1e-5);
    };
    let zero_among = |x: Tensor| Tensor::cat(&[&x, &x.zeros_like().unwrap(), &x], 0).unwrap();
    for (rows, columns, size) in [(1, 1, 1.0), (3, 20, 1.0), (7, 101, 30.0), (2, 384, 1e4)] {
        let x = (normal((rows, columns), 8) * size).unwrap();
        check("log_softmax", &x, portable::log_softmax, true);
        check("l2_normalize", &zero_among(x), portable::l2_normalize, false);
    }
    check("l2_normalize", &(normal((2, 5), 8) * 1e-13).unwrap(), portable::l2_normalize, false);
}

#[test]
fn a_row_with_a_value_that_is_not_finite_is_not_hidden() {
    let Some(library) = library() else { return };
    let softmax = function!(library, "log_softmax", fn(*const f32, *mut f32, usize, usize));
    let normalize = function!(library, "l2_normalize", fn(*const f32, *mut f32, usize, usize));
    for kernel in [softmax, normalize] {
        for value in [f32::NAN, f32::INFINITY] {
            let (x, mut y) = ([0.0, value, 0.0, 0.0, 1.0, 2.0], [0f32; 6]);
            let to = y.as_mut_ptr();
            // SAFETY: two rows of three.
            library.launch(2, || unsafe { kernel(x.as_ptr(), to, 2, 3) });
            assert!(y[..3].iter().any(|y| y.is_nan()) && y[3..].iter().all(|y| y.is_finite()), "{y:?}");
        }
    }
}

#[test]
fn dropout_draws_the_bits_of_the_cpu_kernel() {
    let Some(library) = library() else { return };
    let kernel =
        function!(library, "dropout_f32", fn(*const f32, *mut f32, *const u32, usize, usize, u32, f32));
    for columns in [1usize, 31, 32, 33, 1000] {
        let keys = RowKeys { seed: 9, epoch: 3, samples: vec![5, 77, u64::MAX] };
        let x = normal((3, columns), 7).to_dtype(DType::F32).unwrap();
        let want = f32s(&dropout(&x, 0.25, 6, &keys).unwrap());
        let words: Vec<u32> = keys
            .samples
            .iter()
            .flat_map(|&sample| Stream::key(keys.seed, Purpose::Dropout(6), keys.epoch, sample))
            .collect::<Vec<u8>>()
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let (x, mut y) = (f32s(&x), vec![f32::NAN; want.len()]);
        let to = y.as_mut_ptr();
        // SAFETY: three rows of `columns` values and three keys.
        library.launch(3 * columns.div_ceil(32), || unsafe {
            kernel(x.as_ptr(), to, words.as_ptr(), 3, columns, 1 << 14, 4.0 / 3.0);
        });
        assert_eq!(y, want, "{columns} columns");
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameter {
    p: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    count: usize,
    first_block: u32,
    rate: f32,
    root: f32,
    unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    all: [Parameter; 48],
    count: u32,
    beta1: f32,
    beta2: f32,
    eps: f32,
}

#[test]
fn adam_is_that_of_the_cpu_kernel() {
    let Some(library) = library() else { return };
    let kernel = function!(library, "adam", fn(Parameters, u32, u32, u32));
    let counts = [3usize, 4096, 1, 9000];
    let start: Vec<Tensor> =
        (0..4).map(|i| normal(counts[i], 10 + i as u64).to_dtype(DType::F32).unwrap()).collect();
    let vars: Vec<Var> = start.iter().map(|x| Var::from_tensor(&x.copy().unwrap()).unwrap()).collect();
    let mut state: Vec<[Vec<f32>; 3]> =
        start.iter().map(|x| [f32s(x), vec![0.0; x.elem_count()], vec![0.0; x.elem_count()]]).collect();
    let mut adam = Adam::new(AdamConfig::default());
    for step in 1..=3 {
        let gradients: Vec<Tensor> =
            (0..4).map(|i| normal(counts[i], 20 * step + i as u64).to_dtype(DType::F32).unwrap()).collect();
        let names = ["a", "b", "c", "d"];
        let all: Vec<_> =
            (0..4).map(|i| (names[i], &vars[i], &gradients[i], 1e-3 * (1 + i) as f64)).collect();
        adam.update_all(&all).unwrap();
        let gradients: Vec<Vec<f32>> = gradients.iter().map(f32s).collect();
        let none = Parameter {
            p: std::ptr::null_mut(),
            g: std::ptr::null(),
            m: std::ptr::null_mut(),
            v: std::ptr::null_mut(),
            count: 0,
            first_block: 0,
            rate: 0.0,
            root: 0.0,
            unused: 0,
        };
        let (mut all, mut blocks) = ([none; 48], 0);
        for (i, [p, m, v]) in state.iter_mut().enumerate() {
            let correction = |beta: f64| 1.0 - beta.powi(step as i32);
            all[i] = Parameter {
                p: p.as_mut_ptr(),
                g: gradients[i].as_ptr(),
                m: m.as_mut_ptr(),
                v: v.as_mut_ptr(),
                count: counts[i],
                first_block: blocks,
                rate: (1e-3 * (1 + i) as f64 / correction(0.9)) as f32,
                root: (1.0 / correction(0.999).sqrt()) as f32,
                unused: 0,
            };
            blocks += counts[i].div_ceil(4096) as u32;
        }
        let parameters = Parameters { all, count: 4, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        for block in 0..blocks {
            for thread in 0..256 {
                // SAFETY: the four parameters have the values that they count.
                unsafe { kernel(parameters, block, thread, 256) };
            }
        }
    }
    for (var, [p, ..]) in vars.iter().zip(&state) {
        assert_close("parameter", &f64s(p), &values(var.as_tensor()), 1e-6);
    }
}
