//! A network's weights from any of its sources, under the names of dml-model and in torch's layout.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::sources::{CLASSIFIER, Form, Network, Source};
use crate::{Imported, caffe, lasagne, torch};

type Result<T> = std::result::Result<T, String>;

pub(crate) fn import(network: &Network, file: &[u8]) -> Result<Imported> {
    let (form, mut theirs) = read(file)?;
    let source = recognise(network, form, &theirs)?;
    let mut tensors = BTreeMap::new();
    for (layer, their) in network.layers.iter().zip(source.layers) {
        for (leaf, ours) in source.leaves.into_iter().zip(["weight", "bias"]) {
            let their = format!("{their}{leaf}");
            match theirs.remove(&their) {
                Some(tensor) => {
                    let name = format!("{layer}.{ours}");
                    let tensor = lay_out(network, source, &name, tensor);
                    tensors.insert(name, tensor.map_err(|problem| format!("{their}: {problem}"))?);
                }
                None if *layer == CLASSIFIER => {}
                None => {
                    return Err(format!("{} has no {their}: not the whole of {}", network.name, source.name));
                }
            }
        }
    }
    check_chain(network, &tensors)?;
    Ok(Imported {
        tensors,
        metadata: BTreeMap::from([
            ("network".into(), network.name.into()),
            ("source".into(), source.name.into()),
            ("input".into(), network.input.into()),
        ]),
        left_out: theirs.into_keys().collect(),
    })
}

fn read(file: &[u8]) -> Result<(Form, BTreeMap<String, Tensor>)> {
    if file.starts_with(b"PK") || torch::is_legacy(file) {
        Ok((Form::Torch, torch::parse_torch(file)?))
    } else if lasagne::is_pickle(file) {
        Ok((Form::Pickle, lasagne::parse_layers(file)?))
    } else {
        let tensors = caffe::parse_caffemodel(file);
        let tensors =
            tensors.map_err(|problem| format!("neither a torch file nor a pickle, and {problem}"))?;
        Ok((Form::Caffe, tensors))
    }
}

fn recognise<'n>(network: &'n Network, form: Form, theirs: &BTreeMap<String, Tensor>) -> Result<&'n Source> {
    let first = |source: &Source| format!("{}{}", source.layers[0], source.leaves[0]);
    let sources = || network.sources.iter().filter(|source| source.form == form);
    sources().find(|source| theirs.contains_key(&first(source))).ok_or_else(|| {
        let known: Vec<String> =
            network.sources.iter().map(|source| format!("  {}: {}", source.name, first(source))).collect();
        let there: Vec<&str> = theirs.keys().take(8).map(String::as_str).collect();
        format!(
            "the names are those of no known source of {} ({}, …). Known sources and their first tensors:\n{}",
            network.name,
            there.join(", "),
            known.join("\n")
        )
    })
}

/// Brings a tensor to torch's layout: a convolution's weight is (outputs, inputs, kernel…), a fully connected
/// one (outputs, inputs), a bias (outputs).
fn lay_out(network: &Network, source: &Source, name: &str, tensor: Tensor) -> Result<Tensor> {
    let dense = name.starts_with("fc");
    let rank = match (name.ends_with("bias"), dense) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 2 + network.kernel,
    };
    let dims = tensor.dims();
    let (ones, shape) = match dims.len().checked_sub(rank) {
        Some(extra) => dims.split_at(extra),
        None => return Err(format!("shape {dims:?} has fewer than {rank} axes")),
    };
    // A stored one in front of the wanted axes, as Caffe's old shapes have.
    if ones.iter().any(|&size| size != 1) {
        return Err(format!("shape {dims:?} has more than {rank} axes"));
    }
    let laid = tensor.reshape(shape).and_then(|tensor| match dense && rank == 2 && source.inputs_first {
        true => tensor.t()?.contiguous(),
        false => Ok(tensor),
    });
    laid.and_then(|tensor| tensor.to_dtype(DType::F32)).map_err(|error| error.to_string())
}

/// Checks that each layer takes what the one before gives: a transposed or mixed-up file is told so here.
fn check_chain(network: &Network, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut inputs = 3;
    for layer in network.layers {
        let (weight, bias) =
            match [tensors.get(&format!("{layer}.weight")), tensors.get(&format!("{layer}.bias"))] {
                [Some(weight), Some(bias)] => (weight.dims(), bias.dims()),
                [None, None] => continue,
                _ => return Err(format!("{layer} has only one of weight and bias")),
            };
        if *layer == "fc6" {
            inputs *= network.pooled;
        }
        if weight[1] != inputs || bias[0] != weight[0] || weight[2..].iter().any(|&size| size != weight[2]) {
            return Err(format!(
                "{layer}: weight {weight:?} and bias {bias:?} do not follow a layer of {inputs} outputs"
            ));
        }
        inputs = weight[0];
    }
    Ok(())
}
