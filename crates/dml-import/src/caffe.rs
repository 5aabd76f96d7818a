//! Caffe's binary protobufs: networks with weights (`.caffemodel`) and mean images (`.binaryproto`).
//!
//! Only the fields that weights need are declared; prost skips the rest. Blobs come in two dialects: BVLC's, and
//! that of C3D's fork, which has a `length` between `channels` and `height` and so moves every later field by one.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use prost::Message;
use prost::bytes::Bytes;

use crate::{Result as ImportResult, error};

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, PartialEq, Message)]
struct Net {
    #[prost(message, repeated, tag = "2")]
    layers: Vec<V1Layer>,
    #[prost(message, repeated, tag = "100")]
    layer: Vec<Layer>,
}

/// A layer as Caffe wrote it until 2014, and C3D's fork always.
#[derive(Clone, PartialEq, Message)]
struct V1Layer {
    /// An even older form of the layer.
    #[prost(bytes = "bytes", optional, tag = "1")]
    v0: Option<Bytes>,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    blobs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Layer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    blobs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Blob {
    /// num, channels, height and width: the shape of old files, always four numbers.
    #[prost(int32, optional, tag = "1")]
    num: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    channels: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    height: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    width: Option<i32>,
    #[prost(float, repeated, tag = "5")]
    data: Vec<f32>,
    #[prost(message, optional, tag = "7")]
    shape: Option<BlobShape>,
    #[prost(double, repeated, tag = "8")]
    double_data: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BlobShape {
    #[prost(int64, repeated, tag = "1")]
    dim: Vec<i64>,
}

/// C3D's dialect: its field 5 is a number where BVLC's has the data, so neither reads as the other.
#[derive(Clone, PartialEq, Message)]
struct C3dBlob {
    #[prost(int32, tag = "1")]
    num: i32,
    #[prost(int32, tag = "2")]
    channels: i32,
    #[prost(int32, tag = "3")]
    length: i32,
    #[prost(int32, tag = "4")]
    height: i32,
    #[prost(int32, tag = "5")]
    width: i32,
    #[prost(float, repeated, tag = "6")]
    data: Vec<f32>,
}

/// Reads the weights of a `.caffemodel`: the blobs of every layer that has some, as `<layer>.0`, `<layer>.1`, …
///
/// Shapes are as stored. Old files have four or, in C3D's fork, five numbers for every blob, with ones in front.
///
/// # Errors
/// If the file cannot be read, is damaged or cut short, or has no layer with weights.
pub fn read_caffemodel(path: &Path) -> ImportResult<BTreeMap<String, Tensor>> {
    error::read(path, parse_caffemodel)
}

/// As [`read_caffemodel`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_caffemodel(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let net = Net::decode(file).map_err(|error| format!("not a caffemodel: {error}"))?;
    let Net { layers, layer } = net;
    if layers.iter().any(|layer| layer.v0.is_some()) {
        return Err(
            "layers in Caffe's first format (V0); Caffe's upgrade_net_proto_binary converts them".into()
        );
    }
    let layers = layers.into_iter().map(|layer| (layer.name, layer.blobs));
    let all = layers.chain(layer.into_iter().map(|layer| (layer.name, layer.blobs)));
    let mut tensors = BTreeMap::new();
    for (name, blobs) in all {
        for (i, blob) in blobs.into_iter().enumerate() {
            let name = format!("{name}.{i}");
            let tensor = decode_blob(blob).map_err(|problem| format!("{name}: {problem}"))?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(format!("{name}: two layers have this name"));
            }
        }
    }
    if tensors.is_empty() {
        return Err("no layer with weights: not a caffemodel, or one of a description only".into());
    }
    Ok(tensors)
}

/// Reads the blob of a `.binaryproto`, such as a mean image or C3D's mean clip.
///
/// # Errors
/// If the file cannot be read, or is damaged or cut short.
pub fn read_binaryproto(path: &Path) -> ImportResult<Tensor> {
    error::read(path, parse_binaryproto)
}

/// As [`read_binaryproto`], of a file in memory.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn parse_binaryproto(file: &[u8]) -> Result<Tensor> {
    decode_blob(Bytes::copy_from_slice(file))
}

fn decode_blob(bytes: Bytes) -> Result<Tensor> {
    let (shape, data): (Vec<i64>, Vec<f32>) = match Blob::decode(bytes.clone()) {
        Ok(blob) => {
            let shape = match blob.shape {
                Some(shape) => shape.dim,
                None => {
                    let old = [blob.num, blob.channels, blob.height, blob.width];
                    old.map(|size| size.unwrap_or(0).into()).to_vec()
                }
            };
            let narrowed = blob.double_data.into_iter().map(|value| value as f32);
            (shape, if blob.data.is_empty() { narrowed.collect() } else { blob.data })
        }
        Err(_) => {
            let C3dBlob { num, channels, length, height, width, data } =
                C3dBlob::decode(bytes).map_err(|error| format!("not a blob: {error}"))?;
            ([num, channels, length, height, width].map(i64::from).to_vec(), data)
        }
    };
    let sizes: Option<Vec<usize>> = shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let sizes = sizes.ok_or_else(|| format!("the shape {shape:?} has a negative size"))?;
    let wanted = sizes.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if wanted != Some(data.len()) || data.is_empty() {
        return Err(format!("{} values for the shape {shape:?}", data.len()));
    }
    Tensor::from_vec(data, sizes, &Device::Cpu).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
