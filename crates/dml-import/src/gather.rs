//! Strided views, copied into tensors.

use candle_core::{DType, Device, Tensor};

type Result<T> = std::result::Result<T, String>;

/// Bytes of tensors that a file may still ask for. Views may overlap, so a small file could ask for any amount
/// of memory.
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn of_file(length: usize) -> Self {
        Self(length.saturating_mul(8))
    }

    fn spend(&mut self, elements: usize, width: usize) -> Result<usize> {
        let bytes = elements.checked_mul(width).filter(|&bytes| bytes <= self.0);
        let bytes = bytes.ok_or("the tensors ask for far more memory than the file holds")?;
        self.0 -= bytes;
        Ok(bytes)
    }
}

/// Elements in memory, little-endian, of which views show a part.
#[derive(Clone, Copy)]
pub(crate) struct Storage<'a> {
    pub(crate) dtype: DType,
    pub(crate) bytes: &'a [u8],
}

/// A view: its first element, its sizes and the steps between elements.
pub(crate) struct View<'a> {
    pub(crate) offset: usize,
    pub(crate) size: &'a [usize],
    pub(crate) stride: &'a [usize],
}

/// Copies a view out of its storage, row-major. Files converted from TensorFlow have views whose channels come
/// last; numpy has arrays whose first axis is the fastest.
pub(crate) fn gather(view: &View, storage: Storage, budget: &mut Budget) -> Result<Tensor> {
    let &View { offset, size, stride } = view;
    if size.len() != stride.len() {
        return Err(format!("size {size:?} and stride {stride:?} differ in length"));
    }
    let plain = strides(size, false)?;
    let width = storage.dtype.size_in_bytes();
    let beyond = || format!("size {size:?} with stride {stride:?} from {offset} reaches beyond its storage");
    let elements = size.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(beyond)?;
    let mut bytes = Vec::new();
    if elements > 0 {
        let last = size
            .iter()
            .zip(stride)
            .try_fold(offset, |last, (&n, &step)| last.checked_add((n - 1).checked_mul(step)?));
        if last.is_none_or(|last| last >= storage.bytes.len() / width) {
            return Err(beyond());
        }
        let needed = budget.spend(elements, width)?;
        if (0..size.len()).all(|axis| size[axis] == 1 || stride[axis] == plain[axis]) {
            bytes.extend_from_slice(&storage.bytes[offset * width..][..needed]);
        } else {
            bytes.reserve_exact(needed);
            walk(view, |at| bytes.extend_from_slice(&storage.bytes[at * width..][..width]), elements);
        }
    }
    Tensor::from_raw_buffer(&bytes, storage.dtype, size, &Device::Cpu).map_err(|error| error.to_string())
}

/// The strides of elements one after the other; `fortran`: the first axis is the fastest.
///
/// # Errors
/// If the sizes multiply to more than a number holds.
pub(crate) fn strides(size: &[usize], fortran: bool) -> Result<Vec<usize>> {
    let mut stride = vec![1; size.len()];
    let mut step = 1usize;
    for i in 0..size.len() {
        let axis = if fortran { i } else { size.len() - 1 - i };
        stride[axis] = step;
        step = step
            .checked_mul(size[axis].max(1))
            .ok_or_else(|| format!("the shape {size:?} is beyond memory"))?;
    }
    Ok(stride)
}

/// Visits the elements of a view in row-major order.
fn walk(view: &View, mut visit: impl FnMut(usize), elements: usize) {
    let mut index = vec![0; view.size.len()];
    let mut at = view.offset;
    for _ in 0..elements {
        visit(at);
        for axis in (0..view.size.len()).rev() {
            index[axis] += 1;
            at += view.stride[axis];
            if index[axis] < view.size[axis] {
                break;
            }
            at -= view.size[axis] * view.stride[axis];
            index[axis] = 0;
        }
    }
}
