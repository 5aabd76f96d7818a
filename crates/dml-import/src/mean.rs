//! Means that are subtracted from a network's input.

use std::collections::BTreeMap;

use candle_core::DType;

use crate::{Imported, caffe, lasagne, numpy};

type Result<T> = std::result::Result<T, String>;

/// Reads a mean image (3, h, w) or a mean clip (3, frames, h, w).
///
/// An axis of one in front is dropped. The stored order of C3D's cube is (C, T, H, W); a file with the frames first,
/// as some copies have, is refused rather than guessed at.
pub(crate) fn import(file: &[u8]) -> Result<Imported> {
    let (source, mean) = if file.starts_with(numpy::MAGIC) {
        ("a numpy array", numpy::parse_npy(file)?)
    } else if lasagne::is_pickle(file) {
        ("the mean image in a Lasagne pickle", lasagne::parse_mean(file)?)
    } else {
        let mean = caffe::parse_binaryproto(file);
        let mean = mean.map_err(|problem| format!("neither a numpy array nor a pickle, and {problem}"))?;
        ("a Caffe blob", mean)
    };
    let mut dims = mean.dims();
    while dims.len() > 3 && dims[0] == 1 {
        dims = &dims[1..];
    }
    if !matches!(dims, [3, _, _] | [3, _, _, _]) {
        return Err(format!("the shape {:?} is neither (3, h, w) nor (3, frames, h, w)", mean.dims()));
    }
    let mean =
        mean.reshape(dims).and_then(|mean| mean.to_dtype(DType::F32)).map_err(|error| error.to_string())?;
    Ok(Imported {
        tensors: BTreeMap::from([("mean".into(), mean)]),
        metadata: BTreeMap::from([
            ("source".into(), source.into()),
            ("channels".into(), "BGR, 0 to 255".into()),
        ]),
        left_out: Vec::new(),
    })
}
